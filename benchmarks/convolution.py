"""Convolutional networks in hardware: cycles against the schedule's ideal, resources, and what compiling takes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import gatewright as gw
from benchmarks.common import Row, at_least, at_most
from examples import lenet, transformers_cnn
from examples.mlperf_tiny import FORMATS, prepared
from gatewright.ir.streams.cost import estimate_network
from gatewright.ir.streams.units import ContractUnit

EIGHT_BITS = {"default": {"input": "fixed<8,6>", "weight": "fixed<8,6>", "bias": "fixed<8,6>"}}

SYNTHESISED = {("resnet8", 200_000)}
"""The networks that Yosys maps in minutes; beside its figures the estimates show how near those of the others are."""
COMPILED_WITHIN = {"mobilenet": 30}
"""Seconds: folding and the sizes of buffers alone have to meet it; here the whole of gw.compile does."""


def rows() -> Iterator[Row]:
    """The small network of the peers, contractions of growing size, and the networks of the examples."""
    yield from _small()
    yield from _growth()
    for interval in (200_000, 50_000, 10_000):
        yield from _network("resnet8", interval, 2)
    yield from _network("ds_cnn", 50_000, 2)
    yield from _network("mobilenet", 100_000, 1)
    yield from _network("autoencoder", 16_384, 4)
    yield from _lenet()
    for name in transformers_cnn.NETWORKS:
        yield from _architecture(name, 50_000)


def ideal_interval(design: gw.Design) -> int:
    """The most cycles that any layer needs: its multiplications over its multipliers."""
    folding = design.schedule.folding
    return max(-(-form.operations // folding.tiles[value].multipliers) for value, form in folding.forms.items())


def weight_memory(design: gw.Design) -> int:
    """Bits of the memories that hold weights: the words of every contraction's file times their width."""
    network = design.schedule.network
    bits = 0
    for each in network.components:
        if isinstance(each, ContractUnit):
            words = design.hardware.files[f"{network.name}_{each.name}_weights.hex"].count("\n")
            bits += words * each.inputs_per_beat * each.outputs_per_beat * each.weight_interval.width
    return bits


def weight_count(model: nn.Module) -> int:
    """The weights of the convolutions and linear layers."""
    layers = (nn.Conv2d, nn.Linear)
    return sum(each.weight.numel() for each in model.modules() if isinstance(each, layers))


