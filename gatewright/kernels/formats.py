"""The block formats that the kernels read and write, and their reference definitions in PyTorch.

A block-format tensor is two tensors: ``codes`` (packed along the blocked axis) and ``scales`` (uint8,
one per block). Elements of 8 bits take a byte each (int8 for MXINT8, else uint8); two E2M1 elements
share a byte, the even one in the low nibble; four 6-bit elements share three bytes, little-endian.
The blocked axis is padded with zeros to a whole block, so ``codes`` may hold more elements than the input.

Definitions: OCP Microscaling Formats v1.0 (scale = 2^(floor(log2 amax) - emax), elements to nearest even,
saturating) and NVFP4 (scale = E4M3(amax / 6), not below 2^-6). MXINT8 encodes symmetrically (-127..127).
A NaN or an infinity in a block makes its scale NaN. All arithmetic here is float64, where it is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gatewright.diagnostics import error


@dataclass(frozen=True, slots=True)
class Element:
    """An element format: an integer in units of 2^-6 (``exponent`` 0) or a small float."""

    name: str
    exponent: int
    mantissa: int
    bias: int
    emax: int
    maximum: float
    special: str  # "none", "nan" (S.1111.111 alone) or "ieee" (infinities and NaNs)

    @property
    def bits(self) -> int:
        """Width of a code."""
        return 1 + self.exponent + self.mantissa

    @property
    def largest_code(self) -> int:
        """The code of the largest finite value."""
        top = (1 << (self.bits - 1)) - 1
        return {"none": top, "nan": top - 1, "ieee": top - (1 << self.mantissa)}[self.special]


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """``size`` elements that share one scale."""

    name: str
    element: Element
    size: int
    scale: str  # "e8m0" or "e4m3"

    @property
    def bits(self) -> int:
        """Width of an element's code."""
        return self.element.bits

    @property
    def code_dtype(self) -> torch.dtype:
        """Type of the tensor that holds packed codes."""
        return torch.int8 if self.element.exponent == 0 else torch.uint8

    @property
    def bits_per_element(self) -> float:
        """Storage per element, the scale included."""
        return self.bits + 8 / self.size

    def packed(self, length: int) -> int:
        """Bytes that ``length`` elements (a multiple of the block) take along the packed axis."""
        return length * self.bits // 8

    def unpacked(self, length: int) -> int:
        """Elements in ``length`` packed bytes."""
        return length * 8 // self.bits


INT8 = Element("int8", 0, 7, 0, 0, 127 / 64, "none")
E4M3 = Element("e4m3", 4, 3, 7, 8, 448.0, "nan")
E5M2 = Element("e5m2", 5, 2, 15, 15, 57344.0, "ieee")
E3M2 = Element("e3m2", 3, 2, 3, 4, 28.0, "none")
E2M3 = Element("e2m3", 2, 3, 1, 2, 7.5, "none")
E2M1 = Element("e2m1", 2, 1, 1, 2, 6.0, "none")

FORMATS: dict[str, BlockFormat] = {
    each.name: each
    for each in (
        BlockFormat("mxint8", INT8, 32, "e8m0"),
        BlockFormat("mxfp8_e4m3", E4M3, 32, "e8m0"),
        BlockFormat("mxfp8_e5m2", E5M2, 32, "e8m0"),
        BlockFormat("mxfp6_e3m2", E3M2, 32, "e8m0"),
        BlockFormat("mxfp6_e2m3", E2M3, 32, "e8m0"),
        BlockFormat("mxfp4", E2M1, 32, "e8m0"),
        BlockFormat("nvfp4", E2M1, 16, "e4m3"),
    )
}
ALIASES = {"mxfp8": "mxfp8_e4m3", "mxfp6": "mxfp6_e3m2", "mxfp4_e2m1": "mxfp4"}
FLOATS = (torch.bfloat16, torch.float16, torch.float32)


