"""Weights of 8 or 4 bits in groups: decoded bit for bit, multiplied within the bound that docs/kernels.md states."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu.measure import same_values
from gatewright.kernels import device, group_decode_cuda, product
from gatewright.kernels.formats import FLOATS
from tests.kernels import bounds

BITS = (8, 4)


def weights(columns: int, depth: int, bits: int, group: int, where: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Random codes, all of them likely, and float32 scales of both signs."""
    codes = torch.randint(0, 256, (columns, depth * bits // 8), dtype=torch.uint8, device=where)
    scales = (torch.rand(columns, depth // group, device=where) - 0.3) * 0.01
    return codes.view(torch.int8), scales


def exact(codes: torch.Tensor, scales: torch.Tensor, bits: int) -> torch.Tensor:
    """The weights in float64, where code times scale is exact."""
    wide = codes.view(torch.uint8).long()
    if bits == 4:
        wide = torch.stack((wide & 15, wide >> 4), -1).flatten(-2)
    half = 1 << (bits - 1)
    wide = (wide + half) % (2 * half) - half
    return (wide.double().reshape(*scales.shape, -1) * scales.double().unsqueeze(-1)).flatten(-2)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(
    ("columns", "depth", "group"),
    [(3, 24, 6), (5, 40, 20), (7, 96, 12), (33, 512, 128), (1, 2, 1), (9, 130, 10), (30, 640, 640), (17, 384, 16)],
)
def test_decoded_groups_equal_the_definition(columns: int, depth: int, group: int, bits: int, where: str) -> None:
    """Any group, any K; subnormal, huge, zero, infinite and NaN scales of every type."""
    from gatewright.kernels.dequantize_groups_triton import launch_dequantize_groups

    codes, scales = weights(columns, depth, bits, group, where)
    scales *= torch.exp2(torch.randint(-140, 120, scales.shape, device=where).float())
    for index, value in enumerate((torch.nan, torch.inf, 0.0, -0.0)):
        scales.view(-1)[5 + index :: 11] = value
    for stored in FLOATS:
        for dtype in FLOATS:
            found = launch_dequantize_groups(codes, scales.to(stored), bits, dtype)
            assert same_values(found, product.decode_groups(codes, scales.to(stored), bits, dtype))


def digits_span(rows: int, depth: int, group: int, form: str) -> int:
    """k for which x's digits have one unit, in the kernels that split it."""
    return group_decode_cuda.BLOCK if group_decode_cuda.one_row(rows, depth, form) or group % 128 else 128


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(
    ("columns", "depth", "group", "stored"),
    [
        (16, 256, 32, torch.bfloat16),
        (33, 512, 64, torch.float16),
        (48, 768, 96, torch.float32),
        (57, 2304, 128, torch.bfloat16),
        (100, 768, 384, torch.float16),
        (40, 1024, 1024, torch.float32),
        (23, 384, 128, torch.bfloat16),
    ],
)
def test_products_keep_to_their_bound(
    columns: int, depth: int, group: int, stored: torch.dtype, bits: int, where: str
) -> None:
    """Every element within what rounding the result, x's digits (or the weights) and the sums may do to it."""
    codes, scales = weights(columns, depth, bits, group, where)
    scales = scales.to(stored)
    plain, form = exact(codes, scales, bits), f"int{bits}"
    for rows in (1, 2, 5, 16) if where == "cuda" else (1, 5):
        # Rows and elements of different sizes: a unit of x is not everybody's.
        spread = torch.exp2(torch.randint(-9, 3, (rows, depth), device=where).float())
        x = (torch.randn(rows, depth, device=where) * spread).bfloat16()
        bias = torch.randn(columns, device=where).bfloat16()
        found = product.group_linear(x, codes, scales, bits, bias)
        wanted = x.double() @ plain.T + bias.double()
        split = group_decode_cuda.serves(x, columns, depth, form, group)
        bound = bounds.of_sums(x, plain, wanted, digits_span(rows, depth, group, form) if split else None)
        assert ((found.double() - wanted).abs() <= bound).all()


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("bits", BITS)
def test_every_code_reaches_the_product(bits: int, rows: int, where: str) -> None:
    """Rows of x are unit vectors, so each output is one weight; zero, negative, NaN and infinite scales among them."""
    depth, columns = 256, 32
    codes = (torch.arange(depth) + 7 * torch.arange(columns)[:, None]) % (1 << bits)
    packed = (codes if bits == 8 else codes[:, 0::2] | codes[:, 1::2] << 4).to(torch.uint8).view(torch.int8).to(where)
    for group in (32, 64, 128, 256):
        scales = torch.randn(columns, depth // group, device=where)
        scales *= torch.exp2(torch.randint(-30, 30, scales.shape, device=where).float())
        scales = scales.bfloat16()
        scales[3] = 0
        scales[5, 0] = torch.nan
        scales[6, -1] = torch.inf
        plain = exact(packed, scales, bits)
        number = plain.isfinite().all(1)
        assert number.sum() == columns - 2
        step = rows if where == "cuda" else 29 * rows  # the interpreter takes a while for every place
        for first in range(0, depth, step):
            places = [(first + row) % depth for row in range(rows)]
            x = torch.zeros(rows, depth, dtype=torch.bfloat16, device=where)
            x[range(rows), places] = 1.0
            found = product.group_linear(x, packed, scales, bits)
            assert torch.equal(found[:, number], plain[number][:, places].T.bfloat16())
            assert found[:, 5].isnan().all() and not found[:, 6].isfinite().any()


@pytest.mark.parametrize("bits", BITS)
def test_views_and_promises(bits: int, where: str) -> None:
    """Weights that start anywhere, and those that nobody writes any more, give the same results."""
    codes, scales = weights(40, 512, bits, 128, where)
    for rows in (1, 4):
        x = torch.randn(rows, 512, device=where).bfloat16()
        expected = product.group_linear(x, codes, scales, bits)
        moved = [
            torch.empty(each.numel() + 1, dtype=each.dtype, device=where)[1:].view(each.shape).copy_(each)
            for each in (codes, scales)
        ]
        assert torch.equal(product.group_linear(x, moved[0], moved[1], bits), expected)
        product.freeze(codes, scales)
        assert device.frozen(codes, scales)
        assert torch.equal(product.group_linear(x, codes, scales, bits), expected)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("rows", [1, 2, 16])
def test_frozen_groups_in_a_row_of_launches(bits: int, rows: int, where: str) -> None:
    """A launch that begins early still waits for its x, which the launch before it makes."""
    size, layers = (4096, 40) if where == "cuda" else (256, 2)
    codes, scales = weights(size, size, bits, 128, where)
    scales = scales / exact(codes, scales, bits).square().sum(1, keepdim=True).sqrt().float()
    expected = [torch.randn(rows, size, device=where).bfloat16()]
    for _ in range(layers):
        expected.append(product.group_linear(expected[-1], codes, scales, bits))
        if where == "cuda":
            torch.cuda.synchronize()
    product.freeze(codes, scales)
    found = expected[:1]
    for _ in range(layers):
        found.append(product.group_linear(found[-1], codes, scales, bits))
    assert expected[-1].isfinite().all() and expected[-1].any()
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
