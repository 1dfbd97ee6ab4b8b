#!/bin/sh
# A stand-in for trtexec: it acts as trtexec is documented to, and builds nothing. It is no TensorRT.
#
# Files beside it say what it is to do: `number` (of its version, such as 8601) and `scenario`. What it was given is
# appended to `calls`, and its environment written to `environment`.
PATH=/usr/bin:/bin
here=$(dirname "$0")
number=$(cat "$here/number")
scenario=$(cat "$here/scenario" 2>/dev/null || echo good)

if [ "$scenario" = garbage ]; then echo 'hello, this is something else'; exit 0; fi
echo "&&&& RUNNING TensorRT.trtexec [TensorRT v$number] # $0 $*"
if [ "$1" = --help ]; then echo '=== Model Options ==='; exit 0; fi

printf '%s\n' "$*" >> "$here/calls"
env | sort > "$here/environment"
say() { echo "[11/23/2026-18:00:00] $*"; }
error() { say "[E] $*" >&2; }
failed() { echo "&&&& FAILED TensorRT.trtexec [TensorRT v$number] # $0"; exit 1; }

engine=; layers=; precisions=; timing=; fp16=; calib=; pinned=
for argument in "$@"; do
    case $argument in
        --saveEngine=*) engine=${argument#*=} ;;
        --exportLayerInfo=*) layers=${argument#*=} ;;
        --layerPrecisions=*) precisions=${argument#*=} ;;
        --timingCacheFile=*) timing=${argument#*=} ;;
        --fp16) fp16=yes ;;
        --errorOnTimingCacheMiss) pinned=yes ;;
        --calib=*) calib=${argument#*=} ;;
    esac
done

# Of the founding bug: a builder that dies over norms in FP16, and of nothing else.
if [ "$scenario" = norms ]; then
    if [ -n "$fp16" ] && [ -z "$precisions" ]; then scenario=segv; else scenario=good; fi
fi
case $scenario in
    segv) error '[TRT] a last word'; kill -SEGV $$ ;;
    abort) kill -ABRT $$ ;;
    container-segv) exit 139 ;;
    hang) sleep 600 ;;
    # Two builds on one GPU would time each other.
    alone) mkdir "$here/busy" || { error 'another one runs'; failed; }; sleep 0.3; rmdir "$here/busy" ;;
    option) error 'Unknown option: --fp16 '; failed ;;
    parse) error '[TRT] ModelImporter.cpp:771: While parsing node number 1 [Foo -> "y"]:'; error 'Failed to parse onnx file'; failed ;;
    memory) error '[TRT] 2: [virtualMemoryBuffer.cpp::resizePhysical::144] Error Code 2: OutOfMemory (no further information)'; failed ;;
    cuda) echo 'Cuda failure: CUDA driver version is insufficient for CUDA runtime version' >&2; kill -ABRT $$ ;;
    kernel) error '[TRT] 10: Could not find any implementation for node {ForeignNode[start.../norm/Add_1]}.'; failed ;;
    truncated) : > "$engine"; say '[I] Engine built in 3 sec.'; error 'Engine set up failed'; failed ;;
    no-engine) echo "&&&& PASSED TensorRT.trtexec [TensorRT v$number] # $0"; exit 0 ;;
    miss) [ -n "$pinned" ] && { error '[TRT] Error Code 4: Internal Error (a tactic is not in the timing cache)'; failed; } ;;
    changes) echo more >> "$calib" ;;
    no-verdict) printf 'ftrt' > "$engine"; exit 0 ;;
esac

of=Float; [ "$scenario" = half ] && of=Half
list=
IFS=,
for pin in $precisions; do
    name=${pin%:*}
    [ "$number" -ge 9000 ] && [ "$scenario" != unmatched ] && say "[I] Set layer $name to precision fp32"
    say "[V] [TRT] Registering layer: $name for ONNX node: $name"
    list="$list,{\"Name\":\"$name\",\"LayerType\":\"Unary\",\"Inputs\":[{\"Name\":\"i\",\"Format/Datatype\":\"$of\"}],\"Outputs\":[{\"Name\":\"o\",\"Format/Datatype\":\"$of\"}],\"Metadata\":\"[ONNX Layer: $name]\"}"
done
[ -n "$timing" ] && echo timings >> "$timing"
[ -n "$layers" ] && echo "{\"Layers\":[${list#,}],\"Bindings\":[]}" > "$layers"
printf 'ftrt\000\000\000\000................\012\003\000\032 no engine %s' "$precisions" > "$engine"
[ "$scenario" = unmatched ] && say '[I] Skipped setting precisions for some layers. Check verbose logs for more details.'
say '[I] Engine built in 3 sec.'
echo "&&&& PASSED TensorRT.trtexec [TensorRT v$number] # $0"
