"""How windows become line buffers, in the order in which the unit behind them reads."""

from __future__ import annotations

from dataclasses import replace

from gatewright.ir.streams.geometry import Axis, Columns, Geometry, Parallel
from gatewright.ir.streams.lower import Lowering
from gatewright.ir.streams.network import Channel, Layout
from gatewright.ir.streams.window_units import ColumnWindow, LineBuffer, Loop, WindowUnit
from gatewright.ir.types import Value


def windowed(
    lowering: Lowering,
    geometry: Geometry,
    source: Value,
    result: Value,
    *,
    lanes: int,
    groups: int = 1,
    parallel: Parallel = (False, False),
    repeats: int = 1,
    taps_first: bool = False,
) -> Channel:
    """The stream of all windows of ``source``, an image whose pixels are ``groups`` runs of channels.

    A beat holds ``lanes`` channels of the taps that are ``parallel``. For each position come the groups, for each
    group ``repeats`` times the taps, and for each tap the words of its channels; with ``taps_first`` the
    words come before the taps instead.
    """
    channels = source.shape[-1] // groups
    words = -(-channels // lanes)
    pixels = geometry.rows.size * geometry.columns.size
    channel = lowering.take(source, pixels * groups, channels, lanes)
    rows, columns = geometry.rows, geometry.columns
    if parallel[0]:
        channel = lowering.queued(channel)
        channel = _line_buffer(lowering, channel, result, rows, columns.size * groups * words, geometry.fill)
        rows = Axis(rows.positions)
    if parallel[1]:
        channel = lowering.queued(channel)
        channel = _line_buffer(lowering, channel, result, columns, groups * words, geometry.fill)
        columns = Axis(columns.positions)
    positions = rows.positions * columns.positions
    taps = rows.taps * columns.taps
    elements = taps * words * channel.layout.lanes
    if rows.is_plain and columns.is_plain:
        if repeats > 1 and any(parallel):
            channel = lowering.queued(channel)
        channel = _relabelled(channel, Layout(positions * groups, elements, channel.layout.lanes))
        return lowering.replay(channel, words, repeats)
    inner = [Loop(columns.taps, columns.dilation * groups * words, 0, columns.dilation)]
    inner.append(Loop(rows.taps, rows.dilation * columns.size * groups * words, rows.dilation))
    if taps_first:
        inner += [Loop(words, 1)]
    else:
        inner = [Loop(words, 1), *inner, Loop(repeats), Loop(groups, words)]
    image = Geometry(rows, columns, geometry.fill)
    layout = Layout(positions * groups * repeats, elements, channel.layout.lanes)
    return _window(lowering, channel, result, image, groups * words, inner, layout)


def column_windows(lowering: Lowering, geometry: Geometry, source: Value, result: Value, count: int) -> Channel:
    """The stream of all windows of ``source``, those of ``count`` neighbouring columns a beat.

    A window has its columns of taps one after the other, each with all its rows, each of these with all channels.
    """
    columns, channels = Columns(geometry.columns, count), source.shape[-1]
    line = columns.axis.size * channels
    channel = lowering.take(source, geometry.rows.size, line, columns.pixels * channels)
    if not geometry.rows.is_plain:
        channel = lowering.queued(channel)
        channel = _line_buffer(lowering, channel, result, geometry.rows, columns.beats_in, geometry.fill)
    channel = lowering.queued(channel)
    lines, window = geometry.rows.positions, geometry.taps * channels
    layout = Layout(lines, columns.axis.positions * window, count * window)
    output = lowering.channel(result, layout, f"{result.name}_columns")
    unit = ColumnWindow(
        lowering.fresh(f"{output.name}_window"),
        (channel,),
        (output,),
        result.location,
        columns,
        lines,
        geometry.rows.taps,
        channels,
        geometry.fill,
    )
    return lowering.emit(unit)[0]


def _relabelled(channel: Channel, layout: Layout) -> Channel:
    assert channel.layout.beats == layout.beats
    return replace(channel, layout=layout)


def _line_buffer(lowering: Lowering, channel: Channel, result: Value, axis: Axis, beats: int, fill: int) -> Channel:
    lines = channel.layout.beats // (axis.size * beats)
    lanes = channel.layout.lanes * axis.taps
    total = lines * axis.positions * beats
    output = lowering.channel(result, Layout(total, lanes, lanes), f"{result.name}_lines")
    unit = LineBuffer(
        lowering.fresh(f"{output.name}_buffer"),
        (channel,),
        (output,),
        result.location,
        beats,
        axis.size,
        axis.positions,
        axis.taps,
        axis.dilation,
        axis.stride,
        axis.before,
        fill,
    )
    return lowering.emit(unit)[0]


def _window(
    lowering: Lowering,
    channel: Channel,
    result: Value,
    image: Geometry,
    words: int,
    inner: list[Loop],
    layout: Layout,
) -> Channel:
    rows, columns = image.rows, image.columns
    line = columns.size * words
    loops = [
        *(loop for loop in inner if loop.count > 1),
        Loop(columns.positions, columns.stride * words, 0, columns.stride, True),
        Loop(rows.positions, rows.stride * line, rows.stride, 0, True),
    ]
    output = lowering.channel(result, layout, f"{result.name}_window")
    unit = WindowUnit(
        lowering.fresh(f"{output.name}_buffer"),
        (channel,),
        (output,),
        result.location,
        tuple(loops),
        rows.size * line,
        0,
        rows.before * line + columns.before * words,
        rows.size,
        columns.size,
        rows.before,
        columns.before,
        (rows.before + rows.after > 0, columns.before + columns.after > 0),
        image.fill,
    )
    # Ample until the token-level simulation has found how much the interval needs.
    depth = unit.span + rows.stride * line + columns.stride * words
    return lowering.emit(replace(unit, depth=depth))[0]
