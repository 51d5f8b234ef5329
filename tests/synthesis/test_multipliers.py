"""Hard multipliers are used where they pay, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import gatewright as gw


def compiled(activation: str, weight: str, **options: object) -> gw.Design:
    torch.manual_seed(0)
    model = nn.Linear(16, 4)
    with torch.no_grad():
        model.weight.clamp_(-0.9, 0.9)
    formats = {"default": {"input": activation, "weight": weight, "bias": "fixed<8,4>"}}
    return gw.compile(model, (torch.randn(2, 16),), formats, **options)  # pyright: ignore[reportArgumentType]


def test_no_multipliers_within_a_budget_of_none(tmp_path: Path) -> None:
    """A product of 8 bits would take one."""
    design = compiled("fixed<8,4>", "fixed<8,7>", budget={"dsp": 0, "lut": 3000})
    assert design.report().total.dsp == 0
    assert "gw_multiply" in design.hardware.files["gw_dot.sv"]
    assert design.synth().dsp == 0
    design.write(tmp_path / "project")
    assert "-nodsp" in (tmp_path / "project" / "synthesis" / "xcup.ys").read_text()
    assert "-dsp" not in (tmp_path / "project" / "synthesis" / "ice40.ys").read_text()
    design.verify(torch.randn(8, 16), stalls="both")


def test_products_of_streams_within_a_budget_of_no_multipliers() -> None:
    class Product(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (x + 1)

    design = gw.compile(Product(), (torch.randn(2, 8),), "fixed<8,4>", budget={"dsp": 0})
    assert design.report().total.dsp == 0
    assert design.synth().dsp == 0


def test_a_part_without_multipliers() -> None:
    design = compiled("fixed<8,4>", "fixed<8,7>", target="ice40-hx8k")
    assert design.report().total.dsp == 0
    assert design.synth().dsp == 0
    assert compiled("fixed<8,4>", "fixed<8,7>", target="ice40-up5k").synth().dsp == 1


@pytest.mark.parametrize(
    ("activation", "weight"),
    [("fixed<8,4>", "fixed<4,3>"), ("e4m3", "e4m3"), ("mxfp4<8>", "mxfp4<8>"), ("fixed<16,8>", "ternary")],
)
def test_a_mantissa_of_four_bits_burns_no_multiplier(activation: str, weight: str) -> None:
    design = compiled(activation, weight, interval=8)
    assert design.synth("xcup").dsp == 0


def test_wider_mantissas_do() -> None:
    design = compiled("fixed<8,4>", "fixed<8,7>", interval=8)
    assert design.synth("xcup").dsp == design.report().total.dsp > 0
