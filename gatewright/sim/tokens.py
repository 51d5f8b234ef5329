"""Token-level simulation: the exact cycles of a network, without data and without Verilator.

Every component is a small state machine over the handshakes of its channels (see
:class:`gatewright.ir.streams.network.Timing`); the cells' machines are those of
:mod:`gatewright.sim.cell_models`, which tests hold to the SystemVerilog cycle by cycle. What they do is computed
from the times at which beats move, and compiled by numba (:mod:`gatewright.sim.token_loop`): a run costs what its
beats cost, however many cycles lie between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewright.diagnostics import GatewrightError, error
from gatewright.ir.streams.network import Channel, Component, Network, Timing
from gatewright.sim import token_table as table

_NAMES = "source sink fifo fork replay reorder up down ring pipeline window read_window read_replay"
KINDS = {name: getattr(table, name.upper()) for name in _NAMES.split()}
UNBUFFERED = ("fork", "pipeline")
"""Kinds whose ready signal is a function of their valid inputs."""
ENDLESS_RING = 1 << 10
"""Beats of an endless buffer that are remembered at first; more where they are needed."""
FEWEST_SAMPLES = 8


@dataclass(frozen=True, slots=True)
class TokenResult:
    """What a token-level run measured, in cycles.

    ``latency``: from the first input beat of sample 0 to its last output beat, both included;
    ``interval``: between the ends of successive samples, the mean in steady state rounded up;
    ``occupancy``: for every FIFO and window the most beats that it held at once.
    """

    latency: int
    interval: int
    cycles: int
    occupancy: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Row:
    """One process of the simulation; ``beats`` and the number of the ``port`` are set for ports."""

    name: str
    kind: str
    parameters: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    beats: int = 0
    port: int = 0

    @property
    def is_unsteady(self) -> bool:
        """Whether it is a window that takes back words which it has left."""
        loops = self.parameters[0] if self.kind == "window" else 0
        return any(step < 0 for step in self.parameters[10 + 2 * loops : 11 + 3 * loops]) if loops else False

    @property
    def is_buffered(self) -> bool:
        """Whether it knows when it takes a beat before it knows when the beat comes."""
        return self.kind not in UNBUFFERED and not self.is_unsteady

    @property
    def latency(self) -> int:
        """Cycles in which a pipeline advances before a result is offered."""
        if self.kind.startswith("read_"):
            return self.parameters[-2]
        return self.parameters[0] if self.kind == "pipeline" else 0

    @property
    def shallow(self) -> _Row:
        """The same process where a pipeline has one stage."""
        if not self.latency:
            return self
        parameters = list(self.parameters)
        parameters[-2 if self.kind.startswith("read_") else 0] = 1
        return replace(self, parameters=tuple(parameters))

    @property
    def remembered(self) -> int:
        """Beats of its input whose times it may need at once."""
        given = self.parameters
        if self.kind == "fifo":
            return 2 * given[0]
        if self.kind in ("window", "read_window"):
            loops, depth, preload = given[:3]
            return 2 * (depth + preload + max(map(abs, given[10 + 2 * loops : 11 + 3 * loops])))
        if self.kind in ("replay", "read_replay"):
            return 2 * given[2]
        if self.kind == "ring":
            return 4 * (given[1] if given[4] else given[2])
        return {"reorder": 4, "up": 2, "down": 2}.get(self.kind, 0) * max(given[:2], default=0)


def _rows(network: Network) -> list[_Row]:
    """The processes of a network, with the numbers of their channels."""
    numbers: dict[str, int] = {}

    def number(*channels: Channel) -> tuple[int, ...]:
        return tuple(numbers.setdefault(channel.name, len(numbers)) for channel in channels)

    consumers = network.consumers()
    read: set[str] = set()
    rows: list[_Row] = []
    for channel in network.inputs:
        rows.append(_Row(channel.name, "source", (), (), number(channel), channel.layout.beats))
    for each in network.components:
        if each.name in read:
            continue
        timing, last = each.timing, each
        if timing.kind == "wires":  # the same beats in the same cycles
            numbers[each.outputs[0].name] = number(each.inputs[0])[0]
            continue
        reader = consumers.get(each.outputs[0].name)
        together = _read_together(timing, reader) if reader is not None else None
        if together is not None and reader is not None:
            timing, last = together, reader
            read.add(reader.name)
        rows.append(_Row(each.name, timing.kind, timing.parameters, number(*each.inputs), number(*last.outputs)))
    for port, channel in enumerate(network.outputs):
        rows.append(_Row(channel.name, "sink", (), number(channel), (), channel.layout.beats, port))
    return rows


def _read_together(timing: Timing, reader: Component) -> Timing | None:
    """A buffer and the unit that makes one result of every so many of its words, as one machine.

    Only where the unit reads nothing else; simulating both at once is then faster and the same.
    """
    behind = reader.timing
    if timing.kind not in ("window", "replay") or behind.kind != "pipeline" or len(reader.inputs) != 1:
        return None
    latency, *runs = behind.parameters
    if runs == [1, 1, 1, 1]:
        runs = [0, 1, 1, 0, *runs]
    if len(runs) != 8 or runs[1:4] != [1, 1, 0] or runs[4:] != [1, 1, 1, 1]:
        return None
    if _Row("", timing.kind, timing.parameters, (), ()).is_unsteady:
        return None
    return Timing(f"read_{timing.kind}", (*timing.parameters, latency, runs[0] + 1))


class TokenRun:
    """A run of a network from its first cycle, which can go on for more samples where it stopped.

    Inputs are always valid and outputs always ready; with ``pace`` inputs come evenly, a sample in that many cycles.
    ``shallow``: pipelines of one stage, the fewest results that one can hold while it stands still.
    """

    def __init__(self, network: Network, pace: int = 0, shallow: bool = False) -> None:
        self.network = network
        self.pace = pace
        rows = _rows(network)
        self.rows = [row.shallow for row in rows] if shallow else rows
        self._begin()

    def _begin(self) -> None:
        """Lay out the memory as it is before the first cycle."""
        count = 1 + max(number for row in self.rows for number in (*row.inputs, *row.outputs))
        layout = _Layout()
        self.channels = layout.records(count, table.CHANNEL_SIZE)
        self.components = layout.records(len(self.rows), table.COMPONENT_SIZE)
        for row, component in zip(self.rows, self.components, strict=True):
            self._place(layout, row, int(component))
        self.memory = layout.memory()
        self.used = len(self.memory)
        self.ends = np.zeros((len(self.network.outputs), 0), np.int64)
        _loop().begin(self.memory, self.components, self.channels)

    def _place(self, layout: _Layout, row: _Row, component: int) -> None:
        """The record of a component, its lists and rings, and its side of the channels' records."""
        inputs, outputs = ([int(self.channels[k]) for k in numbers] for numbers in (row.inputs, row.outputs))
        layout.set(component + table.KIND, KINDS[row.kind])
        layout.set(component + table.BEATS, row.beats)
        layout.set(component + table.INPUT, inputs[0] if inputs else 0)
        layout.set(component + table.OUTPUT, outputs[0] if outputs else 0)
        for column, entries in ((table.PARAMETERS, row.parameters), (table.INPUTS, inputs), (table.OUTPUTS, outputs)):
            layout.set(component + column, layout.place([len(entries), *entries]))
        results = 1 << (row.latency + 2).bit_length()
        layout.set(component + table.RESULTS, layout.place([0] * 2 * results))
        layout.set(component + table.RESULT_MASK, results - 1)
        if row.kind == "sink":
            layout.set(component + table.E, row.port)
        for channel in outputs:
            layout.set(channel + table.WRITER, component)
        for channel in inputs:
            remembered = row.remembered if row.remembered < table.ENDLESS else ENDLESS_RING
            length = 1 << (remembered + 64).bit_length()
            layout.set(channel + table.READER, component)
            layout.set(channel + table.BUFFERED, int(row.is_buffered))
            layout.set(channel + table.MASK, length - 1)
            for column in (table.SAID, table.TAKES, table.FREES):
                layout.set(channel + column, layout.place(np.zeros(length, np.int64)))

    def until(self, samples: int) -> TokenResult:
        """Go on until so many samples have passed. Raises GW0720 for a deadlock."""
        if self.samples and any(row.is_unsteady for row in self.rows):
            # Such a window has taken the end of the inputs into account.
            self._begin()
        ends = np.full((len(self.ends), samples), -1, np.int64)
        ends[:, : self.ends.shape[1]] = self.ends
        self.ends = ends
        while True:
            full = _loop().go_on(self.memory, self.components, samples, self.pace, ends)
            if full < 0:
                break
            self._lengthen(int(full))
        if (ends < 0).any():
            raise self._deadlock()
        inputs = self.channels[[row.outputs[0] for row in self.rows if row.kind == "source"]]
        first = min(int(self.memory[channel + table.FIRST]) for channel in inputs)
        half = samples // 2 if samples > 2 else 0
        interval = -(-int((ends[:, -1] - ends[:, half]).max()) // max(samples - 1 - half, 1))
        buffers = {each.name for each in self.network.components if each.timing.kind in ("fifo", "window")}
        peaks = zip(self.rows, _loop().most_held(self.memory, self.components), strict=True)
        occupancy = {row.name: int(peak) for row, peak in peaks if row.name in buffers}
        return TokenResult(int(ends[:, 0].max()) - first + 1, interval, int(ends[:, -1].max()) + 1, occupancy)

    def until_steady(self) -> TokenResult:
        """Go on for as many samples as the steady state needs: see :func:`simulate_tokens`."""
        count = max(FEWEST_SAMPLES, self.samples)
        while True:
            result = self.until(count)
            intervals = np.diff(self.ends, axis=1)
            under_way = -(-result.latency // max(int(intervals[:, -1].max()), 1))
            steady = bool(np.all(intervals[:, -4:] == intervals[:, -1:]))
            if count >= 2 * under_way + FEWEST_SAMPLES or (steady and count >= under_way + FEWEST_SAMPLES):
                return result
            if steady and _samples_held(self.network, result) < count - 4:
                return result
            count *= 2

    @property
    def samples(self) -> int:
        """Samples that have passed."""
        return self.ends.shape[1]

    @property
    def work(self) -> int:
        """The beats that have moved in all channels."""
        return int(self.memory[self.channels + table.TAKEN].sum())

    def _lengthen(self, channel: int) -> None:
        """Let the rings of a channel hold four times as many beats."""
        memory = self.memory
        mask = int(memory[channel + table.MASK])
        length = 4 * (mask + 1)
        last = int(max(memory[channel + table.KNOWN], memory[channel + table.TAKEN]))
        freed = int(memory[memory[channel + table.READER] + table.FREED])
        if self.used + 3 * length > len(memory):
            memory = np.concatenate([memory, np.zeros(max(len(memory), 3 * length), np.int64)])
        for column, end in ((table.SAID, last), (table.TAKES, last), (table.FREES, freed)):
            kept = np.arange(max(0, end - mask - 1), end)
            memory[self.used + kept % length] = memory[int(memory[channel + column]) + (kept & mask)]
            memory[channel + column] = self.used
            self.used += length
        memory[channel + table.MASK] = length - 1
        self.memory = memory

    def _deadlock(self) -> GatewrightError:
        stuck: list[str] = []
        for row in self.rows:
            for number in row.outputs:
                record = self.memory[self.channels[number] :][: table.CHANNEL_SIZE]
                waits = record[table.WAITS] == 1 or record[table.KNOWN] > record[table.TAKEN]
                if record[table.WAITS] == 1 if record[table.BUFFERED] else waits:
                    stuck.append(row.name)
                    break
        return error(
            "GW0720",
            f"the streams of {self.network.name} deadlock",
            note=f"these wait with a beat that nobody takes: {', '.join(stuck)}",
            help="this is a fault of the compiler: please report the model",
        )


class _Layout:
    """What lies where in the memory of a run."""

    def __init__(self) -> None:
        self._parts: list[Sequence[int] | NDArray[np.int64]] = []
        self._values: list[tuple[int, int]] = []
        self._size = 0

    def place(self, content: Sequence[int] | NDArray[np.int64]) -> int:
        """Where ``content`` will be."""
        begin = self._size
        self._parts.append(content)
        self._size += len(content)
        return begin

    def records(self, count: int, size: int) -> NDArray[np.int64]:
        """Where ``count`` empty records begin."""
        return self.place(np.zeros(count * size, np.int64)) + np.arange(count) * size

    def set(self, address: int, value: int) -> None:
        """Note an entry of a record."""
        self._values.append((address, value))

    def memory(self) -> NDArray[np.int64]:
        """The memory, with all that was placed and set."""
        memory = np.concatenate([np.asarray(part, np.int64) for part in self._parts])
        addresses, values = zip(*self._values, strict=True)
        memory[list(addresses)] = values
        return memory


def _loop() -> Any:
    """The compiled functions, loaded when they are needed: numba takes half a second."""
    from gatewright.sim import token_loop

    return token_loop


def simulate_tokens(network: Network, samples: int | None = None, pace: int = 0) -> TokenResult:
    """Run the network with inputs always valid and outputs always ready.

    By default for as many samples as the steady state needs: the last intervals are equal, and either
    no buffer holds nearly all samples (so that more of them would change nothing) or more samples
    have passed than are under way at once. With ``pace`` inputs come evenly, a sample in that many
    cycles. Raises GW0720 where the network deadlocks, naming the components that wait.
    """
    run = TokenRun(network, pace)
    return run.until_steady() if samples is None else run.until(samples)


def _samples_held(network: Network, result: TokenResult) -> int:
    """The most samples that any FIFO held at once."""
    held = 0
    for each in network.components:
        if each.name in result.occupancy:
            held = max(held, -(-result.occupancy[each.name] // max(each.inputs[0].layout.beats, 1)))
    return held
