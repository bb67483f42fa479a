"""Checks that Python's webdataset and tarfile read what `simmim-tui pack` writes.

    python3 tests/python/check_pack.py [BINARY]     (default: target/release/simmim-tui)

It needs `webdataset`; `pip install -r tests/python/requirements.txt` has it. Nothing is downloaded.
"""

import glob
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

import webdataset

BINARY = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/release/simmim-tui")
PHOTOS = os.path.join(os.path.dirname(__file__), "../../assets/photos-cc0")


def pack(*arguments):
    done = subprocess.run([BINARY, "pack", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"


def read(folder, part):
    """All samples of a part, in order, without decoding."""
    urls = sorted(glob.glob(f"{folder}/{part}-*.tar"))
    assert urls, (folder, part)
    return list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)), urls


def check(source, folder, part, classes):
    """Compares a part with the files of a folder that has one sub-folder for each class."""
    samples, urls = read(folder, part)
    expected = []
    for root, _, files in os.walk(f"{source}/{part}"):
        expected += [os.path.relpath(os.path.join(root, file), f"{source}/{part}") for file in files]
    expected.sort(key=lambda path: path.split("/"))
    assert len(samples) == len(expected), (part, len(samples), len(expected))
    for sample, path in zip(samples, expected):
        stem, ending = os.path.splitext(path)
        folder_name, base = os.path.split(stem)
        key = os.path.join(folder_name, base.replace(".", "_"))
        assert sample["__key__"] == key, (sample["__key__"], path)
        assert sample[ending[1:].lower()] == open(f"{source}/{part}/{path}", "rb").read(), path
        assert classes[int(sample["cls"])] == path.split("/")[0], (path, sample["cls"])
    names = []
    for url in urls:
        with tarfile.open(url) as shard:
            for member in shard:
                assert member.isfile() and (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
                names.append(member.name)
    assert len(names) == 2 * len(expected) and len(set(names)) == len(names)
    print(f"ok    {part}: {len(samples)} samples in {len(urls)} shards have the bytes, keys and classes of the files")


def check_decoded(folder):
    """The labels and pictures as most training scripts take them."""
    urls = sorted(glob.glob(f"{folder}/train-*.tar"))
    dataset = webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8").to_tuple("jpg;jpeg;png;webp", "cls")
    count = 0
    for picture, label in dataset:
        assert picture.ndim == 3 and picture.shape[2] == 3 and min(picture.shape[:2]) <= 64, picture.shape
        assert isinstance(label, int)
        count += 1
    print(f"ok    {count} shrunk pictures and labels are decoded")


def main():
    if not os.path.exists(BINARY):
        sys.exit(f"no {BINARY}: build it first, with cargo build --release")
    with tempfile.TemporaryDirectory() as work:
        source, folder = f"{work}/tree", f"{work}/packed"
        shutil.copytree(PHOTOS, source, ignore=shutil.ignore_patterns("*.md", "*.txt", "*.csv"))
        photo = glob.glob(f"{source}/train/*/*.jpg")[0]
        longest = "x" * 180
        for name in ("v1.5/a.b.JPEG", "é ü/ö.jpeg", f"{longest}/{longest}.jpg", f"{longest[:99]}/y.jpg", "__odd/z.jpg"):
            os.makedirs(os.path.dirname(f"{source}/train/{name}"), exist_ok=True)
            shutil.copy(photo, f"{source}/train/{name}")
        pack(source, "-o", folder, "--images-per-shard", "50")
        classes = open(f"{folder}/classes.txt").read().splitlines()
        check(source, folder, "train", classes)
        check(source, folder, "val", classes)
        try:
            import numpy, PIL  # noqa: F401
        except ImportError:
            print("skipped: numpy or pillow is missing, pictures are not decoded")
        else:
            pack(source, "-o", f"{work}/small", "--size", "64", "--shuffle")
            check_decoded(f"{work}/small")
    print("all checks passed")


if __name__ == "__main__":
    main()
