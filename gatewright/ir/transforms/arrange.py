"""arrange: the order in which every value streams, so that hardware transposes nothing.

PyTorch's convolutions are channels first, hardware wants channels last. A permutation or reshape of a stream is kept
as a :class:`View` of the value before it and pushed forward: through elementwise operations, reductions and
their kin by renaming axes, into the weights of a contraction, into the order of the constants, and at
the graph's ends into the order of the port's elements. Only where an operation insists on its own order does
a permutation remain as a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from gatewright.ir.builder import Builder
from gatewright.ir.graph import Graph, Node
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.ops.concat import Concat
from gatewright.ir.ops.constant import Constant
from gatewright.ir.ops.contract import Contract, Indices
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.pad import Pad
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.ops.slice import Slice
from gatewright.ir.ops.window import Window
from gatewright.ir.transforms.port_order import input_orders
from gatewright.ir.types import Shape, Tensor, Value
from gatewright.ir.views import View


@dataclass(frozen=True, slots=True)
class Arranged:
    """The rewritten graph, and how the original's inputs and outputs are seen in those of this one."""

    graph: Graph
    inputs: tuple[View, ...]
    outputs: tuple[View, ...]


@dataclass(frozen=True, slots=True)
class Carried:
    """A value of the new graph and how the original value is seen in it."""

    value: Value
    view: View

    @property
    def axes(self) -> tuple[int, ...] | None:
        """The seen axes in the carried order, if each of them is one run of the carried elements.

        Axes of extent 1 stand behind the axis before them.
        """
        found: list[int] = []
        position = 0
        owner = self.view.axis_groups()
        while position < len(owner):
            axis = owner[position]
            group = self.view.groups[axis]
            if group != tuple(range(position, position + len(group))):
                return None
            found.append(axis)
            position += len(group)
        for axis, group in enumerate(self.view.groups):
            if not group:
                found.insert(found.index(axis - 1) + 1 if axis else 0, axis)
        return tuple(found)


def arrange(graph: Graph) -> Arranged:
    """Rewrite an integer-level graph; the elements' values stay, their order may change."""
    return _Arranging(graph).run()


