"""Attention of one query token over an MXINT8 or MXFP8 key-value cache in CUDA C++, for Hopper.

See ``attention_decode_cuda.cu``; :mod:`gatewright.kernels.attention_decode_triton` serves all other cases.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatewright.kernels import cuda_build, device
from gatewright.kernels.device import arrival_counters

FORMATS = {"mxint8": 0, "mxfp8_e4m3": 1, "mxfp8_e5m2": 2}


def serves(query: Tensor, keys: Tensor, values: Tensor, form: str) -> bool:
    """Whether the CUDA kernel exists for this cache (its codes) and can be built here."""
    heads, depth = query.shape[1:]
    group = heads // keys.shape[1]
    fits = query.is_cuda and query.dtype == torch.bfloat16 and depth == 128 and group <= 4 and form in FORMATS
    # The copy engine counts tokens in 32 bits, from 16-byte boundaries.
    fits = fits and keys.numel() // 128 < 2**31 and keys.data_ptr() % 16 == 0 and values.data_ptr() % 16 == 0
    if not fits or torch.cuda.get_device_capability(query.device)[0] != 9:
        return False
    return cuda_build.library("attention_decode_cuda") is not None


def launch_attention_decode(
    query: Tensor, keys: tuple[Tensor, Tensor], values: tuple[Tensor, Tensor], form: str, length: int, scale: float
) -> Tensor:
    """query [B, H, 128]; keys and values: codes [B, G, S, 128] and scales [B, G, S, 4], contiguous."""
    batch, heads, _ = query.shape
    shared, capacity = keys[0].shape[1], keys[0].shape[2]
    query = device.aligned(query)
    out = torch.empty_like(query)
    if query.numel() == 0:
        return out
    group = heads // shared
    # One wave of as many blocks as fit a multiprocessor, and at least 64 tokens a block.
    blocks = (4 if group <= 2 else 3) * device.count_processors(query)
    splits = max(1, min(blocks // (batch * shared), length // 64))
    partial = arrived = None
    if splits > 1:
        partial = torch.empty(batch * heads * splits * 130, dtype=torch.float32, device=query.device)
        arrived = arrival_counters(query, batch * shared)
    cuda_build.call(
        "attention_decode_cuda", "attention_decode_cache", query, *keys, *values, out, partial, arrived,
        batch * shared, length, capacity, group, splits, FORMATS[form], scale * 1.4426950408889634,
    )  # fmt: skip
    return out
