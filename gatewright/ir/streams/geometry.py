"""A sliding window as two-dimensional geometry, and the forms in which it feeds a unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from gatewright.ir.intervals import IntegerArray
from gatewright.ir.ops.window import Window
from gatewright.ir.types import Value

Parallel = tuple[bool, bool]
"""Whether the kernel's rows, and its columns, arrive side by side instead of one after the other."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis: its ``size``, the kernel's ``taps`` on it, and the ``positions`` of the kernel."""

    size: int
    taps: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def positions(self) -> int:
        """Output positions."""
        return (self.size + self.before + self.after - (self.taps - 1) * self.dilation - 1) // self.stride + 1

    @property
    def reach(self) -> int:
        """Lines that pass a line buffer along this axis, padding after the input included."""
        return max(self.size, (self.positions - 1) * self.stride + (self.taps - 1) * self.dilation - self.before + 1)

    @property
    def is_plain(self) -> bool:
        """Whether every element is a window of its own."""
        return (self.taps, self.stride, self.before, self.after) == (1, 1, 0, 0)


@dataclass(frozen=True, slots=True)
class Columns:
    """How the windows of ``count`` neighbouring positions of a line, along ``axis``, are made in one beat.

    A beat of the line brings the ``stride`` times as many pixels by which these positions lie further on; a line that
    makes a single beat of windows comes in a single beat too.
    """

    axis: Axis
    count: int

    @property
    def pixels(self) -> int:
        """Pixels a beat of the line."""
        return self.axis.size if self.count >= self.axis.positions else self.axis.stride * self.count

    @property
    def is_possible(self) -> bool:
        """Whether a line has as many pixels as a beat brings."""
        return self.pixels <= self.axis.size

    @property
    def beats_in(self) -> int:
        """Beats of a line of pixels."""
        return -(-self.axis.size // self.pixels)

    @property
    def beats_out(self) -> int:
        """Beats of a line of windows."""
        return -(-self.axis.positions // self.count)

    @property
    def slots(self) -> int:
        """Cycles of a line."""
        return max(self.beats_in, self.beats_out)

    @property
    def before(self) -> int:
        """Beats of pixels that windows reach back before the one where they begin without padding."""
        return min(-(-self.axis.before // self.pixels), self.beats_out - 1)

    @property
    def after(self) -> int:
        """Beats of pixels that windows reach beyond that one."""
        last = (self.count - 1) * self.axis.stride + (self.axis.taps - 1) * self.axis.dilation - self.axis.before
        return max(min(last // self.pixels, self.beats_in - 1), 0)

    @property
    def flush(self) -> int:
        """Cycles after the last line of a sample."""
        return max(self.after - (self.slots - self.beats_out), 0)


@dataclass(frozen=True, slots=True)
class Geometry:
    """A window over an image of ``rows`` by ``columns``; one axis alone is a single row."""

    rows: Axis
    columns: Axis
    fill: int = 0

    @staticmethod
    def of(op: Window, source: Value) -> Geometry:
        """The geometry of a window of ``source``."""
        axes = [
            Axis(size, op.kernel[k], op.stride[k], op.dilation[k], *op.padding[k])
            for k, size in enumerate(source.shape[:-1])
        ]
        return Geometry(axes[0] if len(axes) == 2 else Axis(1), axes[-1], op.fill)

    @property
    def positions(self) -> int:
        """Windows of a sample."""
        return self.rows.positions * self.columns.positions

    @property
    def taps(self) -> int:
        """Elements of the kernel."""
        return self.rows.taps * self.columns.taps

    @property
    def is_padded(self) -> bool:
        """Whether any window reaches over the edge."""
        return any(axis.before or axis.after for axis in (self.rows, self.columns))

    def choices(self) -> list[Parallel]:
        """The ways to deliver the taps; columns come side by side only if rows do."""
        found: list[Parallel] = []
        for rows, columns in product((False, True), repeat=2):
            if (rows and self.rows.taps == 1) or (columns and self.columns.taps == 1):
                continue
            if columns and not rows and self.rows.taps > 1:
                continue
            found.append((rows, columns))
        return found

    def tap_lanes(self, parallel: Parallel) -> int:
        """Taps side by side."""
        return (self.rows.taps if parallel[0] else 1) * (self.columns.taps if parallel[1] else 1)

    def tap_beats(self, parallel: Parallel) -> int:
        """Taps one after the other."""
        return self.taps // self.tap_lanes(parallel)

    def passing_beats(self, parallel: Parallel, words: int) -> int:
        """The most cycles of a sample at any line buffer; ``words`` beats make a pixel."""
        cycles = self.rows.size * self.columns.size * words
        if parallel[0]:
            cycles = max(cycles, self.rows.reach * self.columns.size * words)
        if parallel[1]:
            cycles = max(cycles, self.rows.positions * self.columns.reach * words)
        return cycles

    def column_cycles(self, count: int) -> int:
        """The most cycles of a sample at any line buffer where ``count`` columns of windows are made at once."""
        columns = Columns(self.columns, count)
        lines = self.rows.size if self.rows.is_plain else self.rows.reach
        return max(lines * columns.beats_in, self.rows.positions * columns.slots + columns.flush)

    def column_counts(self, cycles: int) -> Iterator[int]:
        """The numbers of columns at once with which all windows are made in ``cycles``, the smallest first."""
        for count in range(1, self.columns.positions + 1):
            if Columns(self.columns, count).is_possible and self.column_cycles(count) <= cycles:
                yield count


@dataclass(frozen=True, slots=True)
class WindowForm:
    """What the windows of a convolution are: its geometry, source, and the channels of each of the groups."""

    geometry: Geometry
    source: Value
    result: Value
    channels: int

    def lanes(self, parallel: Parallel, channels: int) -> int:
        """Elements that a window delivers in a beat; ``channels`` of a pixel make a word."""
        return self.geometry.tap_lanes(parallel) * channels

    def elements(self, channels: int) -> int:
        """Elements of a window, those included that fill up its pixels' last words."""
        return self.geometry.taps * -(-self.channels // channels) * channels

    def arranged(self, weights: IntegerArray, parallel: Parallel, lanes: int, lane_groups: int) -> IntegerArray:
        """Weights [groups, outputs, taps x channels] in the order in which the window delivers its inputs.

        Channels come ``lanes`` a beat; with ``lane_groups`` above 1 as many channels, each its own group, share a beat.
        """
        import numpy as np

        rows, columns = self.geometry.rows.taps, self.geometry.columns.taps
        groups, outputs, _ = weights.shape
        split = weights.reshape(groups, outputs, rows, columns, self.channels)
        serial = [axis for axis, side in zip((2, 3), parallel, strict=True) if not side]
        beside = [axis for axis, side in zip((3, 2), reversed(parallel), strict=True) if side]
        if lane_groups > 1:
            padded = np.pad(split, ((0, -groups % lane_groups), *((0, 0),) * 4))
            ordered = padded.transpose(0, 1, *serial, 4, *beside)
            return ordered.reshape(-1, lane_groups * outputs, rows * columns)
        padded = np.pad(split, (*((0, 0),) * 4, (0, -self.channels % lanes)))
        tiles = padded.reshape(groups, outputs, rows, columns, -1, lanes)
        ordered = tiles.transpose(0, 1, *serial, 4, *beside, 5)
        return ordered.reshape(groups, outputs, -1)
