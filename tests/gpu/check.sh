#!/bin/sh
# Checks a built simmim-tui on a machine with an NVIDIA GPU, in the order of worth, and ends within LIMIT seconds.
#
#     tests/gpu/check.sh [BINARY] [OUT]
#
# BINARY: default target/release/simmim-tui, or .gpu-check/simmim-tui.xz. OUT: where log.txt (all output) and summary.txt (a
# line a part, also printed last) are written; default $OUT, else a new temporary folder. Nothing is built here: it takes the
# binary, this repository, a POSIX shell with `timeout`, and Python 3 to compare and to sum up. With PyTorch in that Python,
# its twin of the step runs right behind the bench. The exit code is 0 if no part failed; a skipped part is no failure.
#
#     LIMIT=340           seconds for everything; what no longer fits is skipped
#     PYTHON=python3      the Python with PyTorch
#     KERNEL_TESTS=FILE   the compiled unit tests, for the kernels by themselves; default .gpu-check/kernel-tests(.xz)
#     DEVICE=cuda         another device, such as cuda:1; DEVICE=cpu LIMIT=200 tries the script itself without a GPU
#     ONLY="parity twin"  only parts whose names begin so

set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
begin=$(date +%s)
limit=${LIMIT:-340}
device=${DEVICE:-cuda}
only=${ONLY:-}
python=${PYTHON:-python3}
work=$(mktemp -d)
out=${2:-${OUT:-$work/out}}
mkdir -p "$out" "$work/parts" "$work/home"
log=$out/log.txt
: >"$log"
# A fresh cache: the first run of each program is that of a new user.
export XDG_CACHE_HOME="$work/home" CUDA_CACHE_PATH="$work/home/nv" TORCHINDUCTOR_CACHE_DIR="$work/home/inductor" \
    TRITON_CACHE_DIR="$work/home/triton"

provide() { # NAME FILE: FILE as an executable, from FILE or from FILE.xz; prints nothing and fails if there is neither
    if [ -f "$2" ]; then
        cp "$2" "$work/$1"
    elif [ -f "$2.xz" ]; then
        xz -dkc "$2.xz" >"$work/$1" 2>/dev/null ||
            "$python" -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), open(sys.argv[2], "wb"))' \
                "$2.xz" "$work/$1"
    else
        return 1
    fi && chmod +x "$work/$1"
}

if [ -n "${1:-}" ]; then
    provide simmim-tui "${1%.xz}"
else
    provide simmim-tui "$root/target/release/simmim-tui" || provide simmim-tui "$root/.gpu-check/simmim-tui"
fi || {
    echo "check.sh: no binary; build it (cargo build --release), or name it" >&2
    exit 2
}
binary=$work/simmim-tui

left() { echo $((limit - $(date +%s) + begin)); }

wanted() { # NAME: whether ONLY has a beginning of it
    [ -z "$only" ] && return 0
    for start in $only; do
        case $1 in "$start"*) return 0 ;; esac
    done
    return 1
}

result() { # NAME CODE MILLISECONDS: notes how a part ended
    echo "$1 $2 $3" >>"$work/results"
    echo "== $1 rc=$2 $3 ms ($(left) s left)" | tee -a "$log"
}

part() { # NAME SECONDS COMMAND…: runs it within its time and keeps its output; skipped where too little time is left
    name=$1 seconds=$2
    shift 2
    wanted "$name" || return 1
    rest=$(left)
    if [ "$rest" -lt 5 ]; then
        result "$name" skipped 0
        return 1
    fi
    [ "$seconds" -gt "$rest" ] && seconds=$rest
    echo "== $name: $*" >>"$log"
    start=$(date +%s%N)
    timeout -k 2 "$seconds" "$@" >"$work/parts/$name.out" 2>"$work/parts/$name.err"
    code=$?
    end=$(date +%s%N)
    cat "$work/parts/$name.err" "$work/parts/$name.out" >>"$log"
    result "$name" "$code" $(((end - start) / 1000000))
    return "$code"
}

train() { # NAME SECONDS ARGUMENTS…: a run on the built-in images
    name=$1 seconds=$2
    shift 2
    part "$name" "$seconds" "$binary" --no-ui --device "$device" "$@"
}

bench() { # NAME SECONDS ARGUMENTS…: fails only if it ran and failed
    name=$1 seconds=$2
    shift 2
    wanted "$name" || return 0
    part "$name" "$seconds" "$binary" bench --json --device "$device" "$@"
}

twin() { # NAME SECONDS ARGUMENTS…: the same step in PyTorch
    name=$1 seconds=$2
    shift 2
    if "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2>/dev/null; then
        case $device in cpu) kind=cpu compile='' ;; *) kind=cuda compile=--compile ;; esac
        # shellcheck disable=SC2086
        part "$name" "$seconds" "$python" "$root/tools/pytorch/step.py" --device "$kind" $compile --bf16 "$@"
    elif wanted "$name"; then
        result "$name" skipped 0 # there is no PyTorch in this Python
    fi
}

parity() { # NAME SECONDS FILE
    part "$1" "$2" "$binary" parity "$root/tests/data/$3" --device "$device"
}

{
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv,noheader 2>/dev/null ||
        echo "no GPU that nvidia-smi knows"
    echo "$(nproc) processors"
} >"$work/card"
cat "$work/card" >>"$log"

