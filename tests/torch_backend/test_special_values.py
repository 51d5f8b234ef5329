"""The printed module at its edges: NaN, infinity, sums and codes that no float64 holds; all as in hardware."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import gatewright as gw
from gatewright.ir.formats import ScalarFormat, parse_format


def two_layers(inputs: int = 8) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(inputs, 6), nn.ReLU(), nn.Linear(6, 3))


def special_inputs(inputs: int = 8) -> torch.Tensor:
    torch.manual_seed(4)
    x = torch.randn(12, inputs)
    x[0, 0], x[1, 3], x[2, 7] = float("nan"), float("inf"), float("-inf")
    x[3, :] = float("nan")
    x[4, 1:3] = torch.tensor([float("inf"), float("-inf")])
    x[5, 0], x[6, 2] = 3e38, -1e-40
    return x


@pytest.mark.parametrize(
    "format",
    [
        "e4m3", "e5m2", "e5m2 half_even infinite", "e4m3 half_even infinite", "bfloat16", "float16", "e4m3<ieee>",
        "mxint8<8>", "mxfp8<4>", "mxfp8_e5m2<8> half_even infinite", "mxfp8<8> half_even infinite", "mxfp4<8>",
    ],
)  # fmt: skip
def test_nan_and_infinity_count_as_in_hardware(format: str) -> None:
    formats = {
        "default": {"input": "fixed<12,6>", "weight": "fixed<8,5>", "bias": "fixed<8,4>"},
        "name": {"0": {"input": format}},
    }
    design = gw.compile(two_layers(), (torch.randn(2, 8),), formats)
    x = special_inputs()
    with torch.no_grad():
        found, expected = design.module(x).double(), design(x)
    assert torch.equal(found, expected)
    assert expected.isfinite().all()


@pytest.mark.parametrize("format", ["fixed<8,4>", "ufixed<8,8>", "e2m1", "log<5>", "ternary", "binary"])
def test_nan_without_a_code_is_refused_and_counts_as_its_row_says(format: str) -> None:
    formats = {"default": {"input": format, "weight": "fixed<8,5>", "bias": "fixed<8,4>"}}
    design = gw.compile(nn.Linear(8, 3), (torch.randn(2, 8),), formats)
    x = special_inputs()
    with pytest.raises(gw.GatewrightError, match="has no code for it") as caught:
        design(x)
    assert [each.code for each in caught.value.diagnostics] == ["GW0903"]
    parsed = parse_format(format)
    assert isinstance(parsed, ScalarFormat)
    row = float(parsed.decode(parsed.encode([float("nan")]))[0])
    with torch.no_grad():
        assert torch.equal(design.module(x).double(), design(torch.where(x.isnan(), row, x)))


def test_nan_of_a_parameter_stays() -> None:
    formats = {"default": {"input": "e4m3", "weight": "fixed<8,5>", "bias": "fixed<8,4>"}}
    module = gw.quantize(two_layers(), (torch.randn(2, 8),), formats)
    with torch.no_grad():
        next(module.parameters())[0, 0] = float("nan")
    assert module(torch.ones(2, 8)).isnan().any()


def test_special_codes_leave_as_they_are() -> None:
    formats = {"default": {"input": "fixed<8,2>", "weight": "fixed<8,3>", "bias": "fixed<8,4>"}}
    formats["default"]["output"] = "e4m3 half_even infinite"
    model = nn.Linear(8, 3)
    with torch.no_grad():
        model.weight.copy_(torch.linspace(-8, 8, 24).reshape(3, 8))
    design = gw.compile(model, (torch.randn(2, 8),), formats)
    x = 20 * torch.randn(40, 8)
    with torch.no_grad():
        found, expected = design.module(x).double(), design(x)
    assert expected.isnan().any()
    assert torch.equal(found.nan_to_num(nan=1e9), expected.nan_to_num(nan=1e9))


@pytest.mark.parametrize("overflow", ["saturate", "saturate_symmetric", "saturate_zero", "wrap"])
@pytest.mark.parametrize("format", ["fixed<80,40>", "ufixed<90,2>", "fixed<54,-3>", "fixed<1200,40>"])
def test_codes_wider_than_float64(format: str, overflow: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(60, 4) * torch.exp2(torch.randint(-60, 90, (60, 4)).float())
    x[0], x[1] = 2.0**39, -(2.0**39)
    for role in ("input", "output"):
        casts = {"input": "bfloat16", "weight": "fixed<8,5>", "bias": "fixed<8,4>", role: f"{format} floor {overflow}"}
        design = gw.compile(nn.Linear(4, 3), (x,), {"default": casts})
        with torch.no_grad():
            assert torch.equal(design.module(x).double(), design(x)), role


@pytest.mark.parametrize("output", ["", "bfloat16", "e5m2", "fixed<40,30>", "fixed<72,36> floor"])
def test_e5m2_products_round_once(output: str) -> None:
    """Sums of 69 bits and more: a term far below the largest one still decides a tie."""
    generator = np.random.default_rng(5)
    format = parse_format("e5m2")
    assert isinstance(format, ScalarFormat)
    finite = format.decode(np.asarray([code for code in range(256) if not format.is_special(np.asarray([code]))[0]]))
    weight, x = generator.choice(finite, (5, 32)), generator.choice(finite, (300, 32))
    x[:80] = generator.choice([-57344.0, 57344.0, 2.0**-16, -(2.0**-16), 0.0], (80, 32))
    weight[0] = generator.choice([57344.0, -57344.0, 2.0**-16], 32)
    layer = nn.Linear(32, 5)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.zero_()
    model = nn.Sequential(layer, nn.ReLU())
    casts = {"input": "e5m2", "weight": "e5m2", "bias": "fixed<8,4>"} | ({"output": output} if output else {})
    tensor = torch.from_numpy(x).float()
    design = gw.compile(model, (tensor,), {"default": casts})
    with torch.no_grad():
        found, golden = design.module(tensor).double(), design(tensor)
    assert torch.equal(found, golden)
    if output:
        return
    for row in range(len(x)):
        for column in range(5):
            terms = (Fraction(a) * Fraction(b) for a, b in zip(x[row], weight[column], strict=True))
            assert found[row, column].item() == float(max(sum(terms, Fraction(0)), Fraction(0)))
