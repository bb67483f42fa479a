#!/bin/sh
# Checks a built simmim-tui on a machine with a GPU. Needs the binary, this folder with ../data, and a POSIX shell: no cargo.
#
#     tests/gpu/check.sh [BINARY] [OUT]
#
# BINARY: default target/release/simmim-tui. OUT: where results stay; default a new temporary folder.
# DEVICE=cpu SHAPES=default STEPS=2 tries the script itself on a machine without a GPU.

set -u
here=$(cd "$(dirname "$0")" && pwd)
binary=${1:-$here/../../target/release/simmim-tui}
out=${2:-$(mktemp -d)}
device=${DEVICE:-cuda}
mkdir -p "$out"
failed=0

check() { # NAME COMMAND…: runs it, keeps its output, tells how it ended
    name=$1
    shift
    if "$@" >"$out/$name.out" 2>"$out/$name.err"; then
        echo "ok    $name"
    else
        echo "FAIL  $name (exit code $?): $(tail -n 1 "$out/$name.err")"
        failed=1
    fi
}

field() { # EVENT FIELD FILE: the last value of a field of events of one kind
    grep "\"event\":\"$1\"" "$3" | tail -n 1 | sed "s/.*\"$2\":\([^,}]*\).*/\1/"
}

close() { # A B LIMIT: whether two numbers differ by less than LIMIT, relatively
    awk -v a="$1" -v b="$2" -v limit="$3" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(b != 0 && d / b < limit) }'
}

run() { # NAME ARGUMENTS…: a short training run
    name=$1
    shift
    check "$name" "$binary" --no-ui --device "$device" --run-dir "$out/$name-run" \
        --set train.epochs=12 --set train.val_every=4 --set checkpoint.every_epochs=4 "$@"
}

echo "device $device, results in $out"
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader

# 1. Numbers that PyTorch computed, in 32-bit floats.
check parity "$binary" parity "$here/../data/simmim_small.safetensors" --device "$device"
check parity-classifier "$binary" parity "$here/../data/classifier_small.safetensors" --device "$device"

# 2. Training goes down, and a stop and a resume change nothing that matters.
run whole
cp -r "$out/whole-run" "$out/resumed-run"
rm "$(find "$out/resumed-run/checkpoints" -name 'step-*' | sort | tail -n 1)"
check resume "$binary" --no-ui --device "$device" --resume "$out/resumed-run"
first=$(grep '"event":"validated"' "$out/whole-run/events.jsonl" | head -n 1 | sed 's/.*"val_loss":\([^,}]*\).*/\1/')
last=$(field validated val_loss "$out/whole-run/events.jsonl")
again=$(field validated val_loss "$out/resumed-run/events.jsonl")
if awk -v a="$first" -v b="$last" 'BEGIN { exit !(b < 0.9 * a) }'; then
    echo "ok    learning: val_loss $first -> $last"
else
    echo "FAIL  learning: val_loss $first -> $last"
    failed=1
fi
if close "$again" "$last" 0.01; then
    echo "ok    resumed: val_loss $again, uninterrupted $last"
else
    echo "FAIL  resumed: val_loss $again, uninterrupted $last"
    failed=1
fi

# 3. Other precisions learn the same, and a run goes on in another one; so does activation checkpointing.
same() { # NAME LIMIT: whether the run NAME ended where the first one did
    found=$(field validated val_loss "$out/$1-run/events.jsonl")
    if close "$found" "$last" "$2"; then
        echo "ok    $1: val_loss $found, first run $last, computed in $(field started precision "$out/$1-run/events.jsonl")"
    else
        echo "FAIL  $1: val_loss $found, first run $last"
        failed=1
    fi
}
for precision in tf32 bf16; do
    run "$precision" --set "train.precision=$precision"
    same "$precision" 0.03
done
run checkpointed --set train.activation_checkpointing=true
same checkpointed 0.01
cp -r "$out/whole-run" "$out/changed-run"
rm "$(find "$out/changed-run/checkpoints" -name 'step-*' | sort | tail -n 1)"
check changed "$binary" --no-ui --device "$device" --resume "$out/changed-run" --set train.precision=bf16
same changed 0.03

# 4. A step that is no number leaves good weights: the device's own guard.
"$binary" --no-ui --device "$device" --run-dir "$out/hot-run" --on-nan stop --set train.epochs=60 \
    --set schedule.base_lr=100 --set schedule.warmup_epochs=0 --set train.grad_clip=0 \
    --set loss.kind=mse --set 'data.std=[0.001,0.001,0.001]' >"$out/hot.out" 2>"$out/hot.err"
code=$?
if [ "$code" = 3 ]; then
    echo "ok    not a number: $(tail -n 1 "$out/hot.err" | cut -c 1-100)"
else
    echo "FAIL  not a number: exit code $code instead of 3"
    failed=1
fi

# 5. Speed, in one JSON object each: images/s, share of the measured peak in the same precision.
speed() { # NAME ARGUMENTS…: one bench
    bench=bench-$1
    shift
    check "$bench" "$binary" bench --json --device "$device" --steps "${STEPS:-20}" "$@"
    [ -s "$out/$bench.out" ] && cat "$out/$bench.out"
}
for shape in ${SHAPES:-default vit_small_96 vit_base_224}; do
    for precision in fp32 tf32 bf16; do
        speed "$shape-$precision" --config "$shape" --set "train.precision=$precision"
    done
    speed "$shape-checkpointed" --config "$shape" --set train.precision=bf16 --set train.activation_checkpointing=true
done

[ "$failed" = 0 ] && echo "all is well" || echo "something failed; see $out"
exit "$failed"
