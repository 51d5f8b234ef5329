"""Nonlinear functions as exact integer arithmetic: correctly rounded tables, piecewise polynomials.

Every function has two forms. The fast one is float64 over whole arrays, accurate to far better than
2^-40 of the result. The precise one is mpmath at any precision; it decides the few table entries
whose rounding float64 leaves open, except where a value is too near to a line that it approaches: there it is
known on which side of the line it is (Ziv, "Fast evaluation of elementary mathematical functions with
correctly rounded last bit", 1991). mpmath is imported only there.
"""

from __future__ import annotations

import enum
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


class Side(enum.IntEnum):
    """On which side of a line a function stays, strictly: its values are never on it."""

    BELOW = -1
    ABOVE = 1


@dataclass(frozen=True, slots=True)
class RealFunction:
    """A function of one real variable.

    ``fast`` maps float64 arrays, ``precise`` maps an mpmath number given the mpmath context. ``left``
    and ``right`` are the lines that the function approaches far below and far above zero, if any, and
    ``left_side`` and ``right_side`` say for all arguments below and above zero on which side of it the function
    stays: there a value that no precision can tell from the line is still rounded correctly. ``exact`` gives the
    value where it is rational, and None elsewhere.
    """

    fast: Callable[[Reals], Reals]
    precise: Callable[[Any, Any], Any]
    left: Line | None = None
    right: Line | None = None
    left_side: Side | None = None
    right_side: Side | None = None
    exact: Callable[[Fraction], Fraction | None] = lambda x: None

    def limit(self, x: Fraction) -> tuple[Fraction, Side] | None:
        """The line's value at ``x``, and on which side of it the function's value is; None where that is not known."""
        line, side = (self.right, self.right_side) if x > 0 else (self.left, self.left_side)
        if line is None or side is None or x == 0:
            return None
        return Fraction(line[0]) * x + Fraction(line[1]), side


RELATIVE_ERROR = 2.0**-40
"""A generous bound of the relative error of every fast form."""

SMALLEST_NORMAL = 2.0**-1022
"""The bound of the error of float64 results that underflow."""
TINY_EXPONENT = -(1 << 15)
TINY = Fraction(1, 1 << -TINY_EXPONENT)
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


def _gelu(m: Any, x: Any) -> Any:
    """Beyond 2^16, where mpmath's own erfc overflows: less than 2^(-2^30) from its lines, so that nothing tells it."""
    if abs(x) > 1 << 16:
        return x if x > 0 else -m.ldexp(1, -(1 << 30))
    return x * m.erfc(-x / m.sqrt(2)) / 2


def _gelu_inner(m: Any, x: Any) -> Any:
    return 2 * m.sqrt(2 / m.pi) * (x + m.mpf("0.044715") * x**3)


def _logistic(m: Any, x: Any) -> Any:
    return 1 / (1 + m.exp(-x))


def _at(known: dict[int, Fraction | int]) -> Callable[[Fraction], Fraction | None]:
    """A function whose values are rational at these arguments alone.

    Elsewhere the exponential of a rational number, and so these functions, are irrational (Lindemann and Weierstrass;
    for the error function Siegel and Shidlovskii), so that enough bits always tell them from a rounding boundary.
    """
    return lambda x: Fraction(known[int(x)]) if x.denominator == 1 and int(x) in known else None


def _root(x: Fraction) -> Fraction | None:
    """The square root of a square."""
    if x < 0:
        return None
    root = Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
    return root if root * root == x else None


def _inverse(x: Fraction | None) -> Fraction | None:
    return 1 / x if x else None


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


_ORIGIN = _at({0: 0})


def _gate(fast: Callable[[Reals], Reals], precise: Callable[[Any, Any], Any]) -> RealFunction:
    """``x`` times a number between 0 and 1 that rises from the one to the other."""
    return RealFunction(fast, precise, _ZERO, _SAME, Side.BELOW, Side.BELOW, exact=_ORIGIN)


