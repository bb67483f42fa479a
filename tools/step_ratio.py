#!/usr/bin/env python3
"""The training step against PyTorch's: alternating runs, medians and their ratio.

    PYTHON=/path/to/venv/bin/python python3 tools/step_ratio.py [RUNS] [--plain] [--binary FILE] [SHAPE OPTIONS]

Shape options are those of `bench` and of pytorch/step.py alike: --image --patch --dim --depth --heads --batch --steps
--warmup. `--plain` measures Burn's stock operations, `--threads N` both sides with N threads: with 1, other programs
on the machine disturb least. PYTHON is an interpreter with PyTorch (this one by default).
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = os.environ.get("PYTHON", sys.executable)


def ours(binary, shape, plain, threads):
    environment = dict(os.environ)
    if plain:
        environment["SIMMIM_PLAIN_OPS"] = "1"
    if threads:
        environment["RAYON_NUM_THREADS"] = threads
    command = [binary, "bench", "--json", "--device", "cpu", *shape]
    report = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    return report["step"]["images_per_s"], report["peak_rss_bytes"]


def twin(shape, threads):
    command = [PYTHON, str(HERE / "pytorch/step.py"), *shape, "--threads", threads or "0"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return report["images_per_s"], report["peak_rss_bytes"]


def main():
    rest = sys.argv[1:]
    runs = int(rest.pop(0)) if rest and rest[0].isdigit() else 5
    plain = "--plain" in rest
    rest = [word for word in rest if word != "--plain"]

    def option(name, default):
        if name not in rest:
            return default
        place = rest.index(name)
        value = rest[place + 1]
        del rest[place:place + 2]
        return value

    binary = option("--binary", str(HERE.parent / "target/release/simmim-tui"))
    threads = option("--threads", "")
    sides = {"simmim-tui": [], "pytorch": []}
    for _ in range(runs):
        sides["simmim-tui"].append(ours(binary, rest, plain, threads))
        sides["pytorch"].append(twin(rest, threads))
    medians = {}
    for name, values in sides.items():
        rates = [rate for rate, _ in values]
        memory = statistics.median(rss for _, rss in values) / 2**20
        medians[name] = (statistics.median(rates), memory)
        print(f"{name:11} {medians[name][0]:8.2f} images/s ({min(rates):.2f} to {max(rates):.2f}), {memory:.0f} MiB")
    best = [max(rate for rate, _ in values) for values in sides.values()]
    speed, memory = (medians["simmim-tui"][i] / medians["pytorch"][i] for i in (0, 1))
    print(f"ratio       {speed:8.2f}x speed (best runs {best[0] / best[1]:.2f}x), {memory:.2f}x memory")


if __name__ == "__main__":
    main()
