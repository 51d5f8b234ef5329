"""Blocks whose scale is no power of two (NVFP4): division by the scale as exact integer comparisons.

The scale is amax / (largest element), correctly rounded: a division by a constant with a sticky bit below it.
An element is the number of midpoints between neighbouring values that value / scale has reached, and
comparing with midpoint x scale needs no division.
"""

from __future__ import annotations

from fractions import Fraction

from gatewright.diagnostics import error
from gatewright.ir.casts import cast_term
from gatewright.ir.expressions import Term
from gatewright.ir.formats import Block, CastSpec, Exact, Overflow, Rounding, SignificandFormat

MOST_VALUES = 16
"""Elements with at most so many magnitudes are found by comparisons."""


def scale_term(amax: Term, frac: int, format: Block) -> Term:
    """The scale's code for the largest magnitude ``amax`` x 2^-frac of a block."""
    scale, largest = format.scale, format.element.largest
    assert isinstance(scale, SignificandFormat)
    smallest = scale.encode_fraction(scale.smallest_normal)
    # Enough bits below the smallest normal scale for its rounding, and one that says "not exact".
    exponent = _floor_log2(scale.smallest_normal)
    extra = max(0, scale.layout.precision + 3 - exponent - frac)
    dividend = amax << extra
    quotient = divide_by_constant(dividend, largest.numerator)
    inexact = 1 - (quotient * largest.numerator).equals(dividend)
    binary_point = frac + extra + 1 - (largest.denominator.bit_length() - 1)
    code = cast_term((quotient << 1) | inexact, Exact(binary_point), CastSpec(scale))
    return code.maximum(smallest)


def divide_by_constant(dividend: Term, divisor: int) -> Term:
    """floor(dividend / divisor) for a dividend that is not negative (Granlund and Montgomery, 1994)."""
    bits = dividend.interval.width
    shift = bits + divisor.bit_length()
    return (dividend * -(-(1 << shift) // divisor)) >> shift


def element_term(magnitude: Term, negative: Term, frac: int, scale: Term, lowest: int, spec: CastSpec) -> Term:
    """The element's code for magnitude x 2^-frac / (scale x 2^lowest), to nearest even and saturated."""
    format = spec.format
    assert isinstance(format, Block)
    element = format.element
    assert isinstance(element, SignificandFormat)
    values = [element.decode_fraction(code) for code in range(element.layout.largest + 1)]
    code = magnitude.builder.constant(0)
    for position in range(element.layout.largest):
        middle = (values[position] + values[position + 1]) / 2
        limit, shift = scale * middle.numerator, lowest + frac - (middle.denominator.bit_length() - 1)
        left, right = magnitude << max(-shift, 0), limit << max(shift, 0)
        # A tie goes to the even code.
        code = code + (left > right if position % 2 == 0 else left >= right)
    return code | (negative << element.layout.magnitude_bits)


def check_division(format: Block, spec: CastSpec, name: str) -> None:
    """Raise GW0383 where the comparisons cannot do what the cast asks for."""
    element = format.element
    few = isinstance(element, SignificandFormat) and element.layout.largest < MOST_VALUES and element.has_zero
    usual = spec.rounding == Rounding.HALF_EVEN and spec.overflow in (Overflow.SATURATE, Overflow.SATURATE_SYMMETRIC)
    if few and usual and isinstance(format.scale, SignificandFormat) and element.is_signed:
        return
    lacking = (
        f"{element} has more than {MOST_VALUES} magnitudes, no zero, or no sign"
        if not few or not element.is_signed
        else f"it rounds {spec.rounding} and overflows {spec.overflow}"
        if not usual
        else f"{format.scale} is fixed point, a scale for weights and for inputs of the model"
    )
    raise error(
        "GW0383",
        f"{name}: {spec} divides by a scale in {format.scale}",
        note=f"inside a model that is done for signed minifloats of at most {MOST_VALUES} magnitudes, half_even "
        f"saturate, by a floating-point scale; {lacking}",
        help="use nvfp4, or a power-of-two scale as in mxfp8",
    )


def _floor_log2(value: Fraction) -> int:
    """floor(log2(value)) of a power of two."""
    return value.numerator.bit_length() - value.denominator.bit_length()
