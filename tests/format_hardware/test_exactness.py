"""Sums of products are exact at the extremes, in the golden model and in PyTorch."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import gatewright as gw
from gatewright.backends.torch.block_products import block_linear
from gatewright.backends.torch.wide import Region
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.decoding import decoded_integers
from gatewright.ir.formats import Fixed, Rounding, ScalarFormat, ScaledSigns, parse_format
from gatewright.ir.types import Type
from gatewright.sim import golden


@pytest.mark.parametrize("name", ["fixed<8,6>", "e4m3", "e5m2", "e3m2", "e2m3", "e2m1"])
def test_a_block_of_extremes(name: str) -> None:
    format = parse_format(name)
    assert isinstance(format, ScalarFormat)
    generator = np.random.default_rng(0)
    low, high = format.code_interval()
    every = range(low, high + 1)
    extremes = np.asarray([code for code in every if abs(format.decode_fraction(code)) == format.largest])
    codes = np.concatenate([generator.choice(extremes, (20, 32)), generator.integers(low, high + 1, (200, 32))])
    weights = np.concatenate([np.full((1, 32), extremes[0]), generator.integers(low, high + 1, (3, 32))])
    builder = Builder("block")
    value = builder.input("x", Type((32,), format, interval_of_codes(format)))
    total = builder.contract("k, n k -> n", value, builder.integers(weights, format))
    (found,) = golden.evaluate(builder.finish([total]), [codes])
    expected = decoded_integers(format, codes).astype(object) @ decoded_integers(format, weights).astype(object).T
    assert (found.astype(object) == expected).all()
    assert total.interval.low <= expected.min()
    assert expected.max() <= total.interval.high


@pytest.mark.parametrize("frac", [-4, 0, 13, 30])
def test_wide_products_round_once(frac: int) -> None:
    generator = np.random.default_rng(frac + 9)
    format = parse_format("e5m2")
    assert isinstance(format, ScalarFormat)
    finite = np.asarray([code for code in range(256) if not format.is_special(np.asarray([code]))[0]])
    left, right = (format.decode(generator.choice(finite, (40, 16))) for _ in range(2))
    found = block_linear(torch.from_numpy(left), torch.from_numpy(right), 16, f"fixed<50,{frac}> half_even", wide=True)
    window = Fixed(50, frac)
    for row in range(40):
        for column in range(40):
            exact = sum((Fraction(a) * Fraction(b) for a, b in zip(left[row], right[column], strict=True)), Fraction(0))
            integer = np.asarray([int(exact * (1 << 40))], dtype=object)
            code = window.encode_scaled(integer, -40, Rounding.HALF_EVEN)
            assert found[row, column].item() == window.decode(code)[0]


@pytest.mark.parametrize("formats", [("e4m3", "e4m3"), ("e4m3", "e5m2"), ("bfloat16", "fixed<8,6>"), ("e5m2", "e2m1")])
def test_printed_module_beyond_float32(formats: tuple[str, str]) -> None:
    torch.manual_seed(1)
    first = nn.Linear(48, 4)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        first.weight.mul_(6)
    casts = {"default": {"input": formats[0], "weight": formats[1], "bias": "fixed<8,4>"}}
    if formats[1].startswith("fixed"):
        with torch.no_grad():
            first.weight.clamp_(-1.9, 1.9)
    x = torch.randn(64, 48) * torch.exp2(torch.randint(-6, 7, (64, 48)).float())
    design = gw.compile(model, (x,), casts)
    with torch.no_grad():
        assert torch.equal(design.module(x).double(), design(x))


@pytest.mark.parametrize("model", [nn.Linear(3, 2), nn.Conv1d(3, 2, 2, padding=1)])
def test_zero_weights_of_wide_inputs(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    x = torch.randn(4, 3, 4) if isinstance(model, nn.Conv1d) else torch.randn(4, 3)
    design = gw.compile(model, (x,), {"default": {"input": "bfloat16", "weight": "fixed<4,2>", "bias": "fixed<8,4>"}})
    with torch.no_grad():
        assert torch.equal(design.module(x).double(), design(x))
    assert not design(x).any()


def scaled_rows(real: torch.Tensor, name: str) -> list[list[Fraction]]:
    """A weight [out, in] in a scaled format, as exact numbers."""
    format = parse_format(name)
    assert isinstance(format, ScaledSigns)
    codes, scales = format.encode(real.double().numpy(), 0)
    bits, rows = format.element.width, []
    for index, row in enumerate(codes):
        factors = [format.scale.decode_fraction(int(each)) for each in scales[index if len(scales) > 1 else 0]]
        signs = [
            [format.element.decode_fraction(int(code) >> (level * bits) & ((1 << bits) - 1)) for code in row]
            for level in range(format.levels)
        ]
        rows.append(
            [sum((f * s[k] for f, s in zip(factors, signs, strict=True)), Fraction(0)) for k in range(len(row))]
        )
    return rows


@pytest.mark.parametrize("spread", [0, 12, 40, 100])
@pytest.mark.parametrize("activation", ["fixed<8,4>", "fixed<24,12>", "fixed<48,20>", "e5m2", "bfloat16"])
@pytest.mark.parametrize("weight", ["ternary<mean>", "binary<channel>", "residual<2>", "residual<3,channel>"])
def test_scaled_weights_are_exact_at_any_width(weight: str, activation: str, spread: int) -> None:
    """Scales and biases that lie up to 2^200 apart, and wide operands, in rational arithmetic."""
    generator = torch.Generator().manual_seed(spread)
    model = nn.Linear(4, 3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            rows = torch.randint(-spread, spread + 1, (3, *(1,) * (parameter.ndim - 1)), generator=generator)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 2.0**rows)
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64) * 100
    formats = {"default": {"input": activation, "weight": weight, "bias": "bfloat16"}}
    design = gw.compile(model, (x[:1].float(),), formats)
    operands = [[Fraction(float(each)) for each in row] for row in gw.format(activation).quantize(x.numpy())]
    weights = scaled_rows(model.weight.detach(), weight)
    bias = [Fraction(float(each)) for each in gw.format("bfloat16").quantize(model.bias.detach())]
    wanted = [
        [
            float(sum((a * b for a, b in zip(row, column, strict=True)), offset))
            for column, offset in zip(weights, bias, strict=True)
        ]
        for row in operands
    ]
    assert design(x).tolist() == wanted
    with torch.no_grad():
        assert design.module(x).double().tolist() == wanted


@pytest.mark.parametrize("weight", ["ternary<mean>", "binary<tensor>", "residual<2>", "mxint8"])
def test_a_little_less_rounds_down(weight: str) -> None:
    """A bias of -2^-90 takes a sum that lies on the grid below it, which no float64 shows."""
    torch.manual_seed(2)
    model = nn.Linear(4, 3).eval()
    with torch.no_grad():
        model.weight.copy_(torch.randint(0, 2, (3, 4)) * 4.0 - 2.0)
        assert model.bias is not None
        model.bias.copy_(torch.tensor([-(2.0**-90), 0.0, 2.0**-90]))
    x = torch.randn(16, 4) * 4
    roles = {"input": "fixed<8,4>", "weight": weight, "bias": "bfloat16", "output": "fixed<24,4> floor"}
    design = gw.compile(model, (x[:1],), {"default": roles})
    sums = torch.nn.functional.linear(gw.format("fixed<8,4>").quantize(x).double(), model.weight.double())
    wanted = sums - torch.tensor([2.0**-4, 0.0, 0.0])
    assert torch.equal(design(x), wanted)
    with torch.no_grad():
        assert torch.equal(design.module(x).double(), wanted)


@pytest.mark.parametrize("weight", ["ternary<mean>", "residual<2>", "mxint8"])
def test_ordinary_constants_need_no_wide_integers(weight: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where the constants lie far apart are sums computed on the host."""

    def refused(*_: object) -> None:
        raise AssertionError("computed in integers on the host")

    torch.manual_seed(1)
    model, x = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)).eval(), torch.randn(5, 16)
    scaled = {"default": {"input": "fixed<8,4>", "weight": weight, "bias": "fixed<10,4>"}}
    design = gw.compile(model, (x[:1],), weight if weight == "mxint8" else scaled)
    monkeypatch.setattr(Region, "compute", refused)
    with torch.no_grad():
        assert torch.equal(design.module(x).double(), design(x))
        next(design.module.parameters()).mul_(2.0 ** torch.arange(-60, 68, 8)[:, None])
        first = next(parameter for name, parameter in design.module.named_parameters() if name.endswith("bias"))
        first.mul_(2.0 ** torch.arange(-60, 68, 8))
    with pytest.raises(AssertionError, match="on the host"):
        design.module(x)
