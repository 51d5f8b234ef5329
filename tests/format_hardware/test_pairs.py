"""Hardware equals the golden model for activations and weights in every pair of a table, special codes included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import gatewright as gw
from gatewright.ir.formats import Fixed, ScalarFormat, parse_format
from gatewright.ir.intervals import IntegerArray
from gatewright.verification import verify

STALLS = ("none", "input", "output", "both")

SCALAR_PAIRS = (
    ("e4m3", "e4m3"), ("e5m2", "e5m2"), ("e3m2", "e3m2"), ("e2m3", "e2m3"), ("e2m1", "e2m1"),
    ("e4m3", "e5m2"), ("e4m3", "e2m1"), ("e5m2", "log<4>"), ("e3m2", "ternary"), ("e2m3", "binary"),
    ("e2m1", "fixed<4,2>"), ("e4m3<ieee>", "e5m2<flush>"), ("e4m3<none,denormal>", "e3m2"),
    ("bfloat16", "fixed<8,5>"), ("fixed<8,4>", "e4m3"), ("fixed<8,4>", "e2m1"), ("fixed<8,4>", "log<4>"),
    ("fixed<8,4>", "ternary"), ("fixed<8,4>", "binary"), ("fixed<8,4>", "fixed<3,0>"),
    ("ufixed<8,4>", "log<5>"), ("fixed<4,2>", "fixed<4,1>"), ("ufixed<3,1>", "ufixed<2,0>"),
    ("log<5>", "log<5>"), ("log<4>", "e2m3"), ("ternary", "ternary"), ("ternary", "fixed<8,5>"),
    ("binary", "binary"), ("binary", "fixed<8,5>"), ("binary", "ternary"), ("binary01", "binary"),
    ("fixed<12,8>", "fixed<12,9>"),
)  # fmt: skip
BLOCK_PAIRS = (
    ("nvfp4", "nvfp4"),
    ("mxint8<8>", "mxint8<8>"), ("mxfp8<8>", "mxfp8<8>"), ("mxfp8_e5m2<8>", "mxfp8_e5m2<8>"),
    ("mxfp6<8>", "mxfp6_e2m3<8>"), ("mxfp4<8>", "mxfp4<8>"), ("mxint8<8>", "mxfp4<8>"), ("e4m3", "mxfp4<8>"),
    ("mxfp8<8>", "fixed<8,5>"), ("fixed<8,4>", "mxint6<8>"),
    ("block<fixed<6,5>,e8m0,16>", "block<fixed<4,3>,e5m0,16>"), ("mxfp4<16>", "nvfp4"),
    ("block<log<4>,e8m0,8>", "block<log<4>,e8m0,8>"), ("block<e4m3<bias=9>,e6m0,8>", "mxint4<8>"),
    ("fixed<8,4>", "block<e2m1,e8m0,8x16>"), ("mxint8<8>", "ternary"), ("binary", "mxfp4<8>"),
    ("block<binary,e8m0,8>", "mxfp4<8>"),
)  # fmt: skip
SCALED_PAIRS = tuple(
    (activation, weight)
    for weight in ("ternary<mean>", "binary<channel>", "residual<2>", "ternary<max,channel,float32>")
    for activation in ("fixed<8,4>", "e4m3")
)


class Small(nn.Module):
    """Two layers; the weights are large enough to use every format."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(inputs)
        self.first = nn.Linear(inputs, hidden)
        self.second = nn.Linear(hidden, 5)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


