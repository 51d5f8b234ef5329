"""Every format trains in a whole module, with clipped and with plain gradients, in each role."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gatewright as gw

SCALARS = [
    "e4m3", "e5m2", "e3m2", "e2m3", "e2m1", "float16", "bfloat16", "e4m3<ieee>", "e4m3<none>", "e4m3<flush>",
    "e3m2<denormal>", "log<5>", "log<4>", "binary", "ternary", "fixed<8,5>", "fixed<4,2>",
]  # fmt: skip
SCALED = [
    "binary<tensor>", "binary<channel>", "binary<tensor,float32>", "residual<1>", "residual<2>", "residual<3,channel>",
    "ternary<mean>", "ternary<max>", "ternary<mean,channel>",
]  # fmt: skip
BLOCKS = [
    "mxfp8<8>", "mxfp8_e5m2<8>", "mxfp6<8>", "mxfp6_e2m3<8>", "mxfp4<8>", "mxint8<8>", "mxint4<8>", "nvfp4<8>",
    "block<fixed<8,7>,e8m0,8>", "block<e3m2,e5m0,8>", "block<log<4>,e8m0,8>",
]  # fmt: skip
TILES = ["block<e4m3,e8m0,8x8>", "mxint8<4x8>"]
STEPS = 40


def linear() -> tuple[nn.Module, torch.Tensor]:
    """A network of two layers and a batch of its inputs; the weights are wide enough for formats without scales."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        model[0].weight.mul_(4.0)
        model[2].weight.mul_(4.0)
    return model, torch.randn(128, 8)


def convolutions() -> tuple[nn.Module, torch.Tensor]:
    """The same of convolutions."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    with torch.no_grad():
        model[0].weight.mul_(8.0)
        model[2].weight.mul_(4.0)
    return model, torch.randn(24, 8, 3, 3)


def losses(module: nn.Module, x: torch.Tensor, target: torch.Tensor) -> list[float]:
    """The loss at every step of a short training."""
    optimiser = torch.optim.Adam(module.parameters(), 0.02)
    found: list[float] = []
    for _ in range(STEPS):
        loss = F.mse_loss(module(x).float(), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(loss.item())
    return found


WEIGHTS = [*SCALARS, *SCALED, *BLOCKS, *TILES]
INPUTS = [*SCALARS, "ufixed<6,3>", *BLOCKS]
CASES = [
    *[(linear, "weight", each, gradient) for each in WEIGHTS for gradient in ("clipped", "plain")],
    *[(linear, "input", each, "clipped") for each in INPUTS],
    *[(linear, "bias", each, "plain") for each in (*SCALARS, *SCALED[:3])],
    *[(convolutions, "weight", each, "clipped") for each in WEIGHTS],
    *[(convolutions, "input", each, "plain") for each in INPUTS],
]


@pytest.mark.parametrize(("make", "role", "format", "gradient"), CASES)
def test_the_loss_goes_down(make: Any, role: str, format: str, gradient: str) -> None:
    model, x = make()
    casts = {"input": "fixed<12,8>", "weight": "fixed<12,8>", "bias": "fixed<16,8>"}
    module = gw.quantize(model, (x[:2],), {"default": casts | {role: f"{format} {gradient}"}}).train()
    with torch.no_grad():
        target = 0.5 * torch.tanh(x[:, :4] - x[:, 4:])
    found = losses(module, x, target)
    assert min(found[-5:]) < 0.8 * found[0]
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name


@pytest.mark.parametrize("format", ["ternary<mean>", "e2m1", "fixed<4,3>", "block<e2m1,e1m0,8>"])
def test_a_plain_gradient_reaches_what_was_clipped(format: str) -> None:
    gradients: dict[str, torch.Tensor] = {}
    designs: dict[str, torch.Tensor] = {}
    for word in ("clipped", "plain"):
        torch.manual_seed(1)
        layer, x = nn.Linear(8, 8, bias=False), torch.randn(4, 8)
        with torch.no_grad():
            layer.weight.copy_(torch.linspace(-0.9, 0.87, 64).reshape(8, 8))
        formats = {"default": {"input": "fixed<8,4>", "weight": f"{format} {word}"}}
        module = gw.quantize(layer, (x,), formats).train()
        with torch.no_grad():
            module.weight.mul_(16)
        module(x).sum().backward()
        gradients[word] = module.weight.grad
        designs[word] = gw.compile(layer, (x,), formats)(x)
    assert torch.equal(designs["clipped"], designs["plain"])
    assert bool((gradients["plain"] != 0).all())
    outside = gradients["clipped"] == 0
    assert 0 < outside.float().mean() < 1
    assert torch.equal(gradients["clipped"][~outside], gradients["plain"][~outside])
