"""Turns a PyTorch weights file (.pth, .pt, .bin) into safetensors, for `simmim-tui --init` and `simmim-tui import`.

    python3 convert_weights.py FILE.pth FILE.safetensors

Needs torch and safetensors. A pickle can run any code when it is read; this reads tensors and plain containers only and
puts an empty object in place of everything else (the official SimMIM checkpoints hold a configuration object, for
example), so that files of strangers can do no harm.
"""

import collections
import pickle
import sys
import types

import torch
from safetensors.torch import save_file

ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class Nothing:
    """Stands in for whatever is no tensor."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        pass

    extend = append


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        if module == "torch" and (name.endswith("Storage") or isinstance(getattr(torch, name, None), torch.dtype)):
            return getattr(torch, name)
        return Nothing


def weights(content):
    """The dictionary of tensors, wherever training scripts put it."""
    for key in ("model", "state_dict", "model_state", "module", "model_ema"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            return weights(content[key])
    tensors = {}
    if isinstance(content, dict):
        tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        sys.exit("no dictionary of tensors in this file")
    return tensors


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: convert_weights.py FILE.pth FILE.safetensors")
    source, target = sys.argv[1:]
    reader = types.SimpleNamespace(Unpickler=Unpickler, load=lambda file, **_: Unpickler(file).load(), __name__="reader")
    content = torch.load(source, map_location="cpu", weights_only=False, pickle_module=reader)
    # Clones: safetensors refuses tensors that share memory.
    tensors = {name: value.detach().clone().contiguous() for name, value in weights(content).items()}
    save_file(tensors, target, metadata={"format": "pt"})
    print(f"{len(tensors)} tensors in {target}")


if __name__ == "__main__":
    main()
