#!/usr/bin/env python3
"""Writes photos as Parquet files of several layouts, for the figures of docs/performance.md.

    pip install pyarrow numpy pillow
    python3 benches/parquet_files.py FOLDER [--images 4000]

Makes FOLDER/LAYOUT-ROWS.parquet, where ROWS is the size of a row group, and FOLDER/files/ with the same images as files:
500x375 pixels, 43 kB each, made from forty of the photos in the program. Layouts: `hub`, as the `datasets` library writes
them today (uncompressed, with an index of pages); `snappy` and `zstd`, as PyArrow writes by default (a row group's images
in one page); `pages`, Snappy with pages of a megabyte. Then compare, for example:

    simmim-tui bench --data FOLDER/snappy-100.parquet --set data.cache_mib=0
"""

import argparse
import io
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHUNKS = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
LAYOUTS = {
    "hub": {"compression": "none", "use_dictionary": False, "write_page_index": True, "use_content_defined_chunking": CHUNKS},
    "snappy": {},
    "zstd": {"compression": "zstd"},
    "pages": {"use_dictionary": False, "write_batch_size": 4},
}


def photos(count):
    """Noise keeps the photos as large as those of a camera."""
    random = np.random.default_rng(1)
    for path in sorted((ROOT / "assets/photos-cc0").glob("**/*.jpg"))[:count]:
        pixels = np.asarray(Image.open(path).convert("RGB").resize((500, 375)))
        noisy = (pixels + random.normal(0, 9, pixels.shape)).clip(0, 255).astype("uint8")
        file = io.BytesIO()
        Image.fromarray(noisy).save(file, "JPEG", quality=78)
        yield file.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--images", type=int, default=4000)
    arguments = parser.parse_args()
    files = arguments.folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    jpegs = list(photos(40))
    # Bytes behind the end of a JPEG are no part of the picture; they make each image another one.
    images = [jpegs[number % len(jpegs)] + number.to_bytes(4, "big") for number in range(arguments.images)]
    for number, data in enumerate(images):
        (files / f"{number:06}.jpg").write_bytes(data)
    rows = [{"bytes": data, "path": f"{number:06}.jpg"} for number, data in enumerate(images)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(rows, kind), "label": [number % 10 for number in range(len(images))]})
    for size in 100, 1000:
        for layout, options in LAYOUTS.items():
            pq.write_table(table, arguments.folder / f"{layout}-{size}.parquet", row_group_size=size, **options)
    for path in sorted(arguments.folder.glob("*.parquet")):
        print(f"{path.stat().st_size / 1e6:8.1f} MB  {path}")


if __name__ == "__main__":
    main()
