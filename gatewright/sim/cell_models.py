"""Cycle-exact models of the stream cells in ``hdl_templates/lib``: handshakes only, no data.

Each cell advances one clock cycle per ``step(valid_in, ready_out)``, which returns ``(ready_in,
valid_out)`` of that cycle. The tests hold each class to its SystemVerilog, cycle by cycle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd
from typing import Protocol


class CellModel(Protocol):
    """A cell with one input and one output stream."""

    def step(self, valid_in: bool, ready_out: bool) -> tuple[bool, bool]:
        """Advance one cycle; the returned handshakes belong to the cycle before the clock edge."""
        ...


@dataclass(slots=True)
class RegisterSlice:
    """``gw_register_slice``: two slots, latency 1."""

    count: int = 0

    def step(self, valid_in: bool, ready_out: bool) -> tuple[bool, bool]:
        """See :class:`CellModel`."""
        ready_in, valid_out = self.count < 2, self.count > 0
        self.count += (valid_in and ready_in) - (valid_out and ready_out)
        return ready_in, valid_out


@dataclass(slots=True)
class Fifo:
    """``gw_fifo``: ``depth`` words in total; latency 1 up to depth 2, else 2."""

    depth: int
    count: int = 0
    stored: int = 0
    valid: bool = False

    def step(self, valid_in: bool, ready_out: bool) -> tuple[bool, bool]:
        """See :class:`CellModel`."""
        if self.depth <= 2:
            ready_in, valid_out = self.count < self.depth, self.count > 0
            self.count += (valid_in and ready_in) - (valid_out and ready_out)
            return ready_in, valid_out
        ready_in, valid_out = self.stored < self.depth - 1, self.valid
        if ready_out or not self.valid:
            self.valid = self.stored > 0
            self.stored -= self.valid
        self.stored += valid_in and ready_in
        return ready_in, valid_out


@dataclass(slots=True)
class Fork:
    """``gw_fork``: latency 0, one done bit per output. Steps with one ready, and one valid, per output."""

    outputs: int
    done: list[bool] = field(default_factory=list[bool])

    def __post_init__(self) -> None:
        self.done = [False] * self.outputs

    def step(self, valid_in: bool, ready_out: tuple[bool, ...]) -> tuple[bool, tuple[bool, ...]]:
        """Advance one cycle."""
        valid_out = tuple(valid_in and not done for done in self.done)
        served = [done or ready for done, ready in zip(self.done, ready_out, strict=True)]
        if valid_in:
            self.done = [False] * self.outputs if all(served) else served
        return all(served), valid_out


@dataclass(slots=True)
class ReplayBuffer:
    """``gw_replay_buffer``: ``depth`` slots and an output register; latency 2."""

    window: int
    repeats: int
    depth: int
    used: int = 0
    unread: int = 0
    index: int = 0
    turn: int = 0
    valid: bool = False

    def step(self, valid_in: bool, ready_out: bool) -> tuple[bool, bool]:
        """See :class:`CellModel`."""
        ready_in, valid_out = self.used < self.depth, self.valid
        if ready_out or not self.valid:
            self.valid = self.turn > 0 or self.unread > 0
            if self.valid:
                self.unread -= self.turn == 0
                self.used -= self.turn == self.repeats - 1
                self.index += 1
                if self.index == self.window:
                    self.index = 0
                    self.turn = (self.turn + 1) % self.repeats
        accepted = valid_in and ready_in
        self.used += accepted
        self.unread += accepted
        return ready_in, valid_out


@dataclass(slots=True)
class ReorderBuffer:
    """``gw_reorder_buffer``: two banks of ``count`` words, each read in ``reads``, and an output register."""

    count: int
    reads: int
    complete: int = 0
    written: int = 0
    read: int = 0
    valid: bool = False

    def step(self, valid_in: bool, ready_out: bool) -> tuple[bool, bool]:
        """See :class:`CellModel`."""
        ready_in, valid_out = self.complete < 2, self.valid
        freed = False
        if ready_out or not self.valid:
            self.valid = self.complete > 0
            self.read += self.valid
            freed = self.read == self.reads
        if freed:
            self.read = 0
        self.written += valid_in and ready_in
        filled = self.written == self.count
        if filled:
            self.written = 0
        self.complete += filled - freed
        return ready_in, valid_out


@dataclass(slots=True)
class Wires:
    """A ``gw_width_adapter`` that needs no register: latency 0."""

    def step(self, valid_in: bool, ready_out: bool) -> tuple[bool, bool]:
        """See :class:`CellModel`."""
        return ready_out, valid_in


@dataclass(slots=True)
class WidthUp:
    """``gw_width_up``: ``slots`` beats in make one out, ``tail`` the last of ``beats`` out; latency 1."""

    slots: int
    tail: int
    beats: int
    slot: int = 0
    beat: int = 0
    valid: bool = False

    def step(self, valid_in: bool, ready_out: bool) -> tuple[bool, bool]:
        """See :class:`CellModel`."""
        valid_out = self.valid
        ready_in = ready_out or not valid_out
        if ready_in:
            self.valid = False
            if valid_in:
                self.slot += 1
                if self.slot == (self.tail if self.beat == self.beats - 1 else self.slots):
                    self.valid = True
                    self.slot = 0
                    self.beat = (self.beat + 1) % self.beats
        return ready_in, valid_out


@dataclass(slots=True)
class WidthDown:
    """``gw_width_down``: a beat in makes ``slots`` out, the last of ``beats`` in ``tail``; latency 1."""

    slots: int
    tail: int
    beats: int
    slot: int = 0
    beat: int = 0
    valid: bool = False

    def step(self, valid_in: bool, ready_out: bool) -> tuple[bool, bool]:
        """See :class:`CellModel`."""
        valid_out = self.valid
        end = self.slot + 1 == (self.tail if self.beat == self.beats - 1 else self.slots)
        ready_in = not valid_out or (ready_out and end)
        if valid_out and ready_out:
            self.slot = 0 if end else self.slot + 1
            self.beat = (self.beat + end) % self.beats
        if ready_in:
            self.valid = valid_in
        return ready_in, valid_out


@dataclass(slots=True)
class WidthRing:
    """``gw_width_ring``: beats of ``units_in`` units in and ``units_out`` out (coprime); latency 1.

    ``endless``: the ring's length divides the sample, so that samples do not end.
    """

    units_in: int
    units_out: int
    beats_in: int
    beats_out: int
    endless: bool
    fill: int = 0
    ahead: int = 0
    beat_in: int = 0
    beat_out: int = 0

    def step(self, valid_in: bool, ready_out: bool) -> tuple[bool, bool]:
        """See :class:`CellModel`."""
        ready_in = self.ahead < 2 and self.fill <= (self.units_out - 1) * self.units_in
        valid_out = self.ahead > 0 or self.fill >= self.units_out
        accepted, delivered = valid_in and ready_in, valid_out and ready_out
        fill = self.fill + self.units_in * accepted - self.units_out * (delivered and self.ahead == 0)
        if not self.endless:
            self.beat_in = (self.beat_in + accepted) % self.beats_in
            self.beat_out = (self.beat_out + delivered) % self.beats_out
            written = accepted and self.beat_in == 0
            self.ahead += written - (delivered and self.beat_out == 0)
            fill = 0 if written else fill
        self.fill = fill
        return ready_in, valid_out


def width_adapter(tile_in: int, tile_out: int, elements: int) -> Wires | WidthUp | WidthDown | WidthRing:
    """The model of ``gw_width_adapter`` for these lanes per beat and elements per sample."""
    beats_in, beats_out = -(-elements // tile_in), -(-elements // tile_out)
    if tile_in == tile_out or beats_in == beats_out == 1:
        return Wires()
    if tile_out % tile_in == 0 or beats_out == 1:
        slots = beats_in if beats_out == 1 else tile_out // tile_in
        return WidthUp(slots, beats_in - (beats_out - 1) * slots, beats_out)
    if tile_in % tile_out == 0 or beats_in == 1:
        slots = beats_out if beats_in == 1 else tile_in // tile_out
        return WidthDown(slots, beats_out - (beats_in - 1) * slots, beats_in)
    unit = gcd(tile_in, tile_out)
    units_in, units_out = tile_in // unit, tile_out // unit
    endless = elements % (unit * units_in * units_out) == 0
    return WidthRing(units_in, units_out, beats_in, beats_out, endless)
