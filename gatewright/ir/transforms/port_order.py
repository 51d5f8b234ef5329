"""In which order an input's axes should enter, so that its first reader needs no transpose."""

from __future__ import annotations

from gatewright.ir.graph import Graph
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.concat import Concat
from gatewright.ir.ops.contract import Contract
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.pad import Pad
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.ops.slice import Slice
from gatewright.ir.ops.window import Window
from gatewright.ir.types import Value

Order = tuple[int, ...]
FOLLOWED = (Cast, Concat, Map, Pad, Reduce, Slice)


def input_orders(graph: Graph) -> list[Order]:
    """For every input the order of its axes at the port: that in which the nearest window or product reads it.

    Behind a reshape of permuted axes (groups, or windows that do not overlap) no further permutation is followed.
    """
    users = graph.users()
    orders: list[Order] = []
    for value in graph.inputs:
        plain = found = tuple(range(len(value.shape)))
        pending: list[tuple[Value, Order, bool]] = [(value, found, False)]
        seen = {value}
        while pending:
            current, order, reshaped = pending.pop(0)
            wanted = False
            for node in users[current]:
                if isinstance(node.op, (Window, Contract)) or (reshaped and isinstance(node.op, Reduce)):
                    wanted = True
                elif node.output in seen:
                    continue
                elif isinstance(node.op, Permute) and not reshaped:
                    pending.append((node.output, tuple(order[axis] for axis in node.op.order), False))
                elif isinstance(node.op, Reshape) and order != plain:
                    pending.append((node.output, order, True))
                elif isinstance(node.op, FOLLOWED) and len(node.output.shape) == len(current.shape):
                    pending.append((node.output, order, reshaped))
                seen.add(node.output)
            if wanted:
                found = order
                break
        orders.append(found)
    return orders
