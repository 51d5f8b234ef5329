"""rebuild: a graph made anew, node by node; what most passes at the tensor level consist of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gatewright.ir.builder import Builder
from gatewright.ir.graph import Graph, Node
from gatewright.ir.types import Value

Visit = Callable[[Builder, Node, Sequence[Value]], Value | None]
"""Gets the new graph's builder, an old node and its new operands; gives the node's new value.

None where the node goes away and nothing that is kept reads it.
"""


def rebuild(graph: Graph, visit: Visit) -> Graph:
    """The graph of what ``visit`` makes of the nodes; inputs, outputs, names and locations are kept."""
    builder = Builder(graph.name)
    values: dict[Value, Value | None] = {}
    for value in graph.inputs:
        with builder.at(value.location, value.name):
            values[value] = builder.input(value.name, value.type)
    for node in graph.nodes:
        operands = [values[each] for each in node.inputs]
        kept = [each for each in operands if each is not None]
        if len(kept) != len(operands):
            values[node.output] = None
            continue
        with builder.at(node.location, node.output.name):
            values[node.output] = visit(builder, node, kept)
    outputs = [value for each in graph.outputs if (value := values[each]) is not None]
    assert len(outputs) == len(graph.outputs)
    return builder.finish(outputs, graph.output_names)
