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

# 1. Numbers that PyTorch computed.
check parity "$binary" parity "$here/../data/simmim_small.safetensors" --device "$device"

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

# 3. A step that is no number leaves good weights: the device's own guard.
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

# 4. Speed, in one JSON object each.
for shape in ${SHAPES:-default vit_small_96 vit_base_224}; do
    check "bench-$shape" "$binary" bench --json --device "$device" --config "$shape" --steps "${STEPS:-20}"
    [ -s "$out/bench-$shape.out" ] && cat "$out/bench-$shape.out"
done

[ "$failed" = 0 ] && echo "all is well" || echo "something failed; see $out"
exit "$failed"
