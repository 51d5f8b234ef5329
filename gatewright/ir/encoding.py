"""Casts from exact integers to formats with a significand, as scalar expressions.

The same algorithm as :meth:`SignificandFormat.encode_scaled <gatewright.ir.formats.SignificandFormat>`: the
magnitude is brought to a fixed position by its leading zeros, rounded there, and composed with the
exponent so that a carry of the rounding runs into the exponent by itself.
"""

from __future__ import annotations

from gatewright.diagnostics import error
from gatewright.ir.expressions import Term
from gatewright.ir.formats import CastSpec, Overflow, Rounding, SignificandFormat, Underflow

MAGNITUDE_ROUNDINGS = {
    Rounding.HALF_EVEN: Rounding.HALF_EVEN,
    Rounding.TOWARD_ZERO: Rounding.FLOOR,
    Rounding.HALF_ZERO: Rounding.HALF_DOWN,
    Rounding.HALF_AWAY: Rounding.HALF_UP,
}
"""Roundings that treat both signs alike, as they act on magnitudes."""

SHORT_SPAN = 3
"""Up to so many positions a second shifter costs less than counting the zeros of the whole magnitude."""


def significand_code(term: Term, frac: int, format: SignificandFormat, spec: CastSpec) -> Term:
    """The code of ``term`` x 2^-frac in ``format``, rounded and limited as ``spec`` says."""
    return significand_code_of(term.absolute(), term < 0, frac, format, spec)


def significand_code_of(
    magnitude: Term,
    negative: Term,
    frac: int,
    format: SignificandFormat,
    spec: CastSpec,
    ahead: Term | None = None,
) -> Term:
    """The code of a number given as a magnitude, in units of 2^-frac, and whether it is negative.

    The magnitude counts 2^``ahead`` times, where that leaves it within its width.
    """
    layout = format.layout
    code = _magnitude_code(magnitude, negative, frac, format, spec.rounding, ahead)
    code = limited_code(code, negative, format, spec)
    if layout.signed:
        return code | (negative << layout.magnitude_bits)
    return negative.select(0, code)


def _magnitude_code(
    magnitude: Term,
    negative: Term,
    frac: int,
    format: SignificandFormat,
    rounding: Rounding,
    ahead: Term | None,
) -> Term:
    """The code of a magnitude, which may lie above the largest one."""
    layout = format.layout
    flush = layout.underflow is Underflow.FLUSH
    base = layout.lowest + frac
    if base < 0:
        magnitude, base = magnitude << -base, 0
    width = magnitude.interval.width
    span = width - layout.precision - base
    if ahead is not None and (flush or span <= SHORT_SPAN):
        magnitude, ahead = magnitude.shift_left_within(ahead, width), None
    if span <= 0:
        units, offset = rounded_magnitude(magnitude, negative, base, rounding), None
    else:
        # Left by its leading zeros, but no further than the finest grid is fine.
        limit = magnitude.builder.constant(span) if ahead is None else ahead + span
        shift = magnitude.leading_zeros(width).minimum(limit)
        aligned = magnitude.shift_left_within(shift, width)
        units, offset = rounded_magnitude(aligned, negative, base + span, rounding), (limit - shift).maximum(0)
    code = _composed(units, offset, format)
    if ahead is not None:
        # Zero has no leading one, and so no exponent of its own.
        code = (magnitude > 0).select(code, 0)
    if not flush:
        return code
    coarse = rounded_magnitude(magnitude, negative, base + layout.mantissa, rounding)
    is_normal = magnitude >= 1 << (base + layout.mantissa)
    return is_normal.select(code, (coarse > 0) << layout.mantissa)


def rounded_magnitude(magnitude: Term, negative: Term, shift: int, rounding: Rounding) -> Term:
    """``magnitude`` / 2^shift rounded as the number with its sign is."""
    if shift <= 0:
        return magnitude << -shift
    if rounding in MAGNITUDE_ROUNDINGS:
        return magnitude.round(shift, MAGNITUDE_ROUNDINGS[rounding])
    upwards = magnitude.round(shift, rounding)
    return negative.select(-((-magnitude).round(shift, rounding)), upwards)


def _composed(units: Term, offset: Term | None, format: SignificandFormat) -> Term:
    layout = format.layout
    step = units.builder.constant(0) if offset is None else offset
    match layout.underflow:
        case Underflow.GRADUAL | Underflow.FLUSH:
            return (step << layout.mantissa) + units
        case Underflow.DENORMAL:
            carried = units.equals(1 << layout.mantissa)
            return ((step + carried) << layout.mantissa) | carried.select(units >> 1, units)
        case Underflow.NO_ZERO:
            return (step + units - 1).maximum(0)


def limited_code(code: Term, negative: Term, format: SignificandFormat, spec: CastSpec) -> Term:
    """A magnitude's code after the overflow that ``spec`` names."""
    layout = format.layout
    if code.interval.high <= layout.largest:
        return code
    over = code > layout.largest
    match spec.overflow:
        case Overflow.SATURATE | Overflow.SATURATE_SYMMETRIC:
            return code.minimum(layout.largest)
        case Overflow.SATURATE_ZERO:
            return over.select(0, code).minimum(layout.largest)
        case Overflow.INFINITE:
            beyond = layout.nan if layout.infinity is None else layout.infinity
            if beyond is None:
                raise error(
                    "GW0205",
                    f"{format} has neither infinity nor NaN to overflow to",
                    note="every one of its codes is a finite number",
                    help="use saturate",
                )
            largest = code.minimum(layout.largest)
            # IEEE 754-2019 section 7.4: a rounding towards zero stops at the largest finite value.
            if spec.rounding is Rounding.TOWARD_ZERO:
                return largest
            if spec.rounding is Rounding.FLOOR:
                return (over & negative).select(beyond, largest)
            return over.select(beyond, largest)
        case _:
            raise error(
                "GW0205",
                f"{format} cannot wrap around",
                note="wrap is the modulo of integer codes; floating-point codes have no such meaning",
                help="use saturate, saturate_zero or infinite",
            )
