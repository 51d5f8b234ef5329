"""Binary and ternary values without a scale: the elements of `scaled.py`, and formats of their own.

`binary` is {-1, +1}: code bit 1 is +1, so that XNOR and a popcount multiply. `binary01` is {0, 1}.
`ternary` is {-1, 0, +1} in two bits: 0, 1 and 3 (two's complement, and sign and magnitude at once).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from gatewright.ir.formats.base import ScalarFormat
from gatewright.ir.formats.fixed import Exact, Fixed
from gatewright.ir.formats.rounding import Integers, Overflow, Reals, Rounding, apply_overflow, as_integers

_ONE_BIT = Fixed(1, 0, signed=False)
_WHOLE = Exact(0)


@dataclass(frozen=True, slots=True)
class Binary(ScalarFormat):
    """One bit: {-1, +1} if `bipolar`, else {0, 1}. Named `binary` and `binary01`.

    Bipolar takes the sign: zero, -0 and NaN give +1, and rounding and overflow have no effect (but stochastic
    rounding gives +1 with probability (1 + x) / 2). {0, 1} is `ufixed<1,0>` under another name.
    """

    bipolar: bool = True

    def __str__(self) -> str:
        return "binary" if self.bipolar else "binary01"

    @property
    def width(self) -> int:
        return 1

    def code_interval(self) -> tuple[int, int]:
        return 0, 1

    def encode(
        self,
        real: object,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
        generator: np.random.Generator | None = None,
    ) -> Integers:
        if not self.bipolar:
            return _ONE_BIT.encode(real, rounding, overflow, generator)
        values = np.asarray(real, dtype=np.float64)
        if rounding is Rounding.STOCHASTIC:
            chances = (np.clip(np.nan_to_num(values), -1, 1) + 1) / 2
            return _ONE_BIT.encode(chances, rounding, overflow, generator)
        return np.where(values < 0, 0, 1).astype(np.int64)

    def encode_scaled(
        self,
        integers: object,
        exponent: int,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
        generator: np.random.Generator | None = None,
    ) -> Integers:
        if not self.bipolar:
            return _ONE_BIT.encode_scaled(integers, exponent, rounding, overflow, generator)
        values = as_integers(integers)
        if rounding is Rounding.STOCHASTIC:
            reals = Fixed(53, 50).encode_scaled(values, exponent).astype(np.float64) / 2.0**50
            return self.encode(reals, rounding, overflow, generator)
        return np.where(np.asarray(values < 0, dtype=np.bool_), 0, 1).astype(np.int64)

    def decode(self, codes: object) -> Reals:
        return self.decode_scaled(codes)[0].astype(np.float64)

    def decode_scaled(self, codes: object) -> tuple[Integers, Integers]:
        bits = as_integers(codes).astype(np.int64) & 1
        return (2 * bits - 1 if self.bipolar else bits), np.zeros(1, dtype=np.int64)

    @property
    def is_signed(self) -> bool:
        return self.bipolar

    @property
    def has_zero(self) -> bool:
        return not self.bipolar

    @property
    def mantissa_bits(self) -> int:
        return 2

    @property
    def exponent_interval(self) -> tuple[int, int]:
        return 0, 0

    @property
    def largest(self) -> Fraction:
        return Fraction(1)

    @property
    def smallest_positive(self) -> Fraction:
        return Fraction(1)


@dataclass(frozen=True, slots=True)
class Ternary(ScalarFormat):
    """{-1, 0, +1} in two bits; the unused code 2 decodes to 0. The nearest value; named `ternary`.

    NaN gives 0, an infinity +-1.
    """

    def __str__(self) -> str:
        return "ternary"

    @property
    def width(self) -> int:
        return 2

    def code_interval(self) -> tuple[int, int]:
        return 0, 3

    def encode(
        self,
        real: object,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
        generator: np.random.Generator | None = None,
    ) -> Integers:
        values = np.asarray(real, dtype=np.float64)
        # An infinity saturates, and is 0 under the other overflows, as in fixed point.
        saturating = overflow in (Overflow.SATURATE, Overflow.SATURATE_SYMMETRIC)
        finite = np.where(np.isinf(values), np.sign(values) if saturating else 0.0, values)
        return self._code(_WHOLE.encode(finite, rounding, generator=generator), overflow)

    def encode_scaled(
        self,
        integers: object,
        exponent: int,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
        generator: np.random.Generator | None = None,
    ) -> Integers:
        return self._code(_WHOLE.encode_scaled(integers, exponent, rounding, generator=generator), overflow)

    def _code(self, values: Integers, overflow: Overflow) -> Integers:
        return apply_overflow(values, -1, 1, overflow).astype(np.int64) & 3

    def decode(self, codes: object) -> Reals:
        return self.decode_scaled(codes)[0].astype(np.float64)

    def decode_scaled(self, codes: object) -> tuple[Integers, Integers]:
        bits = as_integers(codes).astype(np.int64) & 3
        return np.where(bits & 1 == 1, 2 - bits, 0), np.zeros(1, dtype=np.int64)

    @property
    def is_signed(self) -> bool:
        return True

    @property
    def mantissa_bits(self) -> int:
        return 2

    @property
    def exponent_interval(self) -> tuple[int, int]:
        return 0, 0

    @property
    def largest(self) -> Fraction:
        return Fraction(1)

    @property
    def smallest_positive(self) -> Fraction:
        return Fraction(1)
