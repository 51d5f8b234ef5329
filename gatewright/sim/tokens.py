"""Token-level simulation: the exact cycles of a network, without data and without Verilator.

Every component is a small state machine over the handshakes of its channels (see
:class:`gatewright.ir.streams.network.Timing`); the cells' machines are those of
:mod:`gatewright.sim.cell_models`, which tests hold to the SystemVerilog cycle by cycle. The loop is
compiled by numba.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewright.diagnostics import error
from gatewright.ir.streams.network import Component, Network, Timing

KINDS = {
    name: code
    for code, name in enumerate(
        (
            "source",
            "sink",
            "fifo",
            "fork",
            "wires",
            "replay",
            "reorder",
            "up",
            "down",
            "ring",
            "pipeline",
            "window",
            "read_window",
            "read_replay",
        )
    )
}
IDLE_LIMIT = 1 << 16
"""Cycles without any transfer after which the network is taken to be deadlocked."""


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
class _Tables:
    """The network as arrays: per component its name, kind, parameters, and input and output channels."""

    names: tuple[str, ...]
    kinds: NDArray[np.int64]
    parameters: NDArray[np.int64]
    inputs: NDArray[np.int64]
    outputs: NDArray[np.int64]
    beats: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Row:
    """One machine of the simulation; ``beats`` is set for ports."""

    name: str
    kind: str
    parameters: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    beats: int


def _tables(network: Network) -> _Tables:
    numbers = {channel.name: index for index, channel in enumerate(network.channels())}
    consumers = network.consumers()
    read: set[str] = set()
    rows: list[_Row] = []
    for channel in network.inputs:
        rows.append(_Row(channel.name, "source", (), (), (numbers[channel.name],), channel.layout.beats))
    for each in network.components:
        if each.name in read:
            continue
        timing, last = each.timing, each
        reader = consumers.get(each.outputs[0].name)
        together = _read_together(timing, reader) if reader is not None else None
        if together is not None and reader is not None:
            timing, last = together, reader
            read.add(reader.name)
        inputs = tuple(numbers[channel.name] for channel in each.inputs)
        outputs = tuple(numbers[channel.name] for channel in last.outputs)
        rows.append(_Row(each.name, timing.kind, timing.parameters, inputs, outputs, 0))
    for channel in network.outputs:
        rows.append(_Row(channel.name, "sink", (), (numbers[channel.name],), (), channel.layout.beats))
    # A channel between two components that are taken together has no ends: leave it out.
    used = sorted({number for row in rows for number in (*row.inputs, *row.outputs)})
    dense = {number: index for index, number in enumerate(used)}

    def columns(lists: list[tuple[int, ...]]) -> NDArray[np.int64]:
        result = np.full((len(rows), max(1, *(len(each) for each in lists)) + 1), -1, np.int64)
        for index, each in enumerate(lists):
            result[index, 0] = len(each)
            result[index, 1 : 1 + len(each)] = each
        return result

    return _Tables(
        tuple(row.name for row in rows),
        np.array([KINDS[row.kind] for row in rows], np.int64),
        columns([row.parameters for row in rows]),
        columns([tuple(dense[number] for number in row.inputs) for row in rows]),
        columns([tuple(dense[number] for number in row.outputs) for row in rows]),
        np.array([row.beats for row in rows], np.int64),
    )


def _read_together(timing: Timing, reader: Component) -> Timing | None:
    """A buffer and the unit that makes one result of every so many of its words, as one machine.

    Only where the unit reads nothing else; simulating both at once is then faster and the same.
    """
    behind = reader.timing
    if timing.kind not in ("window", "replay") or behind.kind != "pipeline" or len(reader.inputs) != 1:
        return None
    latency, *runs = behind.parameters
    if len(runs) != 8 or runs[1:4] != [1, 1, 0] or runs[4:] != [1, 1, 1, 1]:
        return None
    return Timing(f"read_{timing.kind}", (*timing.parameters, latency, runs[0] + 1))


FEWEST_SAMPLES = 8


def simulate_tokens(network: Network, samples: int | None = None, pace: int = 0) -> TokenResult:
    """Run the network with inputs always valid and outputs always ready.

    By default for as many samples as the steady state needs: the last intervals are equal, and either
    no buffer holds nearly all samples (so that more of them would change nothing) or more samples
    have passed than are under way at once. With ``pace`` inputs come evenly, a sample in that many
    cycles. Raises GW0720 where the network deadlocks, naming the components that wait.
    """
    tables = _tables(network)
    if samples is not None:
        return _run(network, tables, samples, pace)[0]
    count = FEWEST_SAMPLES
    while True:
        result, ends = _run(network, tables, count, pace)
        intervals = np.diff(ends, axis=1)
        under_way = -(-result.latency // max(int(intervals[:, -1].max()), 1))
        steady = bool(np.all(intervals[:, -4:] == intervals[:, -1:]))
        if count >= 2 * under_way + FEWEST_SAMPLES or (steady and count >= under_way + FEWEST_SAMPLES):
            return result
        if steady and _samples_held(network, result) < count - 4:
            return result
        count *= 2


def _samples_held(network: Network, result: TokenResult) -> int:
    """The most samples that any FIFO held at once."""
    held = 0
    for each in network.components:
        if each.name in result.occupancy:
            held = max(held, -(-result.occupancy[each.name] // max(each.inputs[0].layout.beats, 1)))
    return held


def _run(network: Network, tables: _Tables, samples: int, pace: int) -> tuple[TokenResult, NDArray[np.int64]]:
    """One run, and the cycles at which its samples end at every output.

    Outputs that share nothing run at their own pace: the slowest gives the interval.
    """
    # numba's decorator has no types.
    from gatewright.sim.token_loop import run_loop  # pyright: ignore[reportUnknownVariableType]

    stamps, cycles, peaks, waiting = run_loop(
        tables.kinds, tables.parameters, tables.inputs, tables.outputs, tables.beats, samples, pace, IDLE_LIMIT + pace
    )
    inputs, outputs = len(network.inputs), len(network.outputs)
    if cycles < 0:
        stuck = [name for name, flag in zip(tables.names, waiting, strict=True) if flag]
        raise error(
            "GW0720",
            f"the streams of {network.name} deadlock",
            note=f"these wait with a beat that nobody takes: {', '.join(stuck)}",
            help="this is a fault of the compiler: please report the model",
        )
    first = min(int(stamps[index, 0, 0]) for index in range(inputs))
    ends = stamps[-outputs:, :, 1]
    half = samples // 2 if samples > 2 else 0
    interval = -(-int((ends[:, -1] - ends[:, half]).max()) // max(samples - 1 - half, 1))
    buffers = {each.name for each in network.components if each.timing.kind in ("fifo", "window")}
    occupancy = {name: int(peak) for name, peak in zip(tables.names, peaks, strict=True) if name in buffers}
    return TokenResult(int(ends[:, 0].max()) - first + 1, interval, int(cycles), occupancy), ends
