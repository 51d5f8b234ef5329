"""Why a layer takes the cycles that it takes: the arithmetic behind the report's last column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gatewright.ir.streams.folding import Folding
from gatewright.ir.streams.forms import MatrixForm, Tile
from gatewright.ir.streams.geometry import Columns
from gatewright.ir.streams.network import Channel, Component
from gatewright.ir.streams.units import ContractUnit


@dataclass(frozen=True, slots=True)
class Step:
    """Another tile of the same layer: its multipliers, and the cycles a sample takes with them."""

    multipliers: int
    cycles: int


@dataclass(frozen=True, slots=True)
class Limit:
    """What a layer's ``cycles`` per sample come from.

    ``kind``: multipliers, window (it takes its input in) or stream (its busiest one has that many beats).
    ``operations``: multiplications per sample, ``multipliers``: what computes them. ``finer``: the step with the
    fewest multipliers that is faster; ``coarser``: the fastest with fewer multipliers. None where there is none.
    """

    kind: str
    cycles: int
    reason: str
    operations: int = 0
    multipliers: int = 0
    finer: Step | None = None
    coarser: Step | None = None

    def text(self, interval: int) -> str:
        """The reason, and the neighbouring step that tells why it is not otherwise, in a design of this interval."""
        if not self.operations:
            return self.reason
        step = self.coarser if self.cycles < interval else self.finer
        if step is None:
            return f"{self.reason}; " + ("none has fewer" if self.cycles < interval else "cannot be divided further")
        same = " in another shape" if step.multipliers == self.multipliers else ""
        return f"{self.reason}; {step.multipliers:,}{same} would take {step.cycles:,}"


def limit_of(members: Sequence[Component], folding: Folding) -> Limit:
    """What limits the layer that ``members`` make: its slowest contraction, or else its busiest stream."""
    values = [each.outputs[0].value for each in members if isinstance(each, ContractUnit)]
    found = [_contraction(folding.forms[value], folding.tiles[value]) for value in values]
    slowest = max(found, key=lambda each: each.cycles, default=None)
    busiest = max(
        (channel for each in members for channel in (*each.inputs, *each.outputs)),
        key=lambda channel: channel.layout.beats,
    )
    if slowest is not None and slowest.cycles >= busiest.layout.beats:
        return slowest
    return Limit("stream", busiest.layout.beats, _stream(busiest))


def _contraction(form: MatrixForm, tile: Tile) -> Limit:
    computing, passing = form.computing(tile), form.passing(tile)
    is_window = passing > computing
    reason = _window(form, tile) if is_window else _multipliers(form, tile)
    cycles = max(computing, passing)
    kind = "window" if is_window else "multipliers"
    neighbours = (_fewest(form, cycles - 1), _coarser(form, tile, cycles))
    return Limit(kind, cycles, reason, form.operations, tile.multipliers, *neighbours)


def _multipliers(form: MatrixForm, tile: Tile) -> str:
    count = tile.multipliers
    reason = f"{form.operations:,} MACs / {count:,} {_plural('multiplier', count)}"
    used = form.operations / (form.computing(tile) * count)
    return reason if used == 1 else f"{reason}, {used:.0%} used"


def _window(form: MatrixForm, tile: Tile) -> str:
    assert form.window is not None
    rows, columns = form.window.geometry.rows.size, form.window.geometry.columns.size
    if tile.columns:
        beats = Columns(form.window.geometry.columns, tile.columns).beats_in
        padding = "" if form.passing(tile) == rows * beats else " and its padding"
        return f"window takes in {rows:,} lines of {beats:,} {_plural('beat', beats)}{padding}"
    words = form.words(tile)
    padding = "" if form.passing(tile) == rows * columns * words else " and its padding"
    pixels = f"{rows} x {columns}" if rows > 1 else f"{columns}"
    return f"window takes in {pixels} pixels of {words} {_plural('beat', words)}{padding}"


def _stream(channel: Channel) -> str:
    layout = channel.layout
    return f"stream of {layout.rows:,} x {layout.elements:,} elements, {layout.lanes:,} a beat"


def _fewest(form: MatrixForm, cycles: int) -> Step | None:
    """The fewest multipliers that take at most ``cycles``."""
    return min(
        (Step(tile.multipliers, form.cycles(tile)) for tile in form.tiles(cycles)),
        key=lambda step: (step.multipliers, step.cycles),
        default=None,
    )


def _coarser(form: MatrixForm, tile: Tile, cycles: int) -> Step | None:
    """The fewest cycles with fewer multipliers than ``tile``: found by halving, for fewer never take less."""
    low, high = cycles + 1, form.cycles(form.serial_tile) + 1
    found: Step | None = None
    while low < high:
        middle = (low + high) // 2
        step = _fewest(form, middle)
        if step is not None and step.multipliers < tile.multipliers:
            found, high = step, middle
        else:
            low = middle + 1
    return found


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"
