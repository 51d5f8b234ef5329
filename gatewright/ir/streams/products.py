"""How the operands of a contraction are multiplied: their codes taken apart, and the multiplier that suits them.

A decoded number travels as the bits {negative, exponent, magnitude}, the highest first; fields that every
code of the operand has in common are left out. ``gw_dot`` multiplies the magnitudes, shifts by the
sum of the exponents and settles the signs in its adders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gatewright.ir.decoding import digits, is_plain
from gatewright.ir.expressions import Expression, ExpressionBuilder
from gatewright.ir.formats import Binary, Format, SignificandFormat, Ternary
from gatewright.ir.intervals import IntegerArray, Interval
from gatewright.ir.types import Value

TABLE_BITS = 6
"""Operands of up to this many bits together are multiplied by a table: one LUT per bit of the product."""
HARD_BITS = 5
"""The narrower operand of a hard multiplier has at least this many bits; below, logic is cheaper."""


@dataclass(frozen=True, slots=True)
class Packing:
    """The fields of a decoded operand.

    ``width`` bits of magnitude (two's complement if ``signed``; none are sent if it is a ``unit``, always 1),
    ``exponent`` bits of a shift of at most ``exponent_max``, and one bit if ``negative``. ``expression`` makes
    them from a code; None where the code is them already. ``values`` lists what each pattern of a magnitude
    that is no plain number stands for.
    """

    width: int
    signed: bool = False
    unit: bool = False
    exponent: int = 0
    exponent_max: int = 0
    negative: bool = False
    expression: Expression | None = None
    values: tuple[int, ...] | None = None

    @property
    def bits(self) -> int:
        """Bits of a packed number."""
        return self.negative + self.exponent + (0 if self.unit else self.width)

    @property
    def interval(self) -> Interval:
        """The interval of packed numbers on a wire."""
        return Interval(-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) if self.signed else self.patterns

    @property
    def patterns(self) -> Interval:
        """All bit patterns."""
        return Interval(0, (1 << self.bits) - 1)

    def pack(self, codes: IntegerArray) -> IntegerArray:
        """Packed numbers of an array of codes."""
        return codes if self.expression is None else self.expression.evaluate(codes)

    def meaning(self, pattern: int) -> int:
        """The number that a magnitude's bit pattern stands for."""
        if self.values is not None:
            return self.values[pattern]
        return pattern - (1 << self.width) if self.signed and pattern >> (self.width - 1) else pattern


@dataclass(frozen=True, slots=True)
class Product:
    """A multiplier for two packed operands; ``table`` lists the products of all magnitudes, the left fastest."""

    left: Packing
    right: Packing
    width: int
    hard: bool
    table: tuple[int, ...] | None = None

    @property
    def exponent_max(self) -> int:
        """The largest shift of a product."""
        return self.left.exponent_max + self.right.exponent_max


def plan_product(left: Value, right: Value, padded: bool, has_multipliers: bool) -> Product:
    """The multiplier for the codes of two values.

    ``padded``: whether zeros are added to the right operand, which a format without a zero must then be able
    to express; ``has_multipliers``: whether the target has hard multipliers.
    """
    if isinstance(left.format, Binary) and left.format == right.format and not padded:
        # Equal bits multiply to 1 however the bits are read.
        bit = Packing(1, unit=True, negative=True)
        return Product(bit, bit, 1, hard=False)
    tabled = [_identity(value.format, value.interval) for value in (left, right)]
    first, second = tabled
    if first is not None and second is not None and first.width + second.width <= TABLE_BITS:
        return _tabled(first, second)
    first, second = _packing(left.format, left.interval), _packing(right.format, right.interval)
    if padded and second.unit:
        second = _packing(right.format, right.interval, unit=False)
    if first.unit or second.unit:
        return Product(first, second, max(second.width if first.unit else first.width, 1), hard=False)
    if first.width + second.width <= TABLE_BITS and min(first.width, second.width) > 1:
        return _tabled(first, second)
    if (second.width == 1 and not second.signed) or (first.width == 1 and not first.signed):
        return Product(first, second, max(first.width, second.width), hard=False)
    hard = has_multipliers and min(first.width, second.width) >= HARD_BITS
    return Product(first, second, _product_width(left, right, first, second), hard)


def _product_width(left: Value, right: Value, first: Packing, second: Packing) -> int:
    """Bits of the products of two magnitudes; fewer than the operands' together where no code is that extreme."""
    most = first.width + second.width
    if not is_plain(left.format) or not is_plain(right.format):
        return most
    bounds = left.interval * right.interval
    return min(most, bounds.width + ((first.signed or second.signed) and not bounds.signed))


def _tabled(left: Packing, right: Packing) -> Product:
    products = [left.meaning(a) * right.meaning(b) for b in range(1 << right.width) for a in range(1 << left.width)]
    bounds = Interval(min(products), max(products))
    # Where one operand is signed the products are read as signed, so that a positive one needs a zero above.
    signed = left.signed or right.signed
    return Product(left, right, bounds.width + (signed and not bounds.signed), hard=False, table=tuple(products))


def _identity(format: Format, interval: Interval) -> Packing | None:
    """Codes that are a sign above a magnitude of few bits, taken as they are; None for any others."""
    if is_plain(format):
        return Packing(interval.width, signed=interval.signed)
    if isinstance(format, SignificandFormat):
        bits = format.layout.magnitude_bits
        if bits > TABLE_BITS - 1:
            return None
        has_sign = interval.high >> bits > 0
        width = bits if has_sign else interval.width
        return Packing(width, negative=has_sign, values=_magnitudes(format, width))
    if isinstance(format, Ternary):
        return Packing(1, negative=interval.high > 1)
    return None


def _magnitudes(format: SignificandFormat, width: int) -> tuple[int, ...]:
    codes = np.arange(1 << width)
    mantissas, exponents = format.decode_scaled(codes)
    return tuple(int(m) << int(e) - format.layout.lowest for m, e in zip(mantissas, exponents, strict=True))


def _packing(format: Format, interval: Interval, unit: bool = True) -> Packing:
    """The fields of a format's codes in ``interval``; a magnitude of 1 is sent as a bit unless ``unit``."""
    if is_plain(format) or isinstance(format, Ternary):
        packing = _identity(format, interval)
        assert packing is not None
        return packing
    builder = ExpressionBuilder([interval])
    parts = digits(builder.inputs[0], format)
    magnitude = parts.magnitude
    is_unit = unit and magnitude.interval == Interval.constant(1)
    width = magnitude.interval.width
    packed = builder.constant(0) if is_unit else magnitude
    position = 0 if is_unit else width
    exponent_max = parts.exponent.interval.high if parts.exponent is not None else 0
    exponent = exponent_max.bit_length()
    if parts.exponent is not None and exponent:
        packed = packed | (parts.exponent << position)
        position += exponent
    negative = parts.negative is not None and parts.negative.interval.high > 0
    if parts.negative is not None and negative:
        packed = packed | (parts.negative << position)
    elif position == 0:
        return _packing(format, interval, unit=False)
    expression = builder.finish(packed)
    identity = None if expression.is_identity else expression
    return Packing(width, False, is_unit, exponent, exponent_max, negative, identity)
