"""How each integer primitive becomes a unit of the network."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch
from itertools import pairwise
from math import gcd, prod

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.expressions import Expression
from gatewright.ir.formats import Exact
from gatewright.ir.graph import Node
from gatewright.ir.intervals import IntegerArray, Interval
from gatewright.ir.operator import Operator
from gatewright.ir.ops.concat import Concat
from gatewright.ir.ops.contract import Contract
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.pad import Pad
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.slice import Slice
from gatewright.ir.ops.window import Window
from gatewright.ir.streams.broadcasting import broadcast
from gatewright.ir.streams.cells import Reorder
from gatewright.ir.streams.following import window_lanes
from gatewright.ir.streams.geometry import Geometry
from gatewright.ir.streams.lower import Lowering, natural_rows
from gatewright.ir.streams.lower_reductions import lower_reduction
from gatewright.ir.streams.lower_terms import lower_terms
from gatewright.ir.streams.lower_windows import column_windows, windowed
from gatewright.ir.streams.network import Channel, Layout
from gatewright.ir.streams.pipelining import pipeline
from gatewright.ir.streams.products import plan_product
from gatewright.ir.streams.terms import summed_integer, summed_interval
from gatewright.ir.streams.units import (
    ContractUnit,
    MapUnit,
    RewireUnit,
    Segment,
    SequenceUnit,
)
from gatewright.ir.types import Shape, Tensor, Type, Value

LARGE_TABLE_BITS = 2048
"""A table of constants above this size is a synchronous memory; below, plain logic."""


def lower_node(lowering: Lowering, node: Node) -> None:
    """Emit the units of one node and record the channel of its result."""
    _lower(node.op, lowering, node)


@singledispatch
def _lower(op: Operator, lowering: Lowering, node: Node) -> None:
    raise error("GW0713", f"{op.name} has no hardware", location=node.location)


# ---- contract --------------------------------------------------------------------------------
@_lower.register
def _contract(op: Contract, lowering: Lowering, node: Node) -> None:
    form = lowering.folding.forms[node.output]
    tile = lowering.folding.tiles[node.output]
    if tile.term_lanes:
        channel = lowering.take(form.stream, form.products, form.inputs, tile.term_lanes)
        channel = _decoded(lowering, channel, summed_integer(form.stream), summed_interval(form.stream))
        lower_terms(lowering, node, form, tile, channel)
        return
    weights = form.weights
    if form.window is not None:
        channels = form.window.channels if tile.columns else tile.channels
        weights = form.window.arranged(weights, tile.parallel, channels, tile.lane_groups)
    padded = weights.size > form.weights.size or weights.shape[2] % tile.inputs != 0
    product = plan_product(form.stream, form.constant, padded, lowering.target.has_multipliers)
    weights = product.right.pack(form.weights)
    layout = Layout(form.products, form.outputs, tile.outputs)
    if tile.columns:
        layout = Layout.of((*form.row_shape, tile.outputs), tile.lanes_out)
        if form.window is None:
            channel = lowering.take_as(form.stream, Layout.of((*form.row_shape, form.inputs), form.lanes_in(tile)))
        else:
            weights = form.window.arranged(weights, tile.parallel, form.window.channels, tile.lane_groups)
            window = form.window
            channel = column_windows(lowering, window.geometry, window.source, window.result, tile.columns)
    elif form.window is None:
        channel = lowering.take(form.stream, form.products, form.inputs, tile.inputs)
        channel = lowering.replay(channel, channel.layout.beats_per_row, form.blocks(tile))
    else:
        weights = form.window.arranged(weights, tile.parallel, tile.channels, tile.lane_groups)
        channel = windowed(
            lowering,
            form.window.geometry,
            form.window.source,
            form.window.result,
            lanes=tile.channels,
            groups=1 if form.is_depthwise else form.groups,
            parallel=tile.parallel,
            repeats=1 if form.regroups(tile) else form.blocks(tile),
            taps_first=form.is_depthwise,
        )
        if form.regroups(tile):
            # A line buffer gives windows in bursts, which the array takes one after the other.
            channel = lowering.adapt(lowering.queued(channel), tile.inputs)
            channel = lowering.replay(channel, channel.layout.beats_per_row, form.blocks(tile))
        if tile.lane_groups > 1:
            layout = Layout(form.rows, form.groups * form.outputs, tile.outputs)
    channel = _decoded(lowering, channel, product.left.expression, product.left.interval)
    output = lowering.channel(node.output, layout)
    family, period = lowering.target.family, lowering.target.period
    product_width = product.width + product.exponent_max
    adder = family.carry + family.carry_bit * (product_width + 4)
    levels = (tile.inputs - 1).bit_length()
    per_stage = max(1, int(period // adder))
    # The last level shares its stage with the accumulator's own addition.
    registers = max(0, -(-(levels + 1) // per_stage) - 1)
    unit = ContractUnit(
        lowering.fresh(f"{output.name}_contract"),
        (channel,),
        (output,),
        node.location,
        Tensor(weights),
        product.right.interval,
        tile.outputs,
        tile.inputs,
        registers,
        tile.lane_groups,
        product,
        max(tile.columns, 1),
    )
    lowering.produced(node.output, lowering.emit(unit)[0])


def _decoded(lowering: Lowering, channel: Channel, expression: Expression | None, interval: Interval) -> Channel:
    """The stream of decoded numbers for a stream of codes; the stream itself where they are the same."""
    if expression is None:
        return channel
    plan = pipeline(expression, lowering.target.family, lowering.target.period, False)
    value = channel.value
    name = lowering.fresh(f"{channel.name}_decoded")
    packed = Value(name, Type(value.shape, Exact(0), interval), value.location)
    output = Channel(name, packed, channel.layout)
    unit = MapUnit(
        lowering.fresh(f"{name}_map"),
        (channel,),
        (output,),
        value.location,
        expression,
        streams=(0,),
        stages=plan.stages,
        latency=plan.latency,
    )
    return lowering.emit(unit)[0]


# ---- map -------------------------------------------------------------------------------------
@_lower.register
def _map(op: Map, lowering: Lowering, node: Node) -> None:
    layouts = [lowering.peek(value) for value in node.inputs if value not in lowering.constants]
    if not layouts:
        raise error("GW0714", f"{node.output.name} is constant", location=node.location)
    widest = min((each.lanes for each in layouts if each.elements > 1), default=1)
    layout = lowering.suited(node.output, widest)
    channels: list[Channel] = []
    streams: list[int] = []
    scalars: list[int] = []
    tables: list[tuple[int, Tensor, Interval]] = []
    for position, value in enumerate(node.inputs):
        if value in lowering.constants:
            codes = constant_beats(lowering.constants[value], node.output.shape, layout.lanes)
            tables.append((position, Tensor(codes), value.interval))
            continue
        if natural_rows(value)[1] == 1 and 1 < natural_rows(node.output)[1] == layout.elements:
            scalars.append(len(channels))
        channels.append(broadcast(lowering, value, node.output.shape, layout))
        streams.append(position)
    large = any(each.array.size * interval.width > LARGE_TABLE_BITS for _, each, interval in tables)
    plan = pipeline(op.expression, lowering.target.family, lowering.target.period, large)
    output = lowering.channel(node.output, layout)
    unit = MapUnit(
        lowering.fresh(f"{output.name}_map"),
        tuple(lowering.join(channels)),
        (output,),
        node.location,
        op.expression,
        tuple(streams),
        tuple(tables),
        plan.stages,
        plan.latency,
        tuple(scalars),
        hard=lowering.target.has_multipliers,
    )
    lowering.produced(node.output, lowering.emit(unit)[0])


def constant_beats(codes: IntegerArray, shape: Shape, lanes: int) -> IntegerArray:
    """A constant broadcast to ``shape`` as [beats, lanes]; a pattern that repeats every row or beat is kept once."""
    layout = Layout.of(shape, lanes)
    rows = np.broadcast_to(codes, shape).reshape(-1, layout.elements)
    if bool(np.all(rows == rows[:1])):
        rows = rows[:1]
    padding = -layout.elements % layout.lanes
    beats = np.pad(rows, ((0, 0), (0, padding)), mode="wrap").reshape(-1, layout.lanes)
    return beats[:1] if bool(np.all(beats == beats[:1])) else beats


# ---- reduce and window -----------------------------------------------------------------------
@_lower.register
def _reduce(op: Reduce, lowering: Lowering, node: Node) -> None:
    lower_reduction(op, lowering, node)


@_lower.register
def _window(op: Window, lowering: Lowering, node: Node) -> None:
    if node.output in lowering.windows:
        return
    (source,) = node.inputs
    geometry = Geometry.of(op, source)
    lanes = window_lanes(geometry, source, lowering.folding.interval)
    channel = windowed(lowering, geometry, source, node.output, lanes=lanes)
    rows = geometry.positions * geometry.taps
    produced = replace(channel, layout=Layout(rows, source.shape[-1], lanes))
    lowering.produced(node.output, produced)


# ---- slice, concat, pad ----------------------------------------------------------------------
@_lower.register
def _slice(op: Slice, lowering: Lowering, node: Node) -> None:
    (value,) = node.inputs
    inner = prod(value.shape[op.axis + 1 :])
    runs: list[Segment] = []
    position = 0
    for start in range(op.start, op.stop, op.step):
        runs += [Segment(0, (start - position) * inner, False), Segment(0, inner)]
        position = start + 1
    runs.append(Segment(0, (value.shape[op.axis] - position) * inner, False))
    _sequence(lowering, node, op.axis, runs, 0)


@_lower.register
def _concat(op: Concat, lowering: Lowering, node: Node) -> None:
    inner = prod(node.output.shape[op.axis + 1 :])
    runs = [Segment(source, value.shape[op.axis] * inner) for source, value in enumerate(node.inputs)]
    constant = [value for value in node.inputs if value in lowering.constants]
    if constant:
        raise error("GW0715", "concat with a constant has no hardware yet", location=node.location)
    _sequence(lowering, node, op.axis, runs, 0)


@_lower.register
def _pad(op: Pad, lowering: Lowering, node: Node) -> None:
    axes = [axis for axis, amounts in enumerate(op.amounts) if amounts != (0, 0)]
    (axis,) = axes
    (value,) = node.inputs
    before, after = op.amounts[axis]
    inner = prod(value.shape[axis + 1 :])
    runs = [Segment(None, before * inner), Segment(0, value.shape[axis] * inner), Segment(None, after * inner)]
    _sequence(lowering, node, axis, runs, op.code)


def _merged(runs: list[Segment]) -> list[Segment]:
    merged: list[Segment] = []
    for run in runs:
        if run.count == 0:
            continue
        if merged and (merged[-1].source, merged[-1].forward) == (run.source, run.forward):
            run = Segment(run.source, run.count + merged.pop().count, run.forward)
        merged.append(run)
    return merged


def _sequence(lowering: Lowering, node: Node, axis: int, runs: list[Segment], fill: int) -> None:
    """Runs of elements, serially in aligned beats; where that is too slow, whole rows by wiring."""
    outer = prod(node.output.shape[:axis])
    elements = prod(node.output.shape[axis:])
    segments = _merged(runs)
    common = 0
    for each in segments:
        common = gcd(common, each.count)
    offered = max(lowering.peek(value).lanes for value in node.inputs)
    total = outer * sum(each.count for each in segments)
    needed = -(-total // max(lowering.folding.interval, 1))
    lanes = max(each for each in range(1, common + 1) if common % each == 0 and each <= max(offered, needed))
    if lanes < needed:
        _rewire_rows(lowering, node, axis, segments, fill, elements)
        return
    channels = [lowering.take(value, outer, prod(value.shape[axis:]), lanes) for value in node.inputs]
    output = lowering.channel(node.output, Layout(outer, elements, lanes))
    if len(channels) > 1 or any(each.source is None for each in segments):
        # An input waits while others or the fill have their turn: a FIFO lets what comes before it go on.
        channels = [lowering.queued(channel) for channel in channels]
    unit = SequenceUnit(
        lowering.fresh(f"{output.name}_sequence"),
        tuple(channels),
        (output,),
        node.location,
        tuple(Segment(each.source, each.count // lanes, each.forward) for each in segments),
        fill,
    )
    lowering.produced(node.output, lowering.emit(unit)[0])


def _rewire_rows(lowering: Lowering, node: Node, axis: int, segments: list[Segment], fill: int, elements: int) -> None:
    taken = [0] * len(node.inputs)
    lanes: list[tuple[int, int]] = []
    for each in segments:
        if each.source is None:
            lanes += [(-1, 0)] * each.count
            continue
        if each.forward:
            lanes += [(each.source, taken[each.source] + k) for k in range(each.count)]
        taken[each.source] += each.count
    shape = (*node.output.shape[:axis], elements)
    layout = Layout.of(shape, max(elements, Layout.fewest_lanes(shape, lowering.folding.interval)))
    beside, rows = layout.lanes // elements, layout.elements // elements
    sizes = [prod(value.shape[axis:]) for value in node.inputs]
    channels = [
        lowering.take(value, layout.rows, rows * size, beside * size)
        for value, size in zip(node.inputs, sizes, strict=True)
    ]
    every = tuple(
        (source, lane + row * sizes[source] if source >= 0 else 0) for row in range(beside) for source, lane in lanes
    )
    _rewire(lowering, node, channels, layout, every, fill)


def _rewire(
    lowering: Lowering,
    node: Node,
    channels: list[Channel],
    layout: Layout,
    lanes: tuple[tuple[int, int], ...],
    fill: int = 0,
) -> None:
    output = lowering.channel(node.output, layout)
    name = lowering.fresh(f"{output.name}_rewire")
    unit = RewireUnit(name, tuple(lowering.join(channels)), (output,), node.location, lanes, fill)
    lowering.produced(node.output, lowering.emit(unit)[0])


# ---- permute ---------------------------------------------------------------------------------
@_lower.register
def _permute(op: Permute, lowering: Lowering, node: Node) -> None:
    (value,) = node.inputs
    rank = len(op.order)
    moving = [axis for axis in op.order if value.shape[axis] > 1]
    if all(before < after for before, after in pairwise(moving)):
        lowering.produced(
            node.output, lowering.take_as(value, lowering.suited(node.output, lowering.peek(value).lanes))
        )
        return
    # Leading axes that stay in place: what moves is inside each of their blocks, and only a block is kept.
    leading = next(axis for axis in range(rank) if op.order[axis] != axis)
    block = prod(value.shape[leading:])
    blocks = value.size // block
    keeps_last = op.order[-1] == rank - 1
    row = value.shape[-1] if keeps_last else 1
    needed = minimum_lanes_of(value.size, lowering.folding.interval)
    offered = lowering.peek(value).lanes
    lanes = max(each for each in range(1, row + 1) if row % each == 0 and each <= max(needed, offered))
    if lanes < needed or (lanes < block and offered >= block):
        inner = value.shape[leading:]
        order = np.arange(block).reshape(inner).transpose([axis - leading for axis in op.order[leading:]]).ravel()
        shape = (*value.shape[:leading], block)
        layout = Layout.of(shape, max(block, Layout.fewest_lanes(shape, lowering.folding.interval)))
        starts = range(0, layout.lanes, block)
        wires = tuple((0, start + int(each)) for start in starts for each in order)
        _rewire(lowering, node, [lowering.take_as(value, layout)], layout, wires)
        return
    rows, elements = (value.size // row, row) if keeps_last else (blocks, block)
    channel = lowering.take(value, rows, elements, lanes)
    strides = [prod(value.shape[axis + 1 :]) // lanes if axis < rank - 1 else 1 for axis in range(rank)]
    loops: list[tuple[int, int]] = []
    for axis in reversed(op.order[leading:]):
        count = value.shape[axis] // lanes if keeps_last and axis == rank - 1 else value.shape[axis]
        if count > 1:
            loops.append((count, strides[axis]))
    output = lowering.channel(node.output, Layout(rows, elements, lanes))
    unit = Reorder(
        lowering.fresh(f"{output.name}_reorder"),
        (channel,),
        (output,),
        node.location,
        block // lanes,
        tuple(count for count, _ in loops),
        tuple(stride for _, stride in loops),
    )
    lowering.produced(node.output, lowering.emit(unit)[0])


def minimum_lanes_of(size: int, interval: int) -> int:
    """The fewest lanes with which ``size`` elements pass in ``interval`` beats."""
    return -(-size // max(min(interval, size), 1))
