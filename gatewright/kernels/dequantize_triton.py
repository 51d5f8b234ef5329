# pyright: basic
"""Block formats to bfloat16, float16 or float32, in Triton.

Every thread reads 8 neighbouring codes and writes 16 bytes, so that a warp's accesses are whole lines and
no value crosses shared memory. Floor: (bits + 8 / block + output bits) / 8 bytes an element over the bandwidth.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gatewright.kernels import device
from gatewright.kernels.autotune import tuned
from gatewright.kernels.device_code import block_size, code_bits, decode_element, decode_scale, round_to
from gatewright.kernels.formats import BlockFormat
from gatewright.kernels.fp4_code import decode_words

TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}


@triton.jit
def dequantize_rows_kernel(
    codes,
    scales,
    out,
    groups,
    FORMAT: tl.constexpr,
    GROUPS: tl.constexpr,
    DTYPE: tl.constexpr,
    NATIVE: tl.constexpr,
    STORE: tl.constexpr,
):
    """One tile of GROUPS groups of 8 elements; the tensor is a flat sequence of ``groups`` groups."""
    BITS: tl.constexpr = code_bits(FORMAT)
    PER_SCALE: tl.constexpr = block_size(FORMAT) // 8
    first = tl.program_id(0).to(tl.int64) * GROUPS
    group = tl.arange(0, GROUPS)
    inside = first + group < groups
    place = group[:, None] * 8 + tl.arange(0, 8)[None, :]
    scale_code = tl.load(scales + first // PER_SCALE + group // PER_SCALE, mask=inside, other=127)
    scale = decode_scale(scale_code, FORMAT, NATIVE)
    if BITS == 8:
        code = tl.load(codes + first * 8 + place, mask=inside[:, None], other=0)
    elif BITS == 4:
        # The hint keeps a thread's words apart, so that words and results lie in the same threads.
        own = tl.max_contiguous(group, [1])
        word = tl.load(codes.to(tl.pointer_type(tl.int32)) + first + own, mask=inside, other=0)
        code = (word[:, None] >> (tl.arange(0, 8) * 4)[None, :]) & 15
    else:
        # 8 codes in 3 words of 16 bits.
        pointer = codes.to(tl.pointer_type(tl.int16)) + (first + group) * 3
        low = tl.load(pointer, mask=inside, other=0).to(tl.int64) & 0xFFFF
        middle = tl.load(pointer + 1, mask=inside, other=0).to(tl.int64) & 0xFFFF
        high = tl.load(pointer + 2, mask=inside, other=0).to(tl.int64) & 0xFFFF
        word = low | (middle << 16) | (high << 32)
        code = (word[:, None] >> (tl.arange(0, 8).to(tl.int64) * 6)[None, :]).to(tl.int32) & 63
    if NATIVE and BITS == 4 and tl.bfloat16 == DTYPE:
        pair0, pair1, pair2, pair3 = decode_words(word, scale)
        pairs = tl.join(tl.join(pair0, pair2), tl.join(pair1, pair3))
        value = tl.reshape(pairs, [GROUPS, 4])
        target = group[:, None] * 4 + tl.arange(0, 4)[None, :]
        tl.store(
            out.to(tl.pointer_type(tl.int32)) + first * 4 + target, value, mask=inside[:, None], cache_modifier=STORE
        )
    else:
        value = round_to(decode_element(code, FORMAT, NATIVE) * scale[:, None], DTYPE, NATIVE)
        tl.store(out + first * 8 + place, value, mask=inside[:, None], cache_modifier=STORE)


@triton.jit
def dequantize_columns_kernel(
    codes,
    scales,
    out,
    columns,
    blocks,
    FORMAT: tl.constexpr,
    COLUMNS: tl.constexpr,
    DTYPE: tl.constexpr,
    NATIVE: tl.constexpr,
):
    """One tile of a block by COLUMNS columns, the blocks running down the rows of a matrix [K, columns]."""
    SIZE: tl.constexpr = block_size(FORMAT)
    BITS: tl.constexpr = code_bits(FORMAT)
    LANES: tl.constexpr = 1 if BITS == 8 else (2 if BITS == 4 else 4)  # elements that share bytes
    BYTES: tl.constexpr = LANES * BITS // 8
    # One axis: the grid's others end at 65,535.
    column = tl.program_id(0) // blocks * COLUMNS + tl.arange(0, COLUMNS)
    block = (tl.program_id(0) % blocks).to(tl.int64)
    inside = column < columns
    scale = decode_scale(tl.load(scales + block * columns + column, mask=inside, other=127), FORMAT, NATIVE)
    group = block * (SIZE // LANES) + tl.arange(0, SIZE // LANES)
    pointer = codes + (group[:, None] * BYTES) * columns + column[None, :]
    word = tl.load(pointer, mask=inside[None, :], other=0)
    if BITS != 8:
        word = word.to(tl.int32)
    if BITS == 6:
        word |= tl.load(pointer + columns, mask=inside[None, :], other=0).to(tl.int32) << 8
        word |= tl.load(pointer + columns * 2, mask=inside[None, :], other=0).to(tl.int32) << 16
    for lane in tl.static_range(LANES):
        code = word
        if BITS != 8:
            code = (word >> (lane * BITS)) & ((1 << BITS) - 1)
        value = round_to(decode_element(code, FORMAT, NATIVE) * scale[None, :], DTYPE, NATIVE)
        place = (group[:, None] * LANES + lane) * columns + column[None, :]
        tl.store(out + place, value, mask=inside[None, :])


def launch_dequantize(codes: Tensor, scales: Tensor, form: BlockFormat, dtype: torch.dtype, axis: int) -> Tensor:
    """Dequantise along ``axis`` (counted from the front); the arguments are checked already."""
    shape = list(codes.shape)
    shape[axis] = form.unpacked(shape[axis])
    codes, scales = device.aligned(codes), device.aligned(scales)
    out = torch.empty(shape, dtype=dtype, device=codes.device)
    if out.numel() == 0:
        return out
    common = {"FORMAT": form.name, "DTYPE": TYPES[dtype], "NATIVE": device.native()}
    if axis == len(shape) - 1:
        groups = out.numel() // 8
        default = {"GROUPS": 256, "num_warps": 4, "STORE": ""}
        options = [
            {"GROUPS": 32 * warps * each, "num_warps": warps, "STORE": store}
            for warps, each in ((4, 1), (4, 2), (4, 4), (8, 1), (8, 2), (2, 4))
            for store in ("", ".cs")
        ]

        def rows(config: dict[str, int]) -> None:
            grid = (device.ceil_div(groups, config["GROUPS"]),)
            dequantize_rows_kernel[grid](codes, scales, out, groups, **common, **config)

        tuned(
            "dequantize_rows",
            (form.name, str(dtype), device.next_power(groups)),
            codes,
            default,
            options,
            rows,
        )
        return out
    columns = 1
    for size in shape[axis + 1 :]:
        columns *= size
    outer_blocks = out.numel() // form.size // columns  # the outer dimensions just continue the rows
    width = min(512, device.next_power(columns))
    grid = (outer_blocks * device.ceil_div(columns, width),)
    dequantize_columns_kernel[grid](codes, scales, out, columns, outer_blocks, COLUMNS=width, num_warps=8, **common)
    return out
