import json
import math
import struct


def save_file(tensors, path, metadata):
    header, data = {"__metadata__": metadata}, b""
    for name, tensor in tensors.items():
        part = struct.pack("<f", tensor.value) * math.prod(tensor.shape)
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
