# pyright: basic
"""Attention of one query token over a key-value cache in MXINT8 or MXFP8, in Triton.

A program takes TOKENS tokens of one key-value head: it loads their keys and values at once, so that all of
its memory traffic is in flight from the start, and serves every query head that shares them. Parts of a
sequence leave (maximum, sum, weighted values); the last part to finish combines them in order.
Floor: the cache's bytes over the read bandwidth.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gatewright.kernels import device
from gatewright.kernels.autotune import tuned
from gatewright.kernels.device import arrival_counters
from gatewright.kernels.device_code import decode_units, exponential2, round_to, to_float32, unit_scale


@triton.jit
def attention_decode_kernel(
    query,
    key_codes,
    key_scales,
    value_codes,
    value_scales,
    out,
    partial,
    statistics,
    arrived,
    length,
    capacity,
    scale,
    GROUP: tl.constexpr,
    DEPTH: tl.constexpr,
    TOKENS: tl.constexpr,
    SPLITS: tl.constexpr,
    SPLITS_PADDED: tl.constexpr,
    FORMAT: tl.constexpr,
    NATIVE: tl.constexpr,
):
    """Program (head, part): GROUP query heads of key-value head ``head`` over tokens part x TOKENS onwards."""
    BLOCKS: tl.constexpr = DEPTH // 32
    head = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    token = part * TOKENS + tl.arange(0, TOKENS)
    inside = token < length
    column = tl.arange(0, DEPTH)
    block = tl.arange(0, BLOCKS)
    base = head * capacity
    place = (base + token)[:, None] * DEPTH + column[None, :]
    scale_place = (base + token)[:, None] * BLOCKS + block[None, :]
    keys = tl.load(key_codes + place, mask=inside[:, None], other=0)
    key_scale = tl.load(key_scales + scale_place, mask=inside[:, None], other=0)
    values = tl.load(value_codes + place, mask=inside[:, None], other=0)
    value_scale = tl.load(value_scales + scale_place, mask=inside[:, None], other=0)
    keys = decode_units(keys, FORMAT, NATIVE)
    key_scale = unit_scale(key_scale, FORMAT, NATIVE)
    values = decode_units(values, FORMAT, NATIVE)
    value_scale = unit_scale(value_scale, FORMAT, NATIVE)
    for member in tl.static_range(GROUP):
        row = head * GROUP + member
        q = to_float32(tl.load(query + row * DEPTH + column), NATIVE) * scale
        product = tl.reshape(keys * q[None, :], [TOKENS, BLOCKS, 32])
        score = tl.sum(tl.sum(product, axis=2) * key_scale, axis=1)
        score = tl.where(inside, score, float("-inf"))
        largest = tl.max(score, axis=0)
        weight = exponential2(score - largest, NATIVE)
        total = tl.sum(weight, axis=0)
        factor = weight[:, None] * value_scale
        weighted = tl.reshape(values, [TOKENS, BLOCKS, 32]) * factor[:, :, None]
        result = tl.sum(tl.reshape(weighted, [TOKENS, DEPTH]), axis=0)
        if SPLITS == 1:
            tl.store(out + row * DEPTH + column, round_to(result / total, out.dtype.element_ty, NATIVE))
        else:
            tl.store(partial + (row * SPLITS + part) * DEPTH + column, result)
            tl.store(statistics + (row * SPLITS + part) * 2, largest)
            tl.store(statistics + (row * SPLITS + part) * 2 + 1, total)
    if SPLITS > 1:
        tl.debug_barrier()  # all threads' partial results come before the arrival
        if tl.atomic_add(arrived + head, 1, sem="acq_rel") == SPLITS - 1:
            tl.store(arrived + head, 0)
            every = tl.arange(0, SPLITS_PADDED)
            exists = every < SPLITS
            for member in tl.static_range(GROUP):
                row = head * GROUP + member
                entry = row * SPLITS + every
                maxima = tl.load(statistics + entry * 2, mask=exists, other=float("-inf"), cache_modifier=".cg")
                sums = tl.load(statistics + entry * 2 + 1, mask=exists, other=0.0, cache_modifier=".cg")
                share = tl.exp2(maxima - tl.max(maxima, axis=0))
                parts = tl.load(
                    partial + entry[:, None] * DEPTH + column[None, :],
                    mask=exists[:, None],
                    other=0.0,
                    cache_modifier=".cg",
                )
                combined = tl.sum(parts * share[:, None], axis=0) / tl.sum(sums * share, axis=0)
                tl.store(out + row * DEPTH + column, round_to(combined, out.dtype.element_ty, NATIVE))


def launch_attention_decode(
    query: Tensor,
    keys: tuple[Tensor, Tensor],
    values: tuple[Tensor, Tensor],
    form: str,
    length: int,
    scale: float,
) -> Tensor:
    """query [B, H, D]; keys and values: codes [B, G, S, D] and scales [B, G, S, D / 32], contiguous."""
    batch, heads, depth = query.shape
    shared, capacity = keys[0].shape[1], keys[0].shape[2]
    query = query.contiguous()
    out = torch.empty_like(query)
    if query.numel() == 0:
        return out
    default = {"TOKENS": 128, "num_warps": 8}
    options = [{"TOKENS": tokens, "num_warps": warps} for tokens in (64, 128, 256) for warps in (4, 8)]

    def run(config: dict[str, int]) -> None:
        splits = device.ceil_div(length, config["TOKENS"])
        partial = statistics = out
        if splits > 1:
            partial = torch.empty(batch * heads * splits * depth, dtype=torch.float32, device=query.device)
            statistics = torch.empty(batch * heads * splits * 2, dtype=torch.float32, device=query.device)
        arrived = arrival_counters(query, batch * shared)
        attention_decode_kernel[(batch * shared, splits)](
            query, *keys, *values, out, partial, statistics, arrived, length, capacity, scale * 1.4426950408889634,
            GROUP=heads // shared, DEPTH=depth, SPLITS=splits, SPLITS_PADDED=device.next_power(splits), FORMAT=form,
            NATIVE=device.native(), **config,
        )  # fmt: skip

    key = (form, depth, heads // shared, device.next_power(length), device.next_power(batch * shared))
    tuned("attention_decode", key, query, default, options, run)
    return out
