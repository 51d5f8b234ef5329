"""The verifier finds every kind of unsound graph, and passes sound ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gatewright.diagnostics import GatewrightError
from gatewright.ir.builder import Builder
from gatewright.ir.formats import Exact, Fixed
from gatewright.ir.graph import Graph, Node
from gatewright.ir.intervals import Interval
from gatewright.ir.ops.add import Add
from gatewright.ir.ops.map import Map
from gatewright.ir.types import Type
from gatewright.ir.verifier import verify


def sound() -> Graph:
    builder = Builder("sound")
    x = builder.input("x", Type((4,), Fixed(8, 4), Interval(-128, 127)))
    w = builder.integers(np.arange(8).reshape(2, 4), Fixed(6, 3), name="w")
    total = builder.contract("k, n k -> n", x, w)
    return builder.finish([builder.map(lambda a: (a + 1).clamp(-8, 7), total, format=Fixed(4, 0))], ["y"])


def found(graph: Graph, level="integer") -> str:
    with pytest.raises(GatewrightError) as caught:
        verify(graph, level, "a pass")
    assert {each.code for each in caught.value.diagnostics} == {"GW0360"}
    assert "after a pass" in str(caught.value)
    return str(caught.value)


def with_node(graph: Graph, index: int, **changes) -> Graph:
    nodes = list(graph.nodes)
    nodes[index] = replace(nodes[index], **changes)
    return replace(graph, nodes=tuple(nodes))


def with_expression(graph: Graph, index: int, **changes) -> Graph:
    """The last node's expression with one node changed."""
    node = graph.nodes[-1]
    assert isinstance(node.op, Map)
    nodes = list(node.op.expression.nodes)
    nodes[index] = replace(nodes[index], **changes)
    expression = replace(node.op.expression, nodes=tuple(nodes))
    return with_node(graph, -1, op=replace(node.op, expression=expression))


def test_a_sound_graph_passes_and_is_returned() -> None:
    graph = sound()
    assert verify(graph, "integer", "a pass") is graph


def test_structure() -> None:
    graph = sound()
    assert "before it is defined" in found(replace(graph, nodes=graph.nodes[::-1]))
    assert "before it is defined" in found(replace(graph, nodes=graph.nodes[1:]))
    assert "defined twice" in found(replace(graph, nodes=(*graph.nodes, graph.nodes[0])))
    assert "have 0 names" in found(replace(graph, output_names=()))
    assert "repeat" in found(replace(graph, outputs=graph.outputs * 2, output_names=("y", "y")))
    other = replace(graph.inputs[0], type=Type((5,), Fixed(8, 4), Interval(0, 1)))
    assert "is read by" in found(with_node(graph, 1, inputs=(other, graph.nodes[1].inputs[1])))


def test_types() -> None:
    graph = sound()
    total = graph.nodes[1].output
    wider = replace(total, type=replace(total.type, interval=Interval(-1, 1)))
    nodes = (graph.nodes[0], replace(graph.nodes[1], output=wider), replace(graph.nodes[2], inputs=(wider,)))
    assert "is stored as" in found(replace(graph, nodes=nodes))
    too_wide = Type((4,), Fixed(4, 0), Interval(-128, 127))
    builder = Builder("wide")
    value = builder.input("x", too_wide)
    assert "exceeds the codes" in found(builder.finish([value]))
    builder = Builder("real")
    assert "is real" in found(builder.finish([builder.input("x", Type((4,)))]))
    builder = Builder("no_interval")
    assert "no interval" in found(builder.finish([builder.input("x", Type((4,), Fixed(4, 0)))]))


def test_only_primitives_at_the_integer_level() -> None:
    builder = Builder("level")
    x = builder.input("x", Type((4,), Fixed(4, 0), Interval(-8, 7)))
    total = builder.add(Add(), x, x)
    graph = builder.finish([total])
    assert "is no primitive" in found(graph)
    verify(graph, "tensor", "a pass")


def test_operands_that_do_not_fit() -> None:
    graph = sound()
    contract = graph.nodes[1]
    swapped = with_node(graph, 1, inputs=(contract.inputs[1], contract.inputs[0]))
    assert "does not take its operands" in found(swapped)


def test_expressions() -> None:
    graph = sound()
    assert isinstance(graph.nodes[-1].op, Map)
    size = len(graph.nodes[-1].op.expression.nodes)
    assert "does not cover" in found(with_expression(graph, size - 1, interval=Interval(0, 1)))
    assert "exceeds" in found(with_expression(graph, 0, interval=Interval(0, 1)))
    assert "reads a later one" in found(with_expression(graph, size - 1, args=(size - 1, size - 1)))
    assert "no operation" in found(with_expression(graph, size - 1, op="fold"))
    constant = next(k for k, each in enumerate(graph.nodes[-1].op.expression.nodes) if each.op == "constant")
    assert "has the interval" in found(with_expression(graph, constant, interval=Interval(-99, 99)))
    expression = replace(graph.nodes[-1].op.expression, inputs=2)
    assert "2 inputs for 1 operands" in found(with_node(graph, -1, op=Map(expression, Exact(0))))


def test_all_problems_are_reported_together() -> None:
    builder = Builder("many")
    values = [builder.input(f"x{k}", Type((1,), Fixed(2, 0), Interval(-9, 9))) for k in range(3)]
    with pytest.raises(GatewrightError) as caught:
        verify(builder.finish(values), "integer", "a pass")
    assert len(caught.value.diagnostics) == 3


def test_a_node_is_what_its_text_says() -> None:
    graph = sound()
    assert isinstance(graph.nodes[0], Node)
    assert 'contract "k, n k -> n" %x, %w' in graph.text()
