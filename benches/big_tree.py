#!/usr/bin/env python3
"""What a folder at the size of ImageNet costs at the start of a plan and of a run.

    python3 benches/big_tree.py [FOLDER] [--hard] [--keep] [--binary FILE]

Makes FOLDER/tree (default: below the system's temporary folder): 1,281,000 training and 50,000 validation images in 1000
classes, which are symbolic links to 40 photos (hard links with --hard), and removes it at the end. With --keep it stays, and
a tree that is there already is taken as it is. The index of the folder goes to a cache folder of its own, which is
removed. Needs Python, Linux and target/release/simmim-tui.

Prints seconds, the longest silence on both streams, and the peak of the resident memory: of the first plan, of the second
one, and of a run from its start to its first step. Ends with 1 if one of the bounds below is missed.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLASSES, TRAIN, VAL, PHOTOS = 1000, 1281, 50, 40
# Bounds: seconds of the second plan and of the first step, seconds without a word, MiB.
PLAN_S, STEP_S, SILENCE_S, PEAK_MIB = 1.0, 5.0, 2.0, 300
SMALL = ["model.image_size=32", "model.patch_size=8", "model.embed_dim=32", "model.depth=1", "model.heads=2",
         "mask.unit=8", "train.batch_size=16", "train.log_every=1", "train.device=cpu"]


def make(tree, hard):
    """Makes the tree in about a minute."""
    photos = tree.parent / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    sources = sorted((ROOT / "assets/photos-cc0").glob("**/*.jpg"))[:PHOTOS]
    for number, source in enumerate(sources):
        shutil.copy(source, photos / f"{number:02}.jpg")
    link = os.link if hard else os.symlink
    for part, images in (("train", TRAIN), ("val", VAL)):
        for label in range(CLASSES):
            folder = tree / part / f"n{label:08}"
            folder.mkdir(parents=True)
            fd = os.open(folder, os.O_RDONLY)
            for number in range(images):
                photo = str(photos / f"{(label + number) % PHOTOS:02}.jpg")
                # 25 bytes, as the names of ImageNet have about.
                link(photo, f"n{label:08}_{number:09}.JPEG", dst_dir_fd=fd) if hard else \
                    link(photo, f"n{label:08}_{number:09}.JPEG", dir_fd=fd)
            os.close(fd)


def peak_mib(pid):
    """The highest resident memory of a process until now."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def measure(command, environment, until=None):
    """Runs a command, until a line of its output matches a pattern if one is given.

    Returns the seconds until then, the longest silence, the peak of memory in MiB, and the output.
    """
    begin = last = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    peak, over = [0], threading.Event()

    def watch():
        while not over.wait(0.005):
            peak[0] = max(peak[0], peak_mib(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    silence, output = 0.0, []
    for line in process.stdout:
        now = time.monotonic()
        silence, last = max(silence, now - last), now
        output.append(line.decode(errors="replace").rstrip())
        if until and re.search(until, output[-1]):
            break
    now = time.monotonic()
    seconds, silence = now - begin, max(silence, now - last)
    over.set()
    watcher.join()
    if until:
        process.send_signal(signal.SIGINT)
    process.stdout.read()
    if process.wait() not in (0, 130) or until and not re.search(until, output[-1]):
        sys.exit("\n".join([f"{command} failed:", *output]))
    return seconds, silence, peak[0], output


def report(what, result, most_s=None):
    """Prints a line. Returns whether the bounds hold."""
    seconds, silence, peak, output = result
    good = (most_s is None or seconds <= most_s) and silence <= SILENCE_S and peak <= PEAK_MIB
    bound = "" if most_s is None else f" (at most {most_s})"
    print(f"{what:12}  {seconds:6.2f} s{bound:16}  silence {silence:5.2f} s  peak {peak:4} MiB  {'ok' if good else 'MISSED'}",
          flush=True)
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=pathlib.Path)
    parser.add_argument("--hard", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/simmim-tui")
    args = parser.parse_args()
    own = None if args.folder else tempfile.mkdtemp()
    folder = args.folder or pathlib.Path(own)
    tree = folder.absolute() / "tree"
    made = not tree.exists()
    if made:
        begin = time.monotonic()
        make(tree, args.hard)
        print(f"made the tree in {time.monotonic() - begin:.0f} s", flush=True)
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        environment = {**os.environ, "XDG_CACHE_HOME": f"{temporary}/cache"}
        plan = [args.binary, "plan", "--data", tree]
        good &= report("first plan", measure(plan, environment))
        good &= report("second plan", measure(plan, environment), PLAN_S)
        sets = [part for text in SMALL for part in ("--set", text)]
        train = [args.binary, "--no-ui", "--data", tree, "--run-dir", f"{temporary}/run", *sets]
        good &= report("first step", measure(train, environment, r"step +1/"), STEP_S)
    if not args.keep and made:
        shutil.rmtree(tree)
        shutil.rmtree(tree.parent / "photos")
    if own:
        shutil.rmtree(own)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
