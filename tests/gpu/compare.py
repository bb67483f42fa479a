#!/usr/bin/env python3
"""Whether the last checkpoints of two runs hold the same bits, beside the seconds that training took.

    compare.py RUN RUN
"""

import json
import struct
import sys
from pathlib import Path


def newest(run):
    return sorted(Path(run, "checkpoints").glob("step-*"))[-1]


def read(path):
    """Returns the places of the tensors, what describes the state, and the bytes of the tensors."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    meta = header.pop("__metadata__", {})
    for key, text in meta.items():
        try:
            meta[key] = json.loads(text)
        except ValueError:
            continue
        if isinstance(meta[key], dict):
            meta[key].pop("elapsed_s", None)
    for key in ("elapsed_s", "checksum"):  # the checksum covers the seconds, too
        meta.pop(key, None)
    return header, meta, data[8 + length :]


def main():
    paths = [newest(run) for run in sys.argv[1:3]]
    assert paths[0].name == paths[1].name, f"{paths[0].name} is not {paths[1].name}"
    (names, meta, data), (other_names, other_meta, other_data) = map(read, paths)
    assert names == other_names, "the tensors are not the same"
    different = [
        name for name, entry in names.items()
        if data[slice(*entry["data_offsets"])] != other_data[slice(*entry["data_offsets"])]
    ]
    keys = [key for key in meta if meta[key] != other_meta.get(key)]
    if different or keys:
        print(f"DIFFERENT {paths[0].name}: {len(different)} of {len(names)} tensors, {different[:4]}; metadata {keys}")
        sys.exit(1)
    print(f"SAME {paths[0].name}: {len(names)} tensors, {len(data)} bytes")


main()
