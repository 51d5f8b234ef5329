"""Slopes, factors and the constants of means where all weights are in a block format: exact numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gatewright as gw
from gatewright.ir.formats import Block, parse_format


class Mean(nn.Module):
    """The mean over every axis but the batch: a result without axes."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-1, -2))


class Factor(nn.Module):
    """A product with a number that the model writes, far below the steps of a window for streams."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 3.1e-6


Reals = np.ndarray[Any, np.dtype[np.float64]]
Quantised = Callable[[float], Reals]


def slope(x: Reals, value: Reals) -> Reals:
    return np.where(x < 0, x * value, x)


CASES: dict[str, tuple[nn.Module, Callable[[Reals, Quantised], Reals]]] = {
    "leaky": (nn.LeakyReLU(0.1), lambda x, q: slope(x, q(0.1))),
    "small": (Factor(), lambda x, q: x * q(3.1e-6)),
    "mean": (Mean(), lambda x, q: x.sum((-1, -2)) * q(1 / 15)),
    "average": (nn.AvgPool1d(5), lambda x, q: x.sum(-1, keepdims=True) * q(1 / 5)),
    "global": (nn.AdaptiveAvgPool1d(1), lambda x, q: x.sum(-1, keepdims=True) * q(1 / 5)),
}


@pytest.mark.parametrize("weight", ["mxint8", "mxfp4", "nvfp4", "mxfp4<4x8>"])
@pytest.mark.parametrize("name", CASES)
def test_a_number_is_a_block_of_its_own(name: str, weight: str) -> None:
    model, reference = CASES[name]
    format = parse_format(weight)
    assert isinstance(format, Block)
    x = torch.randint(-128, 128, (4, 3, 5), generator=torch.Generator().manual_seed(1)) / 16
    output = "fixed<40,30>"
    design = gw.compile(model, (x,), {"default": {"input": "fixed<8,4>", "weight": weight, "output": output}})

    def quantised(value: float) -> Reals:
        return format.quantize(np.full((1,) * len(format.sizes), np.float32(value))).reshape(())

    expected = gw.format(output).quantize(reference(x.double().numpy(), quantised))
    np.testing.assert_array_equal(design(x).numpy(), expected)
    assert torch.equal(design.module(x).double(), design(x))
    if weight == "mxint8":
        design.verify(x, stalls="both")
        if name != "average":  # whose windows are printed as PyTorch's unfold
            assert torch.equal(gw.compile(design.module, (x,), None)(x), design(x))


@pytest.mark.parametrize("channels", [1, 6, 40])
def test_slopes_of_channels_end_with_part_of_a_block(channels: int) -> None:
    torch.manual_seed(2)
    same, prelu = nn.Conv1d(channels, channels, 1, bias=False), nn.PReLU(channels)
    with torch.no_grad():
        same.weight.copy_(torch.eye(channels)[..., None])
        prelu.weight.copy_(torch.randn(channels) * 1e-3)
    x = torch.randint(-128, 128, (4, channels, 2)) / 16
    roles = {"input": "fixed<8,4>", "weight": "mxint8", "output": "fixed<40,30>"}
    formats = {"default": roles, "type": {"conv": {"weight": "fixed<8,4>", "output": "fixed<8,4>"}}}
    design = gw.compile(nn.Sequential(same, prelu), (x,), formats)
    weight = gw.format("mxint8").quantize(prelu.weight.detach().double().numpy())[:, np.newaxis]
    np.testing.assert_array_equal(design(x).numpy(), slope(x.double().numpy(), weight))
    assert torch.equal(gw.compile(design.module, (x,), None)(x), design(x))
    module = design.module.train()
    module(x).square().sum().backward()
    gradients = [each.grad for each in module.parameters()]
    assert gradients and all(each is not None and bool((each != 0).any()) for each in gradients)


class ConstantLeft(nn.Module):
    """A constant matrix times a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.linspace(-1, 1, 12).reshape(2, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.matrix @ x


def test_scaled_constant_on_the_left_of_a_product() -> None:
    """The refusal speaks of the scaled format, and what it says to write works."""
    x = torch.randn(3, 6, 4)
    roles = {"input": "fixed<8,4>", "weight": "ternary<mean>"}
    with pytest.raises(gw.GatewrightError, match="GW0386") as caught:
        gw.compile(ConstantLeft(), (x,), {"default": roles})
    text = str(caught.value)
    assert "in the scaled format ternary<mean>" in text and "block format" not in text
    assert '[name."matmul"] weight = "fixed<8,4>"' in text
    formats = {"default": roles, "name": {"matmul": {"weight": "fixed<8,4>"}}}
    assert gw.compile(ConstantLeft(), (x,), formats)(x).shape == (3, 2, 4)
