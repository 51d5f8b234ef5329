# pyright: basic
"""Softmax, layer norm and RMS norm of rows, in Triton: one pass over memory, the row in registers.

A program takes some rows in turn and loads the next one before it finishes the last, so that the memory is
never idle while a row is reduced. Floor: input and output bytes over the copy bandwidth.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from gatewright.kernels import device
from gatewright.kernels.autotune import tuned
from gatewright.kernels.cast_code import encode_scalar, is_scalar
from gatewright.kernels.device_code import block_size, exponential2, round_to, to_float32
from gatewright.kernels.quantize_triton import store_blocks

SOFTMAX, LAYER_NORM, RMS_NORM = 0, 1, 2


@triton.jit
def rows_kernel(
    values,
    weight,
    bias,
    out,
    scales,
    rows,
    epsilon,
    KIND: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    TURNS: tl.constexpr,
    FORMAT: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    NATIVE: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """Rows ``program``, ``program + programs`` ... of a [rows, WIDTH] matrix, TURNS of them."""
    if OVERLAP:  # the launch set up while its predecessor ended
        gdc_wait()
        gdc_launch_dependents()
    column = tl.arange(0, PADDED)
    within = column < WIDTH
    first = tl.program_id(0).to(tl.int64)
    step = tl.num_programs(0)
    fill = float("-inf") if KIND == 0 else 0.0
    raw = tl.load(
        values + first * WIDTH + column,
        mask=column < tl.where(first < rows, WIDTH, 0),
        other=fill,
        eviction_policy="evict_first",
    )
    for turn in range(TURNS):
        row = first + turn * step
        if turn + 1 < TURNS:
            following = row + step
            ahead = tl.load(
                values + following * WIDTH + column,
                mask=column < tl.where(following < rows, WIDTH, 0),
                other=fill,
            )
        else:
            ahead = raw
        value = to_float32(raw, NATIVE)
        if KIND == 0:
            # A row that is all -inf gives NaN, as PyTorch's does.
            value = exponential2((value - tl.max(value, axis=0)) * 1.4426950408889634, NATIVE)
            value = value * (1.0 / tl.sum(value, axis=0))
        else:
            if KIND == 1:
                mean = tl.sum(value, axis=0) / WIDTH
                value = tl.where(within, value - mean, 0.0)
            variance = tl.sum(value * value, axis=0) / WIDTH
            value = value * (1.0 / tl.sqrt_rn(variance + epsilon))
            # Loaded at their use, from the L1 cache, rather than kept in registers.
            if HAS_WEIGHT:
                gain = tl.load(weight + column, mask=within, other=0.0, eviction_policy="evict_last")
                value = value * to_float32(gain, NATIVE)
            if HAS_BIAS:
                shift = tl.load(bias + column, mask=within, other=0.0, eviction_policy="evict_last")
                value = value + to_float32(shift, NATIVE)
        if FORMAT == "":
            result = round_to(value, out.dtype.element_ty, NATIVE)
            tl.store(out + row * WIDTH + column, result, mask=column < tl.where(row < rows, WIDTH, 0))
        elif is_scalar(FORMAT):
            code = encode_scalar(value, FORMAT).to(out.dtype.element_ty)
            tl.store(out + row * WIDTH + column, code, mask=column < tl.where(row < rows, WIDTH, 0))
        else:
            SIZE: tl.constexpr = block_size(FORMAT)
            BLOCKS: tl.constexpr = PADDED // SIZE
            tile = tl.reshape(tl.where(within, value, 0.0), [BLOCKS, SIZE])
            inside = tl.arange(0, BLOCKS) < tl.where(row < rows, WIDTH // SIZE, 0)
            store_blocks(tile, out, scales, row * (WIDTH // SIZE), inside, FORMAT, BLOCKS, NATIVE, True)
        raw = ahead


def launch_rows(
    kind: int,
    values: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    epsilon: float,
    out: Tensor,
    scales: Tensor,
    cast: str,
) -> None:
    """Fill ``out`` (and ``scales``, of a block format) from ``values`` [..., width], contiguous.

    ``cast`` is the output's name in the kernels (``Output.kernel``).
    """
    width = values.shape[-1]
    rows = values.numel() // width if width else 0
    if rows == 0:
        return
    padded = max(device.next_power(width), 64)
    usual = min(16, max(1, padded // 1024))
    default = {"TURNS": 1, "num_warps": usual}
    options = [
        {"TURNS": turns, "num_warps": warps}
        for warps in sorted({max(1, usual // 2), usual, min(32, usual * 2)})
        for turns in (1, 2, 4)
    ]
    if padded >= 4096 and device.native():
        options += [{"TURNS": turns, "num_warps": padded // 1024, "maxnreg": 64} for turns in (1, 2, 4)]
    unused = values  # a pointer that the kernel never reads
    overlap = device.overlaps(values)

    def run(config: dict[str, int]) -> None:
        rows_kernel[(device.ceil_div(rows, config["TURNS"]),)](
            values,
            unused if weight is None else weight,
            unused if bias is None else bias,
            out,
            scales,
            rows,
            epsilon,
            KIND=kind,
            WIDTH=width,
            PADDED=padded,
            FORMAT=cast,
            HAS_WEIGHT=weight is not None,
            HAS_BIAS=bias is not None,
            NATIVE=device.native(),
            OVERLAP=overlap,
            launch_pdl=overlap,
            **config,
        )

    key = (kind, width, str(values.dtype), str(out.dtype), cast, device.next_power(rows))
    tuned("rows", key, values, default, options, run)


def row_limit(values: Tensor) -> bool:
    """Whether a row fits the registers of one block."""
    return values.shape[-1] <= 65536 and values.dtype in (torch.bfloat16, torch.float16, torch.float32)
