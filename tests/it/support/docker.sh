#!/bin/sh
# A stand-in for docker: it runs a command "in a container", which sees no folder but those that are mounted as far as the
# stand-in of trtexec looks, and which goes on when the client is killed. Its image is the folder `box` beside it.
PATH=/usr/bin:/bin
here=$(dirname "$0")
printf '%s\n' "$*" >> "$here/calls"
env | sort > "$here/environment"
verb=$1
shift
case $verb in
    kill) kill -KILL "-$(cat "$here/$1.pid")"; exit ;;
    rm) exit ;;
esac
name=; folder=/; options=
while case $1 in -*) true ;; *) false ;; esac; do
    case $1 in
        --name=*) name=${1#*=} ;;
        --rm | --memory=*) ;;
        -w) folder=$2; shift ;;
        *) options=yes; shift ;;
    esac
    shift
done
image=$1
shift
case $image in *@sha256:*) ;; *) echo "docker: no such image: $image" >&2; exit 125 ;; esac
if [ "$(cat "$here/scenario" 2>/dev/null)" = absent ]; then
    echo 'Unable to find image locally' >&2
    echo 'docker: Error response from daemon: pull access denied.' >&2
    exit 125
fi
cd "$folder" || exit 126
# A container is no child of its client.
setsid sh -c 'echo $$ > "$1"; shift; exec env -i "$@"' sh "$here/$name.pid" "$here/box/bin/$@" &
wait $!
