"""Attention, prefill and decode, against float32 PyTorch."""

from __future__ import annotations

import pytest
import torch

from gatewright.diagnostics import GatewrightError
from gatewright.kernels import attention, convert


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("queries", "tokens", "depth"), [(70, 70, 64), (33, 140, 32), (1, 9, 128)])
def test_prefill(queries: int, tokens: int, depth: int, dtype: torch.dtype, causal: bool, where: str) -> None:
    q = torch.randn(2, 4, queries, depth, device=where).to(dtype)
    k, v = torch.randn(2, 2, 2, tokens, depth, device=where).to(dtype)
    found = attention.attention(q, k, v, causal)
    expected = attention.reference_attention(q, k, v, causal, depth**-0.5)
    assert float((found.float() - expected).norm() / expected.norm()) < (4e-3 if dtype == torch.bfloat16 else 2e-5)


def test_gradients(where: str) -> None:
    q, k, v = (torch.randn(1, 2, 12, 32, device=where, requires_grad=True) for _ in range(3))
    found = torch.autograd.grad(attention.attention(q, k, v, True).square().sum(), (q, k, v))
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    expected = torch.autograd.grad(plain.square().sum(), (q, k, v))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", attention.CACHE_FORMATS)
@pytest.mark.parametrize("depth", [64, 128])
@pytest.mark.parametrize(("capacity", "length", "heads"), [(300, 300, 4), (300, 257, 2), (64, 1, 8)])
def test_decode(name: str, capacity: int, length: int, heads: int, depth: int, where: str) -> None:
    q = torch.randn(2, heads, depth, device=where).bfloat16()
    keys = convert.quantize(torch.randn(2, 2, capacity, depth, device=where), name)
    values = convert.quantize(torch.randn(2, 2, capacity, depth, device=where), name)
    found = attention.attention_decode(q, keys, values, name, length)
    plain = [convert.dequantize(*each, name, torch.float32)[:, :, :length] for each in (keys, values)]
    expected = attention.reference_attention(q.unsqueeze(2), *plain, False, depth**-0.5).squeeze(2)
    assert float((found.float() - expected).norm() / expected.norm()) < 3e-3


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("GW0505", lambda q: attention.attention(q, q[:, :3], q[:, :3])),
        ("GW0505", lambda q: attention.attention(q, q[:, :, :2], q[:, :, :2], causal=True)),
        ("GW0502", lambda q: attention.attention(q, q.half(), q)),
        ("GW0505", lambda q: attention.attention(q[..., :7], q[..., :7], q[..., :7])),
    ],
)
def test_errors(code: str, call: object, where: str) -> None:
    with pytest.raises(GatewrightError) as caught:
        call(torch.zeros(1, 4, 8, 32, device=where))  # type: ignore[operator]
    assert caught.value.code == code
