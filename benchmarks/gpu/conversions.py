"""Quantise and dequantise against the copy bandwidth of the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.gpu.measure import Context, Row, compiled, milliseconds, rotation, same_values
from gatewright.kernels import convert, dequantize_cuda, quantize_cuda
from gatewright.kernels.dequantize_triton import launch_dequantize
from gatewright.kernels.formats import (
    FORMATS,
    BlockFormat,
    dequantize_reference,
    element_values,
    pack,
    quantize_reference,
    scale_values,
    unpack,
)

ROWS, COLUMNS = 16384, 16384  # 268 M elements
CHECKED_ROWS = 1024  # at a time: the references compute in float64
GOALS = {"mxint8": 0.97, "mxfp8_e4m3": 0.97, "mxfp8_e5m2": 0.97, "mxfp4": 0.95, "nvfp4": 0.95}
QUANTIZE_GOAL = 0.95


def random_blocks(
    form: BlockFormat, rows: int = ROWS, columns: int = COLUMNS, where: str = "cuda"
) -> tuple[Tensor, Tensor]:
    """Random codes of numbers and scales near one. A single NaN would hide a product's whole row from its check."""
    codes = torch.randint(0, 256, (rows, form.packed(columns)), dtype=torch.uint8, device=where)
    if form.element.special != "none":
        codes[codes & 0x7F > form.element.largest_code] = 0
    low, high = (115, 140) if form.scale == "e8m0" else (40, 80)
    scales = torch.randint(low, high, (rows, columns // form.size), dtype=torch.uint8, device=where)
    return codes.view(form.code_dtype), scales


def eager_dequantize(form: BlockFormat, where: str = "cuda") -> Callable[[Tensor, Tensor], Tensor]:
    """What plain PyTorch does: a look-up or a conversion, and a product; exact for these scales."""
    small = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}.get(form.element.name)
    values = element_values(form.name).float().to(where)
    powers = scale_values(form.scale).float().to(where)

    def call(codes: Tensor, scales: Tensor) -> Tensor:
        if form.code_dtype == torch.int8:
            elements = codes.float() * 2.0**-6
        elif small is not None:
            elements = codes.view(small).float()
        else:
            elements = values[unpack(codes, form)]
        scale = powers[scales.long()]
        return (elements.unflatten(-1, (-1, form.size)) * scale.unsqueeze(-1)).flatten(-2).bfloat16()

    return call


def eager_quantize(form: BlockFormat) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """What plain PyTorch does, in float32; exact for normal numbers."""

    def call(values: Tensor) -> tuple[Tensor, Tensor]:
        blocks = values.float().unflatten(-1, (-1, form.size))
        amax = blocks.abs().amax(-1)
        if form.scale == "e4m3":
            power = (amax / 6).clamp(2.0**-6, 448.0).to(torch.float8_e4m3fn)
            scaled = blocks / power.float().unsqueeze(-1)
            return pack(eager_encode(scaled, form).flatten(-2), form), power.view(torch.uint8)
        scales = ((amax.view(torch.int32) >> 23) - form.element.emax).clamp(0, 254)
        scaled = blocks * ((254 - scales) << 23).view(torch.float32).unsqueeze(-1)
        return pack(eager_encode(scaled, form).flatten(-2), form), scales.to(torch.uint8)

    return call


def eager_encode(scaled: Tensor, form: BlockFormat) -> Tensor:
    """Element codes of float32 values."""
    element = form.element
    if form.code_dtype == torch.int8:
        return torch.round(scaled * 64).clamp(-127, 127).to(torch.int8)
    small = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}.get(element.name)
    limited = scaled.clamp(-element.maximum, element.maximum)
    if small is not None:
        return limited.to(small).view(torch.uint8)
    magnitude = limited.abs()
    smallest = 2.0 ** (1 - element.bias)
    power = (magnitude.view(torch.int32) & 0x7F800000).view(torch.float32).clamp(min=smallest)
    units = torch.round(magnitude / power * 2.0**element.mantissa).to(torch.int32)
    field = (power.view(torch.int32) >> 23) - (128 - element.bias)
    return ((field << element.mantissa) + units) | (scaled.signbit().to(torch.int32) << (element.bits - 1))


