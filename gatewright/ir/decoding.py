"""Codes as integers: value = mantissa x 2^exponent x 2^lowest, as scalar expressions and as tables.

This is what hardware computes with. It equals ``decode_scaled`` of the format: in integer arithmetic NaN
counts as 0 and an infinity as the largest finite value of its sign (see
:class:`~gatewright.ir.formats.SignificandFormat`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gatewright.ir.expressions import ExpressionBuilder, Term
from gatewright.ir.formats import Binary, Exact, Fixed, Format, ScalarFormat, SignificandFormat, Ternary, Underflow
from gatewright.ir.intervals import IntegerArray, Interval, fits_int64
from gatewright.ir.types import Value


@dataclass(frozen=True, slots=True)
class Digits:
    """One code taken apart: value = (-1)^negative x magnitude x 2^exponent x 2^lowest.

    ``negative`` is None where the magnitude carries the sign itself (two's complement) or there is none,
    ``exponent`` where it is always 0.
    """

    negative: Term | None
    magnitude: Term
    exponent: Term | None
    lowest: int

    @property
    def mantissa(self) -> Term:
        """The signed magnitude."""
        if self.negative is None:
            return self.magnitude
        return self.negative.select(-self.magnitude, self.magnitude)

    @property
    def integer(self) -> Term:
        """The exact integer: the value counted in units of 2^lowest."""
        return self.mantissa if self.exponent is None else self.mantissa << self.exponent


def is_plain(format: Format) -> bool:
    """Whether a code of the format is the integer itself: fixed point, and exact results."""
    return isinstance(format, Fixed | Exact)


def coded_format(value: Value) -> ScalarFormat | None:
    """The format of a value whose codes have to be decoded; None where a code is the integer itself."""
    format = value.format
    return format if isinstance(format, ScalarFormat) and not is_plain(format) else None


def has_zero(format: Format) -> bool:
    """Whether zero, as padding needs it, is a value of the format; its code is then 0."""
    return is_plain(format) or (isinstance(format, ScalarFormat) and format.has_zero)


def lowest_exponent(format: Format) -> int:
    """The exponent of the unit in which decoded integers of ``format`` are counted."""
    if isinstance(format, Fixed | Exact):
        return -format.fraction_bits
    if isinstance(format, SignificandFormat):
        return format.layout.lowest
    return 0


def digits(term: Term, format: Format) -> Digits:
    """``term``, a code of ``format``, taken apart."""
    if isinstance(format, SignificandFormat):
        return _significand(term, format)
    if isinstance(format, Binary):
        if not format.bipolar:
            return Digits(None, term.wrap(1, False), None, 0)
        return Digits(term.wrap(1, False) ^ 1, term.builder.constant(1), None, 0)
    if isinstance(format, Ternary):
        one = term.wrap(1, False)
        return Digits((term >> 1).wrap(1, False), one, None, 0)
    return Digits(None, term, None, lowest_exponent(format))


def _significand(term: Term, format: SignificandFormat) -> Digits:
    layout = format.layout
    code = term.wrap(layout.magnitude_bits, False)
    negative = (term >> layout.magnitude_bits).wrap(1, False) if layout.signed else None
    # Infinity lies directly above the largest finite code and counts as that; NaN counts as 0.
    finite = code.minimum(layout.largest)
    field = finite >> layout.mantissa
    fraction = finite.wrap(layout.mantissa, False) if layout.mantissa else finite.builder.constant(0)
    implicit = 1 << layout.mantissa
    match layout.underflow:
        case Underflow.GRADUAL:
            normal = field > 0
            units, exponent = fraction | (normal << layout.mantissa), field.maximum(1) - 1
        case Underflow.FLUSH:
            normal = field > 0
            units, exponent = normal.select(fraction | implicit, 0), field.maximum(1) - 1
        case Underflow.DENORMAL:
            units, exponent = fraction, field
        case Underflow.NO_ZERO:
            units, exponent = finite.builder.constant(1), field
    if layout.nan is not None:
        beyond = layout.largest if layout.infinity is None else layout.infinity
        units = (code > beyond).select(0, units)
    return Digits(negative, units, None if exponent.interval.magnitude == 0 else exponent, layout.lowest)


@lru_cache(maxsize=256)
def integer_table(format: ScalarFormat) -> IntegerArray | None:
    """The decoded integer of every code of at most 16 bits, by code from 0; None for wider formats."""
    if format.width > 16 or is_plain(format):
        return None
    return _decoded(format, np.arange(1 << format.width, dtype=np.int64))


def decoded_integers(format: Format, codes: IntegerArray) -> IntegerArray:
    """``codes`` of ``format`` as exact integers in units of 2^lowest_exponent; int64 where all fit."""
    if is_plain(format):
        return codes
    assert isinstance(format, ScalarFormat)
    table = integer_table(format)
    if table is not None:
        return table[codes.astype(np.int64)]
    return _decoded(format, codes)


def _decoded(format: ScalarFormat, codes: IntegerArray) -> IntegerArray:
    mantissas, exponents = format.decode_scaled(codes)
    shifts = np.broadcast_to(exponents - lowest_exponent(format), np.shape(mantissas))
    wide = mantissas.astype(object) << shifts.astype(object)
    return wide.astype(np.int64) if wide.size == 0 or fits_int64(Interval.of(wide)) else wide


@lru_cache(maxsize=1024)
def decoded_interval(format: Format, codes: Interval) -> Interval:
    """The interval of the decoded integers of all codes in ``codes``."""
    if is_plain(format):
        return codes
    assert isinstance(format, ScalarFormat)
    table = integer_table(format)
    if table is not None:
        return Interval.of(table[codes.low : codes.high + 1])
    builder = ExpressionBuilder([codes])
    return digits(builder.inputs[0], format).integer.interval
