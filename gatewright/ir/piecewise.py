"""Piecewise polynomials: a nonlinear function of a wide operand in integer arithmetic.

The operand's range is cut into a left tail and a right tail, where the function is a straight line
(or saturates), and a middle of equal segments. A segment's index is the operand's upper bits; its
polynomial, of degree 1 or 2, is evaluated by Horner's rule in the lower bits. The coefficients
interpolate the function at Chebyshev nodes (near-minimax; Muller, "Elementary Functions", 3.2).

Bound: before its last rounding the result is within ``MAXIMUM_DEVIATION`` units in the last place of
the real function, so that the result is within 0.75 units for a rounding to nearest and within 1.25
for a directed one. Every fit is measured before it is used: on all codes up to 2^18 of them, else on
2^18 codes spread over the range and on those around the ends of segments.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewright.diagnostics import GatewrightError, error
from gatewright.ir import functions
from gatewright.ir.expressions import ExpressionBuilder, Term
from gatewright.ir.formats import CastSpec, Exact, Fixed, Overflow, ScalarFormat
from gatewright.ir.functions import Line, RealFunction, Reals
from gatewright.ir.intervals import Interval

Codes = NDArray[np.int64]

MAXIMUM_DEVIATION = 0.25
"""Units in the last place between the unrounded result and the real function."""

TAIL_DEVIATION = 0.1
"""Units in the last place between a tail's straight line and the function."""

GUARD_BITS = 4
MAXIMUM_SEGMENTS = 4096
EXACT_TABLE_CODES = 1 << 16
"""Where no polynomial fits (a pole, a vertical tangent), a whole table of at most this size is used."""

MEASURED_CODES = 1 << 18
QUICK_CODES = 1 << 11


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be approximated: codes ``low .. high`` of a fixed-point source, and the result's cast."""

    function: str
    source_frac: int
    low: int
    high: int
    result: CastSpec

    @property
    def row(self) -> RealFunction:
        """The real function."""
        return functions.FUNCTIONS[self.function]

    @property
    def target(self) -> Fixed:
        """The result's format."""
        assert isinstance(self.result.format, Fixed)
        return self.result.format

    def wanted(self, codes: Codes) -> Reals:
        """The real function in units of the result's last place, limited where the cast limits."""
        values = self.real(codes)
        if self.saturates:
            low, high = self.target.code_interval()
            return np.clip(values, low, high)
        return values

    def real(self, codes: Codes) -> Reals:
        """The real function in units of the result's last place."""
        return np.ldexp(self.row.fast(np.ldexp(codes.astype(np.float64), -self.source_frac)), self.target.fraction_bits)

    @property
    def saturates(self) -> bool:
        """Whether the result's cast limits values to its range."""
        return self.result.overflow in (Overflow.SATURATE, Overflow.SATURATE_SYMMETRIC)

    def line(self, line: Line, codes: Codes) -> Reals:
        """A straight line of reals, in the same units."""
        slope, offset = line
        scaled = np.ldexp(codes.astype(np.float64), self.target.fraction_bits - self.source_frac)
        return slope * scaled + np.ldexp(offset, self.target.fraction_bits)


