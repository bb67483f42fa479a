#!/usr/bin/env python3
"""One SimMIM training step in PyTorch: the twin of `simmim-tui bench`, for comparison.

    python3 tools/pytorch/step.py [--image 64 --patch 8 --dim 192 --depth 6 --heads 3 --batch 32 --steps 10]

The same model, mask ratio, L1 loss, clipping and AdamW as the program's defaults, written as PyTorch users write them
(timm's block, fused attention, fused AdamW). Prints one JSON object with images per second and peak resident memory.

    python3 tools/pytorch/step.py --device cuda --compile --bf16 --image 224 --patch 16 --dim 768 --depth 12 --heads 12 --batch 64

is the twin of a step on a GPU: bf16 by autocast, images and masks as on the GPU already (so it uploads nothing). It also
prints images per second of steps that wait for nothing, the seconds from its start to the end of its first step, which
compiles, and the peak of its tensors' memory.
"""

import argparse
import json
import resource
import statistics
import sys
import time

BEGIN = time.perf_counter()
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402


class Block(nn.Module):
    """Pre-norm attention and MLP, as timm.layers."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x):
        batch, patches, dim = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, patches, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.proj(mixed.transpose(1, 2).reshape(batch, patches, dim))
        return x + self.mlp(self.norm2(x))


class SimMim(nn.Module):
    def __init__(self, image, patch, dim, depth, heads):
        super().__init__()
        length = 3 * patch * patch
        self.patch = patch
        self.embed = nn.Linear(length, dim)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position = nn.Parameter(torch.randn(1, (image // patch) ** 2, dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, length)

    def patchify(self, images):
        """[B, 3, H, W] -> [B, N, 3·p·p]"""
        batch, channels, height, width = images.shape
        p = self.patch
        cut = images.reshape(batch, channels, height // p, p, width // p, p)
        return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * p * p)

    def forward(self, images, hidden, rows=None):
        patches = self.patchify(images)
        x = torch.where(hidden[..., None], self.token, self.embed(patches)) + self.position
        for block in self.blocks:
            x = block(x)
        if rows is None:
            return F.l1_loss(self.head(self.norm(x)[hidden]), patches[hidden])
        # As many rows whatever the mask: the host need not wait for their number.
        x = x.flatten(0, 1).index_select(0, rows)
        return F.l1_loss(self.head(self.norm(x)).float(), patches.flatten(0, 1).index_select(0, rows))


def masks(batch, patches, ratio=0.6):
    """The same count of hidden patches in each image. [B, N]"""
    order = torch.rand(batch, patches).argsort(1)
    return order < round(ratio * patches)



def make_optimizer(model):
    decayed = [p for p in model.parameters() if p.ndim == 2]
    plain = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.999), fused=True)


def on_gpu(args):
    """Prints the figures of a step on a GPU."""
    if not torch.cuda.is_available():
        sys.exit("step.py: PyTorch sees no GPU")
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # TF32 without --bf16
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    model = SimMim(args.image, args.patch, args.dim, args.depth, args.heads).cuda()
    optimizer = make_optimizer(model)

    def loss_of(pixels, hidden, rows):
        return model((pixels.permute(0, 3, 1, 2).float() / 255 - 0.45) / 0.225, hidden, rows)

    forward = torch.compile(loss_of) if args.compile else loss_of
    pixels = torch.randint(0, 256, (args.batch, args.image, args.image, 3), dtype=torch.uint8, device="cuda")
    hidden = masks(args.batch, model.position.shape[1])
    rows = hidden.flatten().nonzero().flatten().cuda()
    hidden = hidden.cuda()

    def step():
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=args.bf16):
            loss = forward(pixels, hidden, rows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    step().item()
    first = time.perf_counter() - BEGIN
    for _ in range(8):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(args.steps):
        start = time.perf_counter()
        loss = step().item()
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    for _ in range(args.steps):
        step()
    torch.cuda.synchronize()
    mean = (time.perf_counter() - start) / args.steps
    median = statistics.median(times)
    print(json.dumps({
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(),
        "compiled": args.compile,
        "bf16": args.bf16,
        "images_per_s": args.batch / median,
        "median_s": median,
        "min_s": min(times),
        "queued_images_per_s": args.batch / mean,
        "first_step_s": first,
        "loss": loss,
        "peak_gpu_bytes": torch.cuda.max_memory_allocated(),
    }))


def main():
    parser = argparse.ArgumentParser()
    for name, default in dict(image=64, patch=8, dim=192, depth=6, heads=3, batch=32, steps=10, warmup=2).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch's own choice")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    args = parser.parse_args()
    if args.device == "cuda":
        on_gpu(args)
        return
    torch.manual_seed(0)
    if args.threads:
        torch.set_num_threads(args.threads)
    model = SimMim(args.image, args.patch, args.dim, args.depth, args.heads)
    optimizer = make_optimizer(model)
    pixels = torch.randint(0, 256, (args.batch, args.image, args.image, 3), dtype=torch.uint8)
    hidden = masks(args.batch, model.position.shape[1])

    def step():
        images = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.45) / 0.225
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            loss = model(images, hidden)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    times = []
    for number in range(args.warmup + args.steps):
        start = time.perf_counter()
        loss = step()
        if number >= args.warmup:
            times.append(time.perf_counter() - start)
    median = statistics.median(times)
    print(json.dumps({
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "images_per_s": args.batch / median,
        "median_s": median,
        "min_s": min(times),
        "loss": loss,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


if __name__ == "__main__":
    main()
