"""simplify: remove what moves or changes nothing, and join neighbouring movements."""

from __future__ import annotations

from collections.abc import Sequence

from gatewright.ir.builder import Builder
from gatewright.ir.graph import Graph, Node
from gatewright.ir.operator import Operator
from gatewright.ir.ops.add import Add
from gatewright.ir.ops.constant import Constant
from gatewright.ir.ops.dropout import Dropout
from gatewright.ir.ops.expand import Expand
from gatewright.ir.ops.maximum import Maximum
from gatewright.ir.ops.minimum import Minimum
from gatewright.ir.ops.mul import Mul
from gatewright.ir.ops.neg import Neg
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.ops.sub import Sub
from gatewright.ir.transforms.rebuild import rebuild
from gatewright.ir.types import Shape, Value

BROADCASTING = (Add, Sub, Mul, Maximum, Minimum)
"""Operators that broadcast their operands by themselves."""


def simplify(graph: Graph) -> Graph:
    """The same function in fewer nodes, on real values.

    Joined: reshapes, permutations, negations in a row. Removed: reshapes and permutations to the same
    shape, additions of zero, products with one, dropout with probability zero, and expansions
    that the reader's own broadcasting does.
    """
    users = graph.users()
    implied = {node.output for node in graph.nodes if isinstance(node.op, Expand) and _is_implied(node, users)}
    implied -= set(graph.outputs)

    def visit(builder: Builder, node: Node, operands: Sequence[Value]) -> Value:
        if node.output in implied:
            return operands[0]
        return _shorter(builder, node.op, operands, node.output.shape) or builder.add(node.op, *operands)

    return rebuild(graph, visit)


def _is_implied(node: Node, users: dict[Value, list[Node]]) -> bool:
    """Whether all readers broadcast, and another operand of each gives them the same shape."""
    for user in users[node.output]:
        others = [each for each in user.inputs if each != node.output]
        if not isinstance(user.op, BROADCASTING) or not others:
            return False
        if user.op.infer_shape(node.inputs[0].shape, *(each.shape for each in others)) != user.output.shape:
            return False
    return bool(users[node.output])


def _shorter(builder: Builder, op: Operator, operands: Sequence[Value], shape: Shape) -> Value | None:
    """The node's value without the node, or through an earlier operand; None where there is none."""
    value = operands[0] if operands else None
    if value is None:
        return None
    before = builder.producer(value)
    if isinstance(op, Reshape):
        if before is not None and isinstance(before.op, Reshape):
            value = before.inputs[0]
        return builder.reshape(value, op.shape)
    if isinstance(op, Permute):
        return _permuted(builder, op, value)
    if isinstance(op, Neg) and before is not None and isinstance(before.op, Neg):
        return before.inputs[0]
    if isinstance(op, Dropout) and op.p == 0.0:
        return value
    if isinstance(op, (Add, Sub, Mul)):
        return _without_neutral(builder, op, operands, shape)
    return None


def _permuted(builder: Builder, op: Permute, value: Value) -> Value:
    order = op.order
    before = builder.producer(value)
    if before is not None and isinstance(before.op, Permute):
        earlier = before.op.order
        value, order = before.inputs[0], tuple(earlier[axis] for axis in order)
    moved = [axis for axis in order if value.shape[axis] != 1]
    if moved == sorted(moved):
        # Only axes of one element move: the elements keep their order.
        return builder.reshape(value, tuple(value.shape[axis] for axis in order))
    return builder.add(Permute(order), value)


def _without_neutral(builder: Builder, op: Operator, operands: Sequence[Value], shape: Shape) -> Value | None:
    """The other operand where one is a literal zero (for a sum) or one (for a product)."""
    neutral = 1.0 if isinstance(op, Mul) else 0.0
    for index, operand in enumerate(operands):
        node = builder.producer(operand)
        other = operands[1 - index]
        if node is None or not isinstance(node.op, Constant) or node.op.source or other.shape != shape:
            continue
        if isinstance(op, Sub) and index == 0:
            continue
        if bool((node.op.data.array == neutral).all()):
            return other
    return None
