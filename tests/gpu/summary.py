#!/usr/bin/env python3
"""Sums up what check.sh did: a line a part, and the figures that matter.

    summary.py FOLDER SECONDS
"""

import json
import sys
from pathlib import Path

WORK = Path(sys.argv[1])


def output(name, kind="out"):
    path = WORK / "parts" / f"{name}.{kind}"
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def report(name):
    """The last JSON object among the lines."""
    for line in reversed(output(name)):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                return {}
    return {}


def at(value, *keys, digits=None, unit=1.0):
    """The number at a place, or "-"."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, (int, float)):
        return "-"
    return f"{value / unit:.{digits}f}" if digits is not None else str(value)


def bench(name):
    b = report(name)
    phases = " ".join(f"{key.removesuffix('_ms')} {at(b, 'phases', key, digits=2)}"
                      for key in ("encode_ms", "predict_ms", "backward_ms", "update_ms"))
    start = " ".join(f"{key.removesuffix('_s')} {at(b, 'startup', key, digits=2)}"
                     for key in ("context_s", "libraries_s", "kernels_s", "weights_s", "plans_s", "first_step_s", "total_s"))
    return [
        f"img/s wait {at(b, 'step', 'images_per_s', digits=0)} queued {at(b, 'queued', 'images_per_s', digits=0)} "
        f"with loader {at(b, 'end_to_end', 'images_per_s', digits=0)} "
        f"(waits {at(b, 'end_to_end', 'data_wait', digits=2)}) loader alone {at(b, 'loader', 'images_per_s', digits=0)}; "
        f"{at(b, 'compute', 'flops_per_s', digits=1, unit=1e12)} TFLOP/s, "
        f"{at(b, 'compute', 'share_of_peak', digits=3)} of {at(b, 'compute', 'matmul_peak_flops_per_s', digits=0, unit=1e12)}; "
        f"GPU memory {at(b, 'gpu_memory_bytes', digits=2, unit=2**30)} GiB; {b.get('precision', '-')}",
        f"    ms {phases}; start {start}",
    ]


def twin(name):
    t = report(name)
    return [
        f"img/s wait {at(t, 'images_per_s', digits=0)} queued {at(t, 'queued_images_per_s', digits=0)}; "
        f"first step {at(t, 'first_step_s', digits=1)} s; GiB {at(t, 'peak_gpu_bytes', digits=2, unit=2**30)}; "
        f"torch {t.get('torch', '-')} compiled {t.get('compiled', '-')}",
    ]


def ratio(name):
    ours, theirs = report(f"bench-{name}"), report(f"twin-{name}")
    pairs = [
        (("step", "images_per_s"), ("images_per_s",), "wait"),
        (("queued", "images_per_s"), ("queued_images_per_s",), "queued"),
    ]
    found = []
    for mine, other, label in pairs:
        try:
            found.append(f"{label} {float(at(ours, *mine)) / float(at(theirs, *other)):.3f}x")
        except (ValueError, ZeroDivisionError):
            continue
    return [f"RATIO {name}: ours / torch.compile: {', '.join(found)}"] if found else []


def parity(name):
    lines = output(name)
    bad = [line for line in lines if line.startswith("FAIL")]
    passed = sum(line.startswith("ok") for line in lines)
    return [f"{passed} groups ok, {len(bad)} failed", *(f"    {line[:150]}" for line in bad)]


def figures(name):
    if name.startswith("bench"):
        return bench(name)
    if name.startswith("twin"):
        return twin(name)
    if name.startswith("parity"):
        return parity(name)
    if name.startswith("same-bits"):
        return output(name)[-1:]
    if name in ("kernels", "machine"):
        return [line for line in output(name) if line.startswith("test result")][-1:]
    if name == "memcheck":
        return [line for line in output(name) + output(name, "err") if "ERROR SUMMARY" in line][-1:]
    if name == "doctor":
        return [" ".join(line.split()) for line in output(name) if " cuda " in line][:1]
    return []


def main():
    print((WORK / "card").read_text().strip())
    failed = 0
    for line in (WORK / "results").read_text().splitlines():
        name, code, milliseconds = line.split()
        failed += code not in ("0", "skipped")
        lines = figures(name) if code == "0" or name.startswith("parity") else []
        first, *more = lines or [""]
        if code not in ("0", "skipped"):
            last = [text for text in output(name, "err") + output(name) if text.strip()][-1:]
            # A failed test ends with a count; what went wrong stands above it.
            panics = [text for text in output(name) + output(name, "err") if ": " in text and ("is off by" in text or "times what" in text)]
            more += [f"    {text[:300]}" for text in panics[:6] + last]
        print(f"{name:<16} {'ok' if code == '0' else code:<8} {int(milliseconds) / 1000:6.1f} s  {first}")
        for text in more:
            print(text)
    for name in ("b64", "b256"):
        for text in ratio(name):
            print(text)
    print(f"{'all is well' if failed == 0 else f'{failed} parts failed'}; whole: {sys.argv[2]} s")


main()
