#!/usr/bin/env python3
"""What the screen costs: alternating runs with and without it, as a ratio, and the CPU share of its thread.

    python3 tools/screen.py [RUNS] [EPOCHS]

Needs target/release/simmim-tui and nothing but Python. The screen runs on a pty of 120x40 that is read all the time.
"""

import json
import os
import pathlib
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import fcntl
import time

BINARY = pathlib.Path(__file__).resolve().parent.parent / "target/release/simmim-tui"


def rate(run):
    """Images per second between the first and the last step report, validation and saving left out."""
    reports = [json.loads(line) for line in open(run / "events.jsonl")]
    reports = [event for event in reports if event["event"] == "step"]
    first, last = reports[1], reports[-1]
    spent = [report["spent"]["data_wait"] + report["spent"]["compute"] for report in (first, last)]
    return (last["step"] - first["step"]) * 32 / (spent[1] - spent[0])


def main_thread_seconds(run):
    """CPU time of the screen's thread: the first one of the process that trains."""
    pid = json.loads((run / "lock").read_text())["pid"]
    fields = open(f"/proc/{pid}/task/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def arguments(run, epochs):
    return [str(BINARY), "--device", "cpu", "--run-dir", str(run), "--set", f"train.epochs={epochs}"]


def headless(run, epochs):
    subprocess.run(arguments(run, epochs) + ["--no-ui"], check=True, capture_output=True)
    return rate(run), None, None


def screen(run, epochs):
    pid, master = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
        os.execv(arguments(run, epochs)[0], arguments(run, epochs))
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    begin, size, cpu, looked = time.monotonic(), 0, 0.0, 0.0
    while True:
        if select.select([master], [], [], 0.5)[0]:
            try:
                data = os.read(master, 1 << 16)
            except OSError:
                break
            size += len(data)
        if time.monotonic() - looked < 2:
            continue  # this process must not take the time that it measures
        looked = time.monotonic()
        events = run / "events.jsonl"
        if events.exists() and b'"event":"finished"' in events.read_bytes()[-2000:]:
            cpu = main_thread_seconds(run)
            seconds = time.monotonic() - begin
            time.sleep(1)
            os.write(master, b"q")
            break
    while select.select([master], [], [], 2)[0]:
        try:
            if not os.read(master, 1 << 16):
                break
        except OSError:
            break
    os.waitpid(pid, 0)
    return rate(run), cpu / seconds, size / seconds


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    results = {"headless": [], "screen": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            for name, start in (("headless", headless), ("screen", screen)):
                result = start(pathlib.Path(folder) / f"{name}-{number}", epochs)
                results[name].append(result)
                print(name, f"{result[0]:.2f} images/s", *(f"{x:.4g}" for x in result[1:] if x is not None))
    median = {name: statistics.median(rate for rate, _, _ in all) for name, all in results.items()}
    print(f"screen / headless {median['screen'] / median['headless']:.4f}")
    # Neighbours in time: slow changes of the machine touch both.
    pairs = [shown / plain for (plain, *_), (shown, *_) in zip(results["headless"], results["screen"])]
    error = statistics.stdev(pairs) / len(pairs) ** 0.5 if len(pairs) > 1 else float("nan")
    print(f"pairs: median {statistics.median(pairs):.4f}, mean {statistics.mean(pairs):.4f} +- {error:.4f}")
    print(f"CPU share of the screen's thread {statistics.median(c for _, c, _ in results['screen']):.4f}")
    print(f"bytes per second {statistics.median(b for _, _, b in results['screen']):.0f}")


if __name__ == "__main__":
    main()
