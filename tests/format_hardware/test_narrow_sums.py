"""Sums much narrower than their formats could need, because the weights are small: the hardware stays lint-clean."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import gatewright as gw
from gatewright.sim.lint import lint


def complaints(casts: dict[str, str], scale: float, inputs: int, interval: int, folder: Path) -> list[str]:
    """What the linters say about a layer with weights of the size ``scale``."""
    layer = nn.Linear(inputs, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, 2 * inputs).reshape(2, inputs) * scale)
    design = gw.compile(layer, (torch.randn(2, inputs),), {"default": casts}, interval=interval)
    hardware = design.hardware
    return lint(hardware.write(folder), hardware.top)


@pytest.mark.parametrize("exponent", range(-4, 3))
@pytest.mark.parametrize("input", ["fixed<11,5>", "ufixed<6,3>", "e2m1"])
def test_floating_weights_with_few_exponents(input: str, exponent: int, tmp_path: Path) -> None:
    assert complaints({"input": input, "weight": "e3m4"}, 2.0**exponent, 3, 2, tmp_path) == []


@pytest.mark.parametrize(
    "casts",
    [
        {"input": "ufixed<1,0>", "weight": "ternary<mean>"},
        {"input": "ufixed<1,0>", "weight": "binary"},
        {"input": "binary", "weight": "binary"},
        {"input": "binary01", "weight": "log<3>"},
        {"input": "fixed<2,-1>", "weight": "binary"},
        {"input": "ufixed<1,0>", "weight": "fixed<1,0>"},
    ],
    ids=str,
)
@pytest.mark.parametrize("inputs", [1, 2, 16])
def test_sums_of_few_bits(casts: dict[str, str], inputs: int, tmp_path: Path) -> None:
    assert complaints(casts, 0.5, inputs, 1, tmp_path) == []
