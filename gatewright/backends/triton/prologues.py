"""Which maps are computed while a product reads its operand, instead of in a kernel of their own."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from gatewright.backends.triton.expressions import is_narrow, operands_read, storage_type
from gatewright.backends.triton.moves import is_view
from gatewright.backends.triton.products import LONGEST, Roles, offset_for
from gatewright.backends.triton.sums import sums_fit
from gatewright.backends.triton.tiles import WIDEST
from gatewright.ir.decoding import decoded_interval
from gatewright.ir.expressions import Expression
from gatewright.ir.graph import Node
from gatewright.ir.intervals import fits_int64
from gatewright.ir.ops.contract import Contract
from gatewright.ir.ops.map import Map
from gatewright.ir.types import Value

MEMORY = 4
"""Operations of a GPU's lanes in the time in which one byte is moved to or from memory."""

CACHE = 2
"""The same for a byte that the L2 cache holds."""

TABLE = 8
"""Operations that a look-up in a table counts as."""

LONGEST_TEXT = 128
"""Statements up to which an unrolled sum repeats an expression."""


def printed_form(node: Node, streams: Sequence[bool]) -> str | None:
    """How a contraction is printed: "product" (tensor cores), "sum" (element by element), or None where it is not.

    ``streams`` says which of the operands change from sample to sample.
    """
    op = node.op
    assert isinstance(op, Contract)
    left, right = (decoded_interval(value.format, value.interval) for value in node.inputs)
    roles = Roles.of(op.indices, *streams)
    if roles is None:
        return None
    sizes = dict(op.indices.sizes(node.inputs[0].shape, node.inputs[1].shape))
    depth = math.prod(sizes[name] for name in op.indices.summed)
    # No element of one of the operands counts in two results of a sample.
    once = any("*" not in free and math.prod(sizes[name] for name in free) == 1 for free in (roles.rows, roles.columns))
    if roles.both and once and sums_fit(left, right, depth):
        return "sum"
    fits = offset_for(left) is not None and offset_for(right) is not None and depth <= LONGEST
    return "product" if fits and node.output.interval.magnitude < 1 << 31 else None


def costs_less(expression: Expression, sizes: Sequence[int], times: float) -> bool:
    """Whether a product that reads each element ``times`` times should compute it each time.

    The alternative computes it once, writes it, and reads it as often. ``sizes`` are the bytes of an element of
    each operand, 0 for one that is broadcast. Counted in operations: the first reading of an operand is the same
    either way, further ones come from the L2 cache; a code that is not kept saves being written and read in memory.
    """
    uses = expression.uses()
    count = sum(
        TABLE if node.op == "table" else 1
        for node, used in zip(expression.nodes, uses, strict=True)
        if used and node.op not in ("input", "constant")
    )
    code = storage_type(expression.interval).itemsize
    again = max(times - 1, 0)
    return again * (count + CACHE * (sum(sizes) - code)) <= 2 * MEMORY * code


def find_prologue(
    node: Node,
    side: int,
    producers: Mapping[Value, Node],
    users: Mapping[Value, list[Node]],
    constants: Collection[Value],
    kept: Collection[Value],
) -> list[Node]:
    """The map that makes operand ``side`` of a contraction and the views behind it, if it is to be a prologue.

    Nothing else reads any of these values. Empty where there is no such map, or where :func:`costs_less` says no.
    """
    op = node.op
    streams = [value not in constants for value in node.inputs]
    form = printed_form(node, streams)
    assert isinstance(op, Contract)
    if form is None or (op.left, op.right)[side] is not None or not streams[side]:
        return []
    chain: list[Node] = []
    value = node.inputs[side]
    while True:
        producer = producers.get(value)
        if producer is None or users[value] != [_reader(chain, node)] or value in kept:
            return []
        chain.insert(0, producer)
        if isinstance(producer.op, Map):
            break
        if not is_view(producer.op):
            return []
        value = producer.inputs[0]
    expression = producer.op.expression
    read = [producer.inputs[index] for index, _ in operands_read(expression)]
    narrow = is_narrow(expression) and fits_int64(*(each.interval for each in read), value.interval)
    if not narrow or all(each in constants for each in read) or not value.size:
        return []
    wide = [storage_type(each.interval).itemsize if each.shape == value.shape else 0 for each in read]
    times = times_read(node, side, form, value.size)
    statements = len(expression.nodes) * math.prod(_sizes(node)[name] for name in op.indices.summed)
    if form == "sum" and statements > LONGEST_TEXT:
        return []
    return chain if costs_less(expression, wide, times) else []


def _reader(chain: Sequence[Node], node: Node) -> Node:
    """The one that reads the value before ``chain``."""
    return chain[0] if chain else node


def times_read(node: Node, side: int, form: str, elements: int) -> float:
    """How often the printed contraction reads each of the ``elements`` behind one of its operands, on average."""
    op = node.op
    assert isinstance(op, Contract)
    sizes = _sizes(node)
    own, other = (op.indices.left, op.indices.right)[:: -1 if side else 1]
    free = math.prod(sizes[name] for name in other if name in op.indices.result and name not in own)
    passes = free if form == "sum" else math.ceil(free / WIDEST)
    return math.prod(sizes[name] for name in own) * passes / elements


def _sizes(node: Node) -> dict[str, int]:
    assert isinstance(node.op, Contract)
    return dict(node.op.indices.sizes(node.inputs[0].shape, node.inputs[1].shape))
