"""What a user gets for goals that cannot be met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gatewright as gw

SNAPSHOTS = Path(__file__).parent / "snapshots" / "schedule"
ROWS = (nn.Sequential(nn.Linear(8, 4)), (torch.zeros(1, 16, 8),))


def failure(**options: Any) -> str:
    """The message of a failing compilation of a layer that handles 16 rows a sample."""
    with torch.no_grad():
        ROWS[0][0].weight.fill_(0.25)
        ROWS[0][0].bias.fill_(0.5)
    with pytest.raises(gw.GatewrightError) as caught:
        gw.compile(*ROWS, formats="fixed<8,4>", **options)
    return str(caught.value)


CASES: dict[str, dict[str, Any]] = {
    "interval_zero": {"interval": 0},
    "fps_too_high": {"fps": 1e9},
    "fps_zero": {"fps": 0},
    "two_goals": {"interval": 64, "fps": 10},
    "budget_too_small": {"budget": {"lut": 10, "dsp": 0}},
    "budget_unknown": {"budget": {"luts": 10}},
    "budget_negative": {"budget": {"dsp": -1}},
}


@pytest.mark.parametrize("name", CASES)
def test_message(name: str) -> None:
    assert failure(**CASES[name]) + "\n" == (SNAPSHOTS / f"{name}.txt").read_text()


def test_interval_too_short() -> None:
    """Lines of windows come one a cycle."""
    layer = nn.Conv2d(2, 4, 3, padding=1)
    with torch.no_grad():
        layer.weight.fill_(0.25)
    with pytest.raises(gw.GatewrightError) as caught:
        gw.compile(nn.Sequential(layer), (torch.zeros(1, 2, 16, 8),), formats="fixed<8,4>", interval=16)
    assert f"{caught.value}\n" == (SNAPSHOTS / "interval_too_short.txt").read_text()


@pytest.mark.parametrize("name", ["ecp5-58k", "xcup-zu3"])
def test_unknown_target(name: str) -> None:
    with pytest.raises(gw.GatewrightError) as caught:
        gw.Target(name)
    assert "did you mean" in str(caught.value)


def test_clock_that_is_not_positive() -> None:
    with pytest.raises(gw.GatewrightError, match="GW0702"):
        gw.Target("xcup", clock_mhz=0)
