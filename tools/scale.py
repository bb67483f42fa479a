#!/usr/bin/env python3
"""What a large folder of images costs: start-up time and loader rate from a thousand to a million files.

    python3 tools/scale.py [FOLDER] [LARGEST]

Needs target/release/simmim-tui and nothing but Python. The files are hard links to copies of one photo, a thousand in each class;
they are made in a temporary folder below FOLDER (default: the system's) and removed at the end. The cache of decoded images is
off, so that each image is read and decoded however many there are.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/simmim-tui"
# Fewer than any file system's limit on links to one file.
LINKS = 10_000


def fill(folder, have, want, photo):
    """Adds files until there are `want`."""
    for number in range(have, want):
        source = folder.parent / f"copy-{number // LINKS}.jpg"
        if number % LINKS == 0:
            source.write_bytes(photo)
        if number % 1000 == 0:
            name = folder / f"class-{number // 1000:04}"
            name.mkdir()
        (name / f"{number:07}.jpg").hardlink_to(source)


def start_up(folder):
    """Seconds from the start of the program to its plan: the best of three."""
    times = []
    for _ in range(3):
        begin = time.monotonic()
        subprocess.run([BINARY, "plan", "--device", "cpu", "--data", folder], check=True, capture_output=True)
        times.append(time.monotonic() - begin)
    return min(times)


def bench(folder):
    sizes = ["--steps", "2", "--warmup", "1", "--dim", "32", "--depth", "1", "--heads", "1"]
    arguments = [BINARY, "bench", "--json", "--device", "cpu", "--set", f"data.path='{folder}'",
                 "--set", "data.cache_mib=0", *sizes]
    return json.loads(subprocess.run(arguments, check=True, capture_output=True).stdout)


def main():
    below = sys.argv[1] if len(sys.argv) > 1 else None
    largest = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    photo = min((ROOT / "assets/photos-cc0").glob("**/*.jpg")).read_bytes()
    with tempfile.TemporaryDirectory(dir=below) as temporary:
        folder = pathlib.Path(temporary) / "images"
        folder.mkdir()
        have = 0
        print("   files  start-up s  loader images/s  peak MiB")
        for count in (1_000, 10_000, 100_000, 1_000_000):
            if count > largest:
                break
            fill(folder, have, count, photo)
            have = count
            report = bench(folder)
            rate, peak = report["loader"]["images_per_s"], report["peak_rss_bytes"] >> 20
            print(f"{count:8}  {start_up(folder):10.2f}  {rate:15.0f}  {peak:8}", flush=True)


if __name__ == "__main__":
    main()
