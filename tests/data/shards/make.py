"""Makes the tar shards of this folder with the programs that people have: Python's tarfile, GNU tar, webdataset.

    pip install webdataset==1.0.2
    python tests/data/shards/make.py

Sample i is a PNG of 6x5 pixels of the colour (10 i, 20 i, i) and of class i % 3. src/data/shards/tests.rs knows the names.
"""

import io
import json
import os
import struct
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path

HERE = Path(__file__).parent
LONG = "a-folder-with-a-name-of-some-length-" * 2 + "/" + "and-a-file-of-some-length-" * 3  # 73 + 78: fits USTAR
LONGER = "deep/" + "/".join(["a-name-of-many-letters"] * 14) + "/x"  # fits no header


def png(i):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([10 * i, 20 * i, i]) * 6 for _ in range(5))
    header = struct.pack(">IIBBBBB", 6, 5, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def members(longer):
    yield "plain.png", png(0)
    yield "plain.cls", b"0"
    yield "./dotted/b.PNG", png(1)
    yield "./dotted/b.json", json.dumps({"label": 1, "caption": "one"}).encode()
    yield LONG + ".png", png(2)
    yield LONG + ".cls", b"2\n"
    yield ("caf\u00e9" if longer else "cafe") + ".png", png(3)
    yield ("caf\u00e9" if longer else "cafe") + ".txt", b"0"
    if longer:
        yield LONGER + ".png", png(4)
        yield LONGER + ".cls", b"1"


def with_tarfile(name, form):
    with tarfile.open(HERE / name, "w", format=form) as archive:
        archive.addfile(folder("dotted/"))
        for member, content in members(form != tarfile.USTAR_FORMAT):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def folder(name):
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info


def with_gnu_tar(name, form):
    with tempfile.TemporaryDirectory() as place:
        for member, content in members(True):
            path = Path(place, member)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        os.symlink("plain.png", Path(place, "symbolic.png"))
        os.link(Path(place, "plain.png"), Path(place, "second.png"))
        with open(Path(place, "hole.png"), "wb") as hole:
            hole.write(png(5))
            hole.truncate(1 << 20)
        options = ["--sort=name", "--owner=0", "--group=0", "--mtime=@0", "--sparse", f"--format={form}"]
        if form == "posix":
            options.append("--pax-option=delete=atime,delete=ctime")
        subprocess.run(["tar", *options, "-cf", str(HERE / name), "-C", place, "."], check=True)


def with_webdataset(name):
    import webdataset

    with webdataset.TarWriter(str(HERE / name), mtime=0) as sink:
        for i in range(4):
            sink.write({"__key__": f"sub/{i:05}", "png": png(i), "cls": i % 3, "json": {"width": 6}})


with_tarfile("python-ustar.tar", tarfile.USTAR_FORMAT)
with_tarfile("python-gnu.tar", tarfile.GNU_FORMAT)
with_tarfile("python-pax.tar", tarfile.PAX_FORMAT)
with_gnu_tar("gnu-gnu.tar", "gnu")
with_gnu_tar("gnu-posix.tar", "posix")
with_webdataset("webdataset.tar")
