"""First and second derivatives against PyTorch's own, and the scales of integer groups."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gatewright.kernels import attention, convert, device, product, rows

Function = Callable[..., Tensor]


def weights_of(where: str) -> tuple[Tensor, Tensor]:
    """Codes and scales of mxint8, the same on every call."""
    return convert.quantize(torch.randn(24, 64, generator=torch.Generator().manual_seed(3)).to(where) * 0.3, "mxint8")


def linear(activation: str, x: Tensor, bias: Tensor) -> Tensor:
    """Ours; the bias is a matrix's first rows, to be of a size with the other cases."""
    return product.block_linear(x, *weights_of(str(x.device)), "mxint8", bias[0, :24], activation)


def plain_linear(activation: str, x: Tensor, bias: Tensor) -> Tensor:
    """PyTorch's."""
    weights = convert.dequantize(*weights_of(str(x.device)), "mxint8", torch.float32)
    return product.activate(F.linear(x, weights, bias[0, :24]), activation)


def heads(x: Tensor) -> Tensor:
    """[6, 64] as two heads of 3 tokens."""
    return x.reshape(1, 2, 6, 32)


def plain_attention(causal: bool, x: Tensor, y: Tensor) -> Tensor:
    """PyTorch's elementary operators: its fused attention has no second derivative."""
    scores = heads(x) @ heads(y).mT * 32**-0.5
    if causal:
        scores = scores + torch.full((6, 6), -torch.inf, device=x.device).triu(1)
    return torch.softmax(scores, -1) @ heads(x)


CASES: dict[str, tuple[Function, Function]] = {
    "softmax": (lambda x, y: rows.softmax(x * y), lambda x, y: torch.softmax(x * y, -1)),
    "layer_norm": (
        lambda x, y: rows.layer_norm(x, y[0], y[1]),
        lambda x, y: F.layer_norm(x, (64,), y[0], y[1]),
    ),
    "rms_norm": (lambda x, y: rows.rms_norm(x, y[0]), lambda x, y: F.rms_norm(x, (64,), y[0], 1e-6)),
    "gelu": (lambda x, y: rows.gelu(x + y), lambda x, y: F.gelu(x + y)),
    "gelu_tanh": (lambda x, y: rows.gelu(x - y, "tanh"), lambda x, y: F.gelu(x - y, approximate="tanh")),
    "silu_gate": (rows.silu_gate, lambda x, y: F.silu(x) * y),
    "silu_gate of one tensor": (lambda x, y: rows.silu_gate(x, x) + y, lambda x, y: F.silu(x) * x + y),
    **{
        f"linear {name}": (
            lambda x, y, name=name: linear(name, x, y),
            lambda x, y, name=name: plain_linear(name, x, y),
        )
        for name in device.ACTIVATIONS
    },
    **{
        f"attention{' causal' * causal}": (
            lambda x, y, causal=causal: attention.attention(heads(x), heads(y), heads(x), causal),
            lambda x, y, causal=causal: plain_attention(causal, x, y),
        )
        for causal in (False, True)
    },
}


@pytest.mark.parametrize("case", CASES)
def test_first_and_second_derivatives(case: str, where: str) -> None:
    """A penalty on a gradient trains as with PyTorch's functions; nothing is dropped from its graph."""
    values = [torch.randn(6, 64).to(where) for _ in range(2)]
    found: list[list[Tensor]] = []
    for function in CASES[case]:
        leaves = [each.clone().requires_grad_() for each in values]
        first = torch.autograd.grad(function(*leaves).square().sum(), leaves, create_graph=True)
        penalty = sum((each.square().sum() for each in first), torch.zeros((), device=where))
        found.append([*first, *torch.autograd.grad(penalty, leaves)])
        again = torch.autograd.grad(function(*leaves).square().sum(), leaves)
        for one, other in zip(first, again, strict=True):
            torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3 * float(other.detach().abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [8, 4])
def test_scales_of_groups(bits: int, dtype: torch.dtype, where: str) -> None:
    codes = torch.randint(-128, 128, (24, 64 * bits // 8)).to(torch.int8).to(where)
    scales = torch.rand(24, 2, device=where).requires_grad_()
    x = torch.randn(5, 64).to(where, dtype)
    whole = product.decode_groups(codes, torch.ones(24, 2, device=where), bits, torch.float32)
    found = torch.autograd.grad(product.group_linear(x, codes, scales, bits).float().sum(), scales)[0]
    plain = F.linear(x.float(), (whole.reshape(24, 2, 32) * scales[:, :, None]).flatten(1)).sum()
    expected = torch.autograd.grad(plain, scales)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
