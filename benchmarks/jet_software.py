"""The jet-tagging MLP in software: its quantised PyTorch module and the golden model, sample by sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.common import FIXTURES, Row, at_least, exactly, seconds
from gatewright.api import quantised_graph
from gatewright.backends.torch.build import build_module
from gatewright.ir.transforms.legalise import legalise
from gatewright.sim.golden import evaluate

LAYERS = 4
BATCH = 4096
FORMATS: dict[str, dict[str, Any]] = {
    "default": {"input": "ufixed<8,4> half_up", "weight": "fixed<6,4>", "bias": "fixed<8,4>"},
    "name": {"x": {"input": "fixed<8,4> half_up"}},
}


class Jet(nn.Module):
    """16-64-32-32-5 with ReLU between the layers; the fixture's integer weights, 4 fraction bits."""

    def __init__(self) -> None:
        super().__init__()
        data = fixture()
        sizes = [data[f"W{layer}"].shape for layer in range(LAYERS)]
        self.layers = nn.ModuleList(nn.Linear(*size) for size in sizes)
        for layer, linear in enumerate(self.layers):
            linear.weight.data = torch.from_numpy(data[f"W{layer}"].T / 16.0).float()
            linear.bias.data = torch.from_numpy(data[f"b{layer}"] / 16.0).float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The class scores."""
        for linear in self.layers[:-1]:
            x = torch.relu(linear(x))
        return self.layers[-1](x)


def fixture() -> dict[str, Any]:
    """Integer weights, biases, 20,000 inputs and the expected integer outputs."""
    with np.load(FIXTURES / "jet_w6.npz") as data:
        return dict(data)


def rows() -> Iterator[Row]:
    """Exactness on all samples, and samples a second on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from _rows()
    finally:
        torch.set_num_threads(threads)


def _rows() -> Iterator[Row]:
    data = fixture()
    _, graph = quantised_graph(Jet().eval(), (torch.zeros(2, 16),), FORMATS)
    integers = legalise(graph).graph
    golden = evaluate(integers, [data["X"]])[0]
    samples = len(data["X"])
    yield Row(
        "golden model: samples equal to the fixture",
        _equal(golden, data),
        "samples",
        "measured",
        exactly(samples),
    )
    module = build_module(graph)
    inputs = torch.from_numpy(data["X"] / 16.0).float()
    with torch.no_grad():
        codes = (module(inputs).double() * 2.0 ** integers.outputs[0].frac).numpy()
        yield Row(
            "module: samples equal to the fixture",
            _equal(codes, data),
            "samples",
            "measured",
            exactly(samples),
        )
        batch = inputs[:BATCH]
        time = seconds(lambda: [module(batch) for _ in range(20)], repeats=9) / 20
    yield Row(
        "module: samples a second, one thread",
        BATCH / time,
        "samples/s",
        "measured",
        at_least(500_000),
        peers={"alkaid": 285_000, "da4ml": 67_000, "hls4ml": 8_000, "NNgen": 2_900},
        note=f"batch {BATCH}, evaluation mode",
    )
    began = seconds(lambda: evaluate(integers, [data["X"]]), repeats=3)
    yield Row("golden model: samples a second, one thread", samples / began, "samples/s", "measured")
    training = module.train()
    loss = nn.CrossEntropyLoss()
    target = torch.zeros(BATCH, dtype=torch.long)
    step = seconds(lambda: loss(training(batch), target).backward(), repeats=9)
    yield Row("module: training samples a second, one thread", BATCH / step, "samples/s", "measured")


def _equal(found: Any, data: dict[str, Any]) -> int:
    return int((np.asarray(found) == data["Y"]).all(axis=1).sum())
