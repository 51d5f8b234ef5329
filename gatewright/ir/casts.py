"""The cast: the one operation that loses information, as a scalar expression.

``cast_term`` prints a cast into an expression; the integer golden model, PyTorch, Triton and
SystemVerilog all come from that expression, so there is one definition of rounding and overflow.
Rounding comes first, then overflow (AMD UG1399, Arbitrary Precision Fixed-Point: quantization and
overflow modes).
"""

from __future__ import annotations

from gatewright.diagnostics import error
from gatewright.ir.expressions import Term
from gatewright.ir.formats import CastSpec, Exact, Fixed, Format, Overflow, Rounding
from gatewright.ir.intervals import Interval
from gatewright.ir.types import fraction_bits


def cast_term(term: Term, source: Format, spec: CastSpec) -> Term:
    """The code of ``term`` (a code of ``source``) in ``spec.format``, rounded and limited."""
    target = spec.format
    if spec.rounding == Rounding.STOCHASTIC:
        raise error(
            "GW0310",
            f"cast to {spec}: stochastic rounding has no hardware",
            note="hardware repeats exactly from run to run; stochastic rounding is for training in software",
            help="use half_even here, and stochastic only in gw.quantize",
        )
    if isinstance(target, Exact):
        return term.round(fraction_bits(source) - target.frac, spec.rounding)
    if isinstance(target, Fixed) and target.frac is not None:
        rounded = term.round(fraction_bits(source) - target.frac, spec.rounding)
        low, high = target.code_interval()
        return overflow_term(rounded, Interval(low, high), spec.overflow, target.width, target.signed)
    raise error(
        "GW0311",
        f"cast from {source} to {target} has no integer form",
        help="use a fixed-point format here",
    )


def overflow_term(term: Term, codes: Interval, overflow: Overflow, width: int, signed: bool) -> Term:
    """``term`` limited to ``codes`` as the named overflow does; nothing where it always fits."""
    match overflow:
        case Overflow.SATURATE:
            return term.clamp(codes.low, codes.high)
        case Overflow.SATURATE_SYMMETRIC:
            return term.clamp(-codes.high if signed else 0, codes.high)
        case Overflow.SATURATE_ZERO:
            if codes.contains(term.interval):
                return term
            inside = (term >= codes.low) & (term <= codes.high)
            return inside.select(term, 0)
        case _:
            return term.wrap(width, signed)
