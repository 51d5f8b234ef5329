"""order_contractions: every product of a stream with a constant reads whole rows, its summed axes last."""

from __future__ import annotations

from collections.abc import Sequence

from gatewright.ir.builder import Builder
from gatewright.ir.graph import Graph, Node
from gatewright.ir.ops.contract import Contract, Indices
from gatewright.ir.ops.permute import Permute
from gatewright.ir.transforms.rebuild import rebuild
from gatewright.ir.types import Value


def order_contractions(graph: Graph) -> Graph:
    """The graph in which such contractions are ``rows groups summed, ... -> rows groups outputs``.

    The stream comes first. Where the order differs, the stream and the result are permuted around it; a
    product of two streams stays as it is.
    """

    def visit(builder: Builder, node: Node, operands: Sequence[Value]) -> Value:
        if isinstance(node.op, Contract):
            return _ordered(builder, node.op, *operands)
        return builder.add(node.op, *operands)

    return rebuild(graph, visit)


def _ordered(builder: Builder, op: Contract, left: Value, right: Value) -> Value:
    indices = op.indices
    if builder.constant_of(left) is not None:
        left, right = right, left
        indices = Indices(indices.right, indices.left, indices.result)
    if builder.constant_of(right) is None or builder.constant_of(left) is not None:
        return builder.add(op, *((left, right) if indices == op.indices else (right, left)))
    rows = [name for name in indices.result if name in indices.left and name not in indices.right]
    groups = [name for name in indices.result if name in indices.left and name in indices.right]
    summed = [name for name in indices.left if name not in indices.result]
    outputs = [name for name in indices.result if name not in indices.left]
    wanted = Indices((*rows, *groups, *summed), indices.right, (*rows, *groups, *outputs))
    if wanted == indices:
        return builder.add(op if indices == op.indices else Contract(str(wanted), op.bound), left, right)
    if wanted.left != indices.left:
        left = builder.add(Permute(tuple(indices.left.index(name) for name in wanted.left)), left)
    result = builder.add(Contract(str(wanted), op.bound), left, right)
    if wanted.result == indices.result:
        return result
    return builder.add(Permute(tuple(wanted.result.index(name) for name in indices.result)), result)
