"""Attention, prefill and decode, against float32 PyTorch."""

from __future__ import annotations

import pytest
import torch

from gatewright.diagnostics import GatewrightError
from gatewright.kernels import attention, convert
from gatewright.kernels.formats import block_format


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
@pytest.mark.parametrize(("capacity", "length", "heads"), [(300, 300, 4), (300, 257, 2), (64, 1, 8), (99, 97, 6)])
def test_decode(name: str, capacity: int, length: int, heads: int, depth: int, where: str) -> None:
    q = torch.randn(2, heads, depth, device=where).bfloat16()
    keys = convert.quantize(torch.randn(2, 2, capacity, depth, device=where), name)
    values = convert.quantize(torch.randn(2, 2, capacity, depth, device=where), name)
    found = attention.attention_decode(q, keys, values, name, length)
    plain = [convert.dequantize(*each, name, torch.float32)[:, :, :length] for each in (keys, values)]
    expected = attention.reference_attention(q.unsqueeze(2), *plain, False, depth**-0.5).squeeze(2)
    assert float((found.float() - expected).norm() / expected.norm()) < 3e-3


def cache_of(codes: torch.Tensor, scales: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales as a cache holds them."""
    return codes.to(torch.uint8).view(block_format(name).code_dtype).contiguous(), scales.to(torch.uint8).contiguous()


def decoded(cache: tuple[torch.Tensor, torch.Tensor], name: str, length: int | None = None) -> torch.Tensor:
    """The values of a cache's first tokens in float32."""
    return convert.dequantize(*cache, name, torch.float32)[:, :, :length]


@pytest.mark.parametrize("name", attention.CACHE_FORMATS)
def test_every_value_code_and_scale_is_exact(name: str, where: str) -> None:
    """One token, whose weight is 1: each result is a value. All codes under all scales, NaN and infinities included."""
    scales = torch.arange(256) if where == "cuda" else torch.tensor([0, 1, 5, 126, 131, 240, 248, 253, 254, 255])
    codes = torch.arange(256).view(1, 2, 1, 128).expand(len(scales), 2, 1, 128).to(where)
    values = cache_of(codes, scales.view(-1, 1, 1, 1).expand(-1, 2, 1, 4).to(where), name)
    keys = cache_of(torch.ones_like(codes), torch.full_like(values[1], 127), name)
    q = torch.randn(len(scales), 2, 128, device=where).bfloat16()
    found = attention.attention_decode(q, keys, values, name)
    wanted = decoded(values, name)[:, :, 0].bfloat16()
    # The product of a weight and a value below float32's normal range may be flushed to zero.
    normal = ~(wanted.abs() < 2.0**-126)
    assert wanted.isnan().any() and normal.float().mean() > 0.8
    torch.testing.assert_close(found[normal], wanted[normal], rtol=0, atol=0, equal_nan=True)
    assert (found[~normal].float().abs() <= 2.0**-126).all()


@pytest.mark.parametrize("name", attention.CACHE_FORMATS)
def test_every_key_code_and_scale_reaches_the_scores(name: str, where: str) -> None:
    """A unit query picks one element of the first token's keys; the second token's are 0, and the values 1 and 0."""
    scales = torch.arange(24, 226) if where == "cuda" else torch.tensor([24, 127, 225])
    codes = torch.arange(256) if where == "cuda" else torch.arange(1, 256, 6)
    codes, scales = (each.flatten() for each in torch.meshgrid(codes, scales, indexing="ij"))
    heads, every = len(codes), torch.arange(len(codes))
    keys_codes = torch.zeros(heads, 1, 2, 128, dtype=torch.int64)
    place = every * 37 % 128
    keys_codes[every, 0, 0, place] = codes
    key_scales = torch.full((heads, 1, 2, 4), 127)
    key_scales[every, 0, 0, place // 32] = scales
    q = torch.zeros(heads, 1, 128)
    q[every, 0, place] = torch.exp2(127 - scales.float())
    keys = cache_of(keys_codes.to(where), key_scales.to(where), name)
    values = convert.quantize(torch.tensor([1.0, 0.0], device=where)[:, None].expand(heads, 1, 2, 128), name)
    q = q.bfloat16().to(where)
    found = attention.attention_decode(q, keys, values, name, scale=0.75).float()
    plain = decoded(keys, name), decoded(values, name)
    expected = attention.reference_attention(q.unsqueeze(2), *plain, False, 0.75).squeeze(2)
    special = block_format(name).element.special != "none"
    assert bool(expected.isnan().any()) == special and (expected > 0.51).any() and (expected < 0.49).any()
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", attention.CACHE_FORMATS)
@pytest.mark.parametrize(("place", "blocks"), [("keys", range(4)), ("values", [1])])
def test_a_nan_scale_reaches_what_it_scales(name: str, place: str, blocks: list[int], where: str) -> None:
    keys, values = (convert.quantize(torch.randn(2, 2, 75, 128, device=where), name) for _ in range(2))
    q = torch.randn(2, 4, 128, device=where).bfloat16()
    for token in (0, 31, 74):
        cache = {"keys": (keys[0], keys[1].clone()), "values": (values[0], values[1].clone())}
        cache[place][1][1, 0, token, 1] = 255
        nan = attention.attention_decode(q, cache["keys"], cache["values"], name).view(2, 4, 4, 32).isnan()
        wanted = torch.zeros_like(nan)
        wanted[1, :2, list(blocks)] = True
        assert torch.equal(nan, wanted)


@pytest.mark.parametrize("name", attention.CACHE_FORMATS)
@pytest.mark.parametrize("length", [1, 15, 16, 33, 130])
def test_nothing_past_the_length_is_seen(name: str, length: int, where: str) -> None:
    """Nor is the next head's cache: codes and scales that are NaN where the format has it."""
    caches = [convert.quantize(torch.randn(1, 2, 150, 128, device=where), name) for _ in range(2)]
    dirty = [(codes.clone(), scales.clone()) for codes, scales in caches]
    for codes, scales in dirty:
        codes.view(torch.uint8)[:, :, length:] = 0x7F
        scales[:, :, length:] = 255
    q = torch.randn(1, 4, 128, device=where).bfloat16()
    found = attention.attention_decode(q, *dirty, name, length)
    assert found.isfinite().all()
    assert torch.equal(found, attention.attention_decode(q, *caches, name, length))
    assert torch.equal(found, attention.attention_decode(q, *caches, name, length))


@pytest.mark.parametrize("name", attention.CACHE_FORMATS)
@pytest.mark.parametrize("heads", [2, 3])  # a kernel for two, one for four
@pytest.mark.parametrize("trend", ["random", "rising", "falling", "opposed"])
def test_scales_that_differ_between_tokens_and_blocks(name: str, heads: int, trend: str, where: str) -> None:
    """Every block of 32 results is right in itself, however small beside others, as scores and scales come and go."""
    tokens = 127 if trend == "opposed" else 333
    keys, values = (convert.quantize(torch.randn(1, 1, tokens, 128, device=where), name) for _ in range(2))
    along = torch.linspace(-20, 20, tokens, device=where)[:, None]
    if trend == "opposed":  # at once, so that weights without their scales would sum up to infinity
        along = 20 * along.sign()
    # By how many powers of two the scales go up or down, and the scores, over all tokens.
    scales_go, scores_go = {"random": (0, 0), "rising": (60, 30), "falling": (-60, -30), "opposed": (-130, 126)}[trend]
    shift = torch.randn(tokens, 4, device=where) * 5 + along * scales_go / 40
    shift += torch.tensor([-40, -3, 0, 40], device=where)
    values = values[0], (values[1].int() + shift.int()).clamp(0, 254).to(torch.uint8)
    q = torch.randn(1, heads, 128, device=where)
    if scores_go:
        direction = torch.randn(1, 1, 1, 128, device=where).sign()
        keys = torch.randn(1, 1, tokens, 128, device=where) + along * direction * scores_go / 33
        keys = convert.quantize(keys, name)
        q = 0.005 * q + 0.05 * direction[:, 0]
    q = q.bfloat16()
    found = attention.attention_decode(q, keys, values, name).float().double().view(heads, 4, 32)
    plain = decoded(keys, name), decoded(values, name)
    scores = q.double().unsqueeze(2) @ plain[0].double().mT * 128**-0.5
    expected = (torch.softmax(scores, -1) @ plain[1].double()).view(heads, 4, 32)
    assert float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max()) < 4e-3


@pytest.mark.parametrize(
    ("code", "message", "call"),
    [
        ("GW0505", "`query` has 4 heads", lambda q: attention.attention(q, q[:, :3], q[:, :3])),
        ("GW0505", "`keys` has 2 tokens", lambda q: attention.attention(q, q[:, :, :2], q[:, :, :2], causal=True)),
        ("GW0502", "`keys` is float16", lambda q: attention.attention(q, q.half(), q)),
        ("GW0505", "`query` has heads of depth 7", lambda q: attention.attention(q[..., :7], q[..., :7], q[..., :7])),
    ],
)
def test_errors(code: str, message: str, call: object, where: str) -> None:
    with pytest.raises(GatewrightError, match=message) as caught:
        call(torch.zeros(1, 4, 8, 32, device=where))  # type: ignore[operator]
    assert caught.value.code == code
