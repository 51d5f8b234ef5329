"""fuse_maps: neighbouring maps become one datapath."""

from __future__ import annotations

import numpy as np

from gatewright.ir.builder import Builder
from gatewright.ir.expressions import ExpressionBuilder, Term
from gatewright.ir.graph import Graph, Node
from gatewright.ir.operator import broadcast_shape
from gatewright.ir.ops.constant import Constant
from gatewright.ir.ops.map import Map
from gatewright.ir.types import Value


def fuse_maps(graph: Graph) -> Graph:
    """Inline each map into the only map that reads it, where both have one shape.

    Constants with a single value become literals of the expression. The fused value keeps the last
    map's name and source.
    """
    users = graph.users()
    fused: dict[Value, Node] = {}
    builder = Builder(graph.name)
    values: dict[Value, Value] = {}
    for value in graph.inputs:
        with builder.at(value.location, value.name):
            values[value] = builder.input(value.name, value.type)
    producers = graph.producer()
    for node in graph.nodes:
        if isinstance(node.op, Map) and _joins_its_reader(node, users, graph):
            fused[node.output] = node
            continue
        with builder.at(node.location, node.output.name):
            if isinstance(node.op, Map):
                values[node.output] = _build(builder, node, node.op, fused, values, producers)
            else:
                values[node.output] = builder.add(node.op, *(values[each] for each in node.inputs))
    return builder.finish([values[each] for each in graph.outputs], graph.output_names)


def _joins_its_reader(node: Node, users: dict[Value, list[Node]], graph: Graph) -> bool:
    readers = {id(each): each for each in users[node.output]}
    if len(readers) != 1 or node.output in graph.outputs:
        return False
    (reader,) = readers.values()
    return isinstance(reader.op, Map) and reader.output.shape == node.output.shape


def _build(
    builder: Builder,
    node: Node,
    op: Map,
    fused: dict[Value, Node],
    values: dict[Value, Value],
    producers: dict[Value, Node],
) -> Value:
    literals = {value: code for value in _leaves(node, fused) if (code := literal(value, producers)) is not None}
    operands = [value for value in _leaves(node, fused) if value not in literals]
    shapes = [value.shape for value in operands]
    if not operands or broadcast_shape("map", shapes) != node.output.shape:
        operands, literals = _leaves(node, fused), {}
    expression = ExpressionBuilder([value.interval for value in operands])
    terms = dict(zip(operands, expression.inputs, strict=True))
    terms |= {value: expression.constant(code) for value, code in literals.items()}
    result = _inline(node, expression, terms, fused)
    return builder.map_expression(expression.finish(result), *(values[value] for value in operands), format=op.format)


def literal(value: Value, producers: dict[Value, Node]) -> int | None:
    """The single code of a constant whose elements are all equal, else None."""
    node = producers.get(value)
    if node is None or not isinstance(node.op, Constant) or node.op.data.array.size == 0:
        return None
    array = node.op.data.array
    first = array.ravel()[0]
    return int(first) if bool(np.all(array == first)) else None


def _leaves(node: Node, fused: dict[Value, Node]) -> list[Value]:
    """The operands of a cluster of fused maps, each once."""
    found: list[Value] = []
    for value in node.inputs:
        for leaf in _leaves(fused[value], fused) if value in fused else [value]:
            if leaf not in found:
                found.append(leaf)
    return found


def _inline(node: Node, expression: ExpressionBuilder, terms: dict[Value, Term], fused: dict[Value, Node]) -> Term:
    for value in node.inputs:
        if value not in terms:
            terms[value] = _inline(fused[value], expression, terms, fused)
    assert isinstance(node.op, Map)
    return expression.inline(node.op.expression, [terms[value] for value in node.inputs])
