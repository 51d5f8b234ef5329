"""fill_concats: constants joined to streams become padding that a selection replaces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gatewright.ir.builder import Builder
from gatewright.ir.expressions import Term
from gatewright.ir.formats import Fixed
from gatewright.ir.graph import Graph, Node
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.ops.concat import Concat
from gatewright.ir.ops.pad import Pad
from gatewright.ir.transforms.rebuild import rebuild
from gatewright.ir.types import Value


def fill_concats(graph: Graph) -> Graph:
    """The graph in which every ``concat`` with streams joins only streams.

    A stream is padded, with a code that it has anyway, where a constant stands beside it; one map then puts
    the constants' codes there. So the constants lie in the tables of a map, read in step with the stream.
    """

    def visit(builder: Builder, node: Node, operands: Sequence[Value]) -> Value:
        op = node.op
        arrays = [builder.constant_of(value) for value in operands]
        constants = sum(each is not None for each in arrays)
        if isinstance(op, Concat) and 0 < constants < len(arrays):
            return _filled(builder, op.axis, node.output, operands, arrays)
        return builder.add(op, *operands)

    return rebuild(graph, visit)


def _filled(
    builder: Builder, axis: int, result: Value, operands: Sequence[Value], arrays: Sequence[IntegerArray | None]
) -> Value:
    padded: list[Value] = []
    pending = 0
    for value, array in zip(operands, arrays, strict=True):
        extent = value.shape[axis]
        if array is None:
            padded.append(_pad(builder, value, axis, pending, 0))
            pending = 0
        elif padded:
            padded[-1] = _pad(builder, padded[-1], axis, 0, extent)
        else:
            pending += extent
    joined = builder.add(Concat(axis), *padded) if len(padded) > 1 else padded[0]
    # Where a stream passes the table holds a code that it has anyway, so that its interval stays.
    unused = next(int(each.ravel()[0]) for each in arrays if each is not None)
    codes: list[IntegerArray] = []
    streamed: list[IntegerArray] = []
    for value, array in zip(operands, arrays, strict=True):
        codes.append(np.full(value.shape, unused) if array is None else array)
        streamed.append(np.full(value.shape, array is None, np.int64))
    table = builder.integers(np.concatenate(codes, axis=axis), result.format)
    mask = builder.integers(np.concatenate(streamed, axis=axis), Fixed(1, 0, signed=False))

    def choose(is_stream: Term, stream: Term, constant: Term) -> Term:
        return is_stream.select(stream, constant)

    return builder.map(choose, mask, joined, table, format=result.format)


def _pad(builder: Builder, value: Value, axis: int, before: int, after: int) -> Value:
    if (before, after) == (0, 0):
        return value
    amounts = tuple((before, after) if each == axis else (0, 0) for each in range(len(value.shape)))
    return builder.add(Pad(amounts, code=value.interval.low), value)
