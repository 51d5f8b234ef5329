"""Whole models, quantised automatically: the printed module equals the golden model, trained or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gatewright.backends.torch.build import build_module, with_weights
from gatewright.diagnostics import Collector
from gatewright.frontend.importer import import_model
from gatewright.frontend.quantise import quantise
from gatewright.ir.graph import Graph
from gatewright.ir.transforms.legalise import input_casts, legalise
from gatewright.sim.golden import evaluate


class Residual(nn.Module):
    """Branches, a literal slope, a sum, a concatenation and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 8, bias=False)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(16, 3)
        self.scale = nn.Parameter(torch.tensor([0.7]))
        self.register_buffer("offset", torch.linspace(-1, 1, 8))
        with torch.no_grad():
            self.norm.running_mean.uniform_(-0.5, 0.5)
            self.norm.running_var.uniform_(0.5, 2.0)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = F.leaky_relu(self.first(x), 0.1)
        other = self.norm(self.second(hidden)) * self.scale + self.offset
        joined = torch.cat([hidden - other, torch.tanh(other)], dim=1)
        return self.head(joined), hidden.mean(dim=1)


class Mixer(nn.Module):
    """Two inputs, axes that move, reductions and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Linear(4, 4)
        self.channels = nn.Linear(6, 6)
        self.position = nn.Parameter(torch.randn(4, 6) * 0.3)

    def forward(self, image: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        x = image + self.position
        x = x + self.tokens(x.transpose(1, 2)).transpose(1, 2)
        x = F.silu(self.channels(x)) * torch.sigmoid(gate).unsqueeze(1)
        x = F.pad(x, (1, 0), value=0.5)[:, 1:, ::2]
        return torch.stack([x.amax(dim=1), x.sum(dim=1)], dim=1).clamp(-3, 7).flatten(1)


class Plain(nn.Module):
    """A chain of awkward widths, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(5, 7),
            nn.GELU(),
            nn.Dropout(0.2),
            nn.Linear(7, 9),
            nn.Hardswish(),
            nn.ReLU6(),
            nn.Linear(9, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x).squeeze(1)


MODELS = [(Residual, ((6,),)), (Mixer, ((4, 6), (6,))), (Plain, ((5,),))]
FORMATS = {
    "default": {"input": "fixed<8,auto>", "weight": "fixed<7,auto> half_up", "bias": "fixed<10,auto>"},
}


def check(graph: Graph, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    integers = legalise(graph).graph
    specs = input_casts(graph, Collector())
    codes = [
        codes
        for value, each in zip(graph.inputs, inputs, strict=True)
        for codes in specs[value].encode(each.double().numpy())
    ]
    with torch.no_grad():
        found = module(*inputs)
    outputs = found if isinstance(found, tuple) else (found,)
    for value, each, expected in zip(integers.outputs, outputs, evaluate(integers, codes), strict=True):
        np.testing.assert_array_equal(each.double().numpy(), value.format.decode(expected))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("model", "shapes"), MODELS, ids=lambda each: getattr(each, "__name__", ""))
def test_printed_module_equals_golden(model: type[nn.Module], shapes: tuple[tuple[int, ...], ...]) -> None:
    torch.manual_seed(0)
    original = model().eval()
    inputs = tuple(torch.randn(64, *shape) * 2 for shape in shapes)
    graph = quantise(import_model(original, inputs), FORMATS, [inputs])
    module = build_module(graph, model.__name__)
    check(graph, module, inputs)
    original_names = {name for name, _ in original.named_parameters()}
    assert {name for name, _ in module.named_parameters()} == original_names
    optimizer = torch.optim.SGD(module.train().parameters(), lr=0.01)
    found = module(*inputs)
    loss = sum(each.square().mean() for each in (found if isinstance(found, tuple) else (found,)))
    loss.backward()  # type: ignore[union-attr]
    optimizer.step()
    module.eval()
    check(with_weights(graph, module), module, inputs)
    again = quantise(import_model(module, inputs), None)
    check(again, module, inputs)
    reference = original(*inputs)
    close = reference if isinstance(reference, tuple) else (reference,)
    assert all(torch.isfinite(each).all() for each in close)
