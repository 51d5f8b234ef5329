"""Formats whose codes hold a significand and an exponent: one exact encoder and decoder for all of them.

A magnitude is k x 2^q with a small integer k. The code of a magnitude is ordered like its value, so a
rounding carry into the exponent is the addition itself, and overflow is one comparison.
"""

from __future__ import annotations

import abc
import enum
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from gatewright.diagnostics import error
from gatewright.ir.formats.base import ScalarFormat
from gatewright.ir.formats.rounding import (
    Integers,
    Overflow,
    Reals,
    Rounding,
    as_integers,
    round_magnitudes,
    round_scaled,
)

Booleans = npt.NDArray[np.bool_]


class Underflow(enum.StrEnum):
    """What the codes with exponent field 0 mean."""

    GRADUAL = "gradual"  # subnormals: no implicit one, the smallest normal exponent
    FLUSH = "flush"  # zero, whatever the mantissa
    DENORMAL = "denormal"  # no code has an implicit one: mantissa / 2^M x 2^(field - bias)
    NO_ZERO = "no_zero"  # a power of two like all others


@dataclass(frozen=True, slots=True)
class Layout:
    """How magnitudes become codes. The sign, where there is one, is the bit above the magnitude."""

    mantissa: int  # stored bits
    lowest: int  # exponent of the finest grid
    magnitude_bits: int  # all bits but the sign
    largest: int  # magnitude code of the largest finite value
    nan: int | None
    infinity: int | None
    signed: bool
    underflow: Underflow

    @property
    def precision(self) -> int:
        """Significant bits of a normal value."""
        return self.mantissa + (self.underflow is not Underflow.DENORMAL)


