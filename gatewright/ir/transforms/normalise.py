"""normalise: rewrite primitives into the forms that have hardware."""

from __future__ import annotations

from dataclasses import replace

from gatewright.ir.builder import Builder
from gatewright.ir.graph import Graph, Node
from gatewright.ir.ops.pad import Pad
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.window import Window
from gatewright.ir.types import Value


def normalise(graph: Graph) -> Graph:
    """Split reductions over axes that are not neighbours, and pads of several axes; drop empty ones.

    Windows keep no more padding than their kernel reaches.
    """
    builder = Builder(graph.name)
    values: dict[Value, Value] = {}
    for value in graph.inputs:
        with builder.at(value.location, value.name):
            values[value] = builder.input(value.name, value.type)
    for node in graph.nodes:
        operands = [values[each] for each in node.inputs]
        with builder.at(node.location, node.output.name):
            values[node.output] = _rewrite(builder, node, operands)
    return builder.finish([values[each] for each in graph.outputs], graph.output_names)


def _rewrite(builder: Builder, node: Node, operands: list[Value]) -> Value:
    op = node.op
    if isinstance(op, Reduce):
        return _split_reduction(builder, op, operands[0])
    if isinstance(op, Window):
        return _within_reach(builder, op, operands[0])
    if isinstance(op, Pad):
        value = operands[0]
        for axis, amounts in enumerate(op.amounts):
            if amounts != (0, 0):
                single = tuple(amounts if each == axis else (0, 0) for each in range(len(op.amounts)))
                value = builder.add(replace(op, amounts=single), value)
        return value
    return builder.add(op, *operands)


def _within_reach(builder: Builder, op: Window, value: Value) -> Value:
    """Padding beyond what a window on the edge reaches, which line buffers do not make, by a pad before."""
    outer: list[tuple[int, int]] = []
    inner: list[tuple[int, int]] = []
    for (before, after), extent in zip(op.padding, op.extents, strict=True):
        inner.append((min(before, extent - 1), min(after, extent - 1)))
        outer.append((before - inner[-1][0], after - inner[-1][1]))
    for axis, amounts in enumerate(outer):
        if amounts != (0, 0):
            single = tuple(amounts if each == axis else (0, 0) for each in range(len(value.shape)))
            value = builder.add(Pad(single, code=op.fill), value)
    return builder.add(replace(op, padding=tuple(inner)), value)


def _split_reduction(builder: Builder, op: Reduce, value: Value) -> Value:
    """One reduction for every run of neighbouring axes, the last run first; axes of extent 1 need none."""
    runs: list[list[int]] = []
    for axis in sorted(axis for axis in op.axes if value.shape[axis] > 1):
        if runs and all(value.shape[each] == 1 for each in range(runs[-1][-1] + 1, axis)):
            runs[-1].append(axis)
        else:
            runs.append([axis])
    for run in reversed(runs):
        value = builder.add(Reduce(op.kind, tuple(run)), value)
    return value
