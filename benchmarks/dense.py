"""Dense networks in hardware: cycles, resources, and what compiling and simulating them takes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from math import ceil
from pathlib import Path

import torch
from torch import nn

import gatewright as gw
from benchmarks import jet
from benchmarks.common import Row, at_least, at_most, exactly
from gatewright.sim.harness import build
from gatewright.sim.verify import ports_of, run

EIGHT_BITS = {"default": {"input": "fixed<8,6>", "weight": "fixed<8,6>", "bias": "fixed<8,6>"}}


def rows() -> Iterator[Row]:
    """The goals for single layers, for chains of layers, and for the jet-tagging network."""
    yield from _single_layers()
    yield from _chain()
    yield from _jet()


def _single_layers() -> Iterator[Row]:
    torch.manual_seed(0)
    samples = torch.rand(20, 16, 32) * 2 - 1
    design = gw.compile(nn.Linear(32, 16), (samples[:1],), formats=EIGHT_BITS, interval=256)
    check = design.verify(samples)
    used = design.synth("xcup")
    peers = {"MASE": 8244}
    yield Row(
        "linear 32->16, 16 rows, 32 multipliers: cycles a row",
        check.interval / 16,
        "cycles",
        "simulated",
        exactly(16),
        {"MASE": 16},
    )
    yield Row("linear 32->16, 32 multipliers: LUT", used.lut, "LUT", "synthesised", at_most(1600), peers)
    yield Row("linear 32->16, 32 multipliers: DSP", used.dsp, "DSP48E2", "synthesised", at_most(32), {"MASE": 32})
    few = torch.rand(20, 16) * 2 - 1
    formats = {"default": {**EIGHT_BITS["default"], "output": "fixed<8,6>"}}
    small = gw.compile(nn.Sequential(nn.Linear(16, 8), nn.ReLU()), (few[:1],), formats=formats, interval=128)
    small.verify(few)
    used = small.synth("xcup")
    yield Row("linear 16->8 + ReLU, one multiplier: LUT", used.lut, "LUT", "synthesised", at_most(200), {"MASE": 1569})
    yield Row("linear 16->8 + ReLU, one multiplier: FF", used.ff, "FF", "synthesised", None, {"MASE": 1734})


def _chain() -> Iterator[Row]:
    """Interval of chains equals max over layers of ceil(in/SIMD) x ceil(out/PE)."""
    torch.manual_seed(0)
    widths = (24, 40, 17, 9)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    samples = torch.rand(40, widths[0]) * 2 - 1
    bubbles = 0.0
    for interval in (960, 300, 77, 16, 3, 1):
        design = gw.compile(nn.Sequential(*layers), (samples[:1],), formats=EIGHT_BITS, interval=interval)
        ideal = max(
            ceil(form.inputs / tile.inputs) * ceil(form.outputs / tile.outputs)
            for form, tile in (
                (design.schedule.folding.forms[value], tile) for value, tile in design.schedule.folding.tiles.items()
            )
        )
        bubbles = max(bubbles, abs(design.verify(samples).interval - ideal))
    yield Row(
        "chain 24-40-17-9 at six intervals: bubble cycles a sample, most",
        bubbles,
        "cycles",
        "simulated",
        exactly(0),
        note="measured interval less max of ceil(in/SIMD) x ceil(out/PE)",
    )


def _jet() -> Iterator[Row]:
    example, inputs = (jet.inputs()[:1],), jet.inputs()
    began = time.perf_counter()
    design = gw.compile(jet.model(), example, formats=jet.FORMATS, interval=64)
    compiled = time.perf_counter() - began
    equal = int((design(inputs) == jet.expected()).all(dim=1).sum())
    yield Row("jet network: golden outputs equal", equal, "samples", "measured", exactly(jet.SAMPLES))
    yield Row(
        "jet network, interval 64: gw.compile",
        compiled,
        "s",
        "measured",
        at_most(5),
        {"da4ml": 1.0, "hls4ml": 8.2, "NNgen": 2.1, "alkaid": 2.2},
    )
    network = design.schedule.network
    with tempfile.TemporaryDirectory() as folder:
        sources = design.hardware.write(Path(folder) / "rtl")
        warm = Path(folder) / "cache"
        began = time.perf_counter()
        simulator = build(sources, design.hardware.top, ports_of(network), cache=warm)
        built = time.perf_counter() - began
        codes = design.encode(inputs)
        run(simulator, network, [each[:10] for each in codes])
        began = time.perf_counter()
        done = run(simulator, network, codes)
        seconds = time.perf_counter() - began
    yield Row(
        "jet network, interval 64: Verilator build, nothing cached",
        built,
        "s",
        "measured",
        at_most(25),
        {"da4ml": 223, "NNgen": 27},
    )
    yield Row("jet network, interval 64: RTL simulation", done.cycles / seconds, "cycles/s", "measured", at_least(1e6))
    yield Row(
        "jet network, interval 64: RTL samples a second",
        len(inputs) / seconds,
        "samples/s",
        "measured",
        None,
        {"NNgen": 70},
    )
    design.verify(inputs, stalls="both")
    used = design.synth("xcup")
    yield Row(
        "jet network, interval 64: LUT",
        used.lut,
        "LUT",
        "synthesised",
        None,
        note=f"{used.dsp} DSP, {used.ff} FF, {used.bram} block RAM",
    )
    serial = gw.compile(jet.model(), example, formats=jet.FORMATS)
    check = serial.verify(inputs[:200])
    used = serial.synth("xcup")
    yield Row(
        "jet network, one multiplier a layer: interval",
        check.interval,
        "cycles",
        "simulated",
        exactly(2048),
        {"sandcastles": 4411, "NNgen 2x2": 3041},
    )
    yield Row(
        "jet network, one multiplier a layer: LUT",
        used.lut,
        "LUT",
        "synthesised",
        at_most(1200),
        {"sandcastles": 1518, "NNgen 2x2": 8878},
        f"{used.dsp} DSP, {used.ff} FF, {used.bram} block RAM",
    )
