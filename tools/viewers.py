#!/usr/bin/env python3
"""What viewers cost a run: alternating runs with and without eight of them, as ratios of images per second and of the
CPU time that the run took, which other work on the machine disturbs less.

    python3 tools/viewers.py [RUNS] [EPOCHS]

Needs target/release/simmim-tui and nothing but Python. The viewers are sockets that take in every event and throw it away, so
that what is measured is the run's side; on a machine with idle cores, screens of `attach` cost it no more.
"""

import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from screen import arguments, rate

VIEWERS = 8


def view(path, taken):
    """Reads events until the run closes the socket."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.connect(str(path))
    while data := line.recv(1 << 16):
        taken.append(len(data))


def measure(run, epochs, viewers):
    process = subprocess.Popen(
        arguments(run, epochs) + ["--no-ui"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    path = run / "control.sock"
    while not path.exists():
        time.sleep(0.01)
    taken = []
    threads = [threading.Thread(target=view, args=(path, taken)) for _ in range(viewers)]
    for thread in threads:
        thread.start()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit("the run failed")
    for thread in threads:
        thread.join()
    if viewers and sum(taken) < 1000:
        raise SystemExit("the viewers saw nothing")
    return rate(run), usage.ru_utime + usage.ru_stime


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    results = {0: [], VIEWERS: []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            for viewers, found in results.items():
                run = pathlib.Path(folder) / f"{viewers}-{number}"
                found.append(measure(run, epochs, viewers))
                print(f"{viewers} viewers: {found[-1][0]:.1f} images/s, {found[-1][1]:.1f} s of CPU", flush=True)
    for column, unit in ((0, "images/s"), (1, "s of CPU")):
        alone, watched = (statistics.median(one[column] for one in found) for found in results.values())
        print(f"median {alone:.1f} {unit} alone, {watched:.1f} with {VIEWERS} viewers: ratio {watched / alone:.3f}")


if __name__ == "__main__":
    main()
