"""Fixed point: an integer times a power of two. `Fixed` has a width, `Exact` is an unbounded accumulator."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.formats.base import ScalarFormat, check_integer
from gatewright.ir.formats.rounding import (
    Integers,
    Overflow,
    Reals,
    Rounding,
    apply_overflow,
    as_integers,
    bit_length,
    narrowed,
    round_magnitudes,
    round_scaled,
)

MAXIMUM_WIDTH = 4096
MAXIMUM_FRACTION = 16384


def round_reals(
    real: object, fraction_bits: int, rounding: Rounding, generator: np.random.Generator | None
) -> tuple[Integers, Reals]:
    """Float64 `real` x 2^fraction_bits rounded to integers, and the reals themselves.

    NaN gives 0; an infinity gives 0 here and is left to the caller. Finite values are exact at any size.
    """
    values = np.asarray(real, dtype=np.float64)
    negative = np.signbit(values)
    # Infinity as the scaled value of a huge finite number would be wrong for wrap, so split it off first.
    mantissas, exponents = np.frexp(np.where(np.isfinite(values), values, 0.0))
    shifts = exponents.astype(np.int64) + fraction_bits
    if bool(np.any((shifts > 62) & (mantissas != 0))):
        return _round_large(mantissas, shifts, rounding, generator), values
    scaled = np.ldexp(np.abs(mantissas), np.maximum(shifts, -200).astype(np.int32))
    rounded = round_magnitudes(scaled, negative, rounding, generator).astype(np.int64)
    return np.where(negative, -rounded, rounded), values


def _round_large(
    mantissas: Reals, shifts: Integers, rounding: Rounding, generator: np.random.Generator | None
) -> Integers:
    """The same through Python integers, for values beyond int64."""
    integers = np.ldexp(mantissas, 53).astype(np.int64)
    result = np.zeros(mantissas.shape, dtype=object)
    for shift in np.unique(shifts):
        chosen = shifts == shift
        result[chosen] = round_scaled(integers[chosen], 53 - int(shift), rounding, generator).astype(object)
    return result


def decode_uniform(codes: object, fraction_bits: int) -> Reals:
    """codes x 2^-fraction_bits, rounded to nearest even where a code exceeds 53 bits."""
    integers = as_integers(codes)
    if integers.dtype != object and bit_length(integers) <= 53 and abs(fraction_bits) < 900:
        return np.ldexp(integers.astype(np.float64), -fraction_bits)
    values = [math.ldexp(float(int(code)), -fraction_bits) for code in integers.flat]
    return np.asarray(values, dtype=np.float64).reshape(integers.shape)


@dataclass(frozen=True, slots=True)
class Fixed(ScalarFormat):
    """`width` bits, the lowest worth 2^-frac; two's complement if signed. `frac` None is left to calibration.

    `frac` may be negative or exceed the width. Named `fixed<width,frac>` and `ufixed<width,frac>`.
    NaN encodes to 0; an infinity saturates, and gives 0 under saturate_zero and wrap.
    """

    # field() hides the property of this name in the base class, which would pass for a default.
    width: int = field()  # pyright: ignore[reportIncompatibleMethodOverride]
    frac: int | None
    signed: bool = True

    def __post_init__(self) -> None:
        check_integer("width", self.width, 1, MAXIMUM_WIDTH, self._kind)
        if self.frac is not None:
            check_integer("fraction bits", self.frac, -MAXIMUM_FRACTION, MAXIMUM_FRACTION, self._kind)

    def __str__(self) -> str:
        return f"{self._kind}<{self.width},{'auto' if self.frac is None else self.frac}>"

    @property
    def _kind(self) -> str:
        return "fixed" if self.signed else "ufixed"

    @property
    def is_auto(self) -> bool:
        return self.frac is None

    def resolve(self, frac: int) -> Fixed:
        """The same format with its fraction bits decided."""
        return Fixed(self.width, frac, self.signed)

    @property
    def fraction_bits(self) -> int:
        """`frac`, or an error (GW0203) while it is `auto`."""
        if self.frac is None:
            raise error(
                "GW0203",
                f"{self} has no value yet: its fraction bits are auto",
                note="auto fraction bits are chosen from calibration data",
                help=f"pass calibration=..., or write the fraction bits, as in {self._kind}<{self.width},4>",
            )
        return self.frac

    def code_interval(self) -> tuple[int, int]:
        if self.signed:
            return -(1 << (self.width - 1)), (1 << (self.width - 1)) - 1
        return 0, (1 << self.width) - 1

    def encode(
        self,
        real: object,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
        generator: np.random.Generator | None = None,
    ) -> Integers:
        low, high = self.code_interval()
        integers, values = round_reals(real, self.fraction_bits, rounding, generator)
        codes = apply_overflow(integers, low, high, overflow)
        infinite = np.isinf(values)
        if overflow in (Overflow.SATURATE, Overflow.SATURATE_SYMMETRIC) and bool(infinite.any()):
            lowest = max(low, -high) if overflow is Overflow.SATURATE_SYMMETRIC else low
            codes = narrowed(np.where(infinite, np.where(values > 0, high, lowest), codes))
        return codes

    def encode_scaled(
        self,
        integers: object,
        exponent: int,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
        generator: np.random.Generator | None = None,
    ) -> Integers:
        rounded = round_scaled(integers, -exponent - self.fraction_bits, rounding, generator)
        return apply_overflow(rounded, *self.code_interval(), overflow)

    def decode(self, codes: object) -> Reals:
        return decode_uniform(codes, self.fraction_bits)

    def decode_scaled(self, codes: object) -> tuple[Integers, Integers]:
        return as_integers(codes), np.asarray([-self.fraction_bits], dtype=np.int64)

    @property
    def is_signed(self) -> bool:
        return self.signed

    @property
    def mantissa_bits(self) -> int:
        return self.width + (not self.signed)

    @property
    def exponent_interval(self) -> tuple[int, int]:
        return -self.fraction_bits, -self.fraction_bits

    @property
    def largest(self) -> Fraction:
        return self.decode_fraction(self.code_interval()[1])

    @property
    def smallest_positive(self) -> Fraction:
        return Fraction(2) ** -self.fraction_bits

    def _finest_exponent_bits(self) -> int:
        return max(0, self.fraction_bits)


@dataclass(frozen=True, slots=True)
class Exact(ScalarFormat):
    """An unbounded integer times 2^-frac: an accumulator before its cast. Named `exact 2^-8`.

    A cast to it rounds to its grid and never overflows. It has no width and no code interval (GW0206).
    """

    frac: int

    def __post_init__(self) -> None:
        check_integer("fraction bits", self.frac, -MAXIMUM_FRACTION, MAXIMUM_FRACTION, "exact")

    def __str__(self) -> str:
        return f"exact 2^{-self.frac}"

    @property
    def fraction_bits(self) -> int:
        return self.frac

    @property
    def width(self) -> int:
        raise self._unbounded("width")

    @property
    def is_signed(self) -> bool:
        return True

    @property
    def mantissa_bits(self) -> int:
        raise self._unbounded("mantissa width")

    @property
    def exponent_interval(self) -> tuple[int, int]:
        return -self.frac, -self.frac

    @property
    def largest(self) -> Fraction:
        raise self._unbounded("largest value")

    @property
    def smallest_positive(self) -> Fraction:
        return Fraction(2) ** -self.frac

    def code_interval(self) -> tuple[int, int]:
        raise self._unbounded("code interval")

    def _unbounded(self, what: str) -> Exception:
        return error(
            "GW0206",
            f"{self} has no {what}",
            note="an exact result is as wide as its interval; only a cast gives it a width",
            help="cast it, for example to fixed<16,8>",
        )

    def encode(
        self,
        real: object,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
        generator: np.random.Generator | None = None,
    ) -> Integers:
        return narrowed(round_reals(real, self.frac, rounding, generator)[0])

    def encode_scaled(
        self,
        integers: object,
        exponent: int,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
        generator: np.random.Generator | None = None,
    ) -> Integers:
        return round_scaled(integers, -exponent - self.frac, rounding, generator)

    def decode(self, codes: object) -> Reals:
        return decode_uniform(codes, self.frac)

    def decode_scaled(self, codes: object) -> tuple[Integers, Integers]:
        return as_integers(codes), np.asarray([-self.frac], dtype=np.int64)
