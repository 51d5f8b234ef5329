# pyright: basic
# ruff: noqa: SIM108 - an `if` over constants is resolved while compiling; a ternary reads as a select
"""Attention of many query tokens, causal or full, with grouped queries, in Triton.

The usual online softmax over tiles of keys; only tiles that the diagonal crosses are masked. Floor: 4 x D
operations for every pair of tokens (half of the pairs when causal) over the tensor cores' rate.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gatewright.kernels import device
from gatewright.kernels.autotune import tuned
from gatewright.kernels.device_code import exponential2, round_to, to_float32


@triton.jit
def multiply(left, right, total, NATIVE: tl.constexpr):
    """left . right + total; float32 in three products of its parts, the interpreter in one."""
    if NATIVE:
        return tl.dot(left, right, total, input_precision="tf32x3" if left.dtype == tl.float32 else "tf32")
    return tl.dot(to_float32(left, NATIVE), to_float32(right, NATIVE), total, input_precision="ieee")


@triton.jit
def attend(
    total,
    largest,
    sums,
    q,
    keys,
    values,
    row,
    start,
    KEYS,
    DEPTH: tl.constexpr,
    BN: tl.constexpr,
    MASK: tl.constexpr,
    CAUSAL: tl.constexpr,
    OFFSET,
    NATIVE: tl.constexpr,
):
    """One tile of BN keys from ``start``."""
    column = start + tl.arange(0, BN)
    place = tl.arange(0, DEPTH)
    if MASK:
        k = tl.load(keys + column[:, None] * DEPTH + place[None, :], mask=column[:, None] < KEYS, other=0.0)
    else:
        k = tl.load(keys + column[:, None] * DEPTH + place[None, :])
    score = multiply(q, tl.trans(k), tl.zeros([q.shape[0], BN], tl.float32), NATIVE)
    if MASK:
        allowed = column[None, :] < KEYS
        if CAUSAL:
            allowed = allowed & (column[None, :] <= row[:, None] + OFFSET)
        score = tl.where(allowed, score, float("-inf"))
    higher = tl.maximum(largest, tl.max(score, axis=1))
    if MASK:
        # A row with no key so far keeps its maximum of -inf; subtracting that would give NaN.
        reference = tl.where(higher == float("-inf"), 0.0, higher)
    else:
        reference = higher
    weight = exponential2(score - reference[:, None], NATIVE)
    shrink = exponential2(largest - reference, NATIVE)
    sums = sums * shrink + tl.sum(weight, axis=1)
    total = total * shrink[:, None]
    if MASK:
        v = tl.load(values + column[:, None] * DEPTH + place[None, :], mask=column[:, None] < KEYS, other=0.0)
    else:
        v = tl.load(values + column[:, None] * DEPTH + place[None, :])
    total = multiply(round_to(weight, v.dtype, NATIVE), v, total, NATIVE)
    return total, higher, sums


@triton.jit
def attention_prefill_kernel(
    query,
    keys,
    values,
    out,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    scale,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    DEPTH: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    CAUSAL: tl.constexpr,
    NATIVE: tl.constexpr,
):
    """A tile of BM queries of one head; the last query sees the last key."""
    tiles: tl.constexpr = (QUERIES + BM - 1) // BM
    # The longest causal tiles start first, so that short ones fill the end.
    tile = tiles - 1 - tl.program_id(0) if CAUSAL else tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    OFFSET: tl.constexpr = KEYS - QUERIES
    row = tile * BM + tl.arange(0, BM)
    place = tl.arange(0, DEPTH)
    offsets = row[:, None] * DEPTH + place[None, :]
    q = tl.load(query + head * (QUERIES * DEPTH) + offsets, mask=row[:, None] < QUERIES, other=0.0)
    q = round_to(to_float32(q, NATIVE) * scale, q.dtype, NATIVE)
    batch = head // HEADS
    shared = batch * (HEADS // GROUP) + (head % HEADS) // GROUP
    keys += shared * (KEYS * DEPTH)
    values += shared * (KEYS * DEPTH)
    total = tl.zeros([BM, DEPTH], tl.float32)
    largest = tl.full([BM], float("-inf"), tl.float32)
    sums = tl.zeros([BM], tl.float32)
    if NATIVE:
        if CAUSAL:
            open_end = tl.maximum((tile * BM + OFFSET + 1) // BN * BN, 0)
            end = tl.minimum((tile + 1) * BM + OFFSET, KEYS)
        else:
            open_end = KEYS // BN * BN
            end = KEYS
        for start in tl.range(0, open_end, BN):
            total, largest, sums = attend(
                total,
                largest,
                sums,
                q,
                keys,
                values,
                row,
                start,
                KEYS,
                DEPTH,
                BN,
                False,
                CAUSAL,
                OFFSET,
                NATIVE,
            )
        for start in tl.range(open_end, end, BN):
            total, largest, sums = attend(
                total,
                largest,
                sums,
                q,
                keys,
                values,
                row,
                start,
                KEYS,
                DEPTH,
                BN,
                True,
                CAUSAL,
                OFFSET,
                NATIVE,
            )
    else:
        # The interpreter takes constant loop bounds only: every tile, masked.
        for start in range(0, KEYS, BN):
            total, largest, sums = attend(
                total,
                largest,
                sums,
                q,
                keys,
                values,
                row,
                start,
                KEYS,
                DEPTH,
                BN,
                True,
                CAUSAL,
                OFFSET,
                NATIVE,
            )
    result = round_to(total / sums[:, None], out.dtype.element_ty, NATIVE)
    tl.store(out + head * (QUERIES * DEPTH) + offsets, result, mask=row[:, None] < QUERIES)


MOST_HEADS = 65535
"""The grid's second axis; more heads (of all batches) take several launches."""


