"""Quantise and dequantise against the copy bandwidth of the same run."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.gpu.measure import Context, Row, milliseconds, rotation, same_values
from gatewright.kernels import convert, dequantize_cuda
from gatewright.kernels.dequantize_triton import launch_dequantize
from gatewright.kernels.formats import FORMATS, BlockFormat, dequantize_reference, quantize_reference

ROWS, COLUMNS = 16384, 16384  # 268 M elements
GOALS = {"mxint8": 0.97, "mxfp8_e4m3": 0.97, "mxfp8_e5m2": 0.97, "mxfp4": 0.95, "nvfp4": 0.95}
QUANTIZE_GOALS = {"mxint8": 0.95, "mxfp8_e4m3": 0.95, "mxfp8_e5m2": 0.95, "mxfp4": 0.95}


def random_blocks(form: BlockFormat, rows: int = ROWS, columns: int = COLUMNS) -> tuple[Tensor, Tensor]:
    """Random codes and scales near one."""
    codes = torch.randint(0, 256, (rows, form.packed(columns)), dtype=torch.uint8, device="cuda")
    low, high = (115, 140) if form.scale == "e8m0" else (40, 80)
    scales = torch.randint(low, high, (rows, columns // form.size), dtype=torch.uint8, device="cuda")
    return codes.view(form.code_dtype), scales


def eager_mxint8(codes: Tensor, scales: Tensor) -> Tensor:
    """What plain PyTorch does, in bfloat16, where it is exact for these scales."""
    power = torch.ldexp(torch.ones_like(scales, dtype=torch.bfloat16), scales.to(torch.int32) - 133)
    return (codes.to(torch.bfloat16).unflatten(-1, (-1, 32)) * power.unsqueeze(-1)).flatten(-2)


def rows(context: Context) -> Iterator[Row]:
    """All formats, both ways; MXINT8 also in CUDA C++ and in PyTorch."""
    for name, form in FORMATS.items():
        yield from dequantize_rows(context, name, form)
    for name, form in FORMATS.items():
        yield quantize_row(context, name, form)


def dequantize_rows(context: Context, name: str, form: BlockFormat) -> Iterator[Row]:
    """One format to bfloat16."""
    size = ROWS * COLUMNS
    work = size * (form.bits_per_element / 8 + 2)
    sets = rotation(lambda: random_blocks(form), int(size * form.bits_per_element / 8), 3)
    codes, scales = sets[0]
    expected = dequantize_reference(codes[:64], scales[:64], form, torch.bfloat16)
    variants = {"triton": lambda c, s: launch_dequantize(c, s, form, torch.bfloat16, 1)}
    if dequantize_cuda.serves(codes, form, torch.bfloat16, 1):
        variants["cuda"] = dequantize_cuda.launch_dequantize
    if name == "mxint8":
        variants["eager"] = eager_mxint8
        if context.compiled:
            variants["compile"] = torch.compile(eager_mxint8)
    for variant, call in variants.items():
        correct = same_values(call(codes, scales)[:64], expected)
        taken = milliseconds(call, sets)
        ours = variant in ("triton", "cuda")
        yield context.bandwidth_row("dequantize", f"{name} -> bfloat16", variant, taken, work,
                                    GOALS.get(name) if ours else None, correct)  # fmt: skip


def quantize_row(context: Context, name: str, form: BlockFormat) -> Row:
    """bfloat16 to one format."""
    size = ROWS * COLUMNS
    work = size * (form.bits_per_element / 8 + 2)
    sets = [(torch.randn(ROWS, COLUMNS, device="cuda").bfloat16(),) for _ in range(2)]
    codes, scales = convert.quantize(sets[0][0], name)
    expected = quantize_reference(sets[0][0][:64], form)
    correct = same_values(codes[:64], expected[0]) and same_values(scales[:64], expected[1])
    taken = milliseconds(lambda x: convert.quantize(x, name), sets)
    return context.bandwidth_row("quantize", f"bfloat16 -> {name}", "triton", taken, work,
                                 QUANTIZE_GOALS.get(name), correct)  # fmt: skip
