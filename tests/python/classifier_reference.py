"""Writes tests/data/classifier_small.safetensors: what PyTorch and timm make of a small classifier.

Run it with torch, timm and safetensors installed; tests/it/parity.rs compares. The model is timm's VisionTransformer
without class token, norm before an average pool, linear head; the loss torch.nn.CrossEntropyLoss with label smoothing;
the optimizer torch.optim.AdamW with a parameter group for each layer and decay, rates as in BeiT's layer decay.
"""

import json
import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

CONFIG = {
    "image_size": 16,
    "patch_size": 4,
    "embed_dim": 16,
    "depth": 3,
    "heads": 2,
    "mlp_ratio": 4.0,
    "classes": 7,
    "batch": 6,
    "label_smoothing": 0.1,
    "layer_decay": 0.6,
    "lr": 2e-3,
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "weight_decay": 0.05,
    "clip_grad_norm": 0.5,
    "steps": 5,
}


def layer_of(name, depth):
    """BEiT's get_num_layer_for_vit with depth + 2 layers."""
    if name.startswith(("pos_embed", "patch_embed")):
        return 0
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return depth + 1


def groups(model, config):
    depth = config["depth"]
    for name, parameter in model.named_parameters():
        scale = config["layer_decay"] ** (depth + 1 - layer_of(name, depth))
        plain = parameter.ndim == 1 or name == "pos_embed"
        decay = 0.0 if plain else config["weight_decay"]
        yield {"params": [parameter], "lr": config["lr"] * scale, "weight_decay": decay}


def ours(name):
    return name if name.startswith("head.") else f"encoder.{name}"


def main(path):
    torch.manual_seed(1)
    torch.set_num_threads(1)
    model = VisionTransformer(
        img_size=CONFIG["image_size"],
        patch_size=CONFIG["patch_size"],
        embed_dim=CONFIG["embed_dim"],
        depth=CONFIG["depth"],
        num_heads=CONFIG["heads"],
        mlp_ratio=CONFIG["mlp_ratio"],
        num_classes=CONFIG["classes"],
        class_token=False,
        global_pool="avg",
        fc_norm=False,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    size = CONFIG["image_size"]
    images = torch.randn(CONFIG["batch"], 3, size, size)
    labels = torch.tensor([0, 6, 3, 3, 1, 5])
    tensors = {"images": images, "labels": labels.float()}

    def keep(prefix, values):
        for name, value in values:
            tensors[f"{prefix}.{ours(name)}"] = value.detach().clone().contiguous()

    keep("param", model.named_parameters())
    smooth = torch.nn.CrossEntropyLoss(label_smoothing=CONFIG["label_smoothing"])
    plain = torch.nn.CrossEntropyLoss()
    logits = model(images)
    tensors["logits"] = logits.detach().clone()
    tensors["features"] = model.forward_head(model.forward_features(images), pre_logits=True).detach()
    tensors["loss"] = plain(logits, labels).detach().reshape(1)
    smooth(logits, labels).backward()
    keep("grad", ((name, parameter.grad) for name, parameter in model.named_parameters()))

    optimizer = torch.optim.AdamW(groups(model, CONFIG), betas=CONFIG["betas"], eps=CONFIG["eps"])
    losses, norms = [], []
    for step in range(CONFIG["steps"]):
        optimizer.zero_grad()
        loss = smooth(model(images), labels)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CONFIG["clip_grad_norm"])
        losses.append(loss.item())
        norms.append(norm.item())
        optimizer.step()
        if step == 0:
            keep("after1", model.named_parameters())
    keep("after", model.named_parameters())
    tensors["step_losses"] = torch.tensor(losses)
    tensors["step_grad_norms"] = torch.tensor(norms)
    versions = {"torch": torch.__version__, "timm": timm.__version__}
    save_file(tensors, path, {"config": json.dumps(CONFIG), "versions": json.dumps(versions)})
    print(f"{path}: losses {losses}, norms {norms}, {versions}")


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent / "data/classifier_small.safetensors")
