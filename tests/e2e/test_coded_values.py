"""Operators other than products on values of floating-point formats: joined, negated, made absolute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gatewright as gw
from gatewright.sim.lint import lint

FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "concat": lambda x, y: torch.cat([x, y], 1),
    "concat of two formats": lambda x, y: torch.cat([x * 2, y], 1),
    "products": lambda x, y: x * x * y,
    "difference": lambda x, y: (x - y.sum(1, keepdim=True)) * 1.5,
}


class Calculation(nn.Module):
    """One of the functions above as a module."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = FUNCTIONS[name]

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.function(x, y)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("format", ["e4m3", "e2m1"])
def test_calculation(name: str, format: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 10, 4) * 3
    design = gw.compile(Calculation(name), (x, y), formats=format)
    assert torch.equal(design.module(x, y).double(), design(x, y))
    assert design.verify(x, y, stalls="both").samples == 10
    assert lint(design.hardware.write(tmp_path), design.hardware.top, yosys=True) == []
