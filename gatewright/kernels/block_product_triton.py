# pyright: basic
# ruff: noqa: SIM108 - an `if` over constants is resolved while compiling; a ternary reads as a select
"""Products with weights in a block format or in integer groups, in Triton, for any number of rows.

y[M, N] = activation(x[M, K] . w[N, K]^T + bias). A tile of weights is decoded to bfloat16 in registers (each
value rounded once) and is the left operand of the tensor cores, so that it never returns to shared memory.
Sums are float32. Floor for few rows: the weights' bytes over the read bandwidth.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gatewright.kernels import device
from gatewright.kernels.autotune import tuned
from gatewright.kernels.device_code import decode_units, round_to, to_float32, unit_scale
from gatewright.kernels.gates_triton import gate_value


@triton.jit
def finish(value, bias, column, within, ACTIVATION: tl.constexpr, HAS_BIAS: tl.constexpr, NATIVE: tl.constexpr):
    """Bias and activation of a float32 tile [rows, columns]."""
    if HAS_BIAS:
        value += to_float32(tl.load(bias + column, mask=within, other=0.0), NATIVE)[None, :]
    if ACTIVATION == "relu":
        value = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
    elif ACTIVATION == "gelu":
        value = gate_value(value, 0, NATIVE)
    elif ACTIVATION == "silu":
        value = gate_value(value, 2, NATIVE)
    return value


@triton.jit
def load_weights(
    codes,
    scales,
    row,
    k,
    N: tl.constexpr,
    K: tl.constexpr,
    FORMAT: tl.constexpr,
    GROUP: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    NATIVE: tl.constexpr,
):
    """A float32 tile [BN, BK] of weights at rows ``row`` (clamped by the caller) and columns ``k`` onwards."""
    if FORMAT == "mxfp4" or FORMAT == "nvfp4" or FORMAT == "int4":
        byte = tl.arange(0, BK // 2)[None, :]
        packed = tl.load(codes + row[:, None] * (K // 2) + k // 2 + byte, mask=k // 2 + byte < K // 2, other=0)
        wide = packed.to(tl.int32)
        code = tl.reshape(tl.join(wide & 15, (wide >> 4) & 15), [BN, BK])
        if FORMAT == "int4":
            value = ((code ^ 8) - 8).to(tl.float32)
        else:
            value = decode_units(code, FORMAT, NATIVE)
    else:
        column = tl.arange(0, BK)[None, :]
        code = tl.load(codes + row[:, None] * K + k + column, mask=k + column < K, other=0)
        if FORMAT == "int8":
            value = code.to(tl.float32)
        else:
            value = decode_units(code, FORMAT, NATIVE)
    BLOCKS: tl.constexpr = BK // GROUP
    block = tl.arange(0, BLOCKS)[None, :]
    place = row[:, None] * (K // GROUP) + k // GROUP + block
    raw = tl.load(scales + place, mask=k // GROUP + block < K // GROUP, other=0)
    if FORMAT == "int8" or FORMAT == "int4":
        scale = to_float32(raw, NATIVE)
    else:
        scale = unit_scale(raw, FORMAT, NATIVE)
    blocks = tl.reshape(value, [BN, BLOCKS, GROUP]) * scale[:, :, None]
    return tl.reshape(blocks, [BN, BK])


@triton.jit
def block_product_kernel(
    codes,
    scales,
    x,
    bias,
    out,
    M,
    N: tl.constexpr,
    K: tl.constexpr,
    FORMAT: tl.constexpr,
    GROUP: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    SPLITS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    NATIVE: tl.constexpr,
):
    """One tile [BM, BN] of the result, or of the partial sums of one of SPLITS parts of K."""
    tiles_m = tl.cdiv(M, BM)
    tile_m = tl.program_id(0) % tiles_m  # neighbours share weights, which the L2 cache then serves
    tile_n = tl.program_id(0) // tiles_m
    split = tl.program_id(1)
    STEPS: tl.constexpr = (K + BK * SPLITS - 1) // (BK * SPLITS)
    column = tile_n * BN + tl.arange(0, BN)
    row = (tl.minimum(column, N - 1)).to(tl.int64)
    m = tile_m * BM + tl.arange(0, BM)
    source = x + tl.minimum(m, M - 1)[:, None].to(tl.int64) * K
    total = tl.zeros([BN, BM], tl.float32)
    for step in range(STEPS):
        k = (split * STEPS + step) * BK
        weights = load_weights(codes, scales, row, k, N, K, FORMAT, GROUP, BN, BK, NATIVE)
        index = k + tl.arange(0, BK)[None, :]
        values = tl.load(source + index, mask=index < K, other=0.0)
        if NATIVE:
            total = tl.dot(weights.to(values.dtype), tl.trans(values), total)
        else:
            weights = to_float32(round_to(weights, x.dtype.element_ty, NATIVE), NATIVE)
            total = tl.dot(weights, tl.trans(to_float32(values, NATIVE)), total, input_precision="ieee")
    result = tl.trans(total)
    inside = (m[:, None] < M) & (column[None, :] < N)
    if SPLITS == 1:
        result = finish(result, bias, column, column < N, ACTIVATION, HAS_BIAS, NATIVE)
        tl.store(
            out + m[:, None].to(tl.int64) * N + column[None, :],
            round_to(result, out.dtype.element_ty, NATIVE),
            mask=inside,
        )
    else:
        place = (split * M + m)[:, None].to(tl.int64) * N + column[None, :]
        tl.store(out + place, result, mask=inside)


@triton.jit
def add_splits_kernel(
    partial,
    bias,
    out,
    M,
    N: tl.constexpr,
    BN: tl.constexpr,
    SPLITS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    NATIVE: tl.constexpr,
):
    """Partial sums [SPLITS, M, N] to the result, added in order."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BN + tl.arange(0, BN)
    within = column < N
    total = tl.zeros([1, BN], tl.float32)
    for split in range(SPLITS):
        total += tl.load(partial + (split * M + row) * N + column, mask=within, other=0.0)[None, :]
    total = finish(total, bias, column, within, ACTIVATION, HAS_BIAS, NATIVE)
    tl.store(out + row * N + column[None, :], round_to(total, out.dtype.element_ty, NATIVE), mask=within[None, :])


