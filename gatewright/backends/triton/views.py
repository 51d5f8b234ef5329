"""Moves permutations behind the maps that read them, where they meet their opposites.

PyTorch's images have the channels first, a convolution's codes here have them last: between two layers stand a
permutation, a map, and the permutation back. A map works on the codes where they lie, so that both vanish and
the map joins the product before it. Axes of extent 1 come and go in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gatewright.ir.builder import Builder
from gatewright.ir.graph import Graph, Node
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.types import Shape, Value


@dataclass(frozen=True, slots=True)
class View:
    """A value as ``base`` with its axes in another order: axis i is the base's ``axes[i]``, or new where None.

    Every axis of the base that is left out has extent 1, as the new ones have.
    """

    base: Value
    axes: tuple[int | None, ...]

    @property
    def is_plain(self) -> bool:
        """Whether the value is the base itself."""
        return self.axes == tuple(range(len(self.base.shape)))

    def permuted(self, order: Sequence[int]) -> View:
        """The axes in another order."""
        return View(self.base, tuple(self.axes[axis] for axis in order))

    def reshaped(self, old: Shape, new: Shape) -> View | None:
        """Under a shape that differs in axes of extent 1 alone; None for any other."""
        kept = [axis for axis, size in zip(self.axes, old, strict=True) if size != 1]
        if [size for size in old if size != 1] != [size for size in new if size != 1]:
            return None
        left = iter(kept)
        return View(self.base, tuple(None if size == 1 else next(left) for size in new))


def sink_views(graph: Graph) -> Graph:
    """The graph with its permutations as late as possible, and without those that cancel."""
    builder = Builder(graph.name)
    views: dict[Value, View] = {}
    for value in graph.inputs:
        with builder.at(value.location, value.name):
            views[value] = _plain(builder.input(value.name, value.type))
    for node in graph.nodes:
        with builder.at(node.location, node.output.name):
            views[node.output] = _view(builder, node, [views[each] for each in node.inputs])
    outputs: list[Value] = []
    for value in graph.outputs:
        with builder.at(value.location, value.name):
            outputs.append(_written(builder, views[value], value.shape))
    return builder.finish(outputs, graph.output_names)


def _plain(value: Value) -> View:
    return View(value, tuple(range(len(value.shape))))


def _view(builder: Builder, node: Node, operands: list[View]) -> View:
    op = node.op
    streams = [each for each in operands if builder.is_stream(each.base)]
    if isinstance(op, Permute) and streams:
        return operands[0].permuted(op.order)
    if isinstance(op, Reshape) and streams:
        found = operands[0].reshaped(node.inputs[0].shape, op.shape)
        if found is not None:
            return found
    if isinstance(op, Reduce) and None not in operands[0].axes and not operands[0].is_plain:
        (view,) = operands
        axes = tuple(sorted(axis for place in op.axes if (axis := view.axes[place]) is not None))
        return View(builder.add(Reduce(op.kind, axes), view.base), view.axes)
    if isinstance(op, Map):
        found = _mapped(builder, op, node, operands)
        if found is not None:
            return found
    written = [_written(builder, view, value.shape) for view, value in zip(operands, node.inputs, strict=True)]
    return _plain(builder.add(op, *written))


def _mapped(builder: Builder, op: Map, node: Node, operands: list[View]) -> View | None:
    """A map on its operands' bases, where all streams of the result's shape are the same view."""
    shape = node.output.shape
    wide = [
        view
        for view, value in zip(operands, node.inputs, strict=True)
        if builder.is_stream(view.base) and value.shape == shape
    ]
    if not wide or wide[0].is_plain:
        return None
    first = wide[0]
    base = first.base.shape
    given: list[Value] = []
    for view, value in zip(operands, node.inputs, strict=True):
        if view in wide:
            if (view.axes, view.base.shape) != (first.axes, base):
                return None
            given.append(view.base)
        elif value.size == 1:
            given.append(builder.reshape(_written(builder, view, value.shape), ()))
        elif builder.is_stream(view.base):
            return None
        else:
            given.append(_in_base(builder, _written(builder, view, value.shape), first, base))
    return View(builder.map_expression(op.expression, *given, format=op.format), first.axes)


def _in_base(builder: Builder, value: Value, view: View, base: Shape) -> Value:
    """A constant that is broadcast to the view's axes, for the base's axes."""
    sizes = (*(1,) * (len(view.axes) - len(value.shape)), *value.shape)
    kept = [axis for axis in view.axes if axis is not None]
    compact = builder.reshape(value, tuple(s for s, axis in zip(sizes, view.axes, strict=True) if axis is not None))
    order = tuple(sorted(range(len(kept)), key=lambda place: kept[place]))
    if order != tuple(range(len(order))):
        compact = builder.add(Permute(order), compact)
    extents = dict(zip(sorted(kept), compact.shape, strict=True))
    return builder.reshape(compact, tuple(extents.get(axis, 1) for axis in range(len(base))))


def _written(builder: Builder, view: View, shape: Shape) -> Value:
    """The value itself, by the operators that move."""
    if view.is_plain:
        return view.base
    kept = [axis for axis in view.axes if axis is not None]
    compact = builder.reshape(view.base, tuple(view.base.shape[axis] for axis in sorted(kept)))
    order = tuple(sorted(kept).index(axis) for axis in kept)
    if order != tuple(range(len(order))):
        compact = builder.add(Permute(order), compact)
    return builder.reshape(compact, shape)
