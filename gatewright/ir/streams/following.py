"""The lanes of values that are no contractions: what follows from those of the streams that they are made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import gcd, prod

from gatewright.ir.graph import Node
from gatewright.ir.ops.concat import Concat
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.ops.window import Window
from gatewright.ir.streams.geometry import Columns, Geometry
from gatewright.ir.streams.network import Layout
from gatewright.ir.types import Value

Follows = Callable[[Sequence[int]], tuple[int, Sequence[int]]]
"""From the lanes of the sources to those of the value, and those in which it takes each source (0: as they come)."""


def minimum_lanes(value: Value, interval: int) -> int:
    """The fewest lanes with which ``value`` passes in ``interval`` beats."""
    return Layout.fewest_lanes(value.shape, interval)


def suited(value: Value, offered: int, interval: int) -> Layout:
    """The layout in which ``value`` is made from streams of ``offered`` lanes: these, or more if it must be.

    Several rows a beat come only where a row a cycle is too slow.
    """
    elements = value.shape[-1] if value.shape else 1
    least = minimum_lanes(value, interval)
    if least <= elements:
        return Layout.of(value.shape, min(max(least, offered), elements))
    return Layout.of(value.shape, offered if least <= offered <= 2 * least else least)


def window_lanes(geometry: Geometry, source: Value, interval: int) -> int:
    """The fewest channels a beat with which all taps of all windows pass one after the other in the interval."""
    channels = source.shape[-1]
    each = max(geometry.positions * geometry.taps, geometry.rows.size * geometry.columns.size)
    words = max(interval // each, 1)
    return min(max(-(-channels // words), 1), channels)


def whole_window_words(geometry: Geometry, interval: int) -> int:
    """Beats that each window may take where all its taps are side by side; 0 where several must come a cycle."""
    parallel = geometry.choices()[-1]
    return interval // max(geometry.positions * geometry.tap_beats(parallel), geometry.passing_beats(parallel, 1))


def following(node: Node, sources: Sequence[Value], windows: Mapping[Value, Node], interval: int) -> Follows:
    """How the lanes of ``node``'s result follow from those of its ``sources``, as lowering makes them."""
    if isinstance(node.op, Reshape) or node.output in windows:
        return lambda offered: (offered[0], (0,))
    if isinstance(node.op, Window):
        lanes = window_lanes(Geometry.of(node.op, sources[0]), sources[0], interval)
        return lambda _: (lanes, (lanes,))
    if isinstance(node.op, Reduce):
        window = windows.get(sources[0])
        return _reduce(node.op, node.output, sources[0], interval) if window is None else _pooling(window, interval)
    if isinstance(node.op, Map):
        return _map(node.output, sources, interval)
    if isinstance(node.op, Concat):
        return _concat(node.op, node.output, sources, interval)
    return lambda offered: (suited(node.output, min(offered, default=1), interval).lanes, (0,) * len(offered))


def _map(value: Value, sources: Sequence[Value], interval: int) -> Follows:
    elements = value.shape[-1] if value.shape else 1
    widths = [source.shape[-1] if source.shape else 1 for source in sources]

    def follows(offered: Sequence[int]) -> tuple[int, Sequence[int]]:
        wide = [lanes for lanes, width in zip(offered, widths, strict=True) if width > 1]
        lanes = suited(value, min(wide, default=1), interval).lanes
        return lanes, [lanes if width == elements else 0 for width in widths]

    return follows


def _reduce(op: Reduce, value: Value, source: Value, interval: int) -> Follows:
    first, last = min(op.axes), max(op.axes)
    outer, inner = prod(source.shape[:first]), prod(source.shape[last + 1 :])
    count, least = prod(source.shape[first : last + 1]), minimum_lanes(source, interval)
    if outer > interval:
        lanes = Layout.of(value.shape, minimum_lanes(value, interval)).lanes
        return lambda _: (lanes, (lanes * count,))
    if inner == 1:
        return lambda offered: (1, (min(max(offered[0], least), count),))
    if outer * count > interval:
        return lambda _: (inner, (0,))
    return lambda offered: ((lanes := min(max(offered[0], least), inner)), (lanes,))


def _pooling(window: Node, interval: int) -> Follows:
    assert isinstance(window.op, Window)
    (source,) = window.inputs
    geometry, channels = Geometry.of(window.op, source), source.shape[-1]
    words = whole_window_words(geometry, interval)
    if geometry.positions * geometry.taps <= interval:
        lanes = window_lanes(geometry, source, interval)
    elif words >= 1:
        lanes = max(-(-channels // words), 1)
    else:
        columns = next(geometry.column_counts(interval), geometry.columns.positions)
        pixels = Columns(geometry.columns, columns).pixels
        return lambda _: (columns * channels, (pixels * channels,))
    return lambda _: (lanes, (lanes,))


def _concat(op: Concat, value: Value, sources: Sequence[Value], interval: int) -> Follows:
    inner = prod(value.shape[op.axis + 1 :])
    common = gcd(*(source.shape[op.axis] * inner for source in sources))
    needed = -(-value.size // interval)

    def follows(offered: Sequence[int]) -> tuple[int, Sequence[int]]:
        most = max(needed, *offered)
        lanes = max(each for each in range(1, common + 1) if common % each == 0 and each <= most)
        if lanes < needed:
            return suited(value, value.shape[-1], interval).lanes, (0,) * len(offered)
        return lanes, (lanes,) * len(offered)

    return follows
