"""Which nodes of an integer graph run as one kernel.

Reductions along the last axis take in the maps around them, a product the map that alone reads it and, where that
costs less (``prologues.py``), the map before it.
A node joins only where no other group would have to run both before and after the enlarged one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gatewright.backends.triton.expressions import is_narrow
from gatewright.backends.triton.prologues import find_prologue
from gatewright.backends.triton.rows import LONGEST
from gatewright.ir.graph import Graph, Node
from gatewright.ir.intervals import fits_int64
from gatewright.ir.ops.constant import Constant
from gatewright.ir.ops.contract import Contract
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.types import Shape, Value


@dataclass(slots=True, eq=False)
class Group:
    """Nodes that run together. ``shape`` is that of the wide values of a group over rows, else None."""

    nodes: list[Node]
    shape: Shape | None = None
    needs: set[Group] = field(default_factory=set["Group"])

    @property
    def is_rows(self) -> bool:
        """Whether the group has a reduction along rows."""
        return self.shape is not None

    def reaches(self, other: Group) -> bool:
        """Whether this group runs after ``other``."""
        pending: list[Group] = [self]
        seen: set[Group] = {self}
        while pending:
            for each in pending.pop().needs:
                if each is other:
                    return True
                if each not in seen:
                    seen.add(each)
                    pending.append(each)
        return False


def group_nodes(graph: Graph) -> list[Group]:
    """The groups of all nodes, in an order in which each finds its operands."""
    owner: dict[Value, Group] = {}
    groups: list[Group] = []
    users = graph.users()
    producers = graph.producer()
    constants = {value for value, node in producers.items() if isinstance(node.op, Constant)}
    for node in graph.nodes:
        needs = {owner[value] for value in node.inputs if value in owner}
        home = next((each for each in _candidates(node, graph, users, owner) if _may_join(each, needs)), None)
        if home is None:
            home = Group([node], None, needs)
            if isinstance(node.op, Contract):
                for side in (0, 1):
                    chain = find_prologue(node, side, producers, users, constants, graph.outputs)
                    if all(owner[each.output].nodes == [each] for each in chain):
                        _take_in(home, [owner[each.output] for each in chain], groups)
                for each in home.nodes:
                    owner[each.output] = home
            groups.append(home)
            if _is_row_reduction(node):
                home.shape = node.inputs[0].shape
        else:
            home.nodes.append(node)
            home.needs |= needs - {home}
            if isinstance(node.op, Reduce):
                home.shape = node.inputs[0].shape
        owner[node.output] = home
    return _ordered(groups)


def _candidates(node: Node, graph: Graph, users: dict[Value, list[Node]], owner: dict[Value, Group]) -> list[Group]:
    """The groups that could take a node in, the latest operand's first."""
    op = node.op
    found: list[Group] = []
    for value in reversed(node.inputs):
        group = owner.get(value)
        if group is None or group in found:
            continue
        first = group.nodes[0]
        if isinstance(op, Map) and is_narrow(op.expression):
            rows = group.shape
            if rows is not None and node.output.shape in (rows, (*rows[:-1], 1)):
                found.append(group)
            alone = isinstance(group.nodes[-1].op, Contract) and users[value] == [node] and value not in graph.outputs
            if alone and node.output.shape == value.shape:
                found.append(group)
        elif _is_row_reduction(node):
            lone_map = group.nodes == [first] and isinstance(first.op, Map) and is_narrow(first.op.expression)
            found += [group] if lone_map or group.shape == value.shape else []
    if _is_row_reduction(node):
        # Another reduction of the same rows: they are read once for both.
        (value,) = node.inputs
        beside = [owner[user.output] for user in users[value] if user.output in owner]
        found += [group for group in beside if group.shape == value.shape and group not in found]
    return found


def _take_in(home: Group, before: Sequence[Group], groups: list[Group]) -> None:
    """Join groups that nothing but ``home`` needs, ahead of its nodes."""
    home.nodes[:0] = [node for each in before for node in each.nodes]
    home.needs = home.needs.union(*(each.needs for each in before)) - set(before)
    for each in before:
        groups.remove(each)


def _is_row_reduction(node: Node) -> bool:
    op = node.op
    if not isinstance(op, Reduce):
        return False
    (value,) = node.inputs
    last = len(value.shape) - 1
    narrow = fits_int64(value.interval, node.output.interval)
    return op.axes == (last,) and 1 < value.shape[last] <= LONGEST and narrow and 0 not in value.shape


def _may_join(group: Group, needs: set[Group]) -> bool:
    return not any(each is not group and each.reaches(group) for each in needs)


def _ordered(groups: Sequence[Group]) -> list[Group]:
    ordered: list[Group] = []
    done: set[Group] = set()
    pending = list(groups)
    while pending:
        waiting: list[Group] = []
        for each in pending:
            if each.needs <= done:
                done.add(each)
                ordered.append(each)
            else:
                waiting.append(each)
        pending = waiting
    return ordered