class Convolutions(nn.Module):
    """Two convolutions, the first padded."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(8)
        self.first = nn.Conv2d(3, 5, 3, padding=1)
        self.second = nn.Conv2d(5, 4, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


def fitted(model: nn.Module, weight: str) -> nn.Module:
    """The model with its parameters in the range of a fixed-point format, which compilation insists on."""
    format = parse_format(weight)
    if isinstance(format, Fixed):
        low, high = (float(format.decode(np.asarray([code]))[0]) for code in format.code_interval())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.clamp_(low, high)
    return model.eval()


def compiled(activation: str, weight: str, inputs: int, hidden: int, interval: int) -> gw.Design:
    model = fitted(Small(inputs, hidden), weight)
    formats = {"default": {"input": activation, "weight": weight, "bias": "fixed<10,4>"}}
    return gw.compile(model, (torch.randn(2, inputs),), formats, interval=interval)


def random_codes(design: gw.Design, samples: int) -> list[IntegerArray]:
    """Codes of every input port: all of them equally likely, and runs of the highest, where specials are."""
    generator = np.random.default_rng(4)
    found: list[IntegerArray] = []
    for value in design.integer_graph.inputs:
        assert isinstance(value.format, ScalarFormat)
        low, high = value.format.code_interval()
        codes = generator.integers(low, high + 1, size=(samples, *value.shape))
        if value.name.endswith("_scale"):
            middle = (low + high) // 2
            near = generator.integers(middle - 6, middle + 7, size=codes.shape)
            codes = np.where(generator.random(codes.shape) < 0.85, near, codes)
        extreme = generator.choice([low, high, high - 1, (low + high) // 2], size=codes.shape)
        found.append(np.where(generator.random(codes.shape) < 0.1, extreme, codes))
    return found


def check(design: gw.Design) -> None:
    codes = random_codes(design, 10)
    for stalls in STALLS:
        found = verify(design, codes, stalls, 1)
        if stalls == "none":
            assert (found.interval, found.latency) == (design.interval, design.latency)


@pytest.mark.parametrize(("activation", "weight"), SCALAR_PAIRS)
def test_linear_in_scalar_formats(activation: str, weight: str) -> None:
    check(compiled(activation, weight, 13, 7, 20))


@pytest.mark.parametrize(("activation", "weight"), BLOCK_PAIRS)
def test_linear_in_block_formats(activation: str, weight: str) -> None:
    design = compiled(activation, weight, 32, 16, 48)
    check(design)
    real = torch.randn(6, 32) * 2
    with torch.no_grad():
        assert torch.equal(design.module(real).double(), design(real))


@pytest.mark.parametrize(("activation", "weight"), SCALAR_PAIRS)
def test_convolution_in_scalar_formats(activation: str, weight: str) -> None:
    model = fitted(Convolutions(), weight)
    formats = {"default": {"input": activation, "weight": weight, "bias": "fixed<10,4>"}}
    check(gw.compile(model, (torch.randn(2, 3, 6, 5),), formats, interval=160))


@pytest.mark.parametrize(("activation", "weight"), SCALED_PAIRS)
def test_linear_with_scaled_weights(activation: str, weight: str) -> None:
    design = compiled(activation, weight, 13, 7, 20)
    check(design)
    real = torch.randn(6, 13) * 2
    with torch.no_grad():
        assert torch.equal(design.module(real).double(), design(real))


@pytest.mark.parametrize("function", [nn.Tanh(), nn.GELU()])
@pytest.mark.parametrize(("activation", "weight"), [("fixed<8,4>", "mxint8<8>"), ("e4m3", "mxfp4<8>")])
def test_a_function_before_weights_in_blocks(activation: str, weight: str, function: nn.Module) -> None:
    """Its result is the cast that the layer behind it reads."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(16, 8), function, nn.Linear(8, 4)).eval()
    formats = {"default": {"input": activation, "weight": weight, "bias": "fixed<10,4>"}}
    design = gw.compile(model, (torch.randn(2, 16),), formats, interval=48)
    verify(design, random_codes(design, 10), "both", 1)
    real = torch.randn(6, 16) * 2
    with torch.no_grad():
        assert torch.equal(design.module(real).double(), design(real))


@pytest.mark.parametrize("scaled", ["residual<2>", "ternary<mean>", "binary<channel>"])
def test_an_input_in_a_scaled_format_is_refused(scaled: str) -> None:
    formats = {"default": {"input": scaled, "weight": "fixed<8,5>", "bias": "fixed<10,4>"}}
    with pytest.raises(gw.GatewrightError, match="input input is cast to the scaled format") as caught:
        gw.compile(nn.Linear(16, 4).eval(), (torch.randn(2, 16),), formats)
    assert caught.value.code == "GW0336"
