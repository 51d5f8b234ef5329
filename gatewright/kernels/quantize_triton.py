# pyright: basic
"""bfloat16, float16 or float32 to block formats, in Triton.

A block's elements lie in 4 neighbouring threads of 8: its largest magnitude takes two shuffles, and no value
crosses shared memory. Floor: (input bits + bits + 8 / block) / 8 bytes an element over the bandwidth.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gatewright.kernels import device, quantize_cuda
from gatewright.kernels.autotune import tuned
from gatewright.kernels.device_code import (
    apply_inverse_scale,
    block_size,
    code_bits,
    decode_scale,
    encode_element,
    encode_scale,
    scale_format,
    to_float32,
)
from gatewright.kernels.formats import BlockFormat
from gatewright.kernels.fp4_code import encode_words, larger_pair


@triton.jit
def quantize_rows_kernel(values, codes, scales, blocks, FORMAT: tl.constexpr, ROWS: tl.constexpr, NATIVE: tl.constexpr):
    """One tile of ROWS blocks; the tensor is a flat sequence of ``blocks`` blocks."""
    SIZE: tl.constexpr = block_size(FORMAT)
    first = tl.program_id(0).to(tl.int64) * ROWS
    row = tl.arange(0, ROWS)
    inside = first + row < blocks
    place = tl.max_contiguous(row[:, None] * SIZE + tl.arange(0, SIZE)[None, :], [1, 8])
    raw = tl.load(values + first * SIZE + place, mask=inside[:, None], other=0.0)
    store_blocks(to_float32(raw, NATIVE), codes, scales, first, inside, FORMAT, ROWS, NATIVE, raw.dtype == tl.float32)


@triton.jit
def store_blocks(
    value,
    codes,
    scales,
    first,
    inside,
    FORMAT: tl.constexpr,
    ROWS: tl.constexpr,
    NATIVE: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Encode ``value`` [ROWS, block] and store it as the blocks ``first`` ... of a flat tensor of blocks."""
    SIZE: tl.constexpr = block_size(FORMAT)
    BITS: tl.constexpr = code_bits(FORMAT)
    row = tl.arange(0, ROWS)
    amax = tl.max(value.to(tl.int32, bitcast=True) & 0x7FFFFFFF, axis=1)
    scale = encode_scale(amax, FORMAT, NATIVE)
    tl.store(scales + first + row, scale.to(tl.uint8), mask=inside)
    scaled = apply_inverse_scale(value, scale[:, None], FORMAT, NATIVE)
    code = encode_element(scaled, FORMAT, NATIVE, WIDE or scale_format(FORMAT) == "e4m3")
    if BITS == 8:
        place = tl.max_contiguous(row[:, None] * SIZE + tl.arange(0, SIZE)[None, :], [1, 8])
        tl.store(codes + first * SIZE + place, code.to(tl.int8), mask=inside[:, None])
    elif BITS == 4:
        WORDS: tl.constexpr = SIZE // 8
        lanes = tl.reshape(code, [ROWS, WORDS, 8]) << (tl.arange(0, 8) * 4)[None, None, :]
        word = tl.sum(lanes, axis=2)
        place = tl.multiple_of(row[:, None] * WORDS + tl.arange(0, WORDS)[None, :], [1, 1])
        pointer = codes.to(tl.pointer_type(tl.int32)) + first * WORDS + place
        tl.store(pointer, word, mask=inside[:, None])
    else:
        GROUPS: tl.constexpr = SIZE // 8
        lanes = tl.reshape(code, [ROWS, GROUPS, 8]).to(tl.int64) << (tl.arange(0, 8).to(tl.int64) * 6)[None, None, :]
        wide = tl.sum(lanes, axis=2)
        place = row[:, None] * (GROUPS * 3) + tl.arange(0, GROUPS)[None, :] * 3
        pointer = codes.to(tl.pointer_type(tl.int16)) + first * (GROUPS * 3) + place
        tl.store(pointer, wide.to(tl.int16), mask=inside[:, None])
        tl.store(pointer + 1, (wide >> 16).to(tl.int16), mask=inside[:, None])
        tl.store(pointer + 2, (wide >> 32).to(tl.int16), mask=inside[:, None])


@triton.jit
def quantize_fp4_kernel(values, codes, scales, blocks, ROWS: tl.constexpr):
    """bfloat16 to MXFP4, a tile of ROWS blocks, two elements to an instruction."""
    first = tl.program_id(0).to(tl.int64) * ROWS
    row = tl.arange(0, ROWS)
    inside = first + row < blocks
    pointer = values.to(tl.pointer_type(tl.int32)) + first * 16 + row[:, None] * 16 + tl.arange(0, 16)[None, :]
    pairs = tl.load(pointer, mask=inside[:, None], other=0)
    even, odd = tl.split(tl.reshape(pairs, [ROWS, 4, 2, 2]))
    first_pair, third_pair = tl.split(even)
    second_pair, fourth_pair = tl.split(odd)
    left = larger_pair(first_pair & 0x7FFF7FFF, second_pair & 0x7FFF7FFF)
    right = larger_pair(third_pair & 0x7FFF7FFF, fourth_pair & 0x7FFF7FFF)
    largest = tl.reduce(larger_pair(left, right), 1, larger_pair)
    amax = tl.maximum(largest & 0xFFFF, largest >> 16)
    scale = encode_scale(amax << 16, "mxfp4", True)
    tl.store(scales + first + row, scale.to(tl.uint8), mask=inside)
    inverse = decode_scale(254 - tl.minimum(scale, 254), "mxfp4", True)
    inverse = tl.broadcast_to(inverse[:, None], [ROWS, 4])
    word = encode_words(first_pair, second_pair, third_pair, fourth_pair, inverse)
    place = tl.multiple_of(row[:, None] * 4 + tl.arange(0, 4)[None, :], [1, 1])
    tl.store(codes.to(tl.pointer_type(tl.int32)) + first * 4 + place, word, mask=inside[:, None])