def rows(context: Context) -> Iterator[Row]:
    """All formats, both ways, beside PyTorch; MXINT8 also in CUDA C++."""
    for name, form in FORMATS.items():
        yield from dequantize_rows(context, name, form)
    for name, form in FORMATS.items():
        yield from quantize_rows(context, name, form)


def same_blocks(found: tuple[Tensor, ...], expected: Callable[[slice], tuple[Tensor, ...]]) -> bool:
    """Whether every row of ``found`` is the reference's, which is computed for some rows at a time."""
    height = found[0].shape[0]
    for start in range(0, height, CHECKED_ROWS):
        part = slice(start, start + CHECKED_ROWS)
        if not all(same_values(one[part], other) for one, other in zip(found, expected(part), strict=True)):
            return False
    return True


def every_code(form: BlockFormat) -> tuple[Tensor, Tensor]:
    """Every element code under every scale code."""
    count = max(1 << form.bits, form.size)
    codes = (torch.arange(count, device="cuda") % (1 << form.bits)).expand(256, count)
    scales = torch.arange(256, dtype=torch.uint8, device="cuda")[:, None].expand(256, count // form.size)
    return pack(codes, form), scales.contiguous()


def dequantize_rows(context: Context, name: str, form: BlockFormat) -> Iterator[Row]:
    """One format to bfloat16."""
    size = ROWS * COLUMNS
    work = size * (form.bits_per_element / 8 + 2)
    sets = rotation(lambda: random_blocks(form), int(size * form.bits_per_element / 8), 3)
    codes, scales = sets[0]
    variants: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"eager": eager_dequantize(form)}
    if context.compiled:
        variants["compile"] = compiled(variants["eager"])
    # The last of these is the one that `dequantize` takes for so many codes.
    if dequantize_cuda.exists(codes, form, torch.bfloat16, 1):
        variants["cuda"] = dequantize_cuda.launch_dequantize
    variants["triton"] = lambda c, s: launch_dequantize(c, s, form, torch.bfloat16, 1)
    for variant, call in variants.items():
        ours = variant in ("triton", "cuda")
        correct = same_blocks(
            (call(codes, scales),),
            lambda part: (dequantize_reference(codes[part], scales[part], form, torch.bfloat16),),
        )
        if ours:
            every = every_code(form)
            correct = correct and same_values(call(*every), dequantize_reference(*every, form, torch.bfloat16))
        taken = milliseconds(call, sets)
        yield context.bandwidth_row("dequantize", f"{name} -> bfloat16", variant, taken, work,
                                    GOALS.get(name) if ours else None, correct)  # fmt: skip


def quantize_rows(context: Context, name: str, form: BlockFormat) -> Iterator[Row]:
    """bfloat16 to one format."""
    size = ROWS * COLUMNS
    work = size * (form.bits_per_element / 8 + 2)
    sets = [(torch.randn(ROWS, COLUMNS, device="cuda").bfloat16(),) for _ in range(2)]
    variants: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {"eager": eager_quantize(form)}
    if context.compiled:
        variants["compile"] = compiled(variants["eager"], exact_division=True)
    ours = "cuda" if quantize_cuda.serves(sets[0][0], form, 1) else "triton"
    variants[ours] = lambda x: convert.quantize(x, name)
    for variant, call in variants.items():
        (values,) = sets[0]
        correct = same_blocks(call(values), lambda part, values=values: quantize_reference(values[part], form))
        taken = milliseconds(call, sets)
        goal = QUANTIZE_GOAL if variant == ours else None
        yield context.bandwidth_row("quantize", f"bfloat16 -> {name}", variant, taken, work, goal, correct)