# The plain ViT-B/16 that the twin is, in bf16.
base="--config vit_base_224 --set train.precision=bf16 --set model.position=learned --set model.layer_scale=0 --set model.drop_path=0"
twin_base="--image 224 --patch 16 --dim 768 --depth 12 --heads 12"

# Without a usable GPU nothing below can work, and all of it is tried all the same: each part says why, at once.
part doctor 20 "$binary" doctor

# 1. Numbers that PyTorch computed.
parity parity-small 30 simmim_small.safetensors
parity parity-classifier 30 classifier_small.safetensors

# 2. Speed, with the twin right behind it.
# shellcheck disable=SC2086
bench bench-b64 60 $base --batch 64 --steps "${STEPS:-100}" --warmup 10 &&
    twin twin-b64 100 $twin_base --batch 64 --steps "${STEPS:-100}"

# 3. Every kernel against plain loops, and the machine itself.
if provide kernel-tests "${KERNEL_TESTS:-$root/.gpu-check/kernel-tests}"; then
    # A program that holds none of these tests passes them all.
    some='"$0" "$@" && "$0" "$@" --list | grep -q ": test"'
    part kernels 60 sh -c "$some" "$work/kernel-tests" --include-ignored on_a_gpu
    part machine 30 sh -c "$some" "$work/kernel-tests" cuda::device
fi

# 4. A run that is interrupted ends with the bits of one that is not. Accumulation, drop path and a relative bias take part.
resume() { # NAME ARGUMENTS…
    kind=$1
    shift
    train "run-$kind" 40 --run-dir "$work/$kind-whole" --set train.epochs=12 --set train.val_every=6 \
        --set checkpoint.every_epochs=6 --set checkpoint.keep=9 "$@" || return 1
    cp -r "$work/$kind-whole" "$work/$kind-halves"
    rm "$(find "$work/$kind-halves/checkpoints" -name 'step-*' | sort | tail -n 1)"
    train "resume-$kind" 40 --resume "$work/$kind-halves" &&
        part "same-bits-$kind" 10 "$python" "$here/compare.py" "$work/$kind-whole" "$work/$kind-halves"
}
resume bf16 --set train.precision=bf16 --set train.accumulation=2 --set train.batch_size=16 --set model.drop_path=0.2 \
    --set model.position=relative --set model.layer_scale=0.1

# 5. The driver alone: products of our own.
export SIMMIM_CUDA_LIBRARY=none
parity parity-own 30 simmim_small.safetensors
# shellcheck disable=SC2086
bench bench-own-b64 60 $base --batch 64 --steps "${STEPS:-50}" --warmup 5
unset SIMMIM_CUDA_LIBRARY

# 6. A large batch and its twin, and the default run: is it the loader that limits it?
# shellcheck disable=SC2086
bench bench-b256 60 $base --batch 256 --steps "${STEPS:-40}" --warmup 5 &&
    twin twin-b256 100 $twin_base --batch 256 --steps "${STEPS:-40}"
bench bench-default 40 --set train.precision=bf16 --steps "${STEPS:-200}" --warmup 20

# 7. The rest, where time is left: other precisions, the guard against steps that are no numbers, and the memory checker.
resume fp32
# shellcheck disable=SC2086
bench bench-tf32-b64 40 $base --batch 64 --set train.precision=tf32 --steps "${STEPS:-30}" --warmup 5
# shellcheck disable=SC2086
bench bench-checkpointed-b64 40 $base --batch 64 --set train.activation_checkpointing=true --steps "${STEPS:-30}" --warmup 5
guard() {
    "$binary" --no-ui --device "$device" --run-dir "$work/hot" --on-nan stop --set train.epochs=60 \
        --set schedule.base_lr=100 --set schedule.warmup_epochs=0 --set train.grad_clip=0 \
        --set loss.kind=mse --set 'data.std=[0.001,0.001,0.001]'
}
if wanted guard && [ "$(left)" -ge 5 ]; then
    start=$(date +%s%N)
    guard >"$work/parts/guard.out" 2>"$work/parts/guard.err"
    code=$?
    cat "$work/parts/guard.err" >>"$log"
    # The exit code of a run that stops at a bad step.
    [ "$code" = 3 ] && code=0 || code="$code,not-3"
    result guard "$code" $((($(date +%s%N) - start) / 1000000))
fi
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
[ -n "$sanitizer" ] &&
    part memcheck 60 "$sanitizer" --tool memcheck --error-exitcode 9 \
        "$binary" parity "$root/tests/data/simmim_small.safetensors" --device "$device"

whole=$(($(date +%s) - begin))
if ! "$python" "$here/summary.py" "$work" "$whole" >"$out/summary.txt" 2>>"$log"; then
    cat "$work/card" "$work/results" >"$out/summary.txt" 2>/dev/null # Python is missing, or its script failed: see the log
fi
echo "==================== SUMMARY"
cat "$out/summary.txt"
echo "log: $log"
grep -q -v -E '^[^ ]+ (0|skipped) ' "$work/results" && bad=1 || bad=0
[ -s "$work/results" ] || bad=1
case $out in "$work"/*) ;; *) rm -rf "$work" ;; esac
exit "$bad"