@dataclass(frozen=True, slots=True)
class Pieces:
    """A fitted function. ``first .. last`` are the middle's codes in segments of 2^``segment_bits``.

    ``coefficients[i]`` holds the coefficient of power ``i`` for every segment, scaled by
    2^``shifts[i]`` beyond the guard bits; ``left`` and ``right`` are the tails.
    """

    problem: Problem
    first: int
    last: int
    segment_bits: int
    coefficients: tuple[tuple[int, ...], ...]
    shifts: tuple[int, ...]
    left: Line | None
    right: Line | None

    @property
    def cost(self) -> float:
        """A rough count of look-up tables: coefficient memory plus multipliers."""
        widths = [Interval.of(each).width for each in self.coefficients]
        return len(self.coefficients[0]) * sum(widths) / 64 + self.segment_bits * sum(widths[1:])

    def unrounded(self, x: Term) -> Term:
        """The function of code ``x`` in units of 2^-GUARD_BITS of the result's last place."""
        offset = x.clamp(self.first, self.last) - self.first
        index = offset >> self.segment_bits
        rest = offset & ((1 << self.segment_bits) - 1)
        total = index.lookup(0, self.coefficients[-1])
        for power in range(len(self.coefficients) - 2, -1, -1):
            product = (total * rest).round(self.shifts[power + 1] - self.shifts[power], "half_up")
            total = product + index.lookup(0, self.coefficients[power])
        if self.left is not None and self.first > self.problem.low:
            total = (x < self.first).select(self._line(x, self.left), total)
        if self.right is not None and self.last < self.problem.high:
            total = (x > self.last).select(self._line(x, self.right), total)
        return total

    def term(self, x: Term) -> Term:
        """The result's code."""
        from gatewright.ir.casts import cast_term

        scale = Exact(self.problem.target.fraction_bits + GUARD_BITS)
        return cast_term(self.unrounded(x), scale, self.problem.result)

    def _line(self, x: Term, line: Line) -> Term:
        slope, offset = line
        frac = self.problem.target.fraction_bits + GUARD_BITS
        constant = round(offset * 2.0**frac)
        if slope == 0.0:
            return x.builder.constant(constant)
        return x.round(self.problem.source_frac - frac, "half_up") + constant

    def deviation(self, limit: int = MEASURED_CODES) -> float:
        """The largest measured distance to the real function before the last rounding, in last places.

        Measured on all codes where there are at most ``limit``, else on about that many.
        """
        codes = _measured_codes(self, limit)
        builder = ExpressionBuilder([Interval(self.problem.low, self.problem.high)])
        expression = builder.finish(self.unrounded(builder.inputs[0]))
        found = np.ldexp(expression.evaluate(codes).astype(np.float64), -GUARD_BITS)
        if self.problem.saturates:
            found = np.clip(found, *self.problem.target.code_interval())
        return float(np.max(np.abs(found - self.problem.wanted(codes))))


@dataclass(frozen=True, slots=True)
class WholeTable:
    """Every code looked up: what remains where polynomials do not fit."""

    problem: Problem
    entries: tuple[int, ...]

    def term(self, x: Term) -> Term:
        """The result's code."""
        return x.lookup(self.problem.low, self.entries)

    def deviation(self, limit: int = 0) -> float:
        """None before the rounding: the entries are correctly rounded."""
        return 0.0


@cache
def fit(function: str, source: ScalarFormat, low: int, high: int, result: CastSpec) -> Pieces | WholeTable:
    """The cheapest pieces for source codes ``low .. high``; raises GW0342 where none is good enough."""
    if not isinstance(source, (Fixed, Exact)) or not isinstance(result.format, Fixed):
        raise wide_operand(function, str(source), result)
    problem = Problem(function, source.fraction_bits, low, high, result)
    found = [pieces for degree in (1, 2) if (pieces := _fit_degree(problem, degree)) is not None]
    if found:
        return min(found, key=lambda pieces: pieces.cost)
    if high - low < EXACT_TABLE_CODES:
        return WholeTable(problem, functions.table(function, source, low, high, 1, result))
    raise error(
        "GW0342",
        f"{function} of {Interval(low, high).width} bits has no form of up to {MAXIMUM_SEGMENTS} pieces",
        note=f"operand {source} with codes {low} to {high}, result {result}",
        help="give the operand at most 16 bits, or its result fewer bits",
    )


def wide_operand(function: str, source: str, result: CastSpec) -> GatewrightError:
    """GW0343: neither a table nor pieces can give the function."""
    return error(
        "GW0343",
        f"{function}: an operand of more than 12 bits in {source} with a result in {result.format}",
        note="a table has at most 2^12 results, and piecewise functions work from fixed point to fixed point",
        help="cast the operand to a format of at most 12 bits, or both operand and result to fixed point",
    )