def _small() -> Iterator[Row]:
    """1x28x28, two 3x3 convolutions with ReLU and pooling, a linear layer."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 10),
    ).eval()
    x = torch.randn(6, 1, 28, 28)
    design = gw.compile(model, (x[:1],), EIGHT_BITS, interval=5900)
    done = design.verify(x)
    used = design.synth("xcup")
    multipliers = design.schedule.folding.multipliers
    yield Row("small conv net: multipliers", multipliers, "multipliers", "estimated", at_most(36), {"NNgen": 36})
    yield Row("small conv net: cycles an image", done.interval, "cycles", "simulated", at_most(5900), {"NNgen": 17225})
    yield Row(
        "small conv net: interval over ideal", done.interval / ideal_interval(design), "", "simulated", at_most(1.05)
    )
    yield Row("small conv net: LUT", used.lut, "LUT", "synthesised", None, {"da4ml": 1_850_000})
    yield Row("small conv net: DSP", used.dsp, "DSP48E2", "synthesised")
    yield Row("small conv net: block RAM", used.bram, "blocks", "synthesised")


def _growth() -> Iterator[Row]:
    """LUTs of one convolution with growing numbers of multipliers: a straight line."""
    torch.manual_seed(0)
    model = nn.Conv2d(16, 16, 3, padding=1).eval()
    x = torch.randn(1, 16, 8, 8)
    points: list[tuple[float, float]] = []
    for interval in (36_864, 9_216, 4_608, 2_304, 1_152):
        design = gw.compile(model, (x,), EIGHT_BITS, interval=interval)
        points.append((design.schedule.folding.multipliers, design.synth("xcup", no_dsp=True).lut))
    yield Row("conv 16->16 3x3: R2 of LUTs over multipliers", _determination(points), "", "synthesised", at_least(0.98))


def _determination(points: list[tuple[float, float]]) -> float:
    """The coefficient of determination of the best straight line."""
    x, y = torch.tensor(points, dtype=torch.float64).T
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    left = ((y - y.mean() - slope * (x - x.mean())) ** 2).sum()
    return float(1 - left / ((y - y.mean()) ** 2).sum())


def _network(name: str, interval: int, samples: int) -> Iterator[Row]:
    model, inputs = prepared(name)
    began = time.perf_counter()
    design = gw.compile(model, (inputs[:1],), FORMATS, calibration=[inputs], interval=interval)
    seconds = time.perf_counter() - began
    label = f"{name} at {interval:,}"
    done = _verified(design, inputs[:samples])
    cost = estimate_network(design.schedule.network)
    yield Row(f"{label}: interval", done, "cycles", "simulated", at_most(interval))
    yield Row(f"{label}: interval over ideal", done / ideal_interval(design), "", "simulated", at_most(1.05))
    yield Row(f"{label}: multipliers", design.schedule.folding.multipliers, "multipliers", "estimated")
    over = weight_memory(design) / (weight_count(model) * 8)
    yield Row(f"{label}: weight memory over parameters x 8 bits", over, "", "measured", at_most(1.1))
    used = design.synth("xcup") if (name, interval) in SYNTHESISED else None
    for resource in ("lut", "dsp", "bram"):
        yield Row(
            f"{label}: {resource.upper()}, estimate", round(getattr(cost, resource)), resource.upper(), "estimated"
        )
        if used is not None:
            yield Row(f"{label}: {resource.upper()}", getattr(used, resource), resource.upper(), "synthesised")
    goal = COMPILED_WITHIN.get(name)
    limit = None if goal is None else at_most(goal)
    yield Row(f"{label}: compile, with folding and buffers", seconds, "s", "measured", limit)


def _lenet() -> Iterator[Row]:
    """LeNet trained on the digits: what the bits of its formats cost in accuracy, in hardware."""
    torch.manual_seed(0)
    train_images, train_labels, images, labels = lenet.digits()
    model = lenet.LeNet()
    lenet.train(model, train_images, train_labels, 25, 2e-3)
    with torch.no_grad():
        yield Row("LeNet on digits: accuracy, float", lenet.accuracy(model.eval()(images), labels), "%", "measured")
    for bits, formats in lenet.FORMATS.items():
        design = gw.compile(model, (images[:1],), formats, calibration=[train_images[:256]], interval=lenet.INTERVAL)
        _verified(design, images)
        found = lenet.accuracy(design(images), labels)
        yield Row(f"LeNet on digits: accuracy, {bits} bits", found, "%", "simulated")
        yield Row(f"LeNet on digits: interval, {bits} bits", design.interval, "cycles", "simulated")


def _architecture(name: str, interval: int) -> Iterator[Row]:
    """A network of transformers' configurations, scaled down."""
    model, inputs = transformers_cnn.prepared(name)
    design = gw.compile(model, (inputs[:1],), transformers_cnn.FORMATS, calibration=[inputs], interval=interval)
    label = f"{name} of transformers at {interval:,}"
    yield Row(f"{label}: interval", _verified(design, inputs[:2]), "cycles", "simulated", at_most(interval))
    yield Row(f"{label}: multipliers", design.schedule.folding.multipliers, "multipliers", "estimated")


def _verified(design: gw.Design, x: Tensor) -> float:
    """The declared interval, which the verified run confirms to a cycle."""
    for stalls in ("none", "input", "output", "both"):
        design.verify(x, stalls=stalls)
    return float(design.interval)
