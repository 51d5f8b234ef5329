"""What a codec computes, for each kind of format: plain tensor arithmetic on any device.

On a CPU without torch.compile it works in pieces that stay in the cache, which is what makes it fast. Formats
with scales made from means (binary, ternary, residual) go through one custom operator that computes their
statistics exactly.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gatewright.backends.torch.elements import (
    Scratch,
    code_type,
    codes_of,
    element_plan,
    floor_log2,
    power_of_two,
    values_of,
)
from gatewright.diagnostics import error
from gatewright.ir.formats import (
    Block,
    Format,
    GroupFormat,
    Overflow,
    PowerOfTwo,
    Real,
    Rounding,
    ScalarFormat,
    ScaledSigns,
    parse_format,
)
from gatewright.ir.formats.grouped import Axes, normal_axes

_PIECE = 1 << 17  # elements whose temporaries stay in a second-level cache
_SIGN_OFF = 0x7FFFFFFF
_NOT_FINITE = 0x7F800000
_SUBNORMAL_HALF = 0x00400000  # 2^-127


class Caster(abc.ABC):
    """One cast of tensors: a format, an axis, a rounding and an overflow. The methods are those of a codec."""

    def __init__(self, form: Format, rounding: Rounding, overflow: Overflow) -> None:
        self.format = form
        self.rounding = rounding
        self.overflow = overflow

    @abc.abstractmethod
    def quantize(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The values that `values` are cast to, in their type."""

    @abc.abstractmethod
    def encode(self, values: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """Element codes in the shape of `values`, and scale codes or None."""

    @abc.abstractmethod
    def decode(self, codes: Tensor, scales: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """The values of codes."""

    @abc.abstractmethod
    def inside(self, values: Tensor) -> Tensor:
        """True where the format can hold a value of that size."""


class RealCaster(Caster):
    """The identity."""

    def quantize(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return values

    def encode(self, values: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        raise error("GW0217", "real has no codes", note="it stands for values before any cast")

    def decode(self, codes: Tensor, scales: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        raise error("GW0217", "real has no codes", note="it stands for values before any cast")

    def inside(self, values: Tensor) -> Tensor:
        return torch.ones_like(values, dtype=torch.bool)


class ScalarCaster(Caster):
    """Every element by itself."""

    def __init__(self, form: ScalarFormat, rounding: Rounding, overflow: Overflow) -> None:
        super().__init__(form, rounding, overflow)
        self.element = form
        self.plan = element_plan(form, rounding, overflow)
        self.lowest, self.highest = element_range(form)

    def quantize(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if _in_pieces(values) and self.plan.fast is not None:
            return self._quantize_pieces(values)
        return self.plan.quantize(values, generator)

    def _quantize_pieces(self, values: Tensor) -> Tensor:
        assert self.plan.fast is not None
        result = torch.empty_like(values)
        sources, targets = _pieces(values, 1), _pieces(result, 1)
        scratch = Scratch.of(sources[0].shape)
        single = torch.empty(sources[0].shape)
        for source, target in zip(sources, targets, strict=True):
            count = source.shape[0]
            target.copy_(self.plan.fast.round_(single[:count].copy_(source), True, scratch.rows(count)))
        return result

    def encode(self, values: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        return codes_of(self.plan.quantize_double(values.double(), generator), self.element), None

    def decode(self, codes: Tensor, scales: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        return values_of(codes, self.element).to(dtype)

    def inside(self, values: Tensor) -> Tensor:
        return (values >= self.lowest) & (values <= self.highest)


def element_range(form: ScalarFormat) -> tuple[float, float]:
    """Smallest and largest finite value."""
    codes = np.asarray(form.code_interval())
    if form.exponent_interval[0] == form.exponent_interval[1] and form.width < 53 and not form.has_nan:
        low, high = (float(value) for value in form.decode(codes))
        if low < high:
            return low, high
    high = float(form.largest)
    return (-high if form.is_signed else 0.0), high


@dataclass(frozen=True, slots=True)
class _Layout:
    """A tensor seen as blocks: every blocked axis split in two, and the dimensions inside a block."""

    values: Tensor
    inner: tuple[int, ...]


class BlockCaster(Caster):
    """Blocks that share a scale."""

    def __init__(self, form: Block, axis: Axes | None, rounding: Rounding, overflow: Overflow) -> None:
        super().__init__(form, rounding, overflow)
        self.block = form
        self.name = str(form)
        self.sizes = form.sizes
        self.axis = axis
        self.plan = element_plan(form.element, rounding, overflow)
        self.scale_plan = element_plan(form.scale, Rounding.HALF_EVEN, Overflow.SATURATE)
        self.power = isinstance(form.scale, PowerOfTwo)
        self.scale_has_nan = form.scale.has_nan
        self.largest = float(form.element.largest)
        self.element_exponent = form.element.largest_exponent
        self.smallest_scale = float(form.scale.smallest_normal)
        self.lowest, self.highest = element_range(form.element)
        self.bias, self.top = 0, 0
        if isinstance(form.scale, PowerOfTwo):
            self.bias, self.top = form.scale.exponent_bias, form.scale.layout.largest
        self.fast = self._is_fast()

    def _is_fast(self) -> bool:
        """True if float32 computes the block exactly (the proofs are in docs/formats.md)."""
        grid = self.plan.fast
        if grid is None or not self.scale_has_nan:
            return False
        smallest = self.block.element.smallest_positive
        if self.power:
            # Values, scales and 1 / scale must all be float32 numbers, subnormal ones included.
            low, high = -self.bias, self.top - self.bias
            return low >= -127 and high <= 127 and low + math.log2(smallest) >= -149
        scale = self.scale_plan.fast
        odd_part = self.block.element.largest.numerator
        odd_bits = (odd_part // (odd_part & -odd_part)).bit_length()
        if scale is None:
            return False
        exact_quotient = grid.significant_bits + 1 + scale.significant_bits <= 24
        return exact_quotient and scale.significant_bits + 1 + odd_bits <= 24

    # Quantising --------------------------------------------------------------------------------------------

    def quantize(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        axes = self._axes(values)
        fast = self.fast and values.dtype != torch.float64
        if fast and axes == (values.ndim - 1,) and values.shape[-1] % self.sizes[0] == 0 and _in_pieces(values):
            return self._quantize_pieces(values)
        layout = self._split(values if fast else values.double(), axes)
        elements, scales = self._parts(layout, fast, generator)
        # Converted before it is joined: else torch.compile makes two kernels.
        return self._joined((elements * scales).to(values.dtype), values.shape, axes)

    def _quantize_pieces(self, values: Tensor) -> Tensor:
        result = torch.empty_like(values)
        sources, targets = _pieces(values, self.sizes[0]), _pieces(result, self.sizes[0])
        scratch = Scratch.of(sources[0].shape)
        single = values.dtype == torch.float32
        scaled = None if single else torch.empty(sources[0].shape)
        for source, target in zip(sources, targets, strict=True):
            part = scratch.rows(source.shape[0])
            piece = target if scaled is None else scaled[: source.shape[0]].copy_(source)
            elements, scales = self._fast_parts(source if single else piece, (1,), part, piece)
            torch.mul(elements, scales, out=piece)
            if not single:
                target.copy_(piece)
        return result

    def encode(self, values: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        axes = self._axes(values)
        layout = self._split(values.double(), axes)
        elements, scales = self._parts(layout, False, generator)
        codes = codes_of(self._joined(elements, values.shape, axes), self.block.element)
        for dimension in reversed(layout.inner):
            scales = scales.squeeze(dimension)
        return codes, codes_of(scales, self.block.scale)

    def decode(self, codes: Tensor, scales: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        axes = self._axes(codes)
        wanted = self.block.scales_shape(tuple(codes.shape), axes)
        if scales is None or tuple(scales.shape) != wanted:
            raise error(
                "GW0213",
                f"{self.name}: elements of shape {tuple(codes.shape)} need scales of shape {wanted}",
                note="no scales were passed" if scales is None else f"their shape is {tuple(scales.shape)}",
                help="pass the scales that encode gave, and the same axis",
            )
        factors = values_of(scales, self.block.scale)
        for axis, size in zip(axes, self.sizes, strict=True):
            factors = factors.repeat_interleave(size, axis).narrow(axis, 0, codes.shape[axis])
        return (values_of(codes, self.block.element) * factors).to(dtype)

    def inside(self, values: Tensor) -> Tensor:
        axes = self._axes(values)
        layout = self._split(values.double(), axes)
        scales = self._scales(layout.values.abs().amax(layout.inner, keepdim=True))
        inside = (layout.values >= self.lowest * scales) & (layout.values <= self.highest * scales)
        return self._joined(inside, values.shape, axes)

    def _axes(self, values: Tensor) -> tuple[int, ...]:
        return normal_axes(self.axis, len(self.sizes), values.ndim, self.name)

    def _split(self, values: Tensor, axes: tuple[int, ...]) -> _Layout:
        padding = [0, 0] * values.ndim
        shape: list[int] = []
        inner: list[int] = []
        sizes = dict(zip(axes, self.sizes, strict=True))
        for axis, length in enumerate(values.shape):
            size = sizes.get(axis)
            if size is None:
                shape.append(length)
                continue
            short = -length % size
            padding[2 * (values.ndim - 1 - axis) + 1] = short
            shape += [(length + short) // size, size]
            inner.append(len(shape) - 1)
        if any(padding):
            values = F.pad(values, padding)
        return _Layout(values.reshape(shape), tuple(inner))

    def _joined(self, values: Tensor, shape: torch.Size, axes: tuple[int, ...]) -> Tensor:
        sizes = dict(zip(axes, self.sizes, strict=True))
        padded = [-(-length // sizes.get(axis, 1)) * sizes.get(axis, 1) for axis, length in enumerate(shape)]
        result = values.reshape(padded)
        for axis in axes:
            result = result.narrow(axis, 0, shape[axis])
        return result

    def _parts(self, layout: _Layout, fast: bool, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Element values and scale values, whose product is the result."""
        if fast:
            return self._fast_parts(layout.values.float(), layout.inner)
        scales = self._scales(layout.values.abs().amax(layout.inner, keepdim=True))
        scaled = layout.values / scales
        if self.scale_has_nan:
            # The elements of a block that is NaN are zeros.
            scaled = torch.where(scales.isnan(), layout.values.new_zeros(()).copysign(layout.values), scaled)
        return self.plan.quantize_double(scaled, generator), scales

    def _scales(self, amax: Tensor) -> Tensor:
        """Scale values for the blocks' largest magnitudes, all float64."""
        if self.scale_has_nan:
            finite = amax.isfinite()
            return torch.where(finite, self._finite_scales(torch.where(finite, amax, 0.0)), math.nan)
        top = self.scale_plan.largest or self.scale_plan.high * 2.0**-self.scale_plan.fraction_bits
        return self._finite_scales(amax.nan_to_num(nan=0.0, posinf=top * self.largest))

    def _finite_scales(self, amax: Tensor) -> Tensor:
        if self.power:
            codes = floor_log2(amax) - self.element_exponent + self.bias
            return power_of_two(codes.clamp(0, self.top) - self.bias)
        return self.scale_plan.quantize_double(amax / self.largest).clamp_min(self.smallest_scale)

    def _fast_parts(
        self,
        values: Tensor,
        inner: tuple[int, ...],
        scratch: Scratch | None = None,
        target: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The same in float32. `target` is memory for the scaled values; it may be `values` itself."""
        assert self.plan.fast is not None
        if scratch is None:
            magnitudes = values.view(torch.int32).bitwise_and(_SIGN_OFF)
        else:
            magnitudes = torch.bitwise_and(values.view(torch.int32), _SIGN_OFF, out=scratch.first)
        amax = magnitudes.amax(inner, keepdim=True)
        void = amax >= _NOT_FINITE
        if not self.power:
            scales = self._fast_ratio(amax.view(torch.float32))
            scaled = _quotient(values, scales, target)
            return self.plan.fast.round_(scaled, scratch=scratch), torch.where(void, math.nan, scales)
        if self.element_exponent < 0:
            # A block of subnormals: bring the exponent field into the normal range first.
            small = amax < 1 << 23
            lifted = (amax.view(torch.float32) * 2.0**64).view(torch.int32) - (64 << 23)
            amax = torch.where(small, lifted, amax)
        exponents = ((amax >> 23) - (127 + self.element_exponent)).clamp_(-self.bias, self.top - self.bias)
        # 2^-127 is the subnormal 0x00400000; every other scale is an exponent field alone.
        scales = ((exponents + 127) << 23).clamp_min_(_SUBNORMAL_HALF).view(torch.float32)
        inverse = ((127 - exponents) << 23).clamp_min_(_SUBNORMAL_HALF).view(torch.float32)
        scaled = torch.mul(values, inverse, out=target)
        rounded = self.plan.fast.round_(scaled, self._saturated_scale(), scratch)
        return rounded, torch.where(void, math.nan, scales)

    def _saturated_scale(self) -> bool:
        """True if even the largest scale can be too small for a block of float32."""
        return self.top - self.bias + self.element_exponent < 127

    def _fast_ratio(self, amax: Tensor) -> Tensor:
        grid = self.scale_plan.fast
        assert grid is not None
        return grid.round_(_quotient(amax, self.largest)).clamp_min_(self.smallest_scale)


def _quotient(values: Tensor, divisor: Tensor | float, target: Tensor | None = None) -> Tensor:
    """Float32 quotients, correctly rounded.

    The kernels that torch.compile makes for GPUs divide float32 only to two units in the last place. A float64
    quotient rounded to float32 is right: its 53 bits are at least 2 x 24 + 2 (Figueroa, 1995).
    """
    if torch.compiler.is_compiling() and values.device.type != "cpu":
        return (values.double() / divisor).float()
    return torch.div(values, divisor, out=target)


def _in_pieces(values: Tensor) -> bool:
    """True for large tensors on a CPU, outside torch.compile and its kin."""
    return (
        values.device.type == "cpu"
        and values.is_contiguous()
        and values.numel() > _PIECE
        and not torch.compiler.is_compiling()
    )


def _pieces(values: Tensor, size: int) -> tuple[Tensor, ...]:
    """`values` as rows of `size` elements, cut into views of about `_PIECE` elements."""
    return torch.split(values.detach().view(-1, size), max(1, _PIECE // size))


# Scales from means ------------------------------------------------------------------------------------------


@torch.library.custom_op("gatewright::encode_scaled_signs", mutates_args=())
def _encode_scaled_signs(values: Tensor, form: str, axis: int) -> tuple[Tensor, Tensor]:
    found = parse_format(form)
    assert isinstance(found, ScaledSigns)
    codes, scales = found.encode(values.detach().cpu().double().numpy(), axis)
    return (
        torch.from_numpy(codes).to(values.device, torch.uint8),
        torch.from_numpy(scales).to(values.device, code_type(found.scale)),
    )


@_encode_scaled_signs.register_fake
def _(values: Tensor, form: str, axis: int) -> tuple[Tensor, Tensor]:
    found = parse_format(form)
    assert isinstance(found, ScaledSigns)
    groups = values.shape[axis] if found.per == "channel" and values.ndim else 1
    scales = values.new_empty((groups, found.levels), dtype=code_type(found.scale))
    return values.new_empty(values.shape, dtype=torch.uint8), scales


class ScaledCaster(Caster):
    """Binary, ternary and residual-sign tensors; `axis` is the channel axis, 0 by default."""

    def __init__(self, form: ScaledSigns, axis: Axes | None, rounding: Rounding, overflow: Overflow) -> None:
        super().__init__(form, rounding, overflow)
        self.scaled = form
        self.name = str(form)
        self.axis = axis if isinstance(axis, int) else 0
        self.by_channel = form.per == "channel"
        if rounding is not Rounding.HALF_EVEN:
            raise error(
                "GW0214",
                f"{form} cannot be rounded {rounding} in PyTorch",
                note="its thresholds decide every element; only its scales are rounded, half to even",
                help="leave the rounding out",
            )

    def quantize(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        codes, scales = self.encode(values)
        return self.decode(codes, scales, values.dtype)

    def encode(self, values: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        return _encode_scaled_signs(values, self.name, self.axis)

    def decode(self, codes: Tensor, scales: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        if scales is None:
            raise error("GW0213", f"{self.name}: its scales are missing", help="pass what encode gave")
        factors = values_of(scales, self.scaled.scale)
        if self.by_channel and codes.ndim:
            shape = [1] * codes.ndim
            shape[self.axis] = codes.shape[self.axis]
            columns = [factors[:, level].reshape(shape) for level in range(self.scaled.levels)]
        else:
            columns = [factors[0, level] for level in range(self.scaled.levels)]
        width = self.scaled.element.width
        total = torch.zeros(codes.shape, dtype=torch.float64, device=codes.device)
        for level, column in enumerate(columns):
            total = total + values_of(codes >> (level * width), self.scaled.element) * column
        return total.to(dtype)

    def inside(self, values: Tensor) -> Tensor:
        # The usual clip of binary and ternary training: Courbariaux et al., 2016.
        return values.abs() <= 1


def make_caster(form: Format, axis: Axes | None, rounding: Rounding, overflow: Overflow) -> Caster:
    """The caster of a cast; GW0217 for formats without a tensor form."""
    if isinstance(form, Block):
        return BlockCaster(form, axis, rounding, overflow)
    if isinstance(form, ScaledSigns):
        return ScaledCaster(form, axis, rounding, overflow)
    if isinstance(form, ScalarFormat):
        return ScalarCaster(form, rounding, overflow)
    if isinstance(form, Real):
        return RealCaster(form, rounding, overflow)
    kind = "grouped" if isinstance(form, GroupFormat) else "unknown"
    raise error("GW0217", f"{form} is a {kind} format without a tensor form", help="use a block or a scalar format")
