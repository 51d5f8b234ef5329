"""Padding is the real zero, or nothing that a maximum sees, in every format: also where code 0 is another value."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gatewright as gw
from gatewright.ir.formats import ScalarFormat, parse_format
from gatewright.ir.ops.pad import Pad
from gatewright.ir.ops.window import Window
from tests.conv.checks import check

WEIGHT, BIAS = "fixed<5,4>", "fixed<8,4>"

# binary: code 0 is -1; e4m0: code 0 is 2^-7, no zero; the others hold zero as code 0.
FORMATS = ("binary", "binary01", "ternary", "e4m0", "log<4>", "e4m3", "fixed<6,3>", "ufixed<4,2>")


class Padded(nn.Module):
    """Every layer that pads by itself; what the averages divide by are powers of two."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.same = nn.Conv2d(2, 2, (2, 3), padding="same", groups=2)
        self.beyond = nn.Conv2d(2, 1, 2, 3, padding=3)
        self.transposed = nn.ConvTranspose2d(2, 2, 3, 2, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Of [batch, 2, 5, 5]."""
        return (
            self.conv(x),
            self.same(x),
            self.beyond(x),
            self.transposed(x),
            F.max_pool2d(x, 3, 2, 1),
            F.max_pool2d(x, 2, ceil_mode=True),
            F.avg_pool2d(x, 4, 2, 2),
        )


def rounded(values: Tensor, name: str) -> Tensor:
    """The nearest values of a format, in float64."""
    format = parse_format(name)
    assert isinstance(format, ScalarFormat)
    return torch.from_numpy(format.decode(format.encode(values.detach().double().numpy())))


def ideal(model: nn.Module) -> nn.Module:
    """The model in float64 with the parameters that the hardware has."""
    found = copy.deepcopy(model).double()
    for parameter in found.parameters():
        parameter.data = rounded(parameter, WEIGHT if parameter.dim() > 1 else BIAS)
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_layers_pad_with_zero_and_maxima_with_nothing(name: str) -> None:
    torch.manual_seed(0)
    model = Padded().eval()
    x = torch.randn(4, 2, 5, 5) * 2
    x[0] = -x[0].abs()  # a padded zero would win every maximum
    design = gw.compile(model, (x[:1],), {"default": {"input": name, "weight": WEIGHT, "bias": BIAS}}, interval=400)
    with torch.no_grad():
        expected = ideal(model)(rounded(x, name))
    for one, other in zip(design(x), expected, strict=True):
        assert torch.equal(one, other)
    check(design, x)


@pytest.mark.parametrize(("name", "value"), [("binary", 1.0), ("e4m0", 0.5), ("ternary", -1.0), ("fixed<6,3>", -1.5)])
def test_a_pad_with_a_value_that_the_format_holds(name: str, value: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConstantPad2d((1, 0, 0, 2), value), nn.Conv2d(2, 3, 2)).eval()
    x = torch.randn(3, 2, 5, 5) * 2
    design = gw.compile(model, (x[:1],), {"default": {"input": name, "weight": WEIGHT, "bias": BIAS}})
    with torch.no_grad():
        assert torch.equal(design(x), ideal(model)(rounded(x, name)))
    check(design, x)


@pytest.mark.parametrize("name", ["binary", "e4m0"])
def test_a_pad_with_zero_in_a_format_without_zero_is_refused(name: str) -> None:
    model = nn.Sequential(nn.ZeroPad2d((1, 0, 0, 2)), nn.ReLU(), nn.Conv2d(2, 3, 2)).eval()
    with pytest.raises(gw.GatewrightError) as caught:
        gw.compile(model, (torch.randn(1, 2, 5, 5),), {"default": {"input": name, "weight": WEIGHT, "bias": BIAS}})
    text = str(caught.value)
    assert "GW0309" in text
    assert f"{name} does not hold 0.0" in text
    assert "--> `0`" in text
    assert "use the padding of the convolution" in text


@pytest.mark.parametrize("name", ["binary", "e4m3"])
def test_zeros_in_front_of_a_convolution_are_its_padding(name: str) -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(2, 3, 2), torch.randn(3, 2, 5, 5)
    formats = {"default": {"input": name, "weight": WEIGHT, "bias": BIAS}}
    padded = nn.Conv2d(2, 3, 2, padding=1)
    padded.load_state_dict(layer.state_dict())
    before = gw.compile(nn.Sequential(nn.ZeroPad2d(1), layer).eval(), (x[:1],), formats)
    assert torch.equal(before(x), gw.compile(padded.eval(), (x[:1],), formats)(x))


def test_padding_in_numbers_wider_than_64_bits() -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(2, 3, 3, padding=1).eval()
    x = torch.rand(3, 2, 4, 4).exp2()
    design = gw.compile(model, (x[:1],), {"default": {"input": "e8m0", "weight": WEIGHT, "bias": BIAS}})
    with torch.no_grad():
        assert torch.equal(design.module(x).double(), design(x))
        assert torch.equal(design(x), ideal(model)(rounded(x, "e8m0")))


@pytest.mark.parametrize("fill", [-(2**63) - 1, -(2**63), 2**63 - 1, 2**70])
def test_a_border_wider_than_the_values_of_a_batch(fill: int) -> None:
    """The values may fit int64 where the least possible one, which a maximum is padded with, does not."""
    codes = np.arange(-3, 3).reshape(1, 6, 1)
    padded = Pad(((1, 2), (0, 0)), code=fill).evaluate(codes)
    assert [*padded.ravel()] == [fill, -3, -2, -1, 0, 1, 2, fill, fill]
    windows = Window((2,), (3,), ((1, 2),), (1,), fill=fill).evaluate(codes)
    assert windows.reshape(-1, 2).tolist() == [[fill, -3], [-1, 0], [2, fill]]
