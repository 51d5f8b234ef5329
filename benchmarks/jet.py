"""The jet-tagging network of the fixture: 16-64-32-32-5 with given integer weights and formats."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from benchmarks.common import FIXTURES

FORMATS = {
    "default": {"input": "ufixed<8,4> half_up", "weight": "fixed<6,4>", "bias": "fixed<8,4>"},
    "name": {"0": {"input": "fixed<8,4>"}},
}
"""Inputs int8 with 4 fraction bits; hidden values half up, saturated to unsigned 8 bits with 4."""

SAMPLES = 20_000


@cache
def fixture() -> dict[str, np.ndarray]:
    """The arrays of the fixture: W0..W3 [in, out], b0..b3, X [20000, 16], Y [20000, 5], all integers."""
    with np.load(FIXTURES / "jet_w6.npz") as stored:
        return {name: stored[name] for name in stored}


def model() -> nn.Module:
    """The network with the fixture's weights as real numbers."""
    arrays = fixture()
    layers: list[nn.Module] = []
    for index in range(4):
        weight, bias = arrays[f"W{index}"], arrays[f"b{index}"]
        layer = nn.Linear(*weight.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight.T / 16))
            layer.bias.copy_(torch.from_numpy(bias / 16))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def inputs() -> torch.Tensor:
    """All 20,000 inputs as real numbers."""
    return torch.from_numpy(fixture()["X"] / 16).float()


def expected() -> torch.Tensor:
    """The exact outputs that belong to them."""
    return torch.from_numpy(fixture()["Y"] / 256)
