"""Quantising into blocks in a stream equals the format's own encoding; what it cannot do is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import gatewright as gw
from gatewright.ir.blocks import quantise_blocks
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.formats import Block, ScalarFormat, parse_cast, parse_format
from gatewright.ir.types import Type
from gatewright.sim import golden

BLOCKS = (
    "mxint8", "mxint4", "mxfp8", "mxfp8_e5m2", "mxfp6", "mxfp6_e2m3", "mxfp4", "nvfp4", "block<log<4>,e8m0,16>",
    "block<e3m2<flush>,e5m0,16>", "block<fixed<6,5>,e8m0,16>", "block<ternary,e8m0,16>", "block<e2m1,e5m2,16>",
    "mxfp8 floor", "mxint8 half_up saturate",
)  # fmt: skip


def hard_cases(low: int, high: int) -> np.ndarray:
    """Rows of 32 codes: of every magnitude, zeros, extremes, powers of two and their neighbours."""
    generator = np.random.default_rng(0)
    rows = generator.integers(low, high + 1, (600, 32)) >> generator.integers(0, 16, (600, 1))
    powers = [np.full(32, sign << bit) + extra for bit in range(12) for sign in (1, -1) for extra in (-1, 0, 1)]
    small = [generator.integers(-(1 << bit), (1 << bit) + 1, 32) for bit in range(15)]
    extremes = [np.zeros(32, np.int64), np.full(32, low), np.full(32, high), generator.choice([low, high, 0], 32)]
    return np.clip(np.concatenate([rows, powers, small, extremes]), low, high)


@pytest.mark.parametrize("source", ["fixed<16,8>", "fixed<9,2>", "ufixed<12,14>", "fixed<20,3>"])
@pytest.mark.parametrize("name", BLOCKS)
def test_quantiser_equals_encode(name: str, source: str) -> None:
    spec, format = parse_cast(name), parse_format(source)
    assert isinstance(format, ScalarFormat)
    assert isinstance(spec.format, Block)
    builder = Builder("quantiser")
    value = builder.input("x", Type((32,), format, interval_of_codes(format)))
    block = quantise_blocks(builder, value, spec)
    codes = hard_cases(*format.code_interval())
    elements, scales = golden.evaluate(builder.finish([block.elements, block.scales]), [codes])
    expected, expected_scales = spec.format.encode(format.decode(codes), None, spec.rounding, spec.overflow)
    np.testing.assert_array_equal(scales.reshape(expected_scales.shape), expected_scales)
    np.testing.assert_array_equal(elements.reshape(expected.shape), expected)


@pytest.mark.parametrize("name", ["mxint2<4>", "mxfp4<4>", "mxfp8_e5m2<4>", "block<e3m2,e5m0,4>", "nvfp4<4>"])
def test_quantiser_of_zeros_alone(name: str) -> None:
    # Rounded towards zero into fixed<1,0> and rectified, nothing is left but zero.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    values = torch.randn(6, 8)
    rules = {"input": name, "weight": "mxfp4<4>", "bias": "float16", "output": "fixed<1,0> toward_zero saturate"}
    rules_last = {"2": {"output": "fixed<12,8>"}}
    design = gw.compile(model, (values[:2],), {"default": rules, "name": rules_last})
    found = design(values)
    with torch.no_grad():
        np.testing.assert_array_equal(design.module(values).double().numpy(), found.numpy())
    # The last layer is left with its bias.
    np.testing.assert_array_equal(found.numpy(), design(-3 * values).numpy())
    assert len(found[0].unique()) == 3


@pytest.mark.parametrize(
    ("formats", "code"),
    [
        ({"input": "mxint8<16>", "weight": "fixed<8,6>"}, "GW0380"),
        ({"input": "fixed<8,4>", "weight": "mxint8<16>"}, "GW0380"),
        ({"input": "mxint8<8>", "weight": "mxfp4<4>"}, "GW0382"),
        ({"input": "block<e2m1,e8m0,2x8>", "weight": "fixed<8,6>"}, "GW0381"),
        ({"input": "mxint8<8>", "weight": "fixed<8,6>", "accumulator": "e4m3"}, "GW0388"),
        ({"input": "mxint8<8>", "weight": "fixed<8,6>", "output": "mxfp4<8>"}, "GW0387"),
        ({"input": "fixed<8,4> stochastic", "weight": "fixed<8,6>"}, "GW0310"),
    ],
)
def test_what_is_refused(formats: dict[str, str], code: str) -> None:
    model = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 8))
    with pytest.raises(gw.GatewrightError) as caught:
        gw.compile(model, (torch.randn(2, 24),), {"default": {"bias": "fixed<8,6>", **formats}})
    assert code in {each.code for each in caught.value.diagnostics}


@pytest.mark.parametrize("role", ["input", "weight", "bias"])
@pytest.mark.parametrize("format", ["fixed<8,4>", "mxint8<8>", "e4m3"])
def test_stochastic_rounding_is_for_training_alone(format: str, role: str) -> None:
    """At a port and of constants too; in software it repeats with the seed."""
    if role == "bias" and format == "mxint8<8>":
        format = "e5m2"
    model, x = nn.Linear(16, 8), torch.randn(4, 16)
    casts = {"input": "fixed<8,4>", "weight": "fixed<8,6>", "bias": "fixed<8,6>", role: f"{format} stochastic"}
    with pytest.raises(gw.GatewrightError) as caught:
        gw.compile(model, (x,), {"default": casts})
    assert {each.code for each in caught.value.diagnostics} == {"GW0310"}
    module = gw.quantize(model, (x,), {"default": casts})
    results: list[torch.Tensor] = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(module(x))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_wider_accumulator_is_the_users_choice() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(16, 3), torch.randn(5, 16)
    formats = {"default": {"input": "mxint8<8>", "weight": "mxint8<8>", "bias": "fixed<8,6>"}}
    coarse = {"default": {**formats["default"], "accumulator": "fixed<12,2> floor"}}
    fine, rough = (gw.compile(model, (x,), each) for each in (formats, coarse))
    assert (rough(x) != fine(x)).any()
    for design in (fine, rough):
        assert torch.equal(design.module(x).detach().double(), design(x))


def test_training_in_block_formats() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(16, 4), torch.randn(64, 16)
    target = torch.randn(64, 4)
    formats = {"default": {"input": "mxfp8<8>", "weight": "mxint8<8>", "bias": "fixed<12,8>"}}
    module = gw.quantize(model, (x,), formats).train()
    optimiser = torch.optim.SGD(module.parameters(), 0.05)
    losses: list[float] = []
    for _ in range(20):
        loss = ((module(x) - target) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
