"""Components that are plain cells of the library: buffers, forks and width adapters."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from gatewright.ir.streams.network import Component, Timing


@dataclass(frozen=True, slots=True)
class Fifo(Component):
    """``gw_fifo``: at most ``depth`` beats wait."""

    depth: int = 2

    @property
    def timing(self) -> Timing:
        return Timing("fifo", (self.depth,))


@dataclass(frozen=True, slots=True)
class Fork(Component):
    """``gw_fork``: every beat to every output, each at its own pace."""

    @property
    def timing(self) -> Timing:
        return Timing("fork")


@dataclass(frozen=True, slots=True)
class Replay(Component):
    """``gw_replay_buffer``: each group of ``window`` beats ``repeats`` times, in a memory of ``depth`` beats."""

    window: int = 1
    repeats: int = 1
    depth: int = 1

    @property
    def timing(self) -> Timing:
        return Timing("replay", (self.window, self.repeats, self.depth))


@dataclass(frozen=True, slots=True)
class Repeat(Component):
    """``gw_repeat``: each beat ``repeats`` times."""

    repeats: int = 2

    @property
    def timing(self) -> Timing:
        # As a beat that is split into so many parts.
        return Timing("down", (self.repeats, self.repeats, 1))


@dataclass(frozen=True, slots=True)
class Reorder(Component):
    """``gw_reorder_buffer``: each sample of ``count`` beats read by an affine loop nest.

    ``counts`` and ``strides`` list the loops, the fastest first.
    """

    count: int = 1
    counts: tuple[int, ...] = (1,)
    strides: tuple[int, ...] = (1,)
    offset: int = 0

    @property
    def reads(self) -> int:
        """Beats read per sample."""
        total = 1
        for each in self.counts:
            total *= each
        return total

    @property
    def timing(self) -> Timing:
        return Timing("reorder", (self.count, self.reads))


@dataclass(frozen=True, slots=True)
class Adapter(Component):
    """``gw_width_adapter``: the same rows with another number of lanes."""

    @property
    def timing(self) -> Timing:
        before, after = self.inputs[0].layout, self.outputs[0].layout
        lanes_in, lanes_out, beats_in, beats_out = before.lanes, after.lanes, before.beats_per_row, after.beats_per_row
        if lanes_in == lanes_out or beats_in == beats_out == 1:
            return Timing("wires")
        if lanes_out % lanes_in == 0 or beats_out == 1:
            slots = beats_in if beats_out == 1 else lanes_out // lanes_in
            return Timing("up", (slots, beats_in - (beats_out - 1) * slots, beats_out))
        if lanes_in % lanes_out == 0 or beats_in == 1:
            slots = beats_out if beats_in == 1 else lanes_in // lanes_out
            return Timing("down", (slots, beats_out - (beats_in - 1) * slots, beats_in))
        unit = gcd(lanes_in, lanes_out)
        units_in, units_out = lanes_in // unit, lanes_out // unit
        endless = before.elements % (unit * units_in * units_out) == 0
        return Timing("ring", (units_in, units_out, beats_in, beats_out, int(endless)))
