"""What every convolutional design must hold."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import gatewright as gw
from gatewright.ir.streams.cells import Fifo
from gatewright.ir.streams.lower import UNSIZED
from gatewright.ir.streams.network import Channel
from gatewright.ir.streams.window_units import WindowUnit
from gatewright.sim.harness import SimulationResult, Simulator, Tap, build
from gatewright.sim.tokens import simulate_tokens
from gatewright.sim.verify import STALLS, ports_of, to_words

FORMATS = {"default": {"input": "fixed<6,3>", "weight": "fixed<5,4>", "bias": "fixed<6,4>"}}


def compiled(model: nn.Module, x: Tensor, interval: int | None = None) -> gw.Design:
    """The design at ``interval``, or at the smallest larger one, doubled as often as it takes."""
    while True:
        try:
            return gw.compile(model, (x[:1],), formats=FORMATS, interval=interval)
        except gw.GatewrightError as problem:
            if interval is None or "cannot be met" not in str(problem):
                raise
            interval *= 2


def check(design: gw.Design, x: Tensor, seed: int = 0) -> None:
    """PyTorch, golden model and hardware agree under all stalls, and the token-level simulation is exact.

    That is: latency, interval, and the most that every FIFO and line buffer holds are what Verilator shows.
    """
    assert all(each.depth < UNSIZED for each in design.schedule.network.components if isinstance(each, Fifo))
    with torch.no_grad():
        found, expected = design.module(x), design(x)
    pairs = zip(_tuple(found), _tuple(expected), strict=True)
    assert all(torch.equal(one.double(), other) for one, other in pairs)
    design.simulator = _tapped(design, len(x))
    check_occupancies(design, x)
    for stalls in STALLS:
        measured = design.verify(x, stalls=stalls, seed=seed)
        if stalls == "none":
            assert (measured.interval, measured.latency) == (design.interval, design.latency)


def _tuple(value: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


# ---- occupancies -------------------------------------------------------------------------------
def check_occupancies(design: gw.Design, x: Tensor) -> None:
    """The most beats that every FIFO held, and words that every line buffer held, in Verilator and by tokens."""
    plan, network = design.schedule, design.schedule.network
    words = {
        channel.name: to_words(array, channel.layout, channel.value.width)
        for channel, array in zip(network.inputs, plan.carried(design.encode(x)), strict=True)
    }
    result = design.simulator.run(words, len(x), trace=True)
    expected = simulate_tokens(network, len(x))
    assert result.latency == expected.latency
    measured = _measured(design, result)
    assert measured == {name: expected.occupancy[name] for name in measured}
    assert measured.keys() == expected.occupancy.keys()


def _measured(design: gw.Design, result: SimulationResult) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in design.schedule.network.components:
        if isinstance(each, Fifo):
            moved = [result.streams[f"{each.name}_{side}"].trace == 3 for side in ("in", "out")]
            found[each.name] = int(np.max(np.cumsum(moved[0].astype(int) - moved[1])))
        if isinstance(each, WindowUnit):
            stream = result.streams[f"{each.name}_level"]
            level = stream.words[: stream.transfers].astype(np.int64)
            found[each.name] = int(np.max(np.where(level >> (each.level_width - 1), 0, level)))
    return found


def _tapped(design: gw.Design, samples: int) -> Simulator:
    """The simulator with both sides of every FIFO and the level of every line buffer to be seen."""
    network = design.schedule.network
    cycles = 2 * (design.latency + samples * design.interval) + 100
    taps: list[Tap] = []
    for each in network.components:
        if isinstance(each, Fifo):
            taps += [_handshake(each, "in", each.inputs[0]), _handshake(each, "out", each.outputs[0])]
        if isinstance(each, WindowUnit):
            always = f"u_{each.name}.rst_ni"
            level = f"u_{each.name}.level_q"
            taps.append(Tap(f"{each.name}_level", always, always, level, each.level_width, -(-cycles // samples)))
    with tempfile.TemporaryDirectory(prefix="gatewright-") as folder:
        return build(design.hardware.write(Path(folder)), design.hardware.top, ports_of(network), taps=taps)


def _handshake(fifo: Fifo, side: str, channel: Channel) -> Tap:
    valid = f"{channel.name}_valid"
    return Tap(f"{fifo.name}_{side}", valid, f"{channel.name}_ready", valid, 1, channel.layout.beats)
