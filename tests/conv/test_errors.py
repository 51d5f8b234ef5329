"""What is not supported is refused by name; impossible goals say what is possible."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gatewright as gw
from gatewright.budget import excess
from gatewright.ir.builder import Builder
from gatewright.ir.ops.conv import Conv
from gatewright.ir.streams.cost import Cost
from gatewright.ir.types import Type

FORMATS = "fixed<8,4>"


def message(model: nn.Module, x: torch.Tensor, **settings: object) -> str:
    with pytest.raises(gw.GatewrightError) as caught:
        gw.compile(model.eval(), (x,), formats=FORMATS, **settings)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_kernel_larger_than_its_padded_input() -> None:
    builder = Builder("test")
    value, weight = builder.input("x", Type((2, 4, 4))), builder.input("w", Type((3, 2, 7, 3)))
    with pytest.raises(gw.GatewrightError) as caught:
        builder.add(Conv((1, 1), ((1, 1), (1, 1)), (1, 1)), value, weight)
    text = str(caught.value)
    assert "GW0350" in text
    assert "the kernel spans 7 elements, the input has 4, with padding 6" in text


def test_groups_that_do_not_divide() -> None:
    builder = Builder("test")
    value, weight = builder.input("x", Type((6, 4, 4))), builder.input("w", Type((5, 3, 3, 3)))
    with pytest.raises(gw.GatewrightError) as caught:
        builder.add(Conv((1, 1), ((0, 0), (0, 0)), (1, 1), 2), value, weight)
    assert "GW0352" in str(caught.value)
    assert "6 channels in, 5 out" in str(caught.value)


class Applied(nn.Module):
    """A function of the input."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The function's value."""
        return self.function(x)


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "reflected padding": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), ("padding mode 'reflect'",)),
    "wrapped padding": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), ("padding mode 'circular'",)),
    "replicated padding": (lambda: nn.ReplicationPad2d(1), ("padding mode 'replicate'", "pad with a constant")),
    "bilinear upsampling": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), ("upsample_bilinear2d",)),
    "positions of maxima": (
        lambda: Applied(lambda x: F.max_pool2d(x, 2, return_indices=True)[1]),
        ("max_pool2d", "only its first result has hardware"),
    ),
    "a maximum of padding alone": (
        lambda: nn.MaxPool2d(2, 1, 1, 7),
        ("GW0107", "max_pool2d", "the window at -1 along spatial axis 0 holds padding alone"),
    ),
    "weights from the input": (
        lambda: Applied(lambda x: F.conv2d(x, x[:1].reshape(1, 2, 6, 6))),
        ("conv2d", "the weight or the bias depends on an input"),
    ),
    "a padding with a value without a code": (
        lambda: nn.Sequential(nn.ReLU(), nn.ConstantPad2d(1, 0.3), nn.Conv2d(2, 2, 3)),
        ("GW0309", "pad with 0.3", "--> `1`"),
    ),
    "a kernel larger than its padded input": (
        lambda: nn.Conv2d(2, 3, (3, 9), padding=1),
        ("GW0101", "Calculated padded input size per channel: (8 x 8). Kernel size: (3 x 9)"),
    ),
    "groups that do not divide": (
        lambda: Applied(lambda x: F.conv2d(x, torch.zeros(3, 1, 2, 2), groups=2)),
        ("GW0101", "groups=2"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_hardware_is_refused_by_name(name: str) -> None:
    make, expected = REFUSED[name]
    text = message(make(), torch.randn(1, 2, 6, 6))
    for each in expected:
        assert each in text


def test_upsampling_by_a_fraction() -> None:
    text = message(nn.Upsample(size=(7, 6)), torch.randn(1, 2, 5, 3))
    assert "a whole number of times" in text


def test_three_dimensional_convolution_is_refused_by_name() -> None:
    text = message(nn.Conv3d(1, 2, 3), torch.randn(1, 1, 5, 5, 5))
    assert "conv3d" in text


def test_an_interval_that_cannot_be_met_says_the_best() -> None:
    text = message(nn.Conv2d(1, 2, 3), torch.randn(1, 1, 8, 8), interval=7)
    assert "GW0703" in text
    assert "ask for interval=8 or more" in text


def test_a_budget_too_small_for_the_serial_design_says_by_how_much() -> None:
    torch.manual_seed(0)
    model, x = nn.Conv2d(8, 8, 3), torch.randn(1, 8, 8, 8)
    text = message(model, x, budget={"lut": 10})
    assert "GW0709" in text
    found = re.search(r"lut: ([\d,]+) needed, 10 allowed, ([\d,]+) too many", text)
    assert found is not None
    needed, excess = (int(each.replace(",", "")) for each in found.groups())
    assert needed - excess == 10
    assert f"{needed:,} needed, {needed - 1:,} allowed, 1 too many" in message(model, x, budget={"lut": needed - 1})


def test_a_part_of_a_unit_over_the_budget_is_a_whole_one() -> None:
    (text,) = excess(Cost(lut=100.25), {"lut": 100, "dsp": 0})
    assert text == "lut: 101 needed, 100 allowed, 1 too many (estimated)"


def test_weights_that_do_not_fit_the_part() -> None:
    text = message(nn.Conv2d(64, 128, 3), torch.randn(1, 64, 4, 4), target="ice40-hx8k")
    assert "GW0716" in text
    found = re.search(
        r"([\d,]+) kilobits of block memory are needed.*has ([\d,]+) kilobits, ([\d,]+) too few", text, re.S
    )
    assert found is not None
    needed, available, missing = (int(each.replace(",", "")) for each in found.groups())
    assert available == 128
    assert abs(needed - available - missing) <= 1  # rounded
    assert needed >= 64 * 128 * 9 * 5 / 1024  # the weights alone
    assert "the largest is" in text
