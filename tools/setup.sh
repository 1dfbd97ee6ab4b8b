#!/bin/sh
# Puts in place what the build needs and cargo does not bring: libclang, for the TensorRT binding.
# Needs no root unless pip itself is missing. Does nothing when all is there.
set -eu
cd "$(dirname "$0")/.."

need() {
    command -v "$1" >/dev/null 2>&1 || {
        echo "setup: \`$1\` is missing; $2" >&2
        exit 4
    }
}
need cargo "install Rust 1.88 or later"
need g++ "install it, on Debian by: apt-get install g++"
need python3 "install it, on Debian by: apt-get install python3"

if ! python3 -m pip --version >/dev/null 2>&1; then
    need apt-get "install pip for python3"
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    echo "setup: installing pip"
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-pip >/dev/null
fi

# .cargo/config.toml points the build here, unless LIBCLANG_PATH is set.
if [ -z "${LIBCLANG_PATH:-}" ] && [ ! -e target/libclang/clang/native/libclang.so ]; then
    echo "setup: installing libclang under target/"
    mkdir -p target
    rm -rf target/libclang.new
    PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 \
        python3 -m pip install -q --no-deps --target target/libclang.new libclang==18.1.1
    rm -rf target/libclang
    mv target/libclang.new target/libclang
fi
# libclang brings no headers of its own; the compiler's do.
if [ -d target/libclang ]; then
    ln -sfn "$(g++ -print-file-name=include)" target/libclang/include
fi
