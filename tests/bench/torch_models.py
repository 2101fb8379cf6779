#!/usr/bin/env python3
"""The three transformers with the linear pre-training head in plain PyTorch, and one measured training step of them.

Written from the architectures as published (ATST-Frame, frame-PaSST, BEATs), with the parts every user of PyTorch would take:
nn.Module, fused attention where this version has it, AdamW. Run as a program it prints one JSON object:

    torch_models.py --model atst --batch 8 --steps 3 [--depth 12] [--threads 2] [--precision fp32|bf16]
"""
import argparse
import contextlib
import json
import math
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

DIM, HEADS, MLP, FRAMES, CLASSES = 768, 12, 3072, 250, 447
PARAMETERS = {"atst": 85_419_264, "fpasst": 88_421_632, "beats": 90_311_792}  # of the transformer at depth 12


def attention(q, k, v, bias=None):
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    scores = (q @ k.transpose(-2, -1)) / math.sqrt(q.shape[-1])
    return (scores if bias is None else scores + bias).softmax(-1) @ v


def heads(x):  # [B, T, D] -> [B, H, T, D / H]
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def start(*tensors):
    for t in tensors:
        nn.init.normal_(t, std=0.02)


class Block(nn.Module):
    """Pre-norm ViT block."""

    def __init__(self, qkv_bias):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM, 1e-6), nn.LayerNorm(DIM, 1e-6)
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM, bias=qkv_bias), nn.Linear(DIM, DIM)
        self.fc1, self.fc2 = nn.Linear(DIM, MLP), nn.Linear(MLP, DIM)
        start(self.qkv.weight, self.proj.weight, self.fc1.weight, self.fc2.weight)

    def forward(self, x):
        q, k, v = (heads(part) for part in self.qkv(self.norm1(x)).chunk(3, -1))
        x = x + self.proj(attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Atst(nn.Module):
    shape = (1, 64, 1001)

    def __init__(self, depth):
        super().__init__()
        self.mask_embed = nn.Parameter(torch.zeros(1, 1, DIM))
        self.pos_embed = nn.Parameter(torch.zeros(1, 251, DIM))
        self.patch_embed = nn.Linear(256, DIM)
        self.blocks = nn.ModuleList(Block(False) for _ in range(depth))
        self.norm_frame = nn.LayerNorm(DIM, 1e-6)
        start(self.mask_embed, self.pos_embed, self.patch_embed.weight)

    def forward(self, mel):  # patches of 64 mels x 4 frames
        x = mel[:, 0, :, :1000].unflatten(-1, (250, 4)).permute(0, 2, 1, 3).flatten(2)
        x = self.patch_embed(x) + self.pos_embed[:, 1:]
        for block in self.blocks:
            x = block(x)
        return self.norm_frame(x)


class Fpasst(nn.Module):
    shape = (1, 128, 1000)

    def __init__(self, depth):
        super().__init__()
        self.cls_token, self.dist_token = (nn.Parameter(torch.zeros(1, 1, DIM)) for _ in range(2))
        self.new_pos_embed = nn.Parameter(torch.zeros(1, 2, DIM))
        self.freq_new_pos_embed = nn.Parameter(torch.zeros(1, DIM, 1, 1))
        self.time_new_pos_embed = nn.Parameter(torch.zeros(1, DIM, 1, 250))
        self.conv_in_1 = nn.Conv2d(1, 16, 3, 2, 1)
        self.conv_in_2 = nn.Conv2d(16, 32, 3, 1, 1)
        self.conv_in_3 = nn.Conv2d(32, 64, 3, 2, 1)
        self.patch_embed = nn.Conv2d(16, DIM, (128, 2), padding=(0, 1))
        self.blocks = nn.ModuleList(Block(True) for _ in range(depth))
        self.norm = nn.LayerNorm(DIM, 1e-6)
        start(self.cls_token, self.dist_token, self.new_pos_embed, self.freq_new_pos_embed, self.time_new_pos_embed)

    def forward(self, mel):
        x = mel
        for conv in (self.conv_in_1, self.conv_in_2, self.conv_in_3):
            x = F.gelu(conv(x))
        x = self.patch_embed(x.reshape(len(x), 16, 128, 250))[..., 1:]
        x = (x + self.time_new_pos_embed + self.freq_new_pos_embed).flatten(2).transpose(1, 2)
        extra = torch.cat([self.cls_token, self.dist_token], 1) + self.new_pos_embed
        x = torch.cat([extra.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 2:]


class BeatsLayer(nn.Module):
    """Post-norm layer whose attention bias is a shared table of distances, gated by the query."""

    def __init__(self, alpha):
        super().__init__()
        self.alpha = alpha
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(DIM, DIM) for _ in range(4))
        self.grep_linear, self.grep_a = nn.Linear(DIM // HEADS, 8), nn.Parameter(torch.ones(1, HEADS, 1, 1))
        self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.fc1, self.fc2 = nn.Linear(DIM, MLP), nn.Linear(MLP, DIM)

    def forward(self, x, position):
        q, k, v = heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x))
        a, b = self.grep_linear(q).unflatten(-1, (2, 4)).sum(-1).sigmoid().chunk(2, -1)
        bias = (a * (b * self.grep_a - 1) + 2) * position
        x = self.self_attn_layer_norm(self.alpha * x + self.out_proj(attention(q, k, v, bias).transpose(1, 2).flatten(2)))
        return self.final_layer_norm(self.alpha * x + self.fc2(F.gelu(self.fc1(x))))


