"""Names that models give: keywords, look-alikes of the generated signals, and names beyond every limit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import gatewright as gw
from gatewright.sim.lint import lint


class LookAlikes(nn.Module):
    """Inputs and layers called like signals of the top level."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("valid", "input_valid", "input_data", "clk_i", "module", "gw_fifo"):
            self.add_module(name, nn.Linear(3, 3))

    def forward(
        self, input: torch.Tensor, input_valid: torch.Tensor, aclk: torch.Tensor, unused_input: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        layer = dict(self.named_children())
        left = layer["input_data"](layer["input_valid"](input) + input_valid)
        right = layer["module"](layer["valid"](aclk)) + layer["gw_fifo"](layer["clk_i"](unused_input))
        return {"output": left + right, "input": left, "aresetn": unused_input}


def deep(length: int) -> nn.Module:
    """Two layers whose names differ in the last letter alone."""
    model = nn.Sequential()
    for last in "ab":
        model.add_module("x" * length + last, nn.Sequential(nn.Linear(3, 3), nn.Sigmoid()))
    return model


@pytest.mark.parametrize(
    ("model", "inputs"), [(LookAlikes(), 4), (deep(60), 1), (deep(400), 1)], ids=["look-alikes", "long", "longer"]
)
def test_names(model: nn.Module, inputs: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    example = tuple(torch.randn(6, 3) for _ in range(inputs))
    design = gw.compile(model.eval(), example, formats="fixed<8,4>")
    assert design.verify(*example, stalls="both").samples == 6
    sources = design.hardware.write(tmp_path)
    assert lint(sources, design.hardware.top, yosys=True) == []