class _Arranging:
    """One run over a graph: ``known`` maps each old stream to what carries it, ``constants`` the old constants."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.builder = Builder(graph.name)
        self.known: dict[Value, Carried] = {}
        self.constants: dict[Value, Node] = {}

    def run(self) -> Arranged:
        """The whole graph."""
        builder = self.builder
        for value, order in zip(self.graph.inputs, input_orders(self.graph), strict=True):
            with builder.at(value.location, value.name):
                shape = tuple(value.shape[axis] for axis in order)
                carried = builder.input(value.name, replace(value.type, shape=shape))
            inverse = tuple(int(axis) for axis in np.argsort(order))
            self.known[value] = Carried(carried, View.plain(shape).permuted(inverse))
        for node in self.graph.nodes:
            with builder.at(node.location, node.output.name):
                self._visit(node)
        results = [self._stream(value) for value in self.graph.outputs]
        graph = builder.finish([each.value for each in results], self.graph.output_names)
        inputs = tuple(self.known[value].view for value in self.graph.inputs)
        return Arranged(graph, inputs, tuple(each.view for each in results))

    def _visit(self, node: Node) -> None:
        op, output = node.op, node.output
        if isinstance(op, Constant):
            self.constants[output] = node
            return
        streams = [value for value in node.inputs if value not in self.constants]
        if not streams:
            operands = [self._constant(value) for value in node.inputs]
            self.known[output] = self._plain(self.builder.add(op, *operands))
        elif isinstance(op, Permute):
            source = self.known[streams[0]]
            self.known[output] = Carried(source.value, source.view.permuted(op.order))
        elif isinstance(op, Reshape):
            self.known[output] = self._reshape(streams[0], op)
        elif isinstance(op, Map):
            self.known[output] = self._map(op, node)
        elif isinstance(op, (Reduce, Slice, Pad, Concat)):
            self.known[output] = self._along_axes(op, node)
        elif isinstance(op, Contract) and len(streams) == 1:
            self.known[output] = self._contract(op, node)
        else:
            self.known[output] = self._plain(self.builder.add(op, *(self._in_order(each) for each in node.inputs)))

    # ---- operands --------------------------------------------------------------------------
    def _plain(self, value: Value) -> Carried:
        return Carried(value, View.plain(value.shape))

    def _constant(self, value: Value) -> Value:
        return self.builder.add(self.constants[value].op, name=value.name)

    def _stream(self, value: Value) -> Carried:
        return self._plain(self._constant(value)) if value in self.constants else self.known[value]

    def _in_order(self, value: Value) -> Value:
        """The value itself, with its own shape and order; a permutation where it is carried otherwise."""
        if value in self.constants:
            return self._constant(value)
        carried = self.known[value]
        factors = self.builder.reshape(carried.value, carried.view.sizes)
        if not carried.view.is_plain:
            factors = self.builder.add(Permute(carried.view.order), factors)
        return self.builder.reshape(factors, value.shape)

    def _axes(self, value: Value) -> tuple[int, ...]:
        """The order in which the axes of a stream are carried; where it is not one of axes, its own order."""
        return self.known[value].axes or tuple(range(len(value.shape)))

    def _with_axes(self, value: Value, order: Sequence[int], rank: int) -> Value:
        """``value`` aligned at the last of ``rank`` axes, its axes in ``order``."""
        shape: Shape = (1,) * (rank - len(value.shape)) + value.shape
        wanted = tuple(shape[axis] for axis in order)
        if value in self.constants:
            return self._constant_with_axes(value, shape, order)
        carried = self.known[value]
        lead = rank - len(value.shape)
        present = [axis - lead for axis in order if shape[axis] > 1]
        own = [axis for axis in self._axes(value) if value.shape[axis] > 1]
        if carried.axes is not None and present == own:
            return self.builder.reshape(carried.value, wanted)
        plain = self._in_order(value)
        moving = self.builder.reshape(plain, tuple(each for each in value.shape if each > 1))
        numbered = sorted(present)
        moving = self.builder.add(Permute(tuple(numbered.index(axis) for axis in present)), moving)
        return self.builder.reshape(moving, wanted)

    def _constant_with_axes(self, value: Value, shape: Shape, order: Sequence[int]) -> Value:
        op = self.constants[value].op
        assert isinstance(op, Constant)
        array = op.data.array
        if array.size > 1:
            array = np.ascontiguousarray(array.reshape(shape).transpose(order))
        return self.builder.add(replace(op, data=Tensor(array)), name=value.name)

    def _reference(self, values: Sequence[Value]) -> Value:
        """The operand whose order the others follow: the largest, and of those the first that is permuted."""
        streams = [value for value in values if value not in self.constants]
        largest = max(value.size for value in streams)
        full = [value for value in streams if value.size == largest]
        return next((value for value in full if not self.known[value].view.is_plain), full[0])

    def _result(self, value: Value, order: Sequence[int]) -> Carried:
        inverse = tuple(int(axis) for axis in np.argsort(order))
        return Carried(value, View.plain(value.shape).permuted(inverse))

    # ---- operations ------------------------------------------------------------------------
    def _reshape(self, value: Value, op: Reshape) -> Carried:
        carried = self.known[value]
        view = carried.view.reshaped(op.shape)
        if view is not None:
            return Carried(carried.value, view)
        return self._plain(self.builder.reshape(self._in_order(value), op.shape))

    def _map(self, op: Map, node: Node) -> Carried:
        shape = node.output.shape
        reference = self._reference(node.inputs)
        view = self.known[reference].view
        if self.known[reference].axes is None and self._is_alone(reference, node):
            operands = [
                self._constant_like(value, shape, view)
                if value in self.constants
                else self.builder.reshape(self.known[value].value, view.sizes)
                for value in node.inputs
            ]
            return Carried(self.builder.map_expression(op.expression, *operands, format=op.format), view)
        lead = len(shape) - len(reference.shape)
        order = [*range(lead), *(axis + lead for axis in self._axes(reference))]
        operands = [self._with_axes(value, order, len(shape)) for value in node.inputs]
        return self._result(self.builder.map_expression(op.expression, *operands, format=op.format), order)

    def _is_alone(self, reference: Value, node: Node) -> bool:
        """Whether all streams that a node reads have the reference's view and the result's shape."""
        view = self.known[reference].view
        streams = [value for value in node.inputs if value not in self.constants]
        return all(value.shape == node.output.shape and self.known[value].view == view for value in streams)

    def _constant_like(self, value: Value, shape: Shape, view: View) -> Value:
        """A constant broadcast to ``shape``, in the carried order."""
        op = self.constants[value].op
        assert isinstance(op, Constant)
        array = op.data.array
        if array.size > 1:
            array = np.ascontiguousarray(view.carried(np.broadcast_to(array, shape)[np.newaxis])[0])
        return self.builder.add(replace(op, data=Tensor(array)), name=value.name)

    def _along_axes(self, op: Reduce | Slice | Pad | Concat, node: Node) -> Carried:
        rank = len(node.output.shape)
        order = self._axes(self._reference(node.inputs))
        operands = [self._with_axes(value, order, rank) for value in node.inputs]
        place = {axis: position for position, axis in enumerate(order)}
        if isinstance(op, Reduce):
            moved = replace(op, axes=tuple(sorted(place[axis] for axis in op.axes)))
        elif isinstance(op, Pad):
            moved = replace(op, amounts=tuple(op.amounts[axis] for axis in order))
        else:
            moved = replace(op, axis=place[op.axis])
        return self._result(self.builder.add(moved, *operands), order)

    def _contract(self, op: Contract, node: Node) -> Carried:
        indices = op.indices
        left, right = node.inputs
        if left in self.constants:
            left, right = right, left
            indices = Indices(indices.right, indices.left, indices.result)
            op = replace(op, left=op.right, right=op.left)
        carried = self.known[left]
        if not _has_matrix_order(carried.view, indices, self._reads_window(carried.value)):
            carried = self._plain(self._in_order(left))
        view = carried.view
        owner = view.axis_groups()
        names = tuple(f"{indices.left[axis]}.{factor}" for factor, axis in enumerate(owner))
        parts = {name: [names[factor] for factor in view.groups[axis]] for axis, name in enumerate(indices.left)}
        outputs = [name for name in indices.right if name not in indices.left]
        for name in outputs:
            parts[name] = [name]
        kept = [name for name, axis in zip(names, owner, strict=True) if indices.left[axis] in indices.result]
        weights, right_names = self._weights(right, indices, parts, view)
        result_names = [*kept, *outputs]
        equation = f"{' '.join(names)}, {' '.join(right_names)} -> {' '.join(result_names)}"
        source = self.builder.reshape(carried.value, view.sizes)
        value = self.builder.add(replace(op, equation=equation, bound=node.output.interval), source, weights)
        place = {name: position for position, name in enumerate(result_names)}
        sizes = tuple(value.shape)
        groups = tuple(tuple(place[part] for part in parts[name]) for name in indices.result)
        return Carried(value, _without_ones(View(sizes, groups)))

    def _reads_window(self, value: Value) -> bool:
        """Whether a value of the new graph is a window, perhaps under another shape."""
        node = self.builder.producer(value)
        while node is not None and isinstance(node.op, Reshape):
            node = self.builder.producer(node.inputs[0])
        return node is not None and isinstance(node.op, Window)

    def _weights(
        self, right: Value, indices: Indices, parts: dict[str, list[str]], view: View
    ) -> tuple[Value, list[str]]:
        """The constant with its axes split like the stream's."""
        node = self.constants[right]
        assert isinstance(node.op, Constant)
        shape: list[int] = []
        names: list[str] = []
        for name, extent in zip(indices.right, right.shape, strict=True):
            if name in indices.left:
                axis = indices.left.index(name)
                shape += [view.sizes[factor] for factor in view.groups[axis]]
            else:
                shape.append(extent)
            names += parts[name]
        array: IntegerArray = node.op.data.array.reshape(shape)
        return self.builder.add(replace(node.op, data=Tensor(array)), name=right.name), names


def _has_matrix_order(view: View, indices: Indices, reads_window: bool) -> bool:
    """Whether the carried elements come as rows, then groups, then what is summed.

    Behind a window the taps come before the groups: its hardware delivers them as they are needed.
    """
    ranks: list[int] = []
    for axis in view.axis_groups():
        name = indices.left[axis]
        ranks.append(2 if name not in indices.result else int(name in indices.right))
    if reads_window and 1 in ranks:
        first, taps = ranks.index(1), [position for position, rank in enumerate(ranks) if rank == 2]
        ranks = [rank for position, rank in enumerate(ranks) if rank != 2 or position > first] if taps else ranks
    return ranks == sorted(ranks)


def _without_ones(view: View) -> View:
    """The same view without factors of extent 1."""
    kept = [factor for factor, size in enumerate(view.sizes) if size > 1]
    place = {factor: position for position, factor in enumerate(kept)}
    groups = tuple(tuple(place[factor] for factor in group if factor in place) for group in view.groups)
    assert prod(view.sizes) == prod(view.sizes[factor] for factor in kept)
    return View(tuple(view.sizes[factor] for factor in kept), groups)
