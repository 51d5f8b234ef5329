"""cast_before_maximum: a rounding after a maximum moves before it, where the values are fewer bits wide.

A function that never decreases gives the same result before a maximum (or minimum) as after it; so the
pooling's memory holds rounded codes instead of exact sums.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from gatewright.ir.builder import Builder
from gatewright.ir.expressions import Expression
from gatewright.ir.graph import Graph, Node
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.pad import Pad
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.ops.slice import Slice
from gatewright.ir.ops.window import Window
from gatewright.ir.transforms.rebuild import rebuild
from gatewright.ir.types import Value

PASSED = (Pad, Permute, Reduce, Reshape, Slice, Window)


def cast_before_maximum(graph: Graph) -> Graph:
    """Move every monotone map of one operand before the maximum that it reads."""
    producer, users = graph.producer(), graph.users()
    moved: dict[Value, list[Node]] = {}
    skipped: set[Value] = set()
    for node in graph.nodes:
        chain = _chain(node, producer, users, graph)
        if chain:
            moved[node.output] = chain
            skipped.update(each.output for each in chain)
    bottoms = {chain[-1].output: chain[-1].inputs[0] for chain in moved.values()}
    carried: dict[Value, Value] = {}

    def visit(builder: Builder, node: Node, operands: list[Value]) -> Value:
        if node.output in skipped:
            if node.output in bottoms:
                carried[node.output] = operands[0]
            return operands[0]
        chain = moved.get(node.output)
        if chain is None:
            return builder.add(node.op, *operands)
        assert isinstance(node.op, Map)
        expression = node.op.expression
        value = builder.map_expression(expression, carried[chain[-1].output], format=node.op.format)
        for each in reversed(chain):
            op = each.op
            if isinstance(op, Pad):
                op = replace(op, code=_apply(expression, op.code))
            elif isinstance(op, Window):
                op = replace(op, fill=_apply(expression, op.fill))
            value = builder.add(op, value)
        return value

    return rebuild(graph, lambda builder, node, operands: visit(builder, node, list(operands))) if moved else graph


def _chain(node: Node, producer: dict[Value, Node], users: dict[Value, list[Node]], graph: Graph) -> list[Node]:
    """The maximum and the movements that a map of one operand reads, the last first; empty where it stays."""
    if not isinstance(node.op, Map) or len(node.inputs) != 1:
        return []
    if node.output.shape != node.inputs[0].shape or node.output.width > node.inputs[0].width:
        return []
    if not is_monotone(node.op.expression):
        return []
    chain: list[Node] = []
    last = 0
    value = node.inputs[0]
    while (before := producer.get(value)) is not None and isinstance(before.op, PASSED):
        if len(users[value]) != 1 or value in graph.outputs:
            break
        if isinstance(before.op, Reduce):
            if before.op.kind == "sum":
                break
            last = len(chain) + 1
        chain.append(before)
        value = before.inputs[0]
    # Movements before the first maximum are passed too, so that the map meets the one that made the values.
    while last and last < len(chain) and not isinstance(chain[last].op, Reduce):
        last += 1
    return chain[:last]


def is_monotone(expression: Expression) -> bool:
    """Whether the function of one operand is known never to decrease."""
    rising: list[bool] = []
    constant: list[bool] = []
    for node in expression.nodes:
        known = [constant[arg] for arg in node.args]
        rises = [rising[arg] for arg in node.args]
        constant.append(node.op == "constant" or (bool(known) and all(known)))
        if node.op in ("input", "constant"):
            rising.append(True)
        elif node.op in ("add", "max", "min", "shl", "shr", "round"):
            rising.append(all(rises))
        elif node.op == "sub":
            rising.append(rises[0] and known[1])
        elif node.op == "mul":
            factors = [
                expression.nodes[arg].interval.low >= 0 for arg, fixed in zip(node.args, known, strict=True) if fixed
            ]
            rising.append(all(rises) and any(factors))
        elif node.op == "table":
            entries = node.attributes[1]
            rising.append(rises[0] and all(a <= b for a, b in pairwise(entries)))
        else:
            rising.append(False)
    return rising[expression.result]


def _apply(expression: Expression, code: int) -> int:
    return int(np.asarray(expression.evaluate(np.array([code], dtype=object))).ravel()[0])
