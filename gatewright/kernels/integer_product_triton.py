# pyright: basic
"""Exact int8 products with fused requantisation, in Triton: the golden ``contract`` and its cast.

y = cast(relu(x . w^T + bias)) where the sum is an exact int32 from the int8 tensor cores and the cast drops ``shift``
bits with one of the fixed-point roundings and limits the result. The sum never leaves the registers.
Floor: 2 M N K operations over the int8 rate.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from gatewright.kernels import device
from gatewright.kernels.autotune import tuned


@triton.jit
def round_shift(value, shift, ROUNDING: tl.constexpr):
    """int64 ``value`` / 2^shift rounded to an integer; the names are those of the casts."""
    floor = value >> shift
    remainder = value - (floor << shift)
    twice = remainder * 2
    one = tl.cast(1, tl.int64) << shift
    if ROUNDING == "floor":
        return floor
    if ROUNDING == "toward_zero":
        return floor + ((remainder > 0) & (value < 0)).to(tl.int64)
    if ROUNDING == "half_up":
        return floor + (twice >= one).to(tl.int64)
    if ROUNDING == "half_down":
        return floor + (twice > one).to(tl.int64)
    if ROUNDING == "half_zero":
        return floor + ((twice > one) | ((twice == one) & (value < 0))).to(tl.int64)
    if ROUNDING == "half_away":
        return floor + ((twice > one) | ((twice == one) & (value >= 0))).to(tl.int64)
    return floor + ((twice > one) | ((twice == one) & ((floor & 1) != 0))).to(tl.int64)


@triton.jit
def limit(value, low, high, OVERFLOW: tl.constexpr, WIDTH: tl.constexpr, SIGNED: tl.constexpr):
    """An int64 limited to the output's codes."""
    if OVERFLOW == "saturate":
        return tl.minimum(tl.maximum(value, low), high)
    if OVERFLOW == "saturate_symmetric":
        bottom = low * 0 - high if SIGNED else low
        return tl.minimum(tl.maximum(value, bottom), high)
    if OVERFLOW == "saturate_zero":
        return tl.where((value >= low) & (value <= high), value, 0)
    kept = value & ((tl.cast(1, tl.int64) << WIDTH) - 1)
    if SIGNED:
        half = tl.cast(1, tl.int64) << (WIDTH - 1)
        kept = (kept ^ half) - half
    return kept


@triton.jit(do_not_specialize=["shift", "low", "high"])
def integer_product_kernel(
    x,
    weights,
    bias,
    out,
    M,
    shift,
    low,
    high,
    N: tl.constexpr,
    K: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    RELU: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ROUNDING: tl.constexpr,
    OVERFLOW: tl.constexpr,
    WIDTH: tl.constexpr,
    SIGNED: tl.constexpr,
    NATIVE: tl.constexpr,
):
    """One tile [BM, BN]; tiles go down groups of 8 rows of tiles, so that the L2 cache serves both operands."""
    tiles_m = tl.cdiv(M, BM)
    TILES_N: tl.constexpr = (N + BN - 1) // BN
    program = tl.program_id(0)
    group = program // (8 * TILES_N)
    height = tl.minimum(tiles_m - group * 8, 8)
    tile_m = group * 8 + (program % (8 * TILES_N)) % height
    tile_n = (program % (8 * TILES_N)) // height
    row = tile_m * BM + tl.arange(0, BM)
    column = tile_n * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    left = x + tl.minimum(row, M - 1)[:, None].to(tl.int64) * K + k[None, :]
    right = weights + tl.minimum(column, N - 1)[None, :].to(tl.int64) * K + k[:, None]
    total = tl.zeros([BM, BN], tl.int32)
    for step in range((K + BK - 1) // BK):
        if K % BK == 0:
            a = tl.load(left + step * BK)
            b = tl.load(right + step * BK)
        else:
            a = tl.load(left + step * BK, mask=k[None, :] < K - step * BK, other=0)
            b = tl.load(right + step * BK, mask=k[:, None] < K - step * BK, other=0)
        if NATIVE:
            total = tl.dot(a, b, total, out_dtype=tl.int32)
        else:
            total += tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee").to(tl.int32)
    inside = (row[:, None] < M) & (column[None, :] < N)
    value = total.to(tl.int64)
    if HAS_BIAS:
        value += tl.load(bias + column, mask=column < N, other=0).to(tl.int64)[None, :]
    if RELU:
        value = tl.maximum(value, 0)
    if OVERFLOW != "":
        value = round_shift(value, shift.to(tl.int64), ROUNDING)
        value = limit(value, low.to(tl.int64), high.to(tl.int64), OVERFLOW, WIDTH, SIGNED)
    place = row[:, None].to(tl.int64) * N + column[None, :]
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)


def launch_integer_product(
    x: Tensor, weights: Tensor, bias: Tensor | None, out: Tensor, relu: bool, shift: int, rounding: str,
    overflow: str, width: int, signed: bool,
) -> None:  # fmt: skip
    """Fill ``out`` [M, N]; ``overflow`` "" leaves the exact sums. The arguments are checked already."""
    rows, depth = x.shape
    columns = weights.shape[0]
    if out.numel() == 0:
        return
    high = (1 << (width - 1)) - 1 if signed else (1 << width) - 1
    low = -high - 1 if signed else 0
    default = {"BM": 128, "BN": 256, "BK": 128, "num_warps": 8, "num_stages": 3}
    if rows <= 64 or not device.native():
        default = {"BM": 64, "BN": 64, "BK": 128, "num_warps": 4, "num_stages": 4}
        options = [default]
    else:
        options = [default] + [
            {"BM": tall, "BN": wide, "BK": deep, "num_warps": 8, "num_stages": stages}
            for tall, wide, deep, stages in (
                (128, 128, 128, 4),
                (128, 256, 64, 4),
                (256, 128, 128, 3),
                (128, 256, 128, 4),
            )
        ]

    def run(config: dict[str, int]) -> None:
        grid = (device.ceil_div(rows, config["BM"]) * device.ceil_div(columns, config["BN"]),)
        integer_product_kernel[grid](
            x, weights, x if bias is None else bias, out, rows, shift, low, high, N=columns, K=depth, RELU=relu,
            HAS_BIAS=bias is not None, ROUNDING=rounding, OVERFLOW=overflow, WIDTH=width, SIGNED=signed,
            NATIVE=device.native(), **config,
        )  # fmt: skip

    tuned("integer_product", (device.next_power(rows), columns, depth, str(out.dtype)), x, default, options, run)
