"""Stochastic rounding in whole modules: seeded, trainable, and refused where hardware is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import gatewright as gw

FORMATS = [
    "fixed<6,3>", "ufixed<5,3>", "e4m3", "e5m2 infinite", "log<5>", "binary", "ternary", "float16", "fixed<40,30>",
    "fixed<60,30>", "mxfp4<8>", "mxint4<8>", "nvfp4<8>", "block<e2m1,bfloat16,8>",
]  # fmt: skip


def layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))


def seeded(module: nn.Module, x: torch.Tensor, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return module(x)


def with_function() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 4), nn.LeakyReLU())


def refused(model: nn.Module, x: torch.Tensor, formats: Any) -> None:
    with pytest.raises(gw.GatewrightError, match="stochastic rounding has no hardware") as caught:
        gw.compile(model, (x,), formats)
    assert {each.code for each in caught.value.diagnostics} == {"GW0310"}


@pytest.mark.parametrize("format", FORMATS)
def test_modules_round_at_random_from_the_seed(format: str) -> None:
    model, x = layers(), torch.randn(16, 8)
    weight = "fixed<6,3>" if format.startswith("ufixed") else format
    casts = {"input": f"{format} stochastic", "weight": f"{weight} stochastic", "bias": "fixed<12,8>"}
    formats = {"default": casts}
    module = gw.quantize(model, (x,), formats).train()
    first = seeded(module, x, 1)
    assert torch.equal(first, seeded(module, x, 1))
    assert not torch.equal(first, seeded(module, x, 2))
    first.sum().backward()
    assert all(each.grad is not None and bool(each.grad.isfinite().all()) for each in module.parameters())
    refused(model, x, formats)


@pytest.mark.parametrize(
    ("make", "casts"),
    [
        (with_function, {"input": "fixed<8,4>", "output": "fixed<6,2> stochastic"}),
        (with_function, {"input": "e4m3 stochastic"}),
        (layers, {"input": "mxint8<8>", "weight": "mxint8<8>", "accumulator": "fixed<16,2> stochastic"}),
        (layers, {"input": "e5m2", "weight": "e5m2", "output": "fixed<8,1> stochastic"}),
        (layers, {"input": "float16 stochastic", "weight": "e5m2 stochastic", "output": "fixed<60,3> stochastic"}),
    ],
)
def test_results_and_accumulators_round_at_random(make: Callable[[], nn.Module], casts: dict[str, str]) -> None:
    model, x = make(), torch.randn(16, 8)
    formats = {"default": {"weight": "fixed<8,5>", "bias": "fixed<8,5>"} | casts}
    module = gw.quantize(model, (x,), formats)
    assert torch.equal(seeded(module, x, 1), seeded(module, x, 1))
    assert not torch.equal(seeded(module, x, 1), seeded(module, x, 2))
    refused(model, x, formats)


def test_the_mean_is_the_number_itself() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    casts = {"input": "e4m3 stochastic", "weight": "fixed<8,4>"}
    module = gw.quantize(model, (torch.ones(1, 1),), {"default": casts})
    torch.manual_seed(0)
    with torch.no_grad():
        found = module(torch.full((40000, 1), 17.2))  # between 16 and 18
    assert set(found.unique().tolist()) == {16.0, 18.0}
    assert abs(found.mean().item() - 17.2) < 0.02


def test_compiled_modules_round_at_random() -> None:
    model, x = layers(), torch.randn(16, 8)
    casts = {"input": "e4m3 stochastic", "weight": "mxint8<8> stochastic", "bias": "fixed<12,8>"}
    module = torch.compile(gw.quantize(model, (x,), {"default": casts}), backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert torch.equal(seeded(module, x, 1), seeded(module, x, 1))
        assert not torch.equal(module(x), module(x))
    torch._dynamo.reset()