class SignificandFormat(ScalarFormat):
    """A scalar format described by a `Layout`. Codes are unsigned bit patterns; the sign of zero is kept.

    NaN encodes to the NaN code, or to 0 where there is none. An infinity saturates like any large value;
    under `infinite` it and every overflow become infinity, or NaN where there is no infinity.
    In integer arithmetic (`decode_scaled`) NaN counts as 0 and an infinity as the largest finite value.
    """

    __slots__ = ()

    @property
    @abc.abstractmethod
    def layout(self) -> Layout: ...

    @property
    def width(self) -> int:
        layout = self.layout
        return layout.magnitude_bits + layout.signed

    @property
    def is_signed(self) -> bool:
        return self.layout.signed

    def code_interval(self) -> tuple[int, int]:
        return 0, (1 << self.width) - 1

    # Encoding ------------------------------------------------------------------------------------------

    def encode(
        self,
        real: object,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
        generator: np.random.Generator | None = None,
    ) -> Integers:
        values = np.asarray(real, dtype=np.float64)
        negative = np.signbit(values)
        finite = np.isfinite(values)
        fractions, exponents = np.frexp(np.abs(np.where(finite, values, 0.0)))
        quanta = self._quanta(exponents.astype(np.int64) - 1, fractions == 0)
        # Far below the grid only "not zero" matters, and a clamped shift keeps that.
        shifts = np.clip(exponents - quanta, -200, 200).astype(np.int32)
        units = round_magnitudes(np.ldexp(fractions, shifts), negative, rounding, generator)
        return self._finish(
            units.astype(np.int64), quanta, negative, rounding, overflow, np.isnan(values), np.isinf(values)
        )

    def encode_scaled(
        self,
        integers: object,
        exponent: int,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
        generator: np.random.Generator | None = None,
    ) -> Integers:
        given = as_integers(integers)
        flat: Integers = given.reshape(-1)
        lengths = _bit_lengths(flat)
        quanta = self._quanta(lengths + (exponent - 1), lengths == 0)
        shifts = quanta - exponent
        units = np.zeros(flat.shape, dtype=np.int64)
        for shift in np.unique(shifts):
            chosen = shifts == shift
            rounded = round_scaled(flat[chosen], int(shift), rounding, generator)
            units[chosen] = np.abs(rounded).astype(np.int64)
        negative = np.asarray(flat < 0, dtype=np.bool_)
        none = np.zeros(flat.shape, dtype=np.bool_)
        return self._finish(units, quanta, negative, rounding, overflow, none, none).reshape(given.shape)

    def _quanta(self, exponents: Integers, zero: Booleans) -> Integers:
        """Exponent of the grid around magnitudes whose floor(log2) is `exponents`, unless they are zero."""
        layout = self.layout
        exponents = np.where(zero, layout.lowest, exponents)
        if layout.underflow is Underflow.FLUSH:
            smallest = layout.lowest + layout.mantissa
            return np.where(exponents < smallest, smallest, exponents - layout.mantissa)
        return np.maximum(exponents - (layout.precision - 1), layout.lowest)

    def _finish(
        self,
        units: Integers,
        quanta: Integers,
        negative: Booleans,
        rounding: Rounding,
        overflow: Overflow,
        nan: Booleans,
        infinite: Booleans,
    ) -> Integers:
        layout = self.layout
        top = (1 << layout.magnitude_bits) + 1
        highest = layout.lowest + (top >> layout.mantissa) + 2
        magnitudes = self._compose(units, np.minimum(quanta, highest))
        over = (magnitudes > layout.largest) | infinite
        magnitudes = self._overflowed(magnitudes, over, negative, rounding, overflow)
        if layout.signed:
            codes = magnitudes | (negative.astype(np.int64) << layout.magnitude_bits)
        else:
            # Zero is the nearest value to anything negative; -0.0 and what rounds to it are zero as well.
            codes = np.where(negative, 0, magnitudes)
        return np.where(nan, 0 if layout.nan is None else layout.nan, codes)

    def _compose(self, units: Integers, quanta: Integers) -> Integers:
        """Magnitude codes of units x 2^quanta, where units may have carried to 2^precision."""
        layout = self.layout
        offset = quanta - layout.lowest
        match layout.underflow:
            case Underflow.GRADUAL:
                return (offset << layout.mantissa) + units
            case Underflow.FLUSH:
                # Below the smallest normal the grid is that normal itself: units are 0 or 1 of it.
                normal = units >> layout.mantissa != 0
                below = np.where(units > 0, 1 << layout.mantissa, 0)
                return np.where(normal, (offset << layout.mantissa) + units, below)
            case Underflow.DENORMAL:
                carried = units == 1 << layout.mantissa
                units = np.where(carried, units >> 1, units)
                return ((offset + carried) << layout.mantissa) | units
            case Underflow.NO_ZERO:
                return np.maximum(offset + units - 1, 0)

    def _overflowed(
        self,
        magnitudes: Integers,
        over: Booleans,
        negative: Booleans,
        rounding: Rounding,
        overflow: Overflow,
    ) -> Integers:
        layout = self.layout
        match overflow:
            case Overflow.SATURATE | Overflow.SATURATE_SYMMETRIC:
                return np.where(over, layout.largest, magnitudes)
            case Overflow.SATURATE_ZERO:
                return np.where(over, 0, magnitudes)
            case Overflow.INFINITE:
                beyond = layout.nan if layout.infinity is None else layout.infinity
                if beyond is None:
                    raise error(
                        "GW0205",
                        f"{self} has neither infinity nor NaN to overflow to",
                        note="every one of its codes is a finite number",
                        help="use saturate",
                    )
                # IEEE 754-2019 section 7.4: a rounding towards zero stops at the largest finite value.
                inward = (rounding is Rounding.TOWARD_ZERO) | ((rounding is Rounding.FLOOR) & ~negative)
                stopped = np.where(magnitudes > layout.largest, inward, False)
                return np.where(over, np.where(stopped, layout.largest, beyond), magnitudes)
            case Overflow.WRAP:
                raise error(
                    "GW0205",
                    f"{self} cannot wrap around",
                    note="wrap is the modulo of integer codes; floating-point codes have no such meaning",
                    help="use saturate, saturate_zero or infinite",
                )

    # Decoding ------------------------------------------------------------------------------------------

    def _split(self, codes: object) -> tuple[Integers, Integers, Booleans, Integers]:
        """Units, exponents, signs and magnitude codes; specials are split like any other code."""
        layout = self.layout
        values = as_integers(codes).astype(np.int64)
        magnitudes = values & ((1 << layout.magnitude_bits) - 1)
        negative = (values >> layout.magnitude_bits) & 1 != 0
        fields = magnitudes >> layout.mantissa
        units = magnitudes & ((1 << layout.mantissa) - 1)
        implicit = 1 << layout.mantissa
        match layout.underflow:
            case Underflow.GRADUAL:
                units = np.where(fields > 0, units | implicit, units)
                exponents = np.maximum(fields - 1, 0)
            case Underflow.FLUSH:
                units = np.where(fields > 0, units | implicit, 0)
                exponents = np.maximum(fields - 1, 0)
            case Underflow.DENORMAL:
                exponents = fields
            case Underflow.NO_ZERO:
                units, exponents = np.ones_like(fields), fields
        return units, exponents + layout.lowest, negative, magnitudes

    def decode(self, codes: object) -> Reals:
        units, exponents, negative, magnitudes = self._split(codes)
        values = np.ldexp(units.astype(np.float64), exponents.astype(np.int32))
        if self.layout.nan is not None or self.layout.infinity is not None:
            infinity = self.layout.infinity
            special = np.where(magnitudes == infinity, np.inf, np.nan)
            values = np.where(self._special(magnitudes), special, values)
        return np.where(negative, -values, values)

    def decode_scaled(self, codes: object) -> tuple[Integers, Integers]:
        units, exponents, negative, magnitudes = self._split(codes)
        special = self._special(magnitudes)
        if bool(special.any()):
            infinite = magnitudes == self.layout.infinity
            largest = self._split(np.asarray([self.layout.largest]))
            units = np.where(special, np.where(infinite, largest[0][0], 0), units)
            exponents = np.where(infinite, largest[1][0], np.where(special, self.layout.lowest, exponents))
        return np.where(negative, -units, units), exponents

    def _special(self, magnitudes: Integers) -> Booleans:
        """True for codes that are no finite number: all magnitudes above the largest finite one."""
        return magnitudes > self.layout.largest

    def is_special(self, codes: object) -> Booleans:
        """True where a code is NaN or an infinity."""
        return self._special(self._split(codes)[3])

    # Derived facts -------------------------------------------------------------------------------------

    @property
    def has_zero(self) -> bool:
        return self.layout.underflow is not Underflow.NO_ZERO

    @property
    def has_nan(self) -> bool:
        return self.layout.nan is not None

    @property
    def has_infinity(self) -> bool:
        return self.layout.infinity is not None

    @property
    def mantissa_bits(self) -> int:
        return self.layout.precision + 1

    @property
    def exponent_interval(self) -> tuple[int, int]:
        layout = self.layout
        return layout.lowest, int(self._split(np.asarray([layout.largest]))[1][0])

    @property
    def largest(self) -> Fraction:
        return self.decode_fraction(self.layout.largest)

    @property
    def smallest_positive(self) -> Fraction:
        layout = self.layout
        if layout.underflow is Underflow.FLUSH:
            return self.smallest_normal
        return Fraction(2) ** layout.lowest

    @property
    def smallest_normal(self) -> Fraction:
        layout = self.layout
        return Fraction(2) ** (layout.lowest + layout.precision - 1)

    def _finest_exponent_bits(self) -> int:
        return max(0, -self.layout.lowest)


def _bit_lengths(values: Integers) -> Integers:
    """Bit length of every magnitude, exactly; 0 for 0."""
    if values.dtype == object:
        return np.asarray([abs(int(value)).bit_length() for value in values], dtype=np.int64)
    magnitudes = np.abs(values).astype(np.uint64)  # |-2^63| survives as unsigned
    lengths = np.frexp(magnitudes.astype(np.float64))[1].astype(np.int64)
    # Above 53 bits the conversion may have rounded up to the next power of two.
    rounded_up = (lengths > 53) & (magnitudes >> np.maximum(lengths - 1, 0).astype(np.uint64) == 0)
    return lengths - rounded_up
