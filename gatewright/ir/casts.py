"""The cast: the one operation that loses information, as a scalar expression.

``cast_term`` prints a cast into an expression; the integer golden model, PyTorch, Triton and
SystemVerilog all come from that expression, so there is one definition of rounding and overflow.
Rounding comes first, then overflow (AMD UG1399, Arbitrary Precision Fixed-Point: quantization and
overflow modes).
"""

from __future__ import annotations

from dataclasses import replace

from gatewright.diagnostics import Location, error
from gatewright.ir.decoding import digits, is_plain, lowest_exponent
from gatewright.ir.encoding import significand_code
from gatewright.ir.expressions import Term
from gatewright.ir.formats import (
    Binary,
    CastSpec,
    Exact,
    Fixed,
    Format,
    Overflow,
    Rounding,
    SignificandFormat,
    Ternary,
    no_infinity,
)
from gatewright.ir.intervals import Interval
from gatewright.ir.types import fraction_bits


def cast_term(term: Term, source: Format, spec: CastSpec) -> Term:
    """The code of ``term`` (a code of ``source``) in ``spec.format``, rounded and limited."""
    target = spec.format
    check_repeatable(spec)
    if not is_plain(source):
        term, source = digits(term, source).integer, Exact(-lowest_exponent(source))
    if isinstance(target, Exact):
        return term.round(fraction_bits(source) - target.frac, spec.rounding)
    if isinstance(target, Fixed) and target.frac is not None:
        rounded = term.round(fraction_bits(source) - target.frac, spec.rounding)
        low, high = target.code_interval()
        return overflow_term(rounded, Interval(low, high), spec.overflow, target.width, target.signed)
    if isinstance(target, SignificandFormat):
        return significand_code(term, fraction_bits(source), target, spec)
    if isinstance(target, Binary) and target.bipolar:
        return term >= 0
    if isinstance(target, Binary):
        return cast_term(term, source, replace(spec, format=Fixed(1, 0, signed=False)))
    if isinstance(target, Ternary):
        return _ternary_code(term, source, spec)
    raise error(
        "GW0311",
        f"cast from {source} to {target} has no integer form",
        help="use a format with a width here",
    )


def check_repeatable(spec: CastSpec, location: Location | None = None) -> None:
    """Raise GW0310 for stochastic rounding."""
    if spec.rounding == Rounding.STOCHASTIC:
        raise error(
            "GW0310",
            f"cast to {spec}: stochastic rounding has no hardware",
            location=location,
            note="hardware repeats exactly from run to run; stochastic rounding is for training in software",
            help="use half_even here, and stochastic only in gw.quantize",
        )


def _ternary_code(term: Term, source: Format, spec: CastSpec) -> Term:
    """-1, 0 and 1 in two bits; wrapping around would be a division by 3."""
    if spec.overflow == Overflow.WRAP:
        raise error(
            "GW0314",
            f"cast to {spec}: wrapping into three values has no hardware",
            note="it is the remainder of a division by 3",
            help="use saturate or saturate_zero",
        )
    rounded = term.round(fraction_bits(source), spec.rounding)
    return overflow_term(rounded, Interval(-1, 1), spec.overflow, 2, True).wrap(2, False)


def overflow_term(term: Term, codes: Interval, overflow: Overflow, width: int, signed: bool) -> Term:
    """``term`` limited to ``codes`` as the named overflow does; nothing where it always fits.

    Raises GW0205 for ``infinite``, which only floating-point formats have.
    """
    match overflow:
        case Overflow.SATURATE:
            return term.clamp(codes.low, codes.high)
        case Overflow.SATURATE_SYMMETRIC:
            return term.clamp(-codes.high if signed else 0, codes.high)
        case Overflow.SATURATE_ZERO:
            if codes.contains(term.interval):
                return term
            inside = (term >= codes.low) & (term <= codes.high)
            return inside.select(term.wrap(width, signed), 0)
        case Overflow.WRAP:
            return term.wrap(width, signed)
        case Overflow.INFINITE:
            raise no_infinity(codes.low, codes.high)
