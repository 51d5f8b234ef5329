"""Scalar integer expressions as data: what a ``map`` computes, and the product of a ``contract``.

An :class:`Expression` is a small DAG of :mod:`scalar operations <gatewright.ir.scalar_ops>` with an
interval on every node. It is built with :class:`ExpressionBuilder`, whose :class:`Term` overloads
Python's operators, shares equal nodes and folds constants. It is evaluated exactly here and printed
by one printer per backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from gatewright.ir.intervals import IntegerArray, Interval, fits_int64, widen
from gatewright.ir.scalar_ops import SCALAR_OPS, Attributes


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """One node: an operation on earlier nodes, or a leaf ``input`` (index) or ``constant`` (value)."""

    op: str
    args: tuple[int, ...]
    attributes: Attributes
    interval: Interval

    @property
    def is_constant(self) -> bool:
        """Whether the node is a constant leaf."""
        return self.op == "constant"


@dataclass(frozen=True, slots=True)
class Expression:
    """A scalar function of ``inputs`` integers; ``nodes`` are in topological order.

    ``result`` is the index of the node that is the function's value.
    """

    nodes: tuple[ScalarNode, ...]
    inputs: int
    result: int

    @property
    def interval(self) -> Interval:
        """The interval of the result."""
        return self.nodes[self.result].interval

    @property
    def is_identity(self) -> bool:
        """Whether the expression returns its only input unchanged."""
        return self.inputs == 1 and self.nodes[self.result].op == "input"

    def uses(self) -> list[int]:
        """For every node, how many operands of other nodes (and the result) refer to it."""
        counts = [0] * len(self.nodes)
        for node in self.nodes:
            for arg in node.args:
                counts[arg] += 1
        counts[self.result] += 1
        return counts

    def evaluate(self, *operands: IntegerArray) -> IntegerArray:
        """The exact values for arrays that broadcast together, at any width."""
        values: list[IntegerArray] = []
        for node in self.nodes:
            if node.op == "input":
                values.append(_kept(np.asarray(operands[int(node.attributes[0])]), node.interval))
            elif node.op == "constant":
                values.append(widen(np.asarray(node.attributes[0], dtype=object), node.interval))
            else:
                involved = [node.interval, *(self.nodes[arg].interval for arg in node.args)]
                values.append(_evaluated(node, [values[arg] for arg in node.args], involved))
        shape = np.broadcast_shapes(*(np.shape(each) for each in operands)) if operands else ()
        return (
            np.broadcast_to(values[self.result], shape) if values[self.result].shape != shape else values[self.result]
        )

    def __str__(self) -> str:
        return "; ".join(self.lines())

    def lines(self) -> list[str]:
        """The expression as readable statements, one node each, leaves written in place."""
        names: list[str] = []
        lines: list[str] = []
        for index, node in enumerate(self.nodes):
            if node.op == "input":
                names.append(f"x{node.attributes[0]}")
            elif node.op == "constant":
                names.append(str(node.attributes[0]))
            else:
                names.append(f"t{index}")
                detail = [_short(each) for each in node.attributes]
                call = ", ".join([*(names[arg] for arg in node.args), *detail])
                lines.append(f"t{index} = {node.op}({call}) {node.interval}")
        return [*lines, f"return {names[self.result]}"]


MODULAR = ("wrap", "shlw")
"""Operations that compute with 2^width, however small their operand is."""


def _evaluated(node: ScalarNode, arguments: list[IntegerArray], involved: list[Interval]) -> IntegerArray:
    """The values of one operation: in int64 where its intervals fit, or else these very operands and results do."""
    op = SCALAR_OPS[node.op]
    if not fits_int64(*involved) and node.op not in MODULAR and all(each.size for each in arguments):
        found = [Interval(int(each.min()), int(each.max())) for each in arguments]
        actual = [op.infer(node.attributes, *found), *found]
        involved = actual if fits_int64(*actual) else involved
    wide = [widen(each, *involved) for each in arguments]
    return _kept(np.asarray(op.evaluate(node.attributes, *wide)), node.interval)


def _kept(array: IntegerArray, interval: Interval) -> IntegerArray:
    """``array`` in int64 where ``interval`` fits; otherwise as it is, in int64 or in Python integers."""
    return array if array.dtype == np.int64 else widen(array, interval)


def _short(attribute: Any) -> str:
    if isinstance(attribute, tuple):
        entries = cast(tuple[int, ...], attribute)
        return f"<{len(entries)} entries>" if len(entries) > 4 else str(entries)
    return str(attribute)


@dataclass(frozen=True, slots=True)
class Term:
    """A node under construction; Python's operators make new nodes in the same builder."""

    builder: ExpressionBuilder
    index: int

    @property
    def interval(self) -> Interval:
        """The interval of this node."""
        return self.builder.nodes[self.index].interval

    def __add__(self, other: Term | int) -> Term:
        return self.builder.apply("add", self, other)

    def __radd__(self, other: int) -> Term:
        return self.builder.apply("add", other, self)

    def __sub__(self, other: Term | int) -> Term:
        return self.builder.apply("sub", self, other)

    def __rsub__(self, other: int) -> Term:
        return self.builder.apply("sub", other, self)

    def __mul__(self, other: Term | int) -> Term:
        return self.builder.apply("mul", self, other)

    def __rmul__(self, other: int) -> Term:
        return self.builder.apply("mul", other, self)

    def __neg__(self) -> Term:
        return self.builder.apply("neg", self)

    def __lshift__(self, bits: Term | int) -> Term:
        return self.builder.shift_left(self, bits)

    def __rshift__(self, bits: Term | int) -> Term:
        return self.builder.shift_right(self, bits)

    def __and__(self, other: Term | int) -> Term:
        return self.builder.apply("and", self, other)

    def __or__(self, other: Term | int) -> Term:
        return self.builder.apply("or", self, other)

    def __xor__(self, other: Term | int) -> Term:
        return self.builder.apply("xor", self, other)

    def __lt__(self, other: Term | int) -> Term:
        return self.builder.apply("lt", self, other)

    def __le__(self, other: Term | int) -> Term:
        return self.builder.apply("le", self, other)

    def __gt__(self, other: Term | int) -> Term:
        return self.builder.apply("lt", other, self)

    def __ge__(self, other: Term | int) -> Term:
        return self.builder.apply("le", other, self)

    def equals(self, other: Term | int) -> Term:
        """1 where equal, else 0."""
        return self.builder.apply("eq", self, other)

    def maximum(self, other: Term | int) -> Term:
        """The larger of the two."""
        return self.builder.apply("max", self, other)

    def minimum(self, other: Term | int) -> Term:
        """The smaller of the two."""
        return self.builder.apply("min", self, other)

    def absolute(self) -> Term:
        """The magnitude."""
        return self.builder.apply("abs", self)

    def clamp(self, low: int, high: int) -> Term:
        """The value limited to ``low..high``; nothing where the interval shows it is not needed."""
        return self.maximum(low).minimum(high)

    def round(self, shift: int, rounding: str) -> Term:
        """The value divided by 2^shift with the named rounding (exact when shift <= 0)."""
        if shift <= 0:
            return self << -shift
        if self.interval.step % (1 << shift) == 0:
            return self >> shift
        return self.builder.apply("round", self, attributes=(shift, str(rounding)))

    def wrap(self, width: int, signed: bool) -> Term:
        """The value modulo 2^width, as a (signed) code of that width."""
        return self.builder.apply("wrap", self, attributes=(width, signed))

    def lookup(self, offset: int, entries: Sequence[int]) -> Term:
        """``entries[value - offset]``; the entries must cover the whole interval."""
        return self.builder.lookup(self, offset, entries)

    def leading_zeros(self, width: int) -> Term:
        """Leading zeros of the value as an unsigned code of ``width`` bits."""
        return self.builder.apply("lzc", self, attributes=(width,))

    def shift_left_within(self, bits: Term, width: int) -> Term:
        """The value, which is not negative, times 2^bits, of which the low ``width`` bits are kept."""
        return self.builder.apply("shlw", self, bits, attributes=(width,))

    def select(self, if_true: Term | int, if_false: Term | int) -> Term:
        """``if_true`` where this is not 0, else ``if_false``."""
        return self.builder.apply("select", self, if_true, if_false)


