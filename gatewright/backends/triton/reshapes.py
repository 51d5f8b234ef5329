"""Moves reshapes and permutations behind the map that reads them, where a product or a map made their operand.

A cast behind a ``flatten`` then joins that product, which stores its codes instead of its sums. :mod:`views` does so
for permutations that cancel; this is for what stays.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gatewright.backends.triton.expressions import storage_type
from gatewright.ir.builder import Builder
from gatewright.ir.graph import Graph, Node
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.ops.constant import Constant
from gatewright.ir.ops.contract import Contract
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.types import Value


def sink_reshapes(graph: Graph) -> Graph:
    """The graph with such maps ahead of the views that they read."""
    builder = Builder(graph.name)
    values: dict[Value, Value] = {}
    producers, users = graph.producer(), graph.users()
    for value in graph.inputs:
        with builder.at(value.location, value.name):
            values[value] = builder.input(value.name, value.type)
    for node in graph.nodes:
        with builder.at(node.location, node.output.name):
            chain = _chain(node, producers, users, graph)
            if chain:
                values[node.output] = _moved(builder, node, chain, values, producers)
            else:
                values[node.output] = builder.add(node.op, *(values[each] for each in node.inputs))
    return builder.finish([values[each] for each in graph.outputs], graph.output_names)


def _chain(node: Node, producers: Mapping[Value, Node], users: Mapping[Value, list[Node]], graph: Graph) -> list[Node]:
    """The views that a map can be computed before, in order; empty where there are none.

    The map reads one value of its shape, beside single numbers and constants of all its elements. The views copy
    nothing, or else what they copy becomes no wider.
    """
    op = node.op
    if not isinstance(op, Map):
        return []
    streams = {each for each in node.inputs if not _is_constant(each, producers) and each.size > 1}
    wide = next(iter(streams), None)
    others = [each for each in node.inputs if each not in streams and each.size not in (1, node.output.size)]
    if len(streams) != 1 or wide is None or wide.shape != node.output.shape or others:
        return []
    chain: list[Node] = []
    value, reader = wide, node
    while (producer := producers.get(value)) is not None and isinstance(producer.op, Reshape | Permute):
        if any(each is not reader for each in users[value]) or value in graph.outputs:
            return []
        chain.insert(0, producer)
        value, reader = producer.inputs[0], producer
    if producer is None or not isinstance(producer.op, Contract | Map) or not chain:
        return []
    if any(each is not reader for each in users[value]) or value in graph.outputs:
        return []
    kinds = [type(each.op) for each in chain]
    copies = Permute in kinds and Reshape in kinds[kinds.index(Permute) :]
    narrows = storage_type(node.output.interval).itemsize <= storage_type(value.interval).itemsize
    return chain if narrows or not copies else []


def _is_constant(value: Value, producers: Mapping[Value, Node]) -> bool:
    return value in producers and isinstance(producers[value].op, Constant)


def _moved(
    builder: Builder, node: Node, chain: list[Node], values: Mapping[Value, Value], producers: Mapping[Value, Node]
) -> Value:
    """The map on what the chain reads, then the chain."""
    assert isinstance(node.op, Map)
    operands: list[Value] = []
    for each in node.inputs:
        if each == chain[-1].output:
            operands.append(values[chain[0].inputs[0]])
        elif each.size == 1:
            operands.append(builder.reshape(values[each], ()))
        else:
            array = _before(chain, producers[each].op.evaluate().reshape(node.output.shape))
            operands.append(builder.integers(array, each.format, each.name))
    found = builder.map_expression(node.op.expression, *operands, format=node.op.format)
    for each in chain:
        found = builder.add(each.op, found)
    return found


def _before(chain: list[Node], array: IntegerArray) -> IntegerArray:
    """The elements [...] of the chain's result where they lie in its operand."""
    for each in reversed(chain):
        op = each.op
        if isinstance(op, Permute):
            array = array.transpose(np.argsort(op.order))
        array = array.reshape(each.inputs[0].shape)
    return array