FUNCTIONS: dict[str, RealFunction] = {
    "sigmoid": RealFunction(
        _sigmoid, _logistic, _ZERO, (0.0, 1.0), Side.ABOVE, Side.BELOW, exact=_at({0: Fraction(1, 2)})
    ),
    "tanh": RealFunction(
        np.tanh, lambda m, x: m.tanh(x), (0.0, -1.0), (0.0, 1.0), Side.ABOVE, Side.BELOW, exact=_ORIGIN
    ),
    "gelu": _gate(
        lambda x: 0.5 * x * _erfc(-x * _ROOT_HALF),
        _gelu,
    ),
    "gelu_tanh": _gate(
        lambda x: x * _sigmoid(_GELU_INNER * (x + 0.044715 * x**3)),
        lambda m, x: x * _logistic(m, _gelu_inner(m, x)),
    ),
    "silu": _gate(lambda x: x * _sigmoid(x), lambda m, x: x * _logistic(m, x)),
    "mish": _gate(
        lambda x: x * np.tanh(_softplus(x)),
        lambda m, x: x * m.tanh(m.log1p(m.exp(x))),
    ),
    "softplus": RealFunction(_softplus, lambda m, x: m.log1p(m.exp(x)), _ZERO, _SAME, Side.ABOVE, Side.ABOVE),
    "elu": RealFunction(
        _guarded(lambda x: np.where(x > 0, x, np.expm1(x))),
        lambda m, x: x if x > 0 else m.expm1(x),
        (0.0, -1.0),
        _SAME,
        Side.ABOVE,
        exact=lambda x: x if x >= 0 else None,
    ),
    "hardsigmoid": RealFunction(
        lambda x: np.clip(x + 3.0, 0.0, 6.0) / 6.0, _ramp, _ZERO, (0.0, 1.0), exact=_rational_ramp
    ),
    "hardswish": RealFunction(
        lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
        lambda m, x: x * _ramp(m, x),
        _ZERO,
        _SAME,
        exact=lambda x: x * _rational_ramp(x),
    ),
    "exponential": RealFunction(
        _guarded(np.exp), lambda m, x: m.exp(x), _ZERO, left_side=Side.ABOVE, exact=_at({0: 1})
    ),
    "square_root": RealFunction(_guarded(np.sqrt), lambda m, x: m.sqrt(x) if x >= 0 else m.nan, exact=_root),
    "reciprocal": RealFunction(
        _guarded(lambda x: 1.0 / x), lambda m, x: 1 / x if x else m.inf, _ZERO, _ZERO, exact=_inverse
    ),
    "reciprocal_square_root": RealFunction(
        _guarded(lambda x: 1.0 / np.sqrt(x)),
        lambda m, x: 1 / m.sqrt(x) if x > 0 else (m.inf if x == 0 else m.nan),
        None,
        _ZERO,
        exact=lambda x: _inverse(_root(x)),
    ),
    "logarithm": RealFunction(
        _guarded(np.log), lambda m, x: m.log(x) if x > 0 else (-m.inf if x == 0 else m.nan), exact=_at({1: 0})
    ),
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
    row = FUNCTIONS[function]

    def encoded(value: Fraction) -> int:
        return target.encode_fraction(value, result.rounding, result.overflow)

    known = row.exact(argument)
    if known is not None:
        return encoded(known)
    limit = row.limit(argument)
    precision = 80
    while True:
        context.prec = precision + 20
        value = row.precise(context, context.mpf(argument.numerator) / argument.denominator)
        if not context.isfinite(value):
            return int(target.encode(np.asarray([float(value)]), result.rounding, result.overflow)[0])
        exact = _fraction(value)
        margin = abs(exact) / 2**precision
        codes = {encoded(each) for each in (exact - margin, exact + margin)}
        if len(codes) == 1:
            return codes.pop()
        if limit is not None:
            line, side = limit
            if abs(exact - line) <= margin:
                # The value lies between the line and 2 x margin beside it.
                nearest, farthest = encoded(line + side * TINY), encoded(line + side * 2 * margin)
                if nearest == farthest:
                    return nearest
        precision *= 2


def _fraction(value: Any) -> Fraction:
    """The exact value of an mpmath number; below ``TINY_EXPONENT`` another as small, whose digits can be written."""
    mantissa, exponent = abs(value).man_exp
    if mantissa and exponent + int(mantissa).bit_length() < TINY_EXPONENT:
        mantissa, exponent = 1, TINY_EXPONENT
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent) * (-1 if value < 0 else 1)
