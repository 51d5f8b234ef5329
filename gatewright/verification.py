"""What ``Design.simulate`` and ``Design.verify`` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewright.ir.intervals import IntegerArray
from gatewright.sim import golden
from gatewright.sim.verify import first_mismatch, run

if TYPE_CHECKING:
    from gatewright.api import Design


@dataclass(frozen=True, slots=True)
class Simulation:
    """Outputs of the hardware as real numbers (one tensor or a tuple), and its cycles.

    ``interval`` is the mean number of cycles between samples in the second half of the run, ``latency`` that
    from the first sample's first input beat to its last output beat.
    """

    outputs: Any
    cycles: int
    interval: float
    latency: int


@dataclass(frozen=True, slots=True)
class Verification:
    """A comparison without a difference: how many samples, under which stalls, in how many cycles."""

    samples: int
    stalls: str
    cycles: int
    interval: float
    latency: int


@dataclass(frozen=True, slots=True)
class CocotbVerification:
    """A comparison under cocotb without a difference, with a reset in mid-stream before it."""

    samples: int
    stalls: str
    cycles: int


def verify_with_cocotb(design: Design, codes: Sequence[IntegerArray], stalls: str, seed: int) -> CocotbVerification:
    """The same words and stalls as :func:`verify`, driven by cocotb, after a run that a reset cuts off."""
    import tempfile
    from pathlib import Path

    from gatewright.sim.cocotb_harness import run_cocotb
    from gatewright.sim.verify import STALLS, check_run, from_words, ports_of, to_words

    network, plan = design.schedule.network, design.schedule
    samples = int(np.shape(codes[0])[0])
    check_run(stalls, seed, samples)
    ported = plan.carried(codes)
    words = {
        channel.name: to_words(array, channel.layout, channel.value.width)
        for channel, array in zip(network.inputs, ported, strict=True)
    }
    gap, pressure = STALLS[stalls]
    with tempfile.TemporaryDirectory(prefix="gatewright-") as folder:
        sources = design.hardware.write(Path(folder))
        done = run_cocotb(
            sources,
            design.hardware.top,
            ports_of(network),
            words,
            {},
            samples,
            input_stall=gap,
            output_stall=pressure,
            seed=seed,
        )
    found = plan.seen([from_words(done.outputs[each.name], each) for each in network.outputs])
    for array, wanted in zip(found, golden.evaluate(design.integer_graph, codes), strict=True):
        if not np.array_equal(np.asarray(array).reshape(samples, -1), wanted.reshape(samples, -1)):
            raise first_mismatch(design.hardware, network, plan.graph, ported, stalls, seed)
    return CocotbVerification(samples, stalls, done.cycles)


def simulate(design: Design, codes: Sequence[IntegerArray], stalls: str, seed: int) -> Simulation:
    """Run the hardware on input codes."""
    import torch

    done = run(design.simulator, design.schedule.network, design.schedule.carried(codes), stalls, seed)
    outputs = design.decode(design.schedule.seen(done.outputs))
    tensors = tuple(torch.from_numpy(np.ascontiguousarray(each)) for each in outputs)
    return Simulation(tensors[0] if len(tensors) == 1 else tensors, done.cycles, done.interval, done.latency)


def verify(design: Design, codes: Sequence[IntegerArray], stalls: str, seed: int) -> Verification:
    """Compare every output code; on a difference find where it starts."""
    graph, plan = design.integer_graph, design.schedule
    ported = plan.carried(codes)
    done = run(design.simulator, plan.network, ported, stalls, seed)
    samples = int(np.shape(codes[0])[0])
    expected = golden.evaluate(graph, codes)
    for found, wanted in zip(plan.seen(done.outputs), expected, strict=True):
        if not np.array_equal(found.reshape(samples, -1), wanted.reshape(samples, -1)):
            raise first_mismatch(design.hardware, plan.network, plan.graph, ported, stalls, seed)
    return Verification(samples, stalls, done.cycles, done.interval, done.latency)
