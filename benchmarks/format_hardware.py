"""Number formats in hardware: LUTs of a block's dot product, of the block quantiser, and of a layer in every pair.

Everything goes through Yosys 0.70, synth_xilinx -family xcup -nodsp unless a row says otherwise. Peers are the
modules of MX-for-FPGA (2024) in the same flow.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import gatewright as gw
from benchmarks.common import Row, at_most
from gatewright.backends.synthesis import SynthesisResult, synthesise
from gatewright.backends.verilog.dots import dot_module
from gatewright.backends.verilog.emit import emit
from gatewright.ir.blocks import quantise_blocks
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.formats import Fixed, ScalarFormat, parse_cast, parse_format
from gatewright.ir.streams.folding import fold
from gatewright.ir.streams.lower import lower
from gatewright.ir.targets import Target
from gatewright.ir.transforms.fuse_maps import fuse_maps
from gatewright.ir.transforms.normalise import normalise
from gatewright.ir.types import Type, Value
from gatewright.sim.sizing import size_fifos

DOTS = {
    "MXINT8": ("fixed<8,6>", 4900, 5454),
    "E4M3": ("e4m3", 4400, 5459),
    "E5M2": ("e5m2", 6500, 8065),
    "E3M2": ("e3m2", 2400, 3013),
    "E2M3": ("e2m3", 2100, 2589),
    "E2M1": ("e2m1", 800, 1343),
}
"""Element format, goal and peer of the dot product of 32 pairs."""
QUANTISERS = {"mxint8": (2400, 450, 2671), "mxfp8": (3500, 600, 4420), "mxfp4": (2400, 450, 3477)}
"""Goals at 32 and at 4 lanes, and the peer at 32 lanes: all from bfloat16."""
PAIRS = (
    "fixed<8,4>/fixed<8,6>", "mxint8/mxint8", "mxfp4/mxfp4", "fixed<8,4>/ternary", "fixed<8,4>/binary", "binary/binary",
    "e4m3/e4m3", "e5m2/e5m2", "e3m2/e3m2", "e2m3/e2m3", "e2m1/e2m1", "e4m3/e2m1", "e4m3/mxfp4", "mxfp8/mxfp8",
    "mxfp8_e5m2/mxfp8_e5m2", "mxfp6/mxfp6", "mxfp6_e2m3/mxfp6_e2m3", "nvfp4/nvfp4",
    "mxint8/mxfp4", "fixed<8,4>/fixed<4,2>",
    "fixed<4,2>/fixed<4,2>", "fixed<8,4>/e2m1", "fixed<8,4>/log<4>", "fixed<8,4>/mxint4", "ternary/ternary",
    "block<fixed<6,5>,e8m0,16>/block<fixed<6,5>,e8m0,16>",
)  # fmt: skip
LAYER_GOALS = {"mxint8/mxint8": 1.25, "mxfp4/mxfp4": 0.60, "fixed<8,4>/ternary": 0.35, "fixed<8,4>/binary": 0.15}
"""Most LUTs without DSP, as a share of the fixed 8-bit layer's without DSP: of ours, which is the smaller one."""
MIXED_WIDTHS = (
    (4, 4), (6, 4), (6, 6), (8, 2), (8, 3), (8, 4), (8, 6), (8, 8), (10, 6), (12, 8), (12, 12), (16, 8), (16, 16),
)  # fmt: skip
"""Bits of activations and of weights."""
Widths = tuple[int, int]


def dot_product(name: str, size: int = 32) -> SynthesisResult:
    """A registered dot product of ``size`` pairs of codes, decoding and final sign included."""
    format = parse_format(name)
    assert isinstance(format, ScalarFormat)
    value = Value("operand", Type((size,), format, interval_of_codes(format)))
    with tempfile.TemporaryDirectory() as folder:
        paths: list[Path] = []
        for file, text in dot_module(value, value, size, "dot").items():
            paths.append(Path(folder) / file)
            paths[-1].write_text(text)
        return synthesise(paths, "dot", "xcup", no_dsp=True)


