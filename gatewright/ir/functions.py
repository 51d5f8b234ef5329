"""Nonlinear functions as exact integer arithmetic: correctly rounded tables, piecewise polynomials.

Every function has two forms. The fast one is float64 over whole arrays, accurate to far better than
2^-40 of the result. The precise one is mpmath at any precision; it decides the few table entries
whose rounding float64 leaves open (Ziv, "Fast evaluation of elementary mathematical functions with
correctly rounded last bit", 1991). mpmath is imported only there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewright.ir.formats import CastSpec, ScalarFormat

Reals = NDArray[np.float64]
Line = tuple[float, float]
"""Slope and offset of a straight line."""


@dataclass(frozen=True, slots=True)
class RealFunction:
    """A function of one real variable.

    ``fast`` maps float64 arrays, ``precise`` maps an mpmath number given the mpmath context. ``left``
    and ``right`` are the lines that the function approaches far below and far above zero, if any.
    ``rational`` is given where the values at rational arguments are rational, and then decides ties.
    """

    fast: Callable[[Reals], Reals]
    precise: Callable[[Any, Any], Any]
    left: Line | None = None
    right: Line | None = None
    rational: Callable[[Fraction], Fraction] | None = None


RELATIVE_ERROR = 2.0**-40
"""A generous bound of the relative error of every fast form."""

MAXIMUM_PRECISION = 480
"""Bits at which a value that still cannot be told from a rounding boundary is taken to lie on it.

At a rational argument other than 0 the transcendental functions are irrational (Lindemann and
Weierstrass), so that only values such as sigmoid(0) lie on a boundary.
"""


SMALLEST_NORMAL = 2.0**-1022
"""The bound of the error of float64 results that underflow."""
TINY_EXPONENT = -(1 << 15)
"""Values below 2^TINY_EXPONENT, far under the grid of every format, all round alike: by their sign."""


def _sigmoid(x: Reals) -> Reals:
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-x))


def _softplus(x: Reals) -> Reals:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _elementwise(function: Callable[[float], float]) -> Callable[[Reals], Reals]:
    vectorised = np.vectorize(function, otypes=[np.float64])
    return lambda x: np.asarray(vectorised(x), dtype=np.float64)


_erfc = _elementwise(math.erfc)
_ROOT_HALF = math.sqrt(0.5)
_GELU_INNER = 2.0 * math.sqrt(2.0 / math.pi)
_ZERO: Line = (0.0, 0.0)
_SAME: Line = (1.0, 0.0)


def _gelu_inner(m: Any, x: Any) -> Any:
    return 2 * m.sqrt(2 / m.pi) * (x + m.mpf("0.044715") * x**3)


def _logistic(m: Any, x: Any) -> Any:
    return 1 / (1 + m.exp(-x))


def _ramp(m: Any, x: Any) -> Any:
    return min(max(x + 3, m.mpf(0)), m.mpf(6)) / 6


def _rational_ramp(x: Fraction) -> Fraction:
    return min(max(x + 3, Fraction(0)), Fraction(6)) / 6


def _guarded(function: Callable[[Reals], Reals]) -> Callable[[Reals], Reals]:
    """The function without numpy's warnings; where it is not defined it gives NaN or an infinity."""

    def evaluate(x: Reals) -> Reals:
        with np.errstate(all="ignore"):
            return function(x)

    return evaluate