def block_format(name: str) -> BlockFormat:
    """The format called ``name``; GW0501 if there is none."""
    found = FORMATS.get(ALIASES.get(name, name)) if isinstance(name, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if found is None:
        known = ", ".join((*FORMATS, *ALIASES))
        raise error("GW0501", f"no block format is called `{name}`", help=f"use one of: {known}")
    return found


@cache
def element_values(name: str) -> Tensor:
    """The float64 value of every element code of the block format ``name``, in code order (CPU)."""
    element = FORMATS[name].element
    codes = torch.arange(1 << element.bits, dtype=torch.int64)
    if element.exponent == 0:
        return torch.where(codes >= 128, codes - 256, codes).double() / 64
    magnitude = codes & ((1 << (element.bits - 1)) - 1)
    exponent = magnitude >> element.mantissa
    fraction = magnitude & ((1 << element.mantissa) - 1)
    implicit = (exponent > 0).long() << element.mantissa
    power = torch.clamp(exponent, min=1) - element.bias - element.mantissa
    values = (fraction + implicit).double() * torch.pow(2.0, power.double())
    if element.special == "nan":
        values[magnitude == 0x7F] = torch.nan
    if element.special == "ieee":
        values[magnitude == 0x7C] = torch.inf
        values[magnitude > 0x7C] = torch.nan
    return torch.where(codes >> (element.bits - 1) == 1, -values, values)


@cache
def scale_values(scale: str) -> Tensor:
    """The float64 value of every scale code (CPU): E8M0, or E4M3 as NVFP4 uses it."""
    if scale == "e8m0":
        values = torch.pow(2.0, torch.arange(256, dtype=torch.float64) - 127)
        values[255] = torch.nan
        return values
    return element_values("mxfp8_e4m3")


def exact_power(values: Tensor) -> Tensor:
    """2^floor(log2 |values|) of positive finite float64 values, from the exponent field."""
    return (values.double().view(torch.int64) & 0x7FF0000000000000).view(torch.float64)


def encode_elements(values: Tensor, element: Element) -> Tensor:
    """Codes (int64) of finite ``values`` (float64): nearest even, saturating, the sign of zero kept."""
    values = values.double()
    if element.exponent == 0:
        return torch.round(values * 64).clamp(-127, 127).long() & 0xFF
    magnitude = values.abs().clamp(max=element.maximum)
    smallest = 2.0 ** (1 - element.bias)
    power = torch.clamp(exact_power(magnitude), min=smallest)
    units = torch.round(magnitude / power * 2**element.mantissa).long()
    field = torch.log2(power / smallest).round().long()  # exact: a power of two
    code = (field << element.mantissa) + units
    code = torch.clamp(code, max=element.largest_code)
    return code | (torch.signbit(values).long() << (element.bits - 1))


def encode_scales(amax: Tensor, form: BlockFormat) -> Tensor:
    """Scale codes (int64) for the blocks' largest magnitudes; not finite: the NaN code."""
    amax = amax.double()
    finite = torch.isfinite(amax)
    safe = torch.where(finite, amax, 1.0)
    if form.scale == "e4m3":
        quotient = torch.clamp((safe.float() / 6).double(), 2.0**-6, 448.0)
        return torch.where(finite, encode_elements(quotient, E4M3), 0x7F)
    field = (torch.clamp(safe, min=2.0**-149).view(torch.int64) >> 52) - 1023
    return torch.where(finite, torch.clamp(field - form.element.emax + 127, min=0), 255)


def pack(codes: Tensor, form: BlockFormat) -> Tensor:
    """Pack element codes (integers) along the last axis."""
    if form.bits == 8:
        return codes.to(torch.uint8).view(form.code_dtype)
    codes = codes.long()
    if form.bits == 4:
        return (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
    word = codes[..., 0::4] | codes[..., 1::4] << 6 | codes[..., 2::4] << 12 | codes[..., 3::4] << 18
    parts = torch.stack((word & 0xFF, word >> 8 & 0xFF, word >> 16), -1)
    return parts.flatten(-2).to(torch.uint8)


def unpack(codes: Tensor, form: BlockFormat) -> Tensor:
    """Element codes (int64) from codes packed along the last axis."""
    raw = codes.view(torch.uint8).long()
    if form.bits == 8:
        return raw
    if form.bits == 4:
        return torch.stack((raw & 15, raw >> 4), -1).flatten(-2)
    word = raw[..., 0::3] | raw[..., 1::3] << 8 | raw[..., 2::3] << 16
    return torch.stack([word >> 6 * lane & 63 for lane in range(4)], -1).flatten(-2)


def quantize_reference(values: Tensor, form: BlockFormat, axis: int = -1) -> tuple[Tensor, Tensor]:
    """Packed codes and scales of a floating tensor, blocked along ``axis``, which is padded with zeros."""
    moved = values.double().movedim(axis, -1)
    padded = torch.nn.functional.pad(moved, (0, -moved.shape[-1] % form.size))
    blocks = padded.reshape(*padded.shape[:-1], padded.shape[-1] // form.size, form.size)
    amax = blocks.abs().amax(-1) if blocks.numel() else blocks.sum(-1)
    scales = encode_scales(amax, form)
    scale = scale_values(form.scale).to(values.device)[scales].unsqueeze(-1)
    finite = torch.isfinite(scale)
    scaled = torch.where(finite, blocks, 0.0) / torch.where(finite, scale, 1.0)
    codes = pack(encode_elements(scaled, form.element).flatten(-2), form)
    return codes.movedim(-1, axis).contiguous(), scales.to(torch.uint8).movedim(-1, axis).contiguous()


def dequantize_reference(
    codes: Tensor, scales: Tensor, form: BlockFormat, dtype: torch.dtype, axis: int = -1
) -> Tensor:
    """The values of a block-format tensor, rounded once (nearest even) to ``dtype``."""
    moved = unpack(codes.movedim(axis, -1).contiguous(), form)
    values = element_values(form.name).to(codes.device)[moved]
    scale = scale_values(form.scale).to(codes.device)[scales.movedim(axis, -1).long()]
    scaled = values.reshape(*scale.shape, form.size) * scale.unsqueeze(-1)
    return round_float64(scaled.flatten(-2), dtype).movedim(-1, axis).contiguous()


def round_float64(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Round float64 once to ``dtype``: PyTorch rounds float64 to 16 bits through float32, which is twice.

    A first rounding to odd in float32 makes the second one exact.
    """
    single = values.float()
    if dtype == torch.float32:
        return single
    bits = single.view(torch.int32)
    inexact = (single.double() != values) & torch.isfinite(single)
    away = inexact & (single.double().abs() > values.abs())
    truncated = torch.where(away, bits - 1, bits)
    return torch.where(inexact, truncated | 1, bits).view(torch.float32).to(dtype)
