"""What every number format offers: a name that parses back, and exact conversion between reals and codes."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from gatewright.diagnostics import error
from gatewright.ir.formats.rounding import Integers, Overflow, Reals, Rounding, as_integers


class Format(abc.ABC):
    """A set of real values. Immutable and hashable; `str` gives the name that `parse_format` reads."""

    __slots__ = ()

    @abc.abstractmethod
    def __str__(self) -> str: ...

    @property
    def is_auto(self) -> bool:
        """True while a parameter is left to calibration."""
        return False

    @property
    def default_overflow(self) -> Overflow:
        """The overflow of a cast to this format that names none."""
        return Overflow.SATURATE


class ScalarFormat(Format):
    """A format whose elements are encoded one by one; every code is an integer x 2^exponent.

    A code is the signed integer itself for fixed point, and the unsigned bit pattern for all others.
    """

    __slots__ = ()

    @property
    @abc.abstractmethod
    def width(self) -> int:
        """Bits of a code."""

    @abc.abstractmethod
    def code_interval(self) -> tuple[int, int]:
        """Smallest and largest code, both included."""

    @abc.abstractmethod
    def encode(
        self,
        real: object,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
        generator: np.random.Generator | None = None,
    ) -> Integers:
        """Codes of the float64 array `real`. Exact. `generator` is for stochastic rounding."""

    @abc.abstractmethod
    def encode_scaled(
        self,
        integers: object,
        exponent: int,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
        generator: np.random.Generator | None = None,
    ) -> Integers:
        """Codes of the exact values integers x 2^exponent, at any width (int64 or object array)."""

    @abc.abstractmethod
    def decode(self, codes: object) -> Reals:
        """Values of `codes` in float64: exact unless a code has more than 53 significant bits."""

    @abc.abstractmethod
    def decode_scaled(self, codes: object) -> tuple[Integers, Integers]:
        """Integers m and exponents e with value = m x 2^e; `e` has one element where it is common to all."""

    # What hardware and users ask of a format; all derived from its definition.

    @property
    @abc.abstractmethod
    def is_signed(self) -> bool:
        """True if it has negative values."""

    @property
    @abc.abstractmethod
    def mantissa_bits(self) -> int:
        """Bits of the two's complement integer that `decode_scaled` gives."""

    @property
    @abc.abstractmethod
    def exponent_interval(self) -> tuple[int, int]:
        """Smallest and largest exponent that `decode_scaled` gives."""

    @property
    @abc.abstractmethod
    def largest(self) -> Fraction:
        """The largest finite value."""

    @property
    @abc.abstractmethod
    def smallest_positive(self) -> Fraction:
        """The smallest value above zero."""

    @property
    def smallest_normal(self) -> Fraction:
        """The smallest positive value of full precision."""
        return self.smallest_positive

    @property
    def has_zero(self) -> bool:
        """True if zero, as padding needs it, is a value."""
        return True

    @property
    def has_nan(self) -> bool:
        """True if some code is not a number."""
        return False

    @property
    def has_infinity(self) -> bool:
        """True if some code is an infinity."""
        return False

    @property
    def largest_exponent(self) -> int:
        """floor(log2(largest)): what OCP Microscaling 1.0 calls emax."""
        largest = self.largest
        exponent = largest.numerator.bit_length() - largest.denominator.bit_length()
        return exponent - (Fraction(2) ** exponent > largest)

    def is_special(self, codes: object) -> npt.NDArray[np.bool_]:
        """True where a code is NaN or an infinity."""
        return np.zeros(np.shape(as_integers(codes)), dtype=np.bool_)

    def decode_fraction(self, code: int) -> Fraction:
        """The exact value of one finite code."""
        mantissas, exponents = self.decode_scaled(np.asarray([code], dtype=object))
        return Fraction(int(mantissas.flat[0])) * Fraction(2) ** int(exponents.flat[0])

    def encode_fraction(
        self,
        value: Fraction,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
    ) -> int:
        """The code of one rational number, correctly rounded (not for stochastic rounding)."""
        bits = 2 * self.width + 64 + max(0, value.denominator.bit_length() - abs(value.numerator).bit_length())
        bits += self._finest_exponent_bits()
        quotient, remainder = divmod(abs(value.numerator) << bits, value.denominator)
        # A sticky bit below the quotient keeps ties and directed roundings exact.
        integer = 2 * quotient + (remainder != 0)
        signed = -integer if value < 0 else integer
        return int(self.encode_scaled(np.asarray([signed], dtype=object), -bits - 1, rounding, overflow).flat[0])

    def _finest_exponent_bits(self) -> int:
        """Fraction bits below which the format has no grid; only needs to be large enough."""
        return 0


@dataclass(frozen=True, slots=True)
class Real(Format):
    """The real numbers: a value that no cast has touched yet, held as floating point in software."""

    def __str__(self) -> str:
        return "real"


def check_integer(name: str, value: object, low: int, high: int, format_name: str) -> None:
    """Raise GW0201 unless `value` is an integer in [low, high]; `name` says what it is."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise error(
            "GW0201",
            f"{format_name}: {name} is {value!r}, which is not possible",
            note=f"{name} must be a whole number from {low} to {high}",
            help=f"choose a {name} in that range",
        )
