"""Writes the Parquet files of this folder, and the same images as files in tree/.

    pip install pyarrow==26.0.1 datasets==5.2.0 pillow==13.0.0
    python tests/data/cases/parquet/make.py

Images are kept if they are there, so that another version of Pillow changes no bytes.
"""

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Picture

HERE = pathlib.Path(__file__).parent
NAMES = ["cat", "dog", "eel"]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def images():
    """Paths below tree/ with their bytes and labels, in the order in which a folder is listed."""
    found = []
    for label, name in enumerate(NAMES):
        for number in range(4):
            ending = ["png", "jpg", "webp", "png"][number]
            path = HERE / "tree" / name / f"{number}.{ending}"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                width, height = 20 + 3 * number, 16 + 2 * label
                picture = Picture.new("RGB", (width, height))
                pixels = [((x * 9) % 256, (y * 11 + 40 * label) % 256, 60 * number) for y in range(height) for x in range(width)]
                picture.putdata(pixels)
                picture.save(path)
            found.append((f"{name}/{path.name}", path.read_bytes(), label))
    return found


ROWS = images()


def table(image=True, label=True, more=()):
    columns = {}
    if image:
        columns["image"] = pa.array([{"bytes": data, "path": path} for path, data, _ in ROWS], STRUCT)
    if label:
        columns["label"] = pa.array([label for *_, label in ROWS], pa.int64())
    columns.update(more)
    return pa.table(columns)


def write(name, data, **options):
    pq.write_table(data, HERE / name, **options)


# As the hub has them: the `datasets` library writes the names of the classes into the metadata.
features = Features({"image": Image(), "label": ClassLabel(names=NAMES)})
rows = [{"image": {"bytes": data, "path": path}, "label": label} for path, data, label in ROWS]
Dataset.from_list(rows, features=features).to_parquet(HERE / "datasets.parquet", batch_size=5)
named = table().replace_schema_metadata(pq.read_schema(HERE / "datasets.parquet").metadata)

for codec in ["snappy", "zstd", "gzip", "none", "brotli", "lz4"]:
    write(f"{codec}.parquet", named, compression=codec, row_group_size=5, use_dictionary=False)
write("dictionary.parquet", named, row_group_size=7)
write("repeated.parquet", pa.concat_tables([named] * 3).combine_chunks(), row_group_size=36)
write("index.parquet", named, write_page_index=True, use_dictionary=False, data_page_size=400, write_batch_size=1)
write("pages.parquet", named, use_dictionary=False, data_page_size=400, write_batch_size=1, write_page_checksum=True)
write("v2.parquet", named, data_page_version="2.0", data_page_size=400, write_batch_size=1, use_dictionary=False)
write("v2-none.parquet", named, data_page_version="2.0", compression="none", row_group_size=5)

texts = [NAMES[label] for *_, label in ROWS]
binary = {"jpg": pa.array([data for _, data, _ in ROWS], pa.binary()), "cls": pa.array(texts)}
write("binary.parquet", pa.table(binary))
more = {
    "mask": table()["image"],
    "coarse_label": pa.array([0] * 12, pa.int32()),
    "fine_label": pa.array([5 + label for *_, label in ROWS], pa.int32()),
    "caption": pa.array(texts),
}
write("choice.parquet", table(label=False, more=more))
partly = pa.array([{"bytes": data if label else None, "path": path} for path, data, label in ROWS[2:10]], STRUCT)
write("paths.parquet", pa.table({"image": partly, "label": pa.array([-1] * 4 + [7, 7, None, 12], pa.int16())}))
lists = {"image": pa.array([[data] for _, data, _ in ROWS], pa.list_(pa.binary())), "text": pa.array(texts)}
write("lists.parquet", pa.table(lists))
write("rows-none.parquet", named.slice(0, 0))
write("labels-none.parquet", table(label=False))


class Keys(pe.KmsClient):
    """Keys that hide nothing."""

    def __init__(self, config):
        super().__init__()

    def wrap_key(self, key, name):
        return b"".join([name.encode(), b":", __import__("base64").b64encode(key)])

    def unwrap_key(self, key, name):
        return __import__("base64").b64decode(key.split(b":")[1])


for name, plain in [("encrypted.parquet", False), ("encrypted-column.parquet", True)]:
    config = pe.EncryptionConfiguration(
        footer_key="foot", column_keys={"col": ["image.bytes"]}, plaintext_footer=plain, double_wrapping=False
    )
    factory = pe.CryptoFactory(lambda config: Keys(config))
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), config)
    with pq.ParquetWriter(HERE / name, named.schema, encryption_properties=properties) as writer:
        writer.write_table(named)
