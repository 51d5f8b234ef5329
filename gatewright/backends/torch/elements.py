"""Scalar casts in PyTorch: values onto a format's grid, and codes of values that lie on it.

Two ways give the same result. The general one computes in float64, for every rounding and overflow. The fast
one rounds to nearest even in float32 by adding and subtracting 1.5 x 2^23 units of the grid, which takes
few passes over memory; `fast_grid` says for which formats it is exact. All of it is plain tensor arithmetic,
so it runs on any device and under torch.compile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewright.diagnostics import error
from gatewright.ir.formats import (
    Binary,
    Exact,
    Fixed,
    Overflow,
    Rounding,
    ScalarFormat,
    SignificandFormat,
    Ternary,
    Underflow,
    no_infinity,
    parse_format,
)

_EXPONENT_32 = 0x7F800000
_NATIVE = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class Scratch:
    """Memory for intermediate results, reused: fresh memory costs more than the arithmetic."""

    first: Tensor  # int32
    second: Tensor  # float32

    @staticmethod
    def of(shape: tuple[int, ...] | torch.Size) -> Scratch:
        """Scratch memory on the CPU."""
        return Scratch(torch.empty(shape, dtype=torch.int32), torch.empty(shape, dtype=torch.float32))

    def rows(self, count: int) -> Scratch:
        """The part for a piece of `count` rows."""
        return Scratch(self.first[:count], self.second[:count])


@dataclass(frozen=True, slots=True)
class FastGrid:
    """Constants of a grid on which float32 arithmetic rounds exactly, half to even, saturating.

    A uniform grid has one magic number; a floating one makes it from each number's exponent field.
    """

    low: float
    high: float
    magic: float  # uniform: 1.5 x 2^23 steps
    field_floor: int  # floating: the float32 bits of the smallest normal
    units: float  # floating: 1.5 x 2^(23 - mantissa), which times 2^e is a number's magic
    significant_bits: int
    keeps_zero_sign: bool
    has_nan: bool

    @property
    def uniform(self) -> bool:
        return self.units == 0

    def round_(self, values: Tensor, clip_first: bool = True, scratch: Scratch | None = None) -> Tensor:
        """`values` (float32, overwritten) on the grid. NaN stays, or becomes 0 in a format without NaN.

        clip_first False is for values known to be finite and below twice the largest. `scratch` has the
        shape of `values`; the result may lie in it or in `values`.
        """
        if clip_first:
            values = values.clamp_(self.low, self.high)
            if not self.has_nan:
                values = values.nan_to_num_(nan=0.0)
        if self.uniform:
            rounded = values.add_(self.magic)
            if not clip_first:
                rounded = rounded.clamp_(self.magic + self.low, self.magic + self.high)
            return rounded.sub_(self.magic)
        if scratch is None:
            fields = values.view(torch.int32).bitwise_and(_EXPONENT_32)
        else:
            fields = torch.bitwise_and(values.view(torch.int32), _EXPONENT_32, out=scratch.first)
        powers = fields.clamp_min_(self.field_floor).view(torch.float32)  # 2^e of every number
        target = None if scratch is None else scratch.second
        rounded = torch.add(values, powers, alpha=self.units, out=target).sub_(powers, alpha=self.units)
        if not clip_first:
            rounded = rounded.clamp_(self.low, self.high)
        return rounded.copysign_(values) if self.keeps_zero_sign else rounded


@cache
def fast_grid(form: ScalarFormat) -> FastGrid | None:
    """The float32 constants of `form`, or None if it needs the general way."""
    if isinstance(form, Fixed) and form.width <= 22 and abs(form.fraction_bits) <= 100:
        low, high = form.code_interval()
        return _uniform_grid(low, high, form.fraction_bits, form.width)
    if isinstance(form, Ternary):
        return _uniform_grid(-1, 1, 0, 1)
    if not isinstance(form, SignificandFormat):
        return None
    layout = form.layout
    mantissa = layout.precision - 1
    smallest = layout.lowest + mantissa
    regular = layout.underflow in (Underflow.GRADUAL, Underflow.DENORMAL)
    if not regular or mantissa > 20 or layout.lowest < -100 or form.largest_exponent > 100:
        return None
    high = float(form.largest)
    units = 1.5 * 2.0 ** (23 - mantissa)
    low = -high if layout.signed else 0.0
    return FastGrid(
        low, high, 0.0, (smallest + 127) << 23, units, layout.precision, layout.signed, layout.nan is not None
    )


def _uniform_grid(low: int, high: int, fraction_bits: int, width: int) -> FastGrid:
    step = 2.0**-fraction_bits
    return FastGrid(low * step, high * step, 1.5 * 2.0**23 * step, 0, 0, width, False, False)


def round_magnitudes(
    magnitudes: Tensor, negative: Tensor, rounding: Rounding, generator: torch.Generator | None = None
) -> Tensor:
    """Non-negative float64 `magnitudes` rounded to whole numbers, as numbers of the given signs."""
    whole = magnitudes.floor()
    fraction = magnitudes - whole
    above, tie = fraction > 0.5, fraction == 0.5
    match rounding:
        case Rounding.HALF_EVEN:
            return magnitudes.round()
        case Rounding.FLOOR:
            up = negative & (fraction > 0)
        case Rounding.TOWARD_ZERO:
            return whole
        case Rounding.HALF_UP:
            up = above | (tie & ~negative)
        case Rounding.HALF_DOWN:
            up = above | (tie & negative)
        case Rounding.HALF_ZERO:
            up = above
        case Rounding.HALF_AWAY:
            up = above | tie
        case Rounding.STOCHASTIC:
            random = torch.rand(magnitudes.shape, dtype=torch.float64, device=magnitudes.device, generator=generator)
            up = random < fraction
    return whole + up


def power_of_two(exponents: Tensor) -> Tensor:
    """2^exponents in float64, exactly, for integer exponents from -1022 to 1023."""
    return ((exponents.to(torch.int64) + 1023) << 52).view(torch.float64)


def floor_log2(magnitudes: Tensor) -> Tensor:
    """floor(log2) of positive normal float64, from the exponent field; -1023 for zero."""
    return (magnitudes.view(torch.int64) >> 52) - 1023


@dataclass(frozen=True, slots=True)
class ElementPlan:
    """Everything that a scalar cast needs to know, as plain numbers that torch.compile can trace."""

    name: str
    kind: str  # "binary", "uniform", "floating"
    rounding: Rounding
    overflow: Overflow
    fraction_bits: int  # uniform
    low: int  # uniform: codes
    high: int
    precision: int  # floating: the layout's numbers
    lowest: int
    smallest: int
    largest: float
    signed: bool
    underflow: Underflow
    has_zero: bool
    beyond: float  # what overflows become under `infinite`
    has_nan: bool
    fast: FastGrid | None
    native: torch.dtype | None  # a format with the exponents of float32

    def quantize(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The nearest values of the format, in the type of `values` (any floating type)."""
        if self.fast is not None and values.dtype != torch.float64:
            fresh = values.to(torch.float32, copy=True) if values.dtype == torch.float32 else values.float()
            return self.fast.round_(fresh).to(values.dtype)
        if self.native is not None and values.dtype != torch.float64:
            limited = values.float().clamp(-self.largest, self.largest)
            if self.native is torch.bfloat16:
                limited = _round_to_bfloat16(limited)
            return limited.to(values.dtype)
        return self.quantize_double(values.double(), generator).to(values.dtype)

    def quantize_double(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The general way: float64 to float64, any rounding and overflow."""
        if self.rounding is Rounding.STOCHASTIC and generator is None and values.device.type != "meta":
            generator = torch.default_generator if values.device.type == "cpu" else None
        if self.kind == "binary":
            return self._sign(values, generator)
        if self.kind == "uniform":
            return self._uniform(values, generator)
        return self._floating(values, generator)

    def _sign(self, values: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.rounding is Rounding.STOCHASTIC:
            chance = (values.nan_to_num(nan=0.0).clamp(-1, 1) + 1) / 2
            return 2.0 * round_magnitudes(chance, chance < 0, self.rounding, generator) - 1.0
        return torch.where(values < 0, -1.0, 1.0)

    def _uniform(self, values: Tensor, generator: torch.Generator | None) -> Tensor:
        negative = torch.signbit(values)
        steps = values.abs().nan_to_num(nan=0.0, posinf=math.inf) * 2.0**self.fraction_bits
        rounded = round_magnitudes(steps, negative, self.rounding, generator)
        codes = torch.where(negative, -rounded, rounded)
        low, high = float(self.low), float(self.high)
        match self.overflow:
            case Overflow.SATURATE:
                codes = codes.clamp(low, high)
            case Overflow.SATURATE_SYMMETRIC:
                codes = codes.clamp(max(low, -high), high)
            case Overflow.SATURATE_ZERO:
                codes = torch.where((codes < low) | (codes > high), 0.0, codes)
            case Overflow.WRAP:
                count = high - low + 1
                finite = torch.where(codes.isinf(), 0.0, codes)
                # A remainder of floats is exact, and so is one addition of its divisor.
                offset = torch.fmod(finite, count)
                offset = torch.where(offset > high, offset - count, offset)
                codes = torch.where(offset < low, offset + count, offset)
            case Overflow.INFINITE:
                raise no_infinity(self.low, self.high)
        return codes * 2.0**-self.fraction_bits + 0.0

    def _floating(self, values: Tensor, generator: torch.Generator | None) -> Tensor:
        negative = torch.signbit(values)
        nan, magnitudes = values.isnan(), values.abs()
        infinite = magnitudes.isinf()
        usable = torch.where(nan | infinite, 0.0, magnitudes)
        exponents = floor_log2(usable)
        if self.underflow is Underflow.FLUSH:
            quanta = torch.where(exponents < self.smallest, self.smallest, exponents - (self.precision - 1))
        else:
            quanta = (exponents - (self.precision - 1)).clamp_min(self.lowest)
        # Exact, and large enough whatever the exponent: beyond the format everything saturates.
        quantum = power_of_two(quanta.clamp(-1022, 1023))
        result = round_magnitudes(usable / quantum, negative, self.rounding, generator) * quantum
        over = (result > self.largest) | infinite
        match self.overflow:
            case Overflow.SATURATE_ZERO:
                result = torch.where(over, 0.0, result)
            case Overflow.INFINITE:
                inward = torch.full_like(over, self.rounding is Rounding.TOWARD_ZERO)
                if self.rounding is Rounding.FLOOR:
                    inward = ~negative
                limit = torch.where(inward & ~infinite, self.largest, self.beyond)
                result = torch.where(over, limit, result)
            case _:
                result = torch.where(over, self.largest, result)
        if not self.has_zero:
            result = result.clamp_min(2.0**self.lowest)
        result = torch.where(negative, -result, result) if self.signed else self._unsigned(result, negative)
        return torch.where(nan, math.nan if self.has_nan else 0.0, result)

    def _unsigned(self, result: Tensor, negative: Tensor) -> Tensor:
        return torch.where(negative, 0.0 if self.has_zero else 2.0**self.lowest, result)


def _round_to_bfloat16(values: Tensor) -> Tensor:
    """Float32 `values` with the low 16 bits rounded away. torch.compile drops a conversion there and back."""
    bits = values.view(torch.int32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) & -0x10000
    return torch.where(values.isnan(), values, rounded.view(torch.float32))


@cache
def element_plan(form: ScalarFormat, rounding: Rounding, overflow: Overflow) -> ElementPlan:
    """The plan of one scalar cast. GW0205 or GW0216 if the cast is not possible."""
    symmetric = isinstance(form, Fixed) and overflow is Overflow.SATURATE_SYMMETRIC
    plain = rounding is Rounding.HALF_EVEN and overflow in (Overflow.SATURATE, Overflow.SATURATE_SYMMETRIC)
    fast = fast_grid(form) if plain else None
    if symmetric and fast is not None:
        low = max(fast.low, -fast.high)
        fast = FastGrid(low, fast.high, fast.magic, 0, 0, fast.significant_bits, False, False)
    if isinstance(form, Exact) or form.width > 52:
        raise error(
            "GW0216",
            f"{form} is too wide for floating-point tensors",
            note="a float64 holds 53 significant bits",
            help="use the integer golden model for it",
        )
    # Let the reference reject what the format does not know, such as wrap of a float.
    form.encode(np.zeros(1), Rounding.HALF_EVEN, overflow)
    native = _NATIVE.get(str(form)) if plain else None
    common: dict[str, Any] = {
        "name": str(form),
        "rounding": rounding,
        "overflow": overflow,
        "fast": fast,
        "native": native,
    }
    if isinstance(form, SignificandFormat):
        layout = form.layout
        return ElementPlan(
            kind="floating",
            fraction_bits=0,
            low=0,
            high=0,
            precision=layout.precision,
            lowest=layout.lowest,
            smallest=layout.lowest + layout.precision - 1,
            largest=float(form.largest),
            signed=layout.signed,
            underflow=layout.underflow,
            has_zero=form.has_zero,
            beyond=math.nan if layout.infinity is None else math.inf,
            has_nan=form.has_nan,
            **common,
        )
    binary = isinstance(form, Binary) and form.bipolar
    low, high, fraction_bits = _uniform_codes(form)
    return ElementPlan(
        kind="binary" if binary else "uniform",
        fraction_bits=fraction_bits,
        low=low,
        high=high,
        precision=0,
        lowest=0,
        smallest=0,
        largest=0.0,
        signed=form.is_signed,
        underflow=Underflow.GRADUAL,
        has_zero=True,
        beyond=0.0,
        has_nan=False,
        **common,
    )


def _uniform_codes(form: ScalarFormat) -> tuple[int, int, int]:
    if isinstance(form, Fixed):
        return *form.code_interval(), form.fraction_bits
    return (-1 if form.is_signed else 0), 1, 0


# Codes ----------------------------------------------------------------------------------------------------


def code_type(form: ScalarFormat) -> torch.dtype:
    """The smallest integer type of PyTorch that holds every code."""
    low, high = form.code_interval()
    for dtype in (torch.int8, torch.uint8, torch.int16, torch.int32):
        if torch.iinfo(dtype).min <= low and high <= torch.iinfo(dtype).max:
            return dtype
    return torch.int64


def codes_of(values: Tensor, form: ScalarFormat) -> Tensor:
    """Codes of float64 `values` that lie on the format's grid, in `code_type`."""
    if isinstance(form, SignificandFormat):
        return _floating_codes(values, form).to(code_type(form))
    if isinstance(form, Ternary):
        return (values.to(torch.int64) & 3).to(code_type(form))
    if isinstance(form, Binary):
        return (values > 0).to(code_type(form))
    fraction_bits = form.exponent_interval[0]
    return (values * 2.0**-fraction_bits).to(code_type(form))


def _floating_codes(values: Tensor, form: SignificandFormat) -> Tensor:
    layout = form.layout
    magnitudes = torch.where(values.isfinite(), values.abs(), 0.0)
    offset = (floor_log2(magnitudes) - (layout.precision - 1)).clamp_min(layout.lowest) - layout.lowest
    units = (magnitudes / power_of_two(offset + layout.lowest)).to(torch.int64)
    match layout.underflow:
        case Underflow.NO_ZERO:
            codes = offset
        case Underflow.DENORMAL:
            codes = (offset << layout.mantissa) | units
        case _:
            codes = (offset << layout.mantissa) + units
    if layout.infinity is not None:
        codes = torch.where(values.isinf(), layout.infinity, codes)
    if layout.signed:
        codes = codes | (torch.signbit(values).to(torch.int64) << layout.magnitude_bits)
    if layout.nan is not None:
        codes = torch.where(values.isnan(), layout.nan, codes)
    return codes


_TABLES = SimpleNamespace()  # the values of all codes of a format, by a name of format and device


@torch.compiler.assume_constant_result
def _table_of(name: str, device: torch.device) -> str:
    """The name of a format's table; torch.compile does not trace how it is made, and reads it as a global."""
    return _made_table(name, device)


@cache
def _made_table(name: str, device: torch.device) -> str:
    form = parse_format(name)
    assert isinstance(form, ScalarFormat)
    found = f"table_{len(vars(_TABLES))}"
    setattr(_TABLES, found, torch.from_numpy(form.decode(np.arange(1 << form.width))).to(device))
    return found


def values_of(codes: Tensor, form: ScalarFormat) -> Tensor:
    """The float64 values of integer `codes`."""
    if isinstance(form, Fixed):
        return codes.double() * 2.0**-form.fraction_bits
    if form.width <= 16:
        index = codes.to(torch.int64) & ((1 << form.width) - 1)
        # Indexing with a tensor of no axes would read its number, which torch.compile cannot.
        values = getattr(_TABLES, _table_of(str(form), codes.device))[index.reshape(-1) if index.ndim == 0 else index]
        return values.reshape(codes.shape)
    return torch.from_numpy(form.decode(codes.cpu().numpy())).to(codes.device)