class Beats(nn.Module):
    shape = (1, 998, 128)

    def __init__(self, depth):
        super().__init__()
        self.patch_embedding = nn.Conv2d(1, 512, 16, 16, bias=False)
        self.layer_norm = nn.LayerNorm(512)
        self.post_extract_proj = nn.Linear(512, DIM)
        self.pos_conv = nn.utils.weight_norm(nn.Conv1d(DIM, DIM, 128, padding=64, groups=16), dim=2)
        self.relative_attention_bias = nn.Embedding(320, HEADS)
        self.encoder_layer_norm = nn.LayerNorm(DIM)
        self.layers = nn.ModuleList(BeatsLayer((2 * depth) ** 0.25) for _ in range(depth))
        start(self.relative_attention_bias.weight)
        self.register_buffer("bucket", self.buckets(496), persistent=False)

    @staticmethod
    def buckets(n):
        r = torch.arange(n)[None, :] - torch.arange(n)[:, None]
        d = r.abs()
        far = 80 + (torch.log(d.clamp(min=1).double() / 80) / math.log(10) * 80).long()
        return (r > 0).long() * 160 + torch.where(d < 80, d, far.clamp(max=159))

    def forward(self, fbank):
        x = self.post_extract_proj(self.layer_norm(self.patch_embedding(fbank).flatten(2).transpose(1, 2)))
        x = x + F.gelu(self.pos_conv(x.transpose(1, 2))[..., :-1]).transpose(1, 2)
        x = self.encoder_layer_norm(x)
        position = self.relative_attention_bias(self.bucket).permute(2, 0, 1)[None]
        for layer in self.layers:
            x = layer(x, position)
        return x


class Pretrain(nn.Module):
    """A transformer, its tokens averaged to 250 frames, and a linear head: logits [B, 250, classes]."""

    def __init__(self, model, depth):
        super().__init__()
        self.model = {"atst": Atst, "fpasst": Fpasst, "beats": Beats}[model](depth)
        self.strong_head = nn.Linear(DIM, CLASSES)

    def forward(self, x):
        x = self.model(x)
        if x.shape[1] != FRAMES:
            x = F.adaptive_avg_pool1d(x.transpose(1, 2), FRAMES).transpose(1, 2)
        return self.strong_head(x)


def measure(model, batch, steps, depth, precision):
    torch.manual_seed(1)
    net = Pretrain(model, depth).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5, weight_decay=1e-3)
    x, y = torch.randn(batch, *net.model.shape), torch.rand(batch, FRAMES, CLASSES)
    seconds = []
    for i in range(steps + 1):
        begin = time.perf_counter()
        mixed = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
        with mixed:
            logits = net(x)
        loss = F.binary_cross_entropy_with_logits(logits.float(), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if i > 0:  # the first one is a warm-up
            seconds.append(time.perf_counter() - begin)
    assert math.isfinite(loss.item())
    return {
        "program": "torch", "version": torch.__version__, "model": model, "precision": precision, "batch": batch, "depth": depth,
        "threads": torch.get_num_threads(), "seconds": statistics.median(seconds),
        "clips_per_s": batch / statistics.median(seconds),
        "parameters": sum(p.numel() for p in net.model.parameters()),
        "fused_attention": hasattr(F, "scaled_dot_product_attention"),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--model", choices=sorted(PARAMETERS), default="atst")
    p.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--steps", type=int, default=3)
    p.add_argument("--depth", type=int, default=12)
    p.add_argument("--threads", type=int)
    a = p.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    out = measure(a.model, a.batch, a.steps, a.depth, a.precision)
    if a.depth == 12 and out["parameters"] != PARAMETERS[a.model]:
        sys.exit(f"{a.model}: {out['parameters']} parameters, want {PARAMETERS[a.model]}")
    print(json.dumps(out))


if __name__ == "__main__":
    main()
