"""Writes deit.h5: a small distilled DeiT and what becomes of it as the start of fPaSST, by PyTorch's own interpolate.

Usage: /usr/bin/python3 tests/data/make_deit.py      (needs torch; the file travels with the repository)
Formulas: spec/models.md section 2.1. `deit/<name>` are the inputs, `fpasst/<name>` the results, float32.
"""
import pathlib

import h5py
import numpy as np
import torch
import torch.nn.functional as F

D, MLP, DEPTH, SIDE, MELS, TOKENS = 4, 8, 1, 6, 128, 11


def main():
    torch.manual_seed(1)
    deit = {"cls_token": (1, 1, D), "dist_token": (1, 1, D), "pos_embed": (1, 2 + SIDE * SIDE, D),
            "patch_embed.proj.weight": (D, 3, 16, 16), "patch_embed.proj.bias": (D,), "norm.weight": (D,), "norm.bias": (D,),
            "head.weight": (5, D), "head.bias": (5,), "head_dist.weight": (5, D), "head_dist.bias": (5,)}
    for i in range(DEPTH):
        b = f"blocks.{i}."
        deit |= {b + "norm1.weight": (D,), b + "norm1.bias": (D,), b + "attn.qkv.weight": (3 * D, D), b + "attn.qkv.bias": (3 * D,),
                 b + "attn.proj.weight": (D, D), b + "attn.proj.bias": (D,), b + "norm2.weight": (D,), b + "norm2.bias": (D,),
                 b + "mlp.fc1.weight": (MLP, D), b + "mlp.fc1.bias": (MLP,), b + "mlp.fc2.weight": (D, MLP), b + "mlp.fc2.bias": (D,)}
    # multiples of 1/64: half the bytes, and the same in every format
    deit = {k: torch.round(torch.randn(shape) * 64) / 64 for k, shape in deit.items()}
    kernel, pos = deit["patch_embed.proj.weight"], deit["pos_embed"].double()
    channels = torch.stack([kernel[:, c % 3] for c in range(16)], dim=1) * (3 / 16)
    grid = pos[0, 2:].reshape(1, SIDE, SIDE, D).permute(0, 3, 1, 2)
    time = F.interpolate(grid, size=(1, TOKENS), mode="bicubic", align_corners=False)
    fpasst = {"patch_embed.proj.weight": channels.reshape(D, 16, MELS, 2), "new_pos_embed": pos[:, :2],
              "time_new_pos_embed": time, "freq_new_pos_embed": time.mean(dim=3, keepdim=True)}
    with h5py.File(pathlib.Path(__file__).resolve().parent / "deit.h5", "w", track_order=False) as f:
        for group, entries in (("deit", deit), ("fpasst", fpasst)):
            for name, value in entries.items():
                f.create_dataset(f"{group}/{name}", data=value.numpy().astype(np.float32), track_times=False,
                                 **(dict(compression=9, shuffle=True) if value.numel() > 500 else {}))


if __name__ == "__main__":
    main()