class ExpressionBuilder:
    """Builds one :class:`Expression`; ``inputs`` are the operands' intervals."""

    def __init__(self, inputs: Sequence[Interval]) -> None:
        self.nodes: list[ScalarNode] = []
        self._index: dict[tuple[str, tuple[int, ...], Attributes], int] = {}
        self.input_count = len(inputs)
        self.inputs = [self._add("input", (), (index,), interval) for index, interval in enumerate(inputs)]

    def constant(self, value: int) -> Term:
        """A constant leaf."""
        return self._add("constant", (), (int(value),), Interval.constant(int(value)))

    def apply(self, op: str, *operands: Term | int, attributes: Attributes = ()) -> Term:
        """Add a node of the named scalar operation, folded where the intervals allow it."""
        terms = [each if isinstance(each, Term) else self.constant(each) for each in operands]
        row = SCALAR_OPS[op]
        if row.commutative and terms[0].index > terms[1].index:
            terms.reverse()
        intervals = [term.interval for term in terms]
        interval = row.infer(attributes, *intervals)
        if interval.is_constant:
            return self.constant(interval.low)
        if all(each.is_constant for each in intervals):
            codes = (np.asarray(each.low, dtype=object) for each in intervals)
            return self.constant(int(row.evaluate(attributes, *codes)))
        return self._identity(op, attributes, terms) or self._add(
            op, tuple(term.index for term in terms), attributes, interval
        )

    def _identity(self, op: str, attributes: Attributes, terms: list[Term]) -> Term | None:
        """The operand that the operation returns unchanged for every possible value, if any."""
        first = terms[0]
        if op == "wrap":
            return first if SCALAR_OPS["wrap"].infer(attributes, first.interval) == first.interval else None
        if op == "select":
            if first.interval == Interval.constant(0):
                return terms[2]
            if terms[1].index == terms[2].index or (first.interval.low > 0 or first.interval.high < 0):
                return terms[1]
            return terms[2] if first.interval.magnitude == 0 else None
        if op in ("shl", "shr"):
            return first if attributes[0] == 0 else None
        if op == "abs":
            return first if first.interval.low >= 0 else None
        if len(terms) != 2:
            return None
        a, b = terms
        if op in ("max", "min"):
            if a.index == b.index:
                return a
            high, low = (a, b) if a.interval.low >= b.interval.high else (b, a)
            if high.interval.low >= low.interval.high:
                return high if op == "max" else low
        neutral = {"add": 0, "sub": 0, "mul": 1, "or": 0, "xor": 0, "shlv": 0, "shrv": 0}.get(op)
        if neutral is None:
            return None
        if b.interval == Interval.constant(neutral):
            return a
        return b if SCALAR_OPS[op].commutative and a.interval == Interval.constant(neutral) else None

    def shift_left(self, term: Term, bits: Term | int) -> Term:
        """Multiply by 2^bits; ``bits`` is at least 0."""
        if isinstance(bits, int):
            return self.apply("shl", term, attributes=(bits,))
        if bits.interval.is_constant:
            return self.shift_left(term, bits.interval.low)
        return self.apply("shlv", term, bits)

    def shift_right(self, term: Term, bits: Term | int) -> Term:
        """Divide by 2^bits, rounding down; ``bits`` is at least 0."""
        if isinstance(bits, int):
            return self.apply("shr", term, attributes=(bits,))
        if bits.interval.is_constant:
            return self.shift_right(term, bits.interval.low)
        return self.apply("shrv", term, bits)

    def lookup(self, term: Term, offset: int, entries: Sequence[int]) -> Term:
        """A table over the codes ``offset .. offset + len(entries) - 1``, trimmed to the interval."""
        interval = term.interval
        if interval.low < offset or interval.high >= offset + len(entries):
            raise ValueError(f"table of {len(entries)} entries from {offset} does not cover {interval}")
        used = tuple(int(v) for v in entries[interval.low - offset : interval.high - offset + 1])
        return self.apply("table", term, attributes=(interval.low, used))

    def inline(self, expression: Expression, operands: Sequence[Term]) -> Term:
        """Rebuild ``expression`` here on the given operands; the result's term."""
        terms: list[Term] = []
        for node in expression.nodes:
            if node.op == "input":
                terms.append(operands[int(node.attributes[0])])
            elif node.op == "constant":
                terms.append(self.constant(node.attributes[0]))
            elif node.op == "table":
                terms.append(self.lookup(terms[node.args[0]], *node.attributes))
            else:
                terms.append(self.apply(node.op, *(terms[arg] for arg in node.args), attributes=node.attributes))
        return terms[expression.result]

    def _add(self, op: str, args: tuple[int, ...], attributes: Attributes, interval: Interval) -> Term:
        key = (op, args, attributes)
        if key not in self._index:
            self._index[key] = len(self.nodes)
            self.nodes.append(ScalarNode(op, args, attributes, interval))
        return Term(self, self._index[key])

    def finish(self, result: Term) -> Expression:
        """The expression for ``result``, without nodes that it does not use; inputs are kept."""
        used = {result.index, *(term.index for term in self.inputs)}
        for index in range(len(self.nodes) - 1, -1, -1):
            if index in used:
                used.update(self.nodes[index].args)
        order = {old: new for new, old in enumerate(sorted(used))}
        nodes = tuple(
            ScalarNode(node.op, tuple(order[arg] for arg in node.args), node.attributes, node.interval)
            for index, node in enumerate(self.nodes)
            if index in used
        )
        return Expression(nodes, self.input_count, order[result.index])
