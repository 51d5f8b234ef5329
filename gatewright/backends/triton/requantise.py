"""Recognises the map behind a product that :func:`gatewright.kernels.integer_product.integer_linear` computes with it:
a constant added, ReLU, one rounding, one limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gatewright.backends.triton.expressions import storage_type
from gatewright.ir.expressions import Expression
from gatewright.ir.intervals import IntegerArray, Interval
from gatewright.ir.scalar_ops import Attributes
from gatewright.kernels.integer_product import code_dtype

WIDTHS = (8, 16, 32)
MOST_SHIFT = 40


@dataclass(frozen=True, slots=True)
class Requantisation:
    """cast(relu(sum + bias)): the arguments of ``integer_linear``; ``bias`` is None or a constant array."""

    bias: IntegerArray | None
    relu: bool
    shift: int
    rounding: str
    overflow: str
    width: int
    signed: bool


def requantisation(
    expression: Expression, position: int, arrays: Sequence[IntegerArray | None]
) -> Requantisation | None:
    """The cast that ``expression`` is of its operand ``position``; None where it is something else.

    ``arrays`` are the operands' constant values, None for those that are no constants.
    """
    walk = _Walk(expression)
    width, signed, wraps = 0, True, walk.op == "wrap"
    if wraps:
        width, signed = walk.attributes
        walk.into(0)
    high = walk.limit("min")
    low = walk.limit("max")
    shift, rounding = 0, "floor"
    if walk.op in ("round", "shr"):
        shift, rounding = walk.attributes if walk.op == "round" else (walk.attributes[0], "floor")
        walk.into(0)
    relu = low == 0
    if not relu and walk.limit("max", 0) is not None:
        relu = True
    if (wraps and (high, low) != (None, None)) or not 0 <= shift <= MOST_SHIFT or width > (32 if signed else 31):
        return None
    bias: IntegerArray | None = None
    if walk.op in ("add", "sub") and not walk.is_input(position):
        first, second = walk.arguments
        if walk.op == "add" and walk.is_input(position, second):
            first, second = second, first
        if not walk.is_input(position, first):
            return None
        bias = _constant(expression, second, position, arrays)
        if bias is None:
            return None
        bias = -bias if walk.op == "sub" else bias
    elif not walk.is_input(position):
        return None
    found = ("wrap", int(width), bool(signed)) if wraps else _limits(expression, low, high, relu)
    if found is None or code_dtype(*found[1:]) != storage_type(expression.interval):
        return None
    return Requantisation(bias, relu, int(shift), str(rounding), *found)


class _Walk:
    """A place in an expression, from its result towards its operands."""

    def __init__(self, expression: Expression) -> None:
        self.nodes = expression.nodes
        self.place = expression.result

    @property
    def op(self) -> str:
        return self.nodes[self.place].op

    @property
    def attributes(self) -> Attributes:
        return self.nodes[self.place].attributes

    @property
    def arguments(self) -> tuple[int, ...]:
        return self.nodes[self.place].args

    def into(self, argument: int) -> None:
        self.place = self.arguments[argument]

    def is_input(self, number: int, place: int | None = None) -> bool:
        node = self.nodes[self.place if place is None else place]
        return node.op == "input" and node.attributes[0] == number

    def limit(self, op: str, only: int | None = None) -> int | None:
        """The constant of a ``min`` or ``max`` here, which is then left behind; None where there is none."""
        if self.op != op:
            return None
        for argument, place in enumerate(self.arguments):
            node = self.nodes[place]
            if node.op == "constant" and only in (None, node.attributes[0]):
                self.into(1 - argument)
                return int(node.attributes[0])
        return None


def _constant(
    expression: Expression, place: int, position: int, arrays: Sequence[IntegerArray | None]
) -> IntegerArray | None:
    """The value of a node that depends on constants alone, else None."""
    pending, needed = [place], set[int]()
    while pending:
        node = expression.nodes[pending.pop()]
        if node.op == "input":
            needed.add(int(node.attributes[0]))
        pending += node.args
    if position in needed or any(arrays[each] is None for each in needed):
        return None
    part = Expression(expression.nodes[: place + 1], expression.inputs, place)
    zero = np.zeros((), dtype=np.int64)
    given = [array if index in needed and array is not None else zero for index, array in enumerate(arrays)]
    return np.asarray(part.evaluate(*given))


def _limits(expression: Expression, low: int | None, high: int | None, relu: bool) -> tuple[str, int, bool] | None:
    """(overflow, width, signed) of the cast that limits as ``low`` and ``high`` do; None where none does."""
    interval = expression.interval
    for width in WIDTHS:
        for signed in (True, False):
            if not signed and width == max(WIDTHS):
                continue
            top = (1 << (width - 1)) - 1 if signed else (1 << width) - 1
            for overflow, bottom in (("saturate", -top - 1 if signed else 0), ("saturate_symmetric", -top)):
                if overflow == "saturate_symmetric" and not signed:
                    continue
                # A bound that no value passes, once ReLU is taken, need not be the cast's own.
                holds = Interval(bottom, top).contains(interval)
                above = high == top or (high is None and interval.high <= top)
                below = low == bottom or (low is None and interval.low >= bottom) or (relu and (low or 0) <= 0)
                if holds and above and below:
                    return overflow, width, signed
    return None
