"""One operand of a product: read from memory, or what a map makes of others while they are read (a prologue)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewright.backends.triton.access import Access, Held, Operand, access_groups, offset_text
from gatewright.backends.triton.expressions import operands_read, print_expression, storage_type
from gatewright.backends.triton.maps import MapKernel
from gatewright.backends.triton.moves import seen_through
from gatewright.ir.expressions import Expression
from gatewright.ir.graph import Node
from gatewright.ir.intervals import IntegerArray, Interval
from gatewright.ir.ops.map import Map
from gatewright.ir.types import Value

Tables = tuple[tuple[str, IntegerArray], ...]


@dataclass(frozen=True, slots=True)
class Factor:
    """The ``left`` or ``right`` operand of a product, its codes in ``bound``.

    With an ``expression``, codes are what that makes of the tensors; else they lie in one tensor.
    """

    side: str
    bound: Interval
    expression: Expression | None = None

    @property
    def intervals(self) -> list[Interval]:
        """The intervals of what is read."""
        return [self.bound] if self.expression is None else [each for _, each in operands_read(self.expression)]

    def operands(self, views: Sequence[Held], places: Sequence[str], rows: Sequence[Sequence[int]], spread: str,
                 along: Sequence[Sequence[int]]) -> tuple[list[str], list[str], tuple[Operand, ...]]:  # fmt: skip
        """The parameters, the statements of their bases, and the operands behind the bases.

        A base stands at the coordinates ``places`` (one row of strides for each tensor); what is summed walks
        ``along``. ``spread`` is the coordinate that gives a base its shape where no stride does.
        """
        name = self.side if self.expression is None else f"{self.side}_p"
        described = access_groups(name, views, iter(tuple(each) for each in along), self.intervals)
        if self.expression is None:
            described = (Operand((Access(self.side, tuple(along[0])),), self.bound),)
        parameters = [access.parameter for each in described for access in each.accesses]
        lines = [f"{parameter}_base = {parameter} + {offset_text([*places, spread], (*strides, 0))}"
                 for parameter, strides in zip(parameters, rows, strict=True)]  # fmt: skip
        if self.expression is not None:
            # A tensor that is broadcast still gives a whole tile.
            varies = [any(step for name, step in zip(places, strides, strict=True) if not name.startswith("b"))
                      for strides in rows]  # fmt: skip
            lines = [line if each else f"{line} + {spread} * 0" for line, each in zip(lines, varies, strict=True)]
        based = tuple(
            Operand(tuple(Access(f"{a.parameter}_base", a.strides, a.shift) for a in each.accesses), each.interval)
            for each in described
        )
        return parameters, lines, based

    def computed(
        self, operands: Sequence[Operand], coordinates: Sequence[str], mask: str, prefix: str = ""
    ) -> tuple[list[str], str, Tables]:
        """Statements, the codes' text, and the tables of the expression at these places; ``mask`` is a name."""
        assert self.expression is not None
        start = f"{self.side}{prefix}_"
        names = [f"{start}x{index}" for index in range(self.expression.inputs)]
        lines = [f"{names[index]} = {operand.load(coordinates, mask)}"
                 for (index, _), operand in zip(operands_read(self.expression), operands, strict=True)]  # fmt: skip
        printed = print_expression(self.expression, names, mask, start)
        return [*lines, *printed.lines], printed.result, printed.tables


class Prologue:
    """A map, and the views between it and the product that alone reads it; ``nodes`` in order, the map first."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.node, *self.views = nodes
        assert isinstance(self.node.op, Map)
        self.expression = self.node.op.expression
        self.map = MapKernel(self.node.output.name, self.expression)

    def operands(self, held: Mapping[Value, Held], batch: int) -> list[Held]:
        """What the expression reads, seen as the product sees the map's result."""
        shape = (batch, *self.node.output.shape)
        whole = [held[self.node.inputs[index]].expanded(shape) for index, _ in operands_read(self.expression)]
        return [Held(tuple(seen_through(self.views, part) for part in each.parts), each.shifts) for each in whole]

    def result(self, held: Mapping[Value, Held], batch: int) -> Tensor:
        """The map's codes by a kernel of their own, as the product sees them."""
        codes = self.map([held[value] for value in self.node.inputs], batch, self.node.output.shape)
        return seen_through(self.views, codes)

    def layout(self, batch: int) -> Tensor:
        """A tensor without codes that lies as :meth:`result`."""
        stored = storage_type(self.expression.interval)
        return seen_through(self.views, torch.empty((batch, *self.node.output.shape), dtype=stored, device="meta"))