def launch_attention_prefill(query: Tensor, keys: Tensor, values: Tensor, causal: bool, scale: float) -> Tensor:
    """query [B, H, Q, D]; keys and values [B, G, S, D]; the arguments are checked already."""
    batch, heads, queries, depth = query.shape
    if batch * heads > MOST_HEADS and batch > 1:
        parts = [each.split(max(1, MOST_HEADS // heads)) for each in (query, keys, values)]
        return torch.cat([launch_attention_prefill(*part, causal, scale) for part in zip(*parts, strict=True)])
    shared, length = keys.shape[1], keys.shape[2]
    query, keys, values = query.contiguous(), keys.contiguous(), values.contiguous()
    out = torch.empty_like(query)
    if out.numel() == 0:
        return out
    # Three stages of 256-deep keys and values exceed a multiprocessor's shared memory.
    default = {"BM": 128, "BN": 64, "num_warps": 8, "num_stages": 3 if depth <= 128 else 2}
    if query.dtype == torch.float32 or not device.native():
        default = {"BM": 64 if depth <= 128 else 32, "BN": 32, "num_warps": 4, "num_stages": 2}
        options = [default]
    else:
        options = [
            {"BM": 128, "BN": wide, "num_warps": warps, "num_stages": stages}
            for wide, warps, stages in ((64, 8, 3), (128, 8, 2), (128, 8, 3), (64, 4, 3), (64, 8, 4))
        ]

    def run(config: dict[str, int]) -> None:
        attention_prefill_kernel[(device.ceil_div(queries, config["BM"]), batch * heads)](
            query, keys, values, out, queries, length, scale * 1.4426950408889634, HEADS=heads, GROUP=heads // shared,
            DEPTH=depth, CAUSAL=causal, NATIVE=device.native(), **config,
        )  # fmt: skip

    key = (depth, causal, str(query.dtype), device.next_power(queries), device.next_power(length))
    tuned("attention_prefill", key, query, default, options, run)
    return out
