"""Writes checkpoints as training scripts save them, for the test of `assets/convert_weights.py`. Each number of a network
says which it is: 0.25 the student or trained one, 0.5 the teacher or averaged one.

    python3 make_checkpoints.py FOLDER
"""

import collections
import sys

import torch

D = 8


def vit(value, prefix=""):
    shapes = {
        "cls_token": [1, 1, D], "pos_embed": [1, 17, D], "patch_embed.proj.weight": [D, 3, 4, 4], "patch_embed.proj.bias": [D],
        "norm.weight": [D], "norm.bias": [D], "blocks.0.norm1.weight": [D], "blocks.0.norm1.bias": [D],
        "blocks.0.attn.qkv.weight": [3 * D, D], "blocks.0.attn.qkv.bias": [3 * D], "blocks.0.attn.proj.weight": [D, D],
        "blocks.0.attn.proj.bias": [D], "blocks.0.norm2.weight": [D], "blocks.0.norm2.bias": [D],
        "blocks.0.mlp.fc1.weight": [2 * D, D], "blocks.0.mlp.fc1.bias": [2 * D], "blocks.0.mlp.fc2.weight": [D, 2 * D],
        "blocks.0.mlp.fc2.bias": [D],
    }  # fmt: skip
    return collections.OrderedDict((prefix + name, torch.full(shape, value)) for name, shape in shapes.items())


class Net:
    """Pickled as PyTorch pickles a module."""

    def __init__(self, parameters, modules):
        self._parameters, self._buffers, self._modules = parameters, {}, modules


def module(tensors):
    own = {name: tensor for name, tensor in tensors.items() if "." not in name}
    parts = {}
    for name, tensor in tensors.items():
        first, dot, rest = name.partition(".")
        if dot:
            parts.setdefault(first, {})[rest] = tensor
    return Net(own, {name: module(part) for name, part in parts.items()})


class Settings(dict):
    pass


student, teacher = vit(0.25), vit(0.5)
optimizer = {"state": {0: {"exp_avg": torch.full([D], 9.0)}}, "param_groups": [{"lr": 0.1}]}
head = {"head.mlp.0.weight": torch.full([3, D], 9.0)}
FILES = {
    "plain": student,
    "model": {"model": student, "optimizer": optimizer, "epoch": 3, "args": Settings(lr=1.0)},
    "dino": {"student": vit(0.25, "module.backbone.") | head, "teacher": vit(0.5, "backbone.") | head, "epoch": 3},
    "dinov2": {"model": vit(0.25, "student.backbone.") | vit(0.5, "teacher.backbone."), "iteration": 7},
    "ijepa": {"encoder": vit(0.25, "module."), "predictor": head, "target_encoder": vit(0.5, "module."), "opt": optimizer},
    "timm_ema": {"state_dict": student, "state_dict_ema": teacher, "arch": "vit"},
    "only_ema": {"ema": teacher, "step": torch.full([], 3.0)},
    "nested": {"checkpoint": [{"networks": {"teacher": {"backbone": teacher, "head": head}}}]},
    "whole_module": {"model": module(student)},
    "two": {"first": student, "second": teacher},
    "none": {"epoch": 3, "note": "nothing"},
}

for name, content in FILES.items():
    torch.save(content, f"{sys.argv[1]}/{name}.pth")