def quantiser(name: str, lanes: int, source: str = "bfloat16") -> SynthesisResult:
    """The quantiser of a stream into blocks of 32, ``lanes`` elements a cycle."""
    spec = parse_cast(name)
    builder = Builder("quantiser")
    format = parse_format(source)
    assert isinstance(format, ScalarFormat)
    value = builder.input("x", Type((32,), format, interval_of_codes(format)))
    block = quantise_blocks(builder, value, spec)
    graph = fuse_maps(normalise(builder.finish([block.elements, block.scales], ["elements", "scales"])))
    network, cycles = size_fifos(lower(graph, fold(graph, 32 // lanes), Target("xcup")))
    hardware = emit(network, "benchmark", cycles.interval, cycles.latency)
    with tempfile.TemporaryDirectory() as folder:
        return synthesise(hardware.write(Path(folder)), hardware.top, "xcup", no_dsp=True)


def layer(pair: str, use_dsp: bool = False, **options: Any) -> SynthesisResult:
    """The linear layer 32 to 16 with 32 multipliers after synthesis."""
    return layer_design(pair, use_dsp).synth(**options)


def layer_design(pair: str, use_dsp: bool) -> gw.Design:
    """The layer; its weights are spread over the format's range, fixed-point ones evenly.

    Every bit of them varies then. Of normally distributed weights of 2 bits nearly all are zero, and synthesis removes
    what a constant bit leaves of a multiplier, so that the layer would not show what a multiplier costs.
    """
    activation, weight = pair.split("/")
    torch.manual_seed(0)
    model = nn.Linear(32, 16)
    format = parse_format(weight)
    with torch.no_grad():
        model.weight.copy_(torch.randn(16, 32))
        if isinstance(format, Fixed):
            high = float(format.largest)
            model.weight.uniform_(-high if format.signed else 0.0, high)
            model.bias.clamp_(-7.0, 7.0)
    formats = {"default": {"input": activation, "weight": weight, "bias": "fixed<8,4>"}}
    target = gw.Target("xcup", use_dsp=use_dsp)
    return gw.compile(model, (torch.randn(2, 32),), formats, target=target, interval=16)


def rows() -> Iterator[Row]:
    """Dot products, quantisers, and the layer in every pair."""
    for name, (format, goal, peer) in DOTS.items():
        found = dot_product(format)
        yield Row(f"dot product of 32, {name}", found.lut, "LUT", "synthesised", at_most(goal), {"MX-for-FPGA": peer})
    for name, (wide, narrow, peer) in QUANTISERS.items():
        for lanes, goal in ((32, wide), (4, narrow)):
            peers = {"MX-for-FPGA": float(peer)} if lanes == 32 else {}
            for source in ("bfloat16", "fixed<16,8>"):
                found = quantiser(name, lanes, source)
                title = f"block quantiser {source} to {name}, {lanes} lanes"
                # The peer reads bfloat16 too; its converters come in no other width and from no other format.
                same = source == "bfloat16"
                goals, shown = (at_most(goal), peers) if same else (None, {})
                yield Row(title, found.lut, "LUT", "synthesised", goals, shown, f"{found.ff} FF")
    reference, plain = layer(PAIRS[0]), layer(PAIRS[0], use_dsp=True, no_dsp=True)
    note = "the same layer, its multipliers left to Yosys without DSP"
    yield Row("linear 32 to 16, 32 multipliers, fixed 8-bit by Yosys", plain.lut, "LUT", "synthesised", note=note)
    for pair in PAIRS:
        found = layer(pair)
        goal = at_most(LAYER_GOALS[pair] * reference.lut) if pair in LAYER_GOALS else None
        note = f"{found.lut / reference.lut:.0%} of ours for fixed 8-bit, {found.lut / plain.lut:.0%} of Yosys's; "
        note += f"{found.dsp} DSP"
        yield Row(f"linear 32 to 16, 32 multipliers, {pair}", found.lut, "LUT", "synthesised", goal, note=note)
    hard = layer(PAIRS[0], use_dsp=True)
    found = layer("mxint8/mxint8", use_dsp=True)
    note = f"{found.lut / hard.lut:.2f} x fixed 8-bit, {found.dsp} DSP"
    yield Row("linear 32 to 16, mxint8 with DSP", found.lut, "LUT", "synthesised", at_most(1.25 * hard.lut), note=note)
    yield from mixed_widths()


def mixed_widths() -> Iterator[Row]:
    """Whether LUTs grow no faster than the product of the two widths, over all pairs of layers in order."""
    cost = mixed_costs(MIXED_WIDTHS)
    for (a, b), lut in cost.items():
        note = f"{lut / (a * b):.1f} LUT per bit x bit"
        yield Row(f"linear 32 to 16, mixed widths, {a} x {b} bits", lut, "LUT", "synthesised", note=note)
    growth = growths(cost)
    small, large = max(growth, key=lambda pair: growth[pair])
    note = f"largest from {small[0]} x {small[1]} to {large[0]} x {large[1]} bits, of {len(growth)} pairs of layers"
    title = "mixed widths: growth of LUT over growth of the product of widths"
    yield Row(title, growth[small, large], "", "synthesised", at_most(1.0), note=note)


def mixed_costs(widths: Iterable[Widths]) -> dict[Widths, int]:
    """LUTs of the layer without hard multipliers, by the bits of its activations and weights."""
    return {(a, b): layer(f"fixed<{a},{a // 2}>/fixed<{b},{b - 2}>").lut for a, b in widths}


def growths(cost: Mapping[Widths, float]) -> dict[tuple[Widths, Widths], float]:
    """Growth of the cost over growth of the product of the widths, from each layer to each that is wider."""
    return {
        (small, large): cost[large] / cost[small] * (small[0] * small[1]) / (large[0] * large[1])
        for small in cost
        for large in cost
        if small != large and small[0] <= large[0] and small[1] <= large[1]
    }