@triton.jit
def quantize_columns_kernel(
    values, codes, scales, columns, blocks, FORMAT: tl.constexpr, COLUMNS: tl.constexpr, NATIVE: tl.constexpr
):
    """One tile of a block by COLUMNS columns, the blocks running down the rows of a matrix [K, columns]."""
    SIZE: tl.constexpr = block_size(FORMAT)
    BITS: tl.constexpr = code_bits(FORMAT)
    LANES: tl.constexpr = 1 if BITS == 8 else (2 if BITS == 4 else 4)
    BYTES: tl.constexpr = LANES * BITS // 8
    # One axis: the grid's others end at 65,535.
    column = tl.program_id(0) // blocks * COLUMNS + tl.arange(0, COLUMNS)
    block = (tl.program_id(0) % blocks).to(tl.int64)
    inside = column < columns
    place = (block * SIZE + tl.arange(0, SIZE))[:, None] * columns + column[None, :]
    raw = tl.load(values + place, mask=inside[None, :], other=0.0)
    value = to_float32(raw, NATIVE)
    amax = tl.max(value.to(tl.int32, bitcast=True) & 0x7FFFFFFF, axis=0)
    scale = encode_scale(amax, FORMAT, NATIVE)
    tl.store(scales + block * columns + column, scale.to(tl.uint8), mask=inside)
    scaled = apply_inverse_scale(value, scale[None, :], FORMAT, NATIVE)
    WIDE: tl.constexpr = (raw.dtype == tl.float32) or (scale_format(FORMAT) == "e4m3")
    code = encode_element(scaled, FORMAT, NATIVE, WIDE)
    group = block * (SIZE // LANES) + tl.arange(0, SIZE // LANES)
    pointer = codes + (group[:, None] * BYTES) * columns + column[None, :]
    if BITS != 8:
        lanes = tl.reshape(code, [SIZE // LANES, LANES, COLUMNS]) << (tl.arange(0, LANES) * BITS)[None, :, None]
        code = tl.sum(lanes, axis=1)
    for byte in tl.static_range(BYTES):
        tl.store(pointer + byte * columns, (code >> (8 * byte)).to(tl.uint8), mask=inside[None, :])


def launch_quantize(values: Tensor, form: BlockFormat, axis: int) -> tuple[Tensor, Tensor]:
    """Quantise along ``axis`` (counted from the front, a whole number of blocks long), checked already."""
    shape = list(values.shape)
    values = device.aligned(values)
    code_shape, scale_shape = list(shape), list(shape)
    code_shape[axis] = form.packed(shape[axis])
    scale_shape[axis] = shape[axis] // form.size
    codes = torch.empty(code_shape, dtype=form.code_dtype, device=values.device)
    scales = torch.empty(scale_shape, dtype=torch.uint8, device=values.device)
    if values.numel() == 0:
        return codes, scales
    if quantize_cuda.serves(values, form, axis):
        quantize_cuda.launch_quantize(values, form, codes, scales)
        return codes, scales
    common = {"FORMAT": form.name, "NATIVE": device.native()}
    if axis == len(shape) - 1:
        blocks = values.numel() // form.size
        packed = form.name == "mxfp4" and values.dtype == torch.bfloat16 and device.native()
        default = {"ROWS": 2048 // form.size, "num_warps": 8}
        options = [
            {"ROWS": elements // form.size, "num_warps": warps}
            for elements in (1024, 2048, 4096, 8192)
            for warps in (4, 8)
            if elements >= warps * 256
        ]

        def rows(config: dict[str, int]) -> None:
            grid = (device.ceil_div(blocks, config["ROWS"]),)
            if packed:
                quantize_fp4_kernel[grid](values, codes, scales, blocks, **config)
                return
            quantize_rows_kernel[grid](values, codes, scales, blocks, **common, **config)

        key = (form.name, str(values.dtype), device.next_power(blocks))
        tuned("quantize_rows", key, values, default, options, rows)
        return codes, scales
    columns = 1
    for size in shape[axis + 1 :]:
        columns *= size
    blocks = values.numel() // form.size // columns
    width = min(128, device.next_power(columns))
    grid = (blocks * device.ceil_div(columns, width),)
    quantize_columns_kernel[grid](values, codes, scales, columns, blocks, COLUMNS=width, num_warps=4, **common)
    return codes, scales