FUNCTIONS: dict[str, RealFunction] = {
    "sigmoid": RealFunction(_sigmoid, _logistic, _ZERO, (0.0, 1.0)),
    "tanh": RealFunction(np.tanh, lambda m, x: m.tanh(x), (0.0, -1.0), (0.0, 1.0)),
    "gelu": RealFunction(
        lambda x: 0.5 * x * _erfc(-x * _ROOT_HALF), lambda m, x: x * m.erfc(-x / m.sqrt(2)) / 2, _ZERO, _SAME
    ),
    "gelu_tanh": RealFunction(
        lambda x: x * _sigmoid(_GELU_INNER * (x + 0.044715 * x**3)),
        lambda m, x: x * _logistic(m, _gelu_inner(m, x)),
        _ZERO,
        _SAME,
    ),
    "silu": RealFunction(lambda x: x * _sigmoid(x), lambda m, x: x * _logistic(m, x), _ZERO, _SAME),
    "mish": RealFunction(lambda x: x * np.tanh(_softplus(x)), lambda m, x: x * m.tanh(m.log1p(m.exp(x))), _ZERO, _SAME),
    "softplus": RealFunction(_softplus, lambda m, x: m.log1p(m.exp(x)), _ZERO, _SAME),
    "elu": RealFunction(
        _guarded(lambda x: np.where(x > 0, x, np.expm1(x))),
        lambda m, x: x if x > 0 else m.expm1(x),
        (0.0, -1.0),
        _SAME,
    ),
    "hardsigmoid": RealFunction(lambda x: np.clip(x + 3.0, 0.0, 6.0) / 6.0, _ramp, _ZERO, (0.0, 1.0), _rational_ramp),
    "hardswish": RealFunction(
        lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
        lambda m, x: x * _ramp(m, x),
        _ZERO,
        _SAME,
        lambda x: x * _rational_ramp(x),
    ),
    "exponential": RealFunction(_guarded(np.exp), lambda m, x: m.exp(x), _ZERO),
    "square_root": RealFunction(_guarded(np.sqrt), lambda m, x: m.sqrt(x) if x >= 0 else m.nan),
    "reciprocal": RealFunction(_guarded(lambda x: 1.0 / x), lambda m, x: 1 / x if x else m.inf, _ZERO, _ZERO),
    "reciprocal_square_root": RealFunction(
        _guarded(lambda x: 1.0 / np.sqrt(x)),
        lambda m, x: 1 / m.sqrt(x) if x > 0 else (m.inf if x == 0 else m.nan),
        None,
        _ZERO,
    ),
    "logarithm": RealFunction(_guarded(np.log), lambda m, x: m.log(x) if x > 0 else (-m.inf if x == 0 else m.nan)),
}
"""Every function by name. NaN gives NaN, which is encoded as the result's format encodes it: zero in fixed point."""


@cache
def table(function: str, source: ScalarFormat, low: int, high: int, step: int, result: CastSpec) -> tuple[int, ...]:
    """The correctly rounded result codes for the source codes ``low, low + step, ... <= high``."""
    row = FUNCTIONS[function]
    target = result.format
    assert isinstance(target, ScalarFormat)
    codes = range(low, high + 1, step)
    arguments = source.decode(np.asarray(codes))
    values = _guarded(row.fast)(arguments)
    # A result of zero may be one that underflowed: its sign can decide the code.
    margin = np.where(np.isfinite(values), np.maximum(np.abs(values) * RELATIVE_ERROR, SMALLEST_NORMAL), 0.0)
    below, above = (target.encode(values + sign * margin, result.rounding, result.overflow) for sign in (-1.0, 1.0))
    entries = [int(each) for each in above]
    for position in np.flatnonzero(np.asarray(below != above)):
        exact = source.decode_fraction(codes[int(position)])
        entries[int(position)] = rounded(function, exact, result)
    return tuple(entries)


def rounded(function: str, argument: Fraction, result: CastSpec) -> int:
    """The correctly rounded result code for one argument."""
    import mpmath

    context: Any = mpmath.mp.clone()
    target = result.format
    assert isinstance(target, ScalarFormat)
    rational = FUNCTIONS[function].rational
    if rational is not None:
        return target.encode_fraction(rational(argument), result.rounding, result.overflow)
    precision = 80
    while True:
        context.prec = precision + 20
        value = FUNCTIONS[function].precise(context, context.mpf(argument.numerator) / argument.denominator)
        if not context.isfinite(value):
            return int(target.encode(np.asarray([float(value)]), result.rounding, result.overflow)[0])
        exact = _fraction(value)
        margin = abs(exact) / 2**precision
        codes = {
            target.encode_fraction(each, result.rounding, result.overflow) for each in (exact - margin, exact + margin)
        }
        if len(codes) == 1:
            return codes.pop()
        if precision >= MAXIMUM_PRECISION:
            # The value lies on the boundary itself: a fraction with a short denominator.
            short = exact.limit_denominator(1 << 64)
            return target.encode_fraction(short, result.rounding, result.overflow)
        precision *= 2


def _fraction(value: Any) -> Fraction:
    """The exact value of an mpmath number; below ``TINY_EXPONENT`` another as small, whose digits can be written."""
    mantissa, exponent = abs(value).man_exp
    if mantissa and exponent + int(mantissa).bit_length() < TINY_EXPONENT:
        mantissa, exponent = 1, TINY_EXPONENT
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent) * (-1 if value < 0 else 1)
