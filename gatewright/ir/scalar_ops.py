"""The closed set of scalar integer operations that a ``map``'s expression is made of.

One row each: arity, interval inference and exact evaluation. A printer has one rule per row
(backends/torch, backends/triton, backends/verilog); the conformance suite checks that all agree.
All operations are exact on integers; the only ones that lose information are ``round`` and
``wrap``, which occur in casts alone (see :mod:`gatewright.ir.casts`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np

from gatewright.ir.formats import Rounding, round_scaled
from gatewright.ir.intervals import IntegerArray, Interval

Attributes = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ScalarOp:
    """One scalar operation: ``infer`` gives the result's interval, ``evaluate`` its exact values.

    Both take the attributes first, then the operands' intervals or arrays.
    """

    name: str
    arity: int
    infer: Callable[..., Interval]
    evaluate: Callable[..., IntegerArray]
    commutative: bool = False


def _verdict(always: bool, never: bool) -> Interval:
    return Interval.constant(1) if always else Interval.constant(0) if never else Interval(0, 1)


def _equal(_: Attributes, a: Interval, b: Interval) -> Interval:
    apart = a.high < b.low or b.high < a.low
    return _verdict(a.is_constant and a == b, apart)


def _less(_: Attributes, a: Interval, b: Interval) -> Interval:
    return _verdict(a.high < b.low, a.low >= b.high)


def _at_most(_: Attributes, a: Interval, b: Interval) -> Interval:
    return _verdict(a.high <= b.low, a.low > b.high)


def _bitwise(_: Attributes, a: Interval, b: Interval) -> Interval:
    if a.low >= 0 and b.low >= 0:
        return Interval(0, (1 << max(a.width, b.width)) - 1)
    width = max(a.width + (not a.signed), b.width + (not b.signed))
    return Interval(-(1 << (width - 1)), (1 << (width - 1)) - 1)


def _bitwise_and(attributes: Attributes, a: Interval, b: Interval) -> Interval:
    if a.low >= 0 or b.low >= 0:
        return Interval(0, min(each.high for each in (a, b) if each.low >= 0))
    return _bitwise(attributes, a, b)


def _shift_right(attributes: Attributes, a: Interval) -> Interval:
    bits = attributes[0]
    step = a.step >> bits if a.step % (1 << bits) == 0 else 1
    return Interval(a.low >> bits, a.high >> bits, step)


def _shift_left_variable(_: Attributes, a: Interval, s: Interval) -> Interval:
    corners = [v << n for v in (a.low, a.high) for n in (s.low, s.high)]
    return Interval(min(corners), max(corners), a.step << s.low)


def _shift_left_within(attributes: Attributes, a: Interval, s: Interval) -> Interval:
    return Interval(0, min((1 << attributes[0]) - 1, a.high << s.high))


def _shift_right_variable(_: Attributes, a: Interval, s: Interval) -> Interval:
    corners = [v >> n for v in (a.low, a.high) for n in (s.low, s.high)]
    return Interval(min(corners), max(corners))


def _extreme(choose: Callable[[int, int], int]) -> Callable[..., Interval]:
    def infer(_: Attributes, a: Interval, b: Interval) -> Interval:
        return Interval(choose(a.low, b.low), choose(a.high, b.high), gcd(a.step, b.step))

    return infer


def _absolute(_: Attributes, a: Interval) -> Interval:
    low = 0 if a.low <= 0 <= a.high else min(abs(a.low), abs(a.high))
    return Interval(low, a.magnitude, a.step)


def _round(attributes: Attributes, a: Interval) -> Interval:
    shift, mode = attributes
    low, high = (int(round_scaled(np.array([v], dtype=object), shift, Rounding(mode))[0]) for v in (a.low, a.high))
    return Interval(low, high)


def _evaluate_round(attributes: Attributes, a: IntegerArray) -> IntegerArray:
    shift, mode = attributes
    return round_scaled(a, shift, Rounding(mode))


def _wrap(attributes: Attributes, a: Interval) -> Interval:
    width, signed = attributes
    low = -(1 << (width - 1)) if signed else 0
    full = Interval(low, low + (1 << width) - 1)
    return a if full.contains(a) else full


def _evaluate_wrap(attributes: Attributes, a: IntegerArray) -> IntegerArray:
    width, signed = attributes
    low = -(1 << (width - 1)) if signed else 0
    return ((a - low) & ((1 << width) - 1)) + low


def _table(attributes: Attributes, a: Interval) -> Interval:
    offset, entries = attributes
    return Interval.of(entries[a.low - offset : a.high - offset + 1])


def _evaluate_table(attributes: Attributes, a: IntegerArray) -> IntegerArray:
    offset, entries = attributes
    return np.asarray(entries)[(a - offset).astype(np.int64)]


def _evaluate_leading_zeros(attributes: Attributes, a: IntegerArray) -> IntegerArray:
    if a.dtype == object:
        lengths = [int(each).bit_length() for each in a.flat]
        return attributes[0] - np.array(lengths, dtype=np.int64).reshape(a.shape)
    upper, lower = (np.frexp(half.astype(np.float64))[1] for half in (a >> 32, a & 0xFFFFFFFF))
    return attributes[0] - np.where(upper > 0, upper + 32, lower).astype(np.int64)


def _compare(function: Any) -> Callable[..., IntegerArray]:
    def evaluate(_: Attributes, a: IntegerArray, b: IntegerArray) -> IntegerArray:
        return np.asarray(function(a, b)).astype(np.int64)

    return evaluate


def _select(_: Attributes, condition: IntegerArray, a: IntegerArray, b: IntegerArray) -> IntegerArray:
    return np.where(condition != 0, a, b)


def _unary_row(
    name: str,
    infer: Callable[[Attributes, Interval], Interval],
    evaluate: Callable[[Attributes, IntegerArray], IntegerArray],
) -> ScalarOp:
    return ScalarOp(name, 1, infer, evaluate)


def _binary_row(
    name: str,
    infer: Callable[[Attributes, Interval, Interval], Interval],
    evaluate: Callable[[Attributes, IntegerArray, IntegerArray], IntegerArray],
    *,
    commutative: bool = False,
) -> ScalarOp:
    return ScalarOp(name, 2, infer, evaluate, commutative)


def _leading_zeros(attributes: Attributes, a: Interval) -> Interval:
    return Interval(attributes[0] - a.high.bit_length(), attributes[0] - a.low.bit_length())


def _union(_: Attributes, condition: Interval, a: Interval, b: Interval) -> Interval:
    return a.union(b)


_ROWS = (
    _binary_row("add", lambda _, a, b: a + b, lambda _, a, b: a + b, commutative=True),
    _binary_row("sub", lambda _, a, b: a - b, lambda _, a, b: a - b),
    _binary_row("mul", lambda _, a, b: a * b, lambda _, a, b: a * b, commutative=True),
    _unary_row("neg", lambda _, a: -a, lambda _, a: -a),
    _unary_row("abs", _absolute, lambda _, a: np.abs(a)),
    _binary_row("max", _extreme(max), lambda _, a, b: np.maximum(a, b), commutative=True),
    _binary_row("min", _extreme(min), lambda _, a, b: np.minimum(a, b), commutative=True),
    _unary_row("shl", lambda t, a: a * Interval.constant(1 << t[0]), lambda t, a: a << t[0]),
    _unary_row("shr", _shift_right, lambda t, a: a >> t[0]),
    _binary_row("shlv", _shift_left_variable, lambda _, a, s: a << s),
    _binary_row("shlw", _shift_left_within, lambda t, a, s: (a << s) & ((1 << t[0]) - 1)),
    _binary_row("shrv", _shift_right_variable, lambda _, a, s: a >> s),
    _binary_row("eq", _equal, _compare(np.equal), commutative=True),
    _binary_row("lt", _less, _compare(np.less)),
    _binary_row("le", _at_most, _compare(np.less_equal)),
    ScalarOp("select", 3, _union, _select),
    _binary_row("and", _bitwise_and, lambda _, a, b: a & b, commutative=True),
    _binary_row("or", _bitwise, lambda _, a, b: a | b, commutative=True),
    _binary_row("xor", _bitwise, lambda _, a, b: a ^ b, commutative=True),
    _unary_row("round", _round, _evaluate_round),
    _unary_row("wrap", _wrap, _evaluate_wrap),
    _unary_row("table", _table, _evaluate_table),
    _unary_row("lzc", _leading_zeros, _evaluate_leading_zeros),
)

SCALAR_OPS: dict[str, ScalarOp] = {row.name: row for row in _ROWS}
"""Every scalar operation by name; ``input`` and ``constant`` are leaves of the expression itself.

Attributes: ``shl``/``shr`` (bits), ``shlw`` (width of the result), ``round`` (bits to drop, rounding),
``wrap`` (width, signed), ``table`` (code of the first entry, entries), ``lzc`` (width of the unsigned operand).
"""
