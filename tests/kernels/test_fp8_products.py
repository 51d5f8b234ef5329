"""MXFP8 products through the fp8 tensor cores: what one scale for 128 k keeps, and how far sums may be off.

Without a Hopper GPU ``exact=False`` changes nothing, and the same tests hold it to that.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gatewright.kernels import convert, device, fp8_product_cuda, product
from gatewright.kernels.formats import FORMATS, BlockFormat, dequantize_reference, element_values, encode_elements

NAMES = ["mxfp8_e4m3", "mxfp8_e5m2"]
GROUP = fp8_product_cuda.GROUP
BOUND = 4 * 33 * 2.0**-13
"""Four instructions to a group cut off 32 products and a sum, each by less than 2^-13 of the largest of them."""

Pair = tuple[torch.Tensor, torch.Tensor]


def values(pair: Pair, form: BlockFormat) -> torch.Tensor:
    """The exact values, on the CPU in float64; every finite one fits float32."""
    return dequantize_reference(pair[0].cpu(), pair[1].cpu(), form, torch.float32).double()


def grouped(pair: Pair, form: BlockFormat) -> torch.Tensor:
    """The values with one scale for every 128 k, the smallest with which the largest of them fits."""
    exact = values(pair, form)
    depth = exact.shape[1]
    groups = F.pad(exact, (0, -depth % GROUP)).reshape(len(exact), -1, GROUP)
    largest = groups.abs().amax(-1, keepdim=True).clamp(min=2.0**-300)
    scale = torch.pow(2.0, torch.ceil(torch.log2(largest / form.element.maximum)))
    codes = encode_elements((groups / scale).flatten(1), form.element)
    return (element_values(form.name)[codes].reshape(groups.shape) * scale).flatten(1)[:, :depth]


def multiplied(pairs: list[Pair], name: str) -> list[torch.Tensor]:
    """What the product multiplies: the values, or those with one scale for every 128 k."""
    served = fp8_product_cuda.serves(pairs[0][0], pairs[1][0], name)
    return [(grouped if served else values)(pair, FORMATS[name]) for pair in pairs]


def finite_codes(form: BlockFormat, rows: int, depth: int) -> torch.Tensor:
    """Random codes, those of infinities and NaN replaced by zero."""
    codes = torch.randint(0, 256, (rows, depth), dtype=torch.uint8)
    return torch.where((codes & 0x7F) > form.element.largest_code, 0, codes).to(torch.uint8)


def units(form: BlockFormat, depth: int, where: str) -> Pair:
    """The unit matrix."""
    codes = torch.eye(depth, dtype=torch.uint8) * (form.element.bias << form.element.mantissa)
    return codes.to(where), torch.full((depth, depth // 32), 127, dtype=torch.uint8, device=where)


@pytest.mark.parametrize("name", NAMES)
def test_every_element_of_a_group_is_rounded_once(name: str, where: str) -> None:
    form, rows, depth = FORMATS[name], 300, 256
    codes = finite_codes(form, rows, depth)
    codes[:64] &= 0x80 | ((1 << form.element.mantissa) - 1)  # subnormal
    codes[64:128, 32:64] = 0  # a block of zeros, whose scale does not count
    codes[128:130] = 0
    scales = torch.randint(100, 150, (rows, depth // 32), dtype=torch.uint8)
    scales[150:] = torch.randint(124, 131, (rows - 150, depth // 32), dtype=torch.uint8)
    weights = codes.to(where), scales.to(where)
    x = units(form, depth, where)
    expected = multiplied([x, weights], name)[1]
    found = product.block_product(x, weights, name, exact=False).cpu().T
    assert torch.equal(found.double(), expected)
    difference = (grouped(weights, form) - values(weights, form)).abs().reshape(rows, -1, GROUP)
    largest = values(weights, form).abs().reshape(rows, -1, GROUP).amax(-1, keepdim=True)
    assert (difference <= largest * (2.0**-17 if name == "mxfp8_e4m3" else 2.0**-31)).all()


@pytest.mark.parametrize("name", NAMES)
def test_nan_and_infinities(name: str, where: str) -> None:
    form, depth = FORMATS[name], 256
    codes = torch.full((16, depth), 0x21, dtype=torch.uint8)
    scales = torch.full((16, depth // 32), 127, dtype=torch.uint8)
    scales[:, 1] = 120  # other blocks are rescaled
    codes[5, 7] = 0x7F
    codes[6, 40] = 0x7F
    scales[9, 3] = 255
    infinite = form.element.special == "ieee"
    if infinite:
        codes[11, 40] = 0xFC
    weights = codes.to(where), scales.to(where)
    found = product.block_product(units(form, depth, where), weights, name, exact=False).cpu().T
    assert found.isnan().any(1).nonzero().flatten().tolist() == [5, 6, 9] + [11] * infinite  # infinity times 0
    assert found[[5, 6, 9]].isnan().all()
    if infinite:
        assert found[11, 40] == -torch.inf


@pytest.mark.parametrize(
    ("shape", "spread"), [((300, 520, 544), 0), ((257, 129, 416), 3), ((257, 48, 1056), 12), ((1000, 43, 160), 3)]
)
@pytest.mark.parametrize("name", NAMES)
def test_sums_stay_within_the_bound(name: str, shape: tuple[int, int, int], spread: int, where: str) -> None:
    """Blocks of a row differ by up to 2^(2 spread)."""
    rows, columns, depth = shape
    pairs: list[Pair] = []
    for count in (rows, columns):
        powers = torch.randint(-spread, spread + 1, (count, depth // 32)).double().exp2().repeat_interleave(32, 1)
        pairs.append(convert.quantize((torch.randn(count, depth).double() * powers).float().to(where), name))
    x, weights = multiplied(pairs, name)
    found = product.block_product(pairs[0], pairs[1], name, exact=False)
    assert torch.equal(found, product.block_product(pairs[0], pairs[1], name, exact=False))  # no order of arrival
    expected, magnitudes = x @ weights.T, x.abs() @ weights.abs().T
    off = (found.cpu().double() - expected).abs()
    assert (off <= expected.abs() * 2.0**-8 + magnitudes * BOUND).all()
    assert off.norm() / expected.norm() < 3e-3


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shift", [9, 12, 14, 15, 17])
def test_many_small_products_beside_a_large_one(shift: int, sign: int, where: str) -> None:
    """The tensor cores cut off each small product, all in one direction: the worst that they can do."""
    name = "mxfp8_e4m3"
    x = torch.full((256, GROUP), 1.875 * 2.0 ** -(shift // 2))
    weights = torch.full((8, GROUP), sign * 1.875 * 2.0 ** -(shift - shift // 2))
    x[:, 5] = weights[:, 5] = 1.0
    pairs = [convert.quantize(each.to(where), name) for each in (x, weights)]
    x, weights = multiplied(pairs, name)
    expected, magnitudes = x @ weights.T, x.abs() @ weights.abs().T
    found = product.block_product(pairs[0], pairs[1], name, exact=False).cpu().double()
    assert ((found - expected).abs() <= expected.abs() * 2.0**-8 + magnitudes * BOUND).all()


def test_exactly_unless_asked_otherwise(where: str) -> None:
    pairs = [convert.quantize(torch.randn(count, 96, device=where), "mxfp8") for count in (256, 40)]
    decoded = convert.dequantize(*pairs[0], "mxfp8")
    expected = product.block_linear(decoded, *pairs[1], "mxfp8")
    assert torch.equal(product.block_product(pairs[0], pairs[1], "mxfp8"), expected)
    integers = [convert.quantize(torch.randn(count, 96, device=where), "mxint8") for count in (256, 40)]
    exact, free = (product.block_product(integers[0], integers[1], "mxint8", exact=each) for each in (True, False))
    assert torch.equal(exact, free)


def test_the_fake_has_the_result_s_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "INTERPRET", False)
    x, weights = (convert.quantize(torch.randn(count, 64), "mxfp8") for count in (256, 40))
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.gatewright.fp8_product.default, (*x, *weights, "mxfp8_e4m3"), test_utils=checks)