def launch_block_product(
    x: Tensor, codes: Tensor, scales: Tensor, form: str, group: int, bias: Tensor | None, activation: str
) -> Tensor:
    """x [M, K] (bfloat16 or float16) by weights [N, K]; the arguments are checked already."""
    rows, depth = x.shape
    columns = codes.shape[0]
    x, codes, scales = x.contiguous(), codes.contiguous(), scales.contiguous()
    out = torch.empty((rows, columns), dtype=x.dtype, device=x.device)
    if out.numel() == 0:
        return out
    tile = min(128, max(16, device.next_power(rows)))
    enough = 2 * device.count_processors(x)
    small = tile <= 64
    splits = max(1, min(8, enough * 64 // columns)) if small else 1
    if small:
        default = {"BN": 64, "BK": 128, "SPLITS": splits, "num_warps": 4, "num_stages": 4}
    else:
        deep = max(64, group)  # a step has whole groups
        default = {"BN": 128, "BK": deep, "SPLITS": 1, "num_warps": 8, "num_stages": 3 if deep == 64 else 2}
    options = [default]
    if small:
        options += [
            {"BN": wide, "BK": deep, "SPLITS": parts, "num_warps": 4, "num_stages": stages}
            for wide, deep, parts, stages in (
                (64, 128, 1, 5),
                (64, 256, 1, 3),
                (128, 128, 1, 4),
                (64, 128, 2, 4),
            )
        ]

    def run(config: dict[str, int]) -> None:
        parts = config["SPLITS"]
        target = out
        if parts > 1:
            target = torch.empty((parts, rows, columns), dtype=torch.float32, device=x.device)
        addend = x if bias is None else bias
        epilogue = {"ACTIVATION": activation, "HAS_BIAS": bias is not None, "NATIVE": device.native()}
        grid = (device.ceil_div(rows, tile) * device.ceil_div(columns, config["BN"]), parts)
        block_product_kernel[grid](
            codes,
            scales,
            x,
            addend,
            target,
            rows,
            N=columns,
            K=depth,
            FORMAT=form,
            GROUP=group,
            BM=tile,
            **epilogue,
            **config,
        )
        if parts > 1:
            wide = min(1024, device.next_power(columns))
            finish_grid = (rows, device.ceil_div(columns, wide))
            add_splits_kernel[finish_grid](target, addend, out, rows, N=columns, BN=wide, SPLITS=parts, **epilogue)

    tuned("block_product", (form, group, str(x.dtype), tile, columns, depth), x, default, options, run)
    return out
