"""The golden model: exact integer interpretation of an integer-level graph, at any width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gatewright.ir.graph import Graph, Node
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.ops.concat import Concat
from gatewright.ir.ops.constant import Constant
from gatewright.ir.ops.contract import Contract
from gatewright.ir.ops.map import Map
from gatewright.ir.types import Value

Observer = Callable[[Value, IntegerArray], None]


def evaluate(graph: Graph, inputs: Sequence[IntegerArray], observe: Observer | None = None) -> list[IntegerArray]:
    """The codes of all outputs for input codes with a leading batch axis.

    ``observe`` is called with every value and its codes (batch leading; constants have batch 1).
    """
    batch = int(np.shape(inputs[0])[0]) if inputs else 1
    environment: dict[Value, IntegerArray] = {}
    constants: set[Value] = set()
    for value, array in zip(graph.inputs, inputs, strict=True):
        environment[value] = np.asarray(array).reshape(batch, *value.shape)
    last_use = _last_uses(graph)
    for position, node in enumerate(graph.nodes):
        if isinstance(node.op, Constant) or (node.inputs and all(each in constants for each in node.inputs)):
            constants.add(node.output)
        environment[node.output] = _evaluate_node(node, environment, constants, batch)
        if observe is not None:
            observe(node.output, environment[node.output])
        for value in node.inputs:
            if last_use.get(value) == position:
                environment.pop(value, None)
    return [np.broadcast_to(environment[value], (batch, *value.shape)) for value in graph.outputs]


def _last_uses(graph: Graph) -> Mapping[Value, int]:
    last = {value: position for position, node in enumerate(graph.nodes) for value in node.inputs}
    for value in graph.outputs:
        last.pop(value, None)
    return last


def _evaluate_node(
    node: Node, environment: Mapping[Value, IntegerArray], constants: set[Value], batch: int
) -> IntegerArray:
    op = node.op
    if isinstance(op, Constant):
        return op.data.array[np.newaxis]
    arrays = [environment[value] for value in node.inputs]
    if isinstance(op, Map):
        rank = len(node.output.shape)
        arrays = [array.reshape(array.shape[0], *(1,) * (rank + 1 - array.ndim), *array.shape[1:]) for array in arrays]
    elif isinstance(op, Contract):
        arrays = [array[0] if value in constants else array for value, array in zip(node.inputs, arrays, strict=True)]
        result = op.evaluate(*arrays)
        return result[np.newaxis] if result.ndim == len(node.output.shape) else result
    elif isinstance(op, Concat):
        arrays = [np.broadcast_to(array, (batch, *array.shape[1:])) for array in arrays]
    return op.evaluate(*arrays)
