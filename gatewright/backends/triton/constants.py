"""Computes what depends on constants alone once, before a graph is printed."""

from __future__ import annotations

from collections.abc import Sequence

from gatewright.ir.builder import Builder
from gatewright.ir.graph import Graph, Node
from gatewright.ir.types import Value
from gatewright.sim import golden


def fold_constants(graph: Graph) -> Graph:
    """The graph with what depends on constants alone computed once."""
    builder = Builder(graph.name)
    values: dict[Value, Value] = {}
    for value in graph.inputs:
        with builder.at(value.location, value.name):
            values[value] = builder.input(value.name, value.type)
    for node in graph.nodes:
        operands = [values[each] for each in node.inputs]
        with builder.at(node.location, node.output.name):
            if operands and not any(builder.is_stream(each) for each in operands):
                alone = Graph("constants", (), (node.output,), (*_constants(builder, node, operands), node))
                codes = golden.evaluate(alone, [])[0][0]
                values[node.output] = builder.integers(codes, node.output.format, name=node.output.name)
            else:
                values[node.output] = builder.add(node.op, *operands)
    return builder.finish([values[each] for each in graph.outputs], graph.output_names)


def _constants(builder: Builder, node: Node, operands: Sequence[Value]) -> list[Node]:
    """The operands of a node as constant nodes under the names that the node knows."""
    found: list[Node] = []
    for value, operand in dict(zip(node.inputs, operands, strict=True)).items():
        producer = builder.producer(operand)
        assert producer is not None
        found.append(Node(producer.op, (), value))
    return found