def _fit_degree(problem: Problem, degree: int) -> Pieces | None:
    first, left = _tail(problem, low_side=True)
    last, right = _tail(problem, low_side=False)
    if first > last:
        first, last = problem.low, problem.high
        left = right = None
    count = last - first + 1
    for segment_bits in range((count - 1).bit_length(), -1, -1):
        segments = -(-count >> segment_bits)
        if segments > MAXIMUM_SEGMENTS:
            return None
        if segments < 2 or (degree + 1) >> segment_bits:
            continue
        pieces = _interpolate(problem, degree, first, last, segment_bits, left, right)
        if pieces is None or pieces.deviation(QUICK_CODES) > MAXIMUM_DEVIATION:
            continue
        if pieces.deviation() <= MAXIMUM_DEVIATION:
            return pieces
    return None


def _tail(problem: Problem, low_side: bool) -> tuple[int, Line | None]:
    """The middle's end on one side, and the line beyond it."""
    grid = np.unique(np.linspace(problem.low, problem.high, 8193).astype(np.int64))
    if low_side:
        grid = grid[::-1]
    # From the middle outwards, so that the last bad point is where the middle ends.
    wanted = problem.wanted(grid)
    lines: list[Line] = []
    known = problem.row.left if low_side else problem.row.right
    if known is not None:
        lines.append(known)
    end = float(wanted[-1])
    if np.isfinite(end):
        lines.append((0.0, float(np.ldexp(np.rint(end), -problem.target.fraction_bits))))
    best: tuple[int, Line | None] = (int(grid[-1]), None)
    for line in lines:
        found = problem.line(line, grid)
        if problem.saturates:
            found = np.clip(found, *problem.target.code_interval())
        bad = np.flatnonzero(~(np.abs(found - wanted) <= TAIL_DEVIATION))
        position = int(bad[-1]) + 1 if bad.size else 0
        if position >= grid.size:
            continue
        code = int(grid[position])
        if (code > best[0]) if low_side else (code < best[0]):
            best = code, line
    return best


def _interpolate(
    problem: Problem,
    degree: int,
    first: int,
    last: int,
    segment_bits: int,
    left: Line | None,
    right: Line | None,
) -> Pieces | None:
    """Coefficients for every segment; None where the function is not finite."""
    width = 1 << segment_bits
    starts = np.arange(first, last + 1, width, dtype=np.int64)
    nodes = (np.cos((2 * np.arange(degree + 1) + 1) * np.pi / (2 * degree + 2)) + 1) / 2 * (width - 1)
    arguments = np.ldexp(starts[:, None].astype(np.float64) + nodes[None, :], -problem.source_frac)
    values = np.ldexp(problem.row.fast(arguments), problem.target.fraction_bits)
    if not bool(np.isfinite(values).all()):
        return None
    vandermonde = np.vander(nodes, degree + 1, increasing=True)
    powers: Any = np.linalg.solve(vandermonde, values.T)
    # One more bit than a segment has, for every power, keeps the coefficients' own rounding small.
    shifts = tuple(power * segment_bits + (1 if power else 0) for power in range(degree + 1))
    scaled = [np.rint(np.ldexp(powers[power], GUARD_BITS + shifts[power])) for power in range(degree + 1)]
    if max(float(np.abs(each).max()) for each in scaled) >= 2.0**52:
        return None
    coefficients = tuple(tuple(int(each) for each in row) for row in scaled)
    return Pieces(problem, first, last, segment_bits, coefficients, shifts, left, right)


def _measured_codes(pieces: Pieces, limit: int) -> Codes:
    problem = pieces.problem
    if problem.high - problem.low < limit:
        return np.arange(problem.low, problem.high + 1, dtype=np.int64)
    spread = np.linspace(problem.low, problem.high, limit).astype(np.int64)
    edges = np.arange(pieces.first, pieces.last + 1, 1 << pieces.segment_bits, dtype=np.int64)
    around = np.concatenate([edges - 1, edges, edges + 1, [pieces.first, pieces.last]])
    return np.unique(np.clip(np.concatenate([spread, around]), problem.low, problem.high))
