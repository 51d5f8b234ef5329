"""Precision is chosen by interval: float32, float64, and integers where neither is exact."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import gatewright
from gatewright.backends.torch.build import build_module, with_weights
from gatewright.frontend.importer import import_model
from gatewright.frontend.quantise import quantise
from gatewright.ir.graph import Graph
from gatewright.ir.transforms.legalise import legalise
from gatewright.sim.golden import evaluate


class Chain(nn.Module):
    """Two layers and a product."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(x))
        return self.second(hidden * hidden)


def graph_of(activation: str, weight: str, output: str | None = None) -> Graph:
    torch.manual_seed(4)
    rules = {"default": {"input": activation, "weight": weight, "bias": weight}}
    if output:
        rules["name"] = {"second": {"output": output}}  # type: ignore[assignment]
    return quantise(import_model(Chain().eval(), (torch.randn(3, 8),)), rules)


def both(graph: Graph, module: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """The golden model's and the module's outputs on random codes."""
    integers = legalise(graph).graph
    format = integers.inputs[0].format
    low, high = format.code_interval()  # type: ignore[attr-defined]
    codes = np.random.default_rng(0).integers(low, high, size=(50, 8), endpoint=True)
    expected = integers.outputs[0].format.decode(evaluate(integers, [codes])[0])  # type: ignore[attr-defined]
    inputs = torch.from_numpy(format.decode(codes))  # type: ignore[attr-defined]
    with torch.no_grad():
        return expected, module(inputs).double().numpy()


@pytest.mark.parametrize(
    ("activation", "weight", "output", "mark"),
    [
        ("fixed<8,4>", "fixed<8,6>", None, "neither"),
        ("fixed<12,6>", "fixed<14,10>", None, "gw.exact("),
        ("fixed<24,12>", "fixed<24,20>", "fixed<24,12>", "gw.exact("),
        ("fixed<30,16>", "fixed<30,24>", "fixed<32,16> half_up", "gw.wide("),
        ("fixed<40,24>", "fixed<36,30>", "fixed<20,10> wrap", "gw.wide("),
        ("fixed<40,24>", "fixed<60,50>", None, "gw.wide("),
    ],
)
def test_forward_is_exact_at_every_width(activation: str, weight: str, output: str | None, mark: str) -> None:
    graph = graph_of(activation, weight, output)
    module = build_module(graph)
    assert (mark in module.code) == (mark != "neither")
    assert ("gw.wide(" in module.code) == (mark == "gw.wide(")
    expected, found = both(graph, module)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected)) > 10


def test_wide_regions_train_copy_and_pickle() -> None:
    graph = graph_of("fixed<30,16>", "fixed<30,24>", "fixed<32,16>")
    module = build_module(graph)
    module(torch.randn(4, 8)).sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in module.parameters())
    with torch.no_grad():
        for value in module.parameters():
            value.mul_(0.7)
    for same in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        expected, found = both(with_weights(graph, same), same)
        np.testing.assert_array_equal(found, expected)
    again = quantise(import_model(module, (torch.randn(3, 8),)), None)
    expected, found = both(again, module)
    np.testing.assert_array_equal(found, expected)


class Spread(nn.Module):
    """A linear layer whose inputs lie far apart, so that no float64 holds the products of a block."""

    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(layers)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.mark.parametrize(
    ("layers", "activation", "weight", "bias"),
    [
        (1, "block<e2m1,e5m2,4>", "mxfp6_e2m3<4>", "bfloat16"),
        (1, "bfloat16", "mxint8<4>", "e5m2"),
        (1, "nvfp4<8>", "bfloat16", "bfloat16"),
        (2, "mxfp4<4>", "mxfp4<4>", "bfloat16"),
    ],
)
def test_products_of_blocks_are_exact_at_every_width(layers: int, activation: str, weight: str, bias: str) -> None:
    torch.manual_seed(1)
    model = Spread(layers).eval()
    values = torch.randn(64, 8) * 2.0 ** torch.randint(-8, 8, (64, 8))
    values[::2, 0] = 2.0**-126
    values[1::2, :4] = torch.tensor([2.0**60, 3.0, -(2.0**60), 2.0**-23])
    design = gatewright.compile(
        model, (values[:2],), {"default": {"input": activation, "weight": weight, "bias": bias}}
    )
    assert "gw.wide(" in design.module.code
    with torch.no_grad():
        found = design.module(values)
    np.testing.assert_array_equal(found.double().numpy(), design(values).numpy())
    assert len(found.unique()) > 100
    design.module(values).sum().backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in design.module.parameters())


class WithParameter(nn.Module):
    """One operation of the input with a parameter."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.constant = nn.Parameter(torch.randn(6, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.name == "matmul":
            return self.constant @ x
        return getattr(torch, self.name)(x, self.constant)


class Transposed(nn.Module):
    """A transposed convolution of [batch, 6, 6]."""

    def __init__(self) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.randn(6, 2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv_transpose1d(x, self.constant)


@pytest.mark.parametrize("output", ["", "e5m2", "fixed<40,12>"])
@pytest.mark.parametrize("weight", ["residual<3>", "ternary<max,channel,float32>", "binary<tensor,e8m0>"])
@pytest.mark.parametrize("name", ["add", "mul", "matmul", "transposed"])
def test_software_alone_takes_scaled_operands_everywhere(name: str, weight: str, output: str) -> None:
    """Hardware multiplies scaled weights in some operators alone; elsewhere the nearest float64 is good enough."""
    torch.manual_seed(2)
    model, x = Transposed() if name == "transposed" else WithParameter(name), torch.randn(5, 6, 6)
    casts = {"input": "fixed<16,12>", "weight": weight} | ({"output": output} if output else {})
    with pytest.raises(gatewright.GatewrightError, match="GW0386"):
        gatewright.compile(model, (x,), {"default": casts})
    module = gatewright.quantize(model, (x,), {"default": casts}).train()
    found = module(x)
    exact = copy.deepcopy(model).double()
    with torch.no_grad():
        exact.constant.copy_(gatewright.format(weight).quantize(model.constant.double()))
        expected = exact(gatewright.format("fixed<16,12>").quantize(x.double()))
    if output:
        expected = gatewright.format(output).quantize(expected)
    np.testing.assert_allclose(found.detach().double().numpy(), expected.numpy(), rtol=1e-12)
    found.double().square().sum().backward()
    assert module.constant.grad is not None and bool((module.constant.grad != 0).any())
