"""How reductions and poolings become units: over beats, over the lanes of a beat, or over both."""

from __future__ import annotations

from math import prod

from gatewright.ir.graph import Node
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.window import Window
from gatewright.ir.streams.following import minimum_lanes, whole_window_words, window_lanes
from gatewright.ir.streams.geometry import Geometry
from gatewright.ir.streams.lower import Lowering
from gatewright.ir.streams.lower_windows import column_windows, windowed
from gatewright.ir.streams.network import Channel, Layout
from gatewright.ir.streams.units import LaneReduceUnit, ReduceUnit
from gatewright.ir.types import Value


def lower_reduction(op: Reduce, lowering: Lowering, node: Node) -> None:
    """Emit the units of a reduction along axes, or of the pooling that reads an absorbed window."""
    (value,) = node.inputs
    if value in lowering.windows:
        _pooling(op, lowering, node)
        return
    interval = lowering.folding.interval
    first, last = min(op.axes), max(op.axes)
    outer, inner = prod(value.shape[:first]), prod(value.shape[last + 1 :])
    count = prod(value.shape[first : last + 1])
    if outer > interval:
        _several_results(op, lowering, node, count, inner)
        return
    offered = lowering.peek(value).lanes
    wanted = max(offered, minimum_lanes(value, interval))
    if inner == 1:
        lanes = min(wanted, count)
        channel = lowering.take(value, outer, count, lanes)
        beats, repeats, layout = channel.layout.beats_per_row, 1, Layout(outer, 1, 1)
        tail = count - (beats - 1) * lanes
    elif outer * count > interval:
        beside = _beside(count, interval // outer, offered // inner)
        channel = lowering.take(value, outer * count // beside, beside * inner, beside * inner)
        layout = Layout(outer * count // beside, inner, inner)
        channel = _across_lanes(op, lowering, node, channel, layout, beside, inner)
        beats, repeats, layout, tail = count // beside, 1, Layout(outer, inner, inner), inner
        if beats == 1:
            lowering.produced(node.output, channel)
            return
    else:
        lanes = min(wanted, inner)
        channel = lowering.take(value, outer * count, inner, lanes)
        beats, repeats, layout, tail = count, channel.layout.beats_per_row, Layout(outer, inner, lanes), lanes
    output = lowering.channel(node.output, layout)
    unit = ReduceUnit(
        lowering.fresh(f"{output.name}_reduce"),
        (channel,),
        (output,),
        node.location,
        op.kind,
        beats,
        repeats,
        inner == 1,
        tail,
    )
    result = lowering.emit(unit)[0]
    # Results that wait beside one another leave in one burst.
    lowering.produced(node.output, lowering.queued(result) if repeats > 1 and first > 0 else result)


def _beside(count: int, beats: int, offered: int) -> int:
    """How many of ``count`` come side by side so that they take ``beats``; as many as ``offered`` if that will do."""
    fitting = [each for each in range(1, count + 1) if count % each == 0 and count // each <= beats]
    return offered if offered in fitting else fitting[0]


def _several_results(op: Reduce, lowering: Lowering, node: Node, count: int, inner: int) -> None:
    """A reduction that must give several results of every lane a cycle: all that they sum in one beat."""
    layout = Layout.of(node.output.shape, minimum_lanes(node.output, lowering.folding.interval))
    channel = lowering.take(node.inputs[0], layout.rows, layout.elements * count, layout.lanes * count)
    lowering.produced(node.output, _across_lanes(op, lowering, node, channel, layout, count, inner))


def _across_lanes(
    op: Reduce, lowering: Lowering, node: Node, channel: Channel, layout: Layout, count: int, inner: int
) -> Channel:
    output = lowering.channel(node.output, layout)
    name = lowering.fresh(f"{output.name}_lanes")
    return lowering.emit(LaneReduceUnit(name, (channel,), (output,), node.location, op.kind, count, inner))[0]


def _pooling(op: Reduce, lowering: Lowering, node: Node) -> None:
    """A reduction over every window's kernel: the taps of a word of channels one after the other, or side by side."""
    window = lowering.windows[node.inputs[0]]
    assert isinstance(window.op, Window)
    (source,) = window.inputs
    geometry = Geometry.of(window.op, source)
    channels = source.shape[-1]
    if geometry.positions * geometry.taps > lowering.folding.interval:
        _pooling_of_whole_windows(op, lowering, node, geometry, window.output)
        return
    lanes = window_lanes(geometry, source, lowering.folding.interval)
    channel = windowed(lowering, geometry, source, window.output, lanes=lanes, taps_first=True)
    output = lowering.channel(node.output, Layout(geometry.positions, channels, lanes))
    unit = ReduceUnit(
        lowering.fresh(f"{output.name}_reduce"),
        (channel,),
        (output,),
        node.location,
        op.kind,
        geometry.taps,
        1,
        False,
        lanes,
    )
    lowering.produced(node.output, lowering.emit(unit)[0])


def _pooling_of_whole_windows(op: Reduce, lowering: Lowering, node: Node, geometry: Geometry, window: Value) -> None:
    """All taps of a window in a beat, of some channels; where that is too slow, several windows of all channels."""
    interval, source = lowering.folding.interval, lowering.windows[node.inputs[0]].inputs[0]
    channels, words = source.shape[-1], whole_window_words(geometry, interval)
    if words >= 1:
        lanes = max(-(-channels // words), 1)
        channel = windowed(lowering, geometry, source, window, lanes=lanes, parallel=geometry.choices()[-1])
        layout, inner = Layout(geometry.positions, channels, lanes), lanes
    else:
        columns = next(geometry.column_counts(interval), geometry.columns.positions)
        channel = column_windows(lowering, geometry, source, window, columns)
        shape = (geometry.rows.positions, geometry.columns.positions, channels)
        layout, inner = Layout.of(shape, columns * channels), channels
    lowering.produced(node.output, _across_lanes(op, lowering, node, channel, layout, geometry.taps, inner))
