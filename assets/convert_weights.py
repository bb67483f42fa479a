"""Turns a PyTorch weights file (.pth, .pt, .bin) into safetensors, for `simmim-tui --init` and `simmim-tui import`.

    python3 convert_weights.py FILE.pth FILE.safetensors [--key KEY]

Training scripts put the weights anywhere, and often save several networks: a student and its teacher, a model and its
moving average. The teacher, target or averaged network is taken and named; KEY takes another one of those that are
listed.

Needs torch and safetensors. A pickle can run any code when it is read; this reads tensors and plain containers only and
puts an empty object in place of everything else (the official SimMIM checkpoints hold a configuration object, for
example), so that files of strangers can do no harm.
"""

import argparse
import collections
import pickle
import sys
import types

import torch
from safetensors.torch import save_file

ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): lambda *_: {},
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}

# The end of the name of the patch projection, which every Vision Transformer has.
PROJECTION = "patch_embed.proj.weight"
# How scripts call the network that follows the trained one as a moving average. It has the better features.
AVERAGED = ("teacher", "target", "ema", "momentum", "averaged", "encoder_k", "key_encoder")
# Parts of a checkpoint that hold tensors, but no weights.
NO_WEIGHTS = ("optim", "sched", "scaler", "criterion", "loss", "rng", "random")
DEEPEST = 8


class Nothing(dict):
    """Stands in for whatever is no tensor. It keeps what it is given, and does nothing with it."""

    __hash__ = object.__hash__

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        if isinstance(state, dict):
            self.__dict__.update((str(key), value) for key, value in state.items())

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


def module_tensors(value, prefix="", depth=0):
    """The state dictionary of a pickled module, as torch would make it."""
    tensors = {}
    for kind in ("_parameters", "_buffers"):
        named = value.__dict__.get(kind)
        for name, tensor in named.items() if isinstance(named, dict) else ():
            if isinstance(tensor, torch.Tensor):
                tensors[f"{prefix}{name}"] = tensor
    modules = value.__dict__.get("_modules")
    for name, module in modules.items() if isinstance(modules, dict) and depth < 64 else ():
        if isinstance(module, Nothing):
            tensors.update(module_tensors(module, f"{prefix}{name}.", depth + 1))
    return tensors


def dictionaries(content, path=(), seen=None):
    """All dictionaries of tensors with the keys that lead to them."""
    seen = set() if seen is None else seen
    if id(content) in seen or len(path) > DEEPEST:
        return
    if any(word in str(key).lower() for key in path for word in NO_WEIGHTS):
        return
    seen.add(id(content))
    if isinstance(content, Nothing) and content.__dict__.get("_modules") is not None:
        yield path, module_tensors(content)
        return
    if isinstance(content, (list, tuple)):
        items = enumerate(content[:64])
    elif isinstance(content, dict):
        tensors = {
            key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, torch.Tensor)
        }
        # A dictionary that only counts steps holds no weights.
        if any(tensor.dim() > 0 for tensor in tensors.values()):
            yield path, tensors
        items = content.items()
    else:
        return
    for key, value in items:
        if isinstance(value, (dict, list, tuple)):
            yield from dictionaries(value, (*path, key), seen)


def shown(path):
    return ".".join(str(key) for key in path) or "(the whole file)"


def weights(content, wanted):
    """The keys that lead to the wanted dictionary of tensors, the dictionary, and the keys of the others."""
    found = list(dictionaries(content))
    of_vit = [(path, tensors) for path, tensors in found if any(name.endswith(PROJECTION) for name in tensors)]
    found = of_vit or found
    if not found:
        keys = ", ".join(str(key) for key in list(content)[:20]) if isinstance(content, dict) else ""
        sys.exit(f"no dictionary of tensors in this file, which holds {keys or type(content).__name__}")
    names = [shown(path) for path, _ in found]
    if wanted is not None:
        chosen = [one for one in found if shown(one[0]) == wanted] or [
            one for one in found if wanted in [str(key) for key in one[0]]
        ]
    else:
        chosen = found if len(found) == 1 else []
        averaged = [
            one for one in found if any(word in str(key).lower() for key in one[0] for word in AVERAGED)
        ]
        chosen = chosen or averaged
    if len(chosen) != 1:
        told = f"{wanted} names none or several" if wanted is not None else "several would do"
        sys.exit(f"{told} of the dictionaries of tensors in this file; take one with --key: {', '.join(names)}")
    path, tensors = chosen[0]
    return path, tensors, [name for name in names if name != shown(path)]


def main():
    parser = argparse.ArgumentParser(prog="convert_weights.py", description="Turns PyTorch weights into safetensors.")
    parser.add_argument("source", metavar="FILE.pth")
    parser.add_argument("target", metavar="FILE.safetensors")
    parser.add_argument("--key", help="take the dictionary of tensors under this key, as teacher or model.ema")
    args = parser.parse_args()
    reader = types.SimpleNamespace(Unpickler=Unpickler, load=lambda file, **_: Unpickler(file).load(), __name__="reader")
    content = torch.load(args.source, map_location="cpu", weights_only=False, pickle_module=reader)
    path, tensors, others = weights(content, args.key)
    # Clones: safetensors refuses tensors that share memory.
    tensors = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    save_file(tensors, args.target, metadata={"format": "pt"})
    rest = f" (--key takes another: {', '.join(others)})" if others else ""
    print(f"{len(tensors)} tensors of {shown(path)} in {args.target}{rest}")


if __name__ == "__main__":
    main()
