"""Verification: the hardware in Verilator against the golden model, and where they first differ."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewright.backends.verilog.emit import Hardware
from gatewright.diagnostics import MismatchError, diagnostic, error
from gatewright.ir.graph import Graph
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.streams.network import Channel, Layout, Network
from gatewright.ir.types import Value
from gatewright.sim import golden
from gatewright.sim.harness import SimulationResult, Simulator, StreamPort, Tap, build
from gatewright.sim.sizing import least_cycles
from gatewright.sim.words import Words, pack_lanes, unpack_lanes

STALLS: Mapping[str, tuple[float, float]] = {
    "none": (0.0, 0.0),
    "input": (0.4, 0.0),
    "output": (0.0, 0.4),
    "both": (0.3, 0.3),
}
"""The probability per cycle that an input has a gap, and that an output pushes back, by regime."""


IDLE_CYCLES = 100_000
IDLE_STAGES = 20
"""A design is taken to be stuck after this many cycles without a transfer, plus this many of its intervals."""


def to_words(codes: IntegerArray, layout: Layout, width: int) -> Words:
    """Codes [samples, ...] as the words of a stream, in order; unused lanes are zero."""
    rows = np.asarray(codes).reshape(-1, layout.elements)
    padded = np.pad(rows, ((0, 0), (0, layout.beats_per_row * layout.lanes - layout.elements)))
    return pack_lanes(padded.reshape(-1, layout.lanes), width)


def from_words(words: Words, channel: Channel) -> NDArray[Any]:
    """The words of a stream as codes [samples, elements of a sample]."""
    layout = channel.layout
    lanes = unpack_lanes(words, channel.value.width, layout.lanes, channel.value.signed)
    rows = lanes.reshape(-1, layout.beats_per_row * layout.lanes)[:, : layout.elements]
    return rows.reshape(-1, layout.rows * layout.elements)


def ports_of(network: Network) -> list[StreamPort]:
    """The top level's streams."""
    inputs = [StreamPort(each.name, "input", each.width, each.layout.beats) for each in network.inputs]
    return inputs + [StreamPort(each.name, "output", each.width, each.layout.beats) for each in network.outputs]


def build_simulator(hardware: Hardware, network: Network, taps: Sequence[Channel] = ()) -> Simulator:
    """Compile the design with Verilator, or find it in the cache; ``taps`` are channels to record."""
    recorded = [
        Tap(
            f"tap_{each.name}",
            f"{each.name}_valid",
            f"{each.name}_ready",
            f"{each.name}_data",
            each.width,
            each.layout.beats,
        )
        for each in taps
    ]
    with tempfile.TemporaryDirectory(prefix="gatewright-") as folder:
        return build(hardware.write(Path(folder)), hardware.top, ports_of(network), taps=recorded)


@dataclass(frozen=True, slots=True)
class Run:
    """One simulation: output codes [samples, elements] by port, and cycles."""

    outputs: tuple[NDArray[Any], ...]
    cycles: int
    interval: float
    latency: int
    result: SimulationResult


def check_run(stalls: object, seed: object, samples: int) -> None:
    """Raise GW0420 for stalls or a seed that there are not, and GW0423 where there are no samples."""
    if not isinstance(stalls, str) or stalls not in STALLS:
        raise error("GW0420", f"unknown stalls `{stalls}`", help=f"choose one of {', '.join(STALLS)}")
    if not isinstance(seed, int):
        raise error("GW0420", f"the seed of the stalls is {seed!r}", help="give a whole number")
    if samples == 0:
        raise error("GW0423", "there are no samples to simulate", help="give inputs with at least one sample")


def run(
    simulator: Simulator, network: Network, codes: Sequence[IntegerArray], stalls: str = "none", seed: int = 0
) -> Run:
    """Send input codes [samples, ...] through the design under a stall regime."""
    samples = int(np.shape(codes[0])[0])
    check_run(stalls, seed, samples)
    words = {
        channel.name: to_words(array, channel.layout, channel.value.width)
        for channel, array in zip(network.inputs, codes, strict=True)
    }
    gap, pressure = STALLS[stalls]
    # Between the last input and the first output every stage may work on a sample in turn.
    patience = IDLE_CYCLES + IDLE_STAGES * max(map(least_cycles, network.components), default=0)
    result = simulator.run(words, samples, input_stall=gap, output_stall=pressure, seed=seed, idle_limit=patience)
    outputs = tuple(from_words(result.streams[each.name].words, each) for each in network.outputs)
    return Run(outputs, result.cycles, result.interval, result.latency, result)


def first_mismatch(
    hardware: Hardware,
    network: Network,
    graph: Graph,
    codes: Sequence[IntegerArray],
    stalls: str,
    seed: int,
) -> MismatchError:
    """Tap every stream of the design and name the first that differs from the golden model.

    Simulates again; the order is that of the data flow.
    """
    samples = int(np.shape(codes[0])[0])
    expected = {
        value: np.reshape(array, (samples, *value.shape)) for value, array in zip(graph.inputs, codes, strict=True)
    }
    golden.evaluate(graph, list(expected.values()), expected.__setitem__)
    taps = [
        channel
        for channel in network.channels()
        if channel.value in expected and channel.layout.rows * channel.layout.elements == channel.value.size
    ]
    simulator = build_simulator(hardware, network, taps)
    result = run(simulator, network, codes, stalls, seed).result
    for channel in taps:
        found = from_words(result.streams[f"tap_{channel.name}"].words, channel)
        wanted = np.broadcast_to(expected[channel.value], (samples, *channel.value.shape)).reshape(samples, -1)
        wrong = np.argwhere(found != wanted)
        if len(wrong):
            sample, element = (int(each) for each in wrong[0])
            return mismatch(channel.value, found, wanted, sample, element, len(wrong), f"stream {channel.name}")
    return MismatchError(
        diagnostic(
            "GW0422",
            "the outputs differ from the golden model, but no stream inside the design does",
            note="the fault lies between the last stream and the port",
        )
    )


def mismatch(
    value: Value,
    found: NDArray[Any],
    wanted: NDArray[Any],
    sample: int,
    element: int,
    count: int,
    where: str,
) -> MismatchError:
    """The error that names layer, sample and element."""
    index = tuple(int(each) for each in np.unravel_index(element, value.shape)) if value.shape else ()
    return MismatchError(
        diagnostic(
            "GW0421",
            f"hardware and golden model differ first in `{value.location.module or value.name}`",
            location=value.location,
            note=[
                (
                    f"{where}, sample {sample}, element {list(index)}: "
                    f"hardware {int(found[sample, element])}, golden {int(wanted[sample, element])} ({value.format})"
                ),
                f"{count} of {found.size} elements of this stream differ",
            ],
            help="please report this with the model: generated hardware must equal its model",
        )
    )
