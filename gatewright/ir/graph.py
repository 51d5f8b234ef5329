"""The graph: nodes in topological order over SSA values, per sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gatewright.diagnostics import Location
from gatewright.ir.operator import Operator
from gatewright.ir.types import Value


@dataclass(frozen=True, slots=True)
class Node:
    """One operation: ``output = op(inputs)``."""

    op: Operator
    inputs: tuple[Value, ...]
    output: Value

    @property
    def location(self) -> Location:
        """The user's source that this node came from."""
        return self.output.location


@dataclass(frozen=True, slots=True)
class Graph:
    """A model or a part of one. ``output_names`` are the ports' names, in the order of ``outputs``."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    output_names: tuple[str, ...] = field(default=())

    def producer(self) -> dict[Value, Node]:
        """For every value that a node computes, that node."""
        return {node.output: node for node in self.nodes}

    def users(self) -> dict[Value, list[Node]]:
        """For every value, the nodes that read it (a node once per operand)."""
        found: dict[Value, list[Node]] = {value: [] for value in self.inputs}
        for node in self.nodes:
            found[node.output] = []
            for value in node.inputs:
                found[value].append(node)
        return found

    def values(self) -> Iterator[Value]:
        """All values: the inputs, then each node's output."""
        yield from self.inputs
        for node in self.nodes:
            yield node.output

    def text(self) -> str:
        """The readable text form, one node a line."""
        from gatewright.ir.text import print_graph

        return print_graph(self)

    def __str__(self) -> str:
        return self.text()
