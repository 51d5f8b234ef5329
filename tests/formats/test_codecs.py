"""Tensor codecs give the very bits of the reference, for every format, type, axis and rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gatewright.backends.torch.casters import BlockCaster, ScalarCaster
from gatewright.backends.torch.codecs import make_codec
from gatewright.diagnostics import GatewrightError
from gatewright.ir.formats import (
    DETERMINISTIC_ROUNDINGS,
    Block,
    Exact,
    Fixed,
    GroupFormat,
    Overflow,
    Real,
    Rounding,
    ScalarFormat,
    parse_format,
)
from tests.formats.oracle import finite_values, hard_reals
from tests.formats.test_block import NAMES as BLOCKS
from tests.formats.test_block import hard_blocks
from tests.formats.test_floating import SMALL_FORMATS
from tests.formats.test_scaled import NAMES as SCALED

SCALARS = [*SMALL_FORMATS, "float16", "bfloat16", "binary", "fixed<8,6>", "fixed<16,-3>", "ufixed<24,30>"]


def scalar_inputs(form: ScalarFormat) -> torch.Tensor:
    reals = hard_reals(finite_values(form))[:200_000]
    specials = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.2e-38, 3.4e38, -3.4e38]
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.concatenate([reals, specials]).astype(np.float32))


def same(left: torch.Tensor, right: np.ndarray) -> bool:
    """Equal in every bit, save that one NaN is as good as another."""
    mine = left.double().numpy()
    ordinary = ~np.isnan(right)
    return np.array_equal(mine, right, equal_nan=True) and bool((np.signbit(mine) == np.signbit(right))[ordinary].all())


@pytest.mark.parametrize("name", SCALARS)
def test_scalars_equal_the_reference(name: str) -> None:
    form = parse_format(name)
    assert isinstance(form, ScalarFormat)
    inputs = scalar_inputs(form)
    codec = make_codec(form)
    wanted = form.encode(inputs.numpy())
    assert same(codec.quantize(inputs), form.decode(wanted))
    assert same(codec.quantize(inputs.double()), form.decode(wanted))
    codes, scales = codec.encode(inputs)
    assert scales is None and (codes.numpy() == wanted).all()
    assert same(codec.decode(codes, dtype=torch.float64), form.decode(wanted))
    large = inputs.repeat(1 + 300_000 // inputs.numel())
    before = large.clone()
    assert torch.equal(
        codec.quantize(large).nan_to_num(7),
        codec.quantize(inputs).repeat(len(large) // len(inputs)).nan_to_num(7),
    )
    assert torch.equal(large.nan_to_num(7), before.nan_to_num(7))  # the input is left alone


@pytest.mark.parametrize(
    "name",
    [
        "e4m3",
        "e5m2",
        "e2m3<flush>",
        "e3m2<denormal>",
        "log<5>",
        "fixed<6,3>",
        "ufixed<5,2>",
        "ternary",
        "e5m0",
    ],
)
@pytest.mark.parametrize("rounding", DETERMINISTIC_ROUNDINGS)
def test_every_rounding_and_overflow(name: str, rounding: Rounding) -> None:
    form = parse_format(name)
    assert isinstance(form, ScalarFormat)
    inputs = scalar_inputs(form)
    for overflow in Overflow:
        try:
            wanted = form.decode(form.encode(inputs.numpy(), rounding, overflow))
        except GatewrightError:
            with pytest.raises(GatewrightError, match="GW0205"):
                make_codec(form, None, rounding, overflow).quantize(inputs)
            continue
        assert same(make_codec(form, None, rounding, overflow).quantize(inputs), wanted), overflow


@pytest.mark.parametrize("name", [*BLOCKS, "mxint8<7>", "mxfp4<16x4>", "block<e3m2<finite>,e8m0<bias=140>,32>"])
def test_blocks_equal_the_reference(name: str) -> None:
    form = parse_format(name)
    assert isinstance(form, Block)
    rows = hard_blocks(form, seed=11, count=20)
    rows[3, 1], rows[5, 0], rows[6, 2] = np.nan, np.inf, -np.inf
    inputs = torch.from_numpy(rows.astype(np.float32))
    if len(form.sizes) == 2:
        inputs = inputs[: inputs.shape[0] // 3]
    codec = make_codec(form)
    codes, scales = form.encode(inputs.numpy())
    wanted = form.decode(codes, scales)
    assert same(codec.quantize(inputs), wanted.astype(np.float32).astype(np.float64))
    my_codes, my_scales = codec.encode(inputs)
    assert my_scales is not None
    assert (my_scales.numpy() == scales).all()
    finite = np.isfinite(wanted)
    assert (my_codes.numpy() == codes)[finite].all()
    assert np.array_equal(codec.decode(my_codes, my_scales, torch.float64).numpy(), wanted, equal_nan=True)
    if len(form.sizes) == 1:
        large = inputs.repeat(1 + 300_000 // inputs.numel(), 1)
        got = codec.quantize(large)[-inputs.shape[0] :]
        assert same(got, wanted.astype(np.float32).astype(np.float64))


@pytest.mark.parametrize("name", ["mxint8", "mxfp8", "mxfp4", "nvfp4", "block<e4m3,e8m0,4x5>", "block<log<4>,e5m0,3>"])
def test_axes_types_and_short_blocks(name: str) -> None:
    form = parse_format(name)
    assert isinstance(form, Block)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(6, 35, 34, generator=generator) * torch.exp2(torch.randn(6, 35, 1, generator=generator) * 8)
    axes = [0, 1, -1, -2] if len(form.sizes) == 1 else [(0, 1), (2, 0), (-2, -1), None]
    for axis in axes:
        codec = make_codec(form, axis)
        wanted = form.quantize(inputs.numpy(), axis)
        assert same(codec.quantize(inputs), wanted)
        assert same(codec.quantize(inputs.transpose(0, 1).contiguous().transpose(0, 1)), wanted)
        codes, scales = codec.encode(inputs)
        assert same(codec.decode(codes, scales), wanted)
        for dtype in (torch.bfloat16, torch.float16):
            narrow = inputs.to(dtype)
            expected = torch.from_numpy(form.quantize(narrow.double().numpy(), axis)).to(dtype)
            assert torch.equal(codec.quantize(narrow).nan_to_num(7), expected.nan_to_num(7))
    wide = torch.randn(64, 32 * 256, generator=generator).bfloat16()
    expected = torch.from_numpy(make_codec(form).format.quantize(wide.double().numpy())).bfloat16()
    assert torch.equal(make_codec(form).quantize(wide), expected)


@pytest.mark.parametrize("name", SCALED)
def test_scaled_signs_equal_the_reference(name: str) -> None:
    form = parse_format(name)
    assert isinstance(form, GroupFormat)
    inputs = torch.randn(5, 6, 3)
    for axis in (None, 1, 2):
        codec = make_codec(form, axis)
        wanted = form.quantize(inputs.numpy(), axis)
        assert same(codec.quantize(inputs), wanted.astype(np.float32).astype(np.float64))
        codes, scales = codec.encode(inputs)
        assert same(codec.decode(codes, scales, torch.float64), wanted)


@pytest.mark.parametrize("name", SCALED)
def test_a_single_number_is_a_channel_of_its_own(name: str) -> None:
    form = parse_format(name)
    assert isinstance(form, GroupFormat)
    value = torch.tensor(-0.3)
    wanted = form.quantize(value.numpy()).astype(np.float32)
    found = make_codec(form).quantize(value)
    assert found.shape == () and found.item() == wanted.item()


@pytest.mark.parametrize(
    "name",
    [
        "e4m3",
        "fixed<8,4>",
        "mxfp4",
        "nvfp4",
        "binary",
        "ternary",
        "binary<channel>",
        "ternary<mean>",
        "residual<2>",
        "real",
        "log<5>",
        "block<e3m2<denormal>,e8m0,16>",
    ],
)
def test_every_format_trains(name: str) -> None:
    form = parse_format(name)
    codec = make_codec(form)
    inputs = (torch.randn(8, 32) * 4).requires_grad_()
    weights = torch.randn(8, 32)
    output = codec.fake_quantize(inputs)
    assert torch.equal(output, codec.quantize(inputs.detach()))
    (output * weights).sum().backward()
    assert inputs.grad is not None and torch.equal(inputs.grad, weights)
    inputs.grad = None
    (codec.fake_quantize(inputs, clip=True) * weights).sum().backward()
    inside = codec.inside(inputs.detach())
    assert torch.equal(inputs.grad, torch.where(inside, weights, 0.0))
    if isinstance(codec.caster, ScalarCaster) and name != "real":
        assert inside.equal((inputs.detach() >= codec.caster.lowest) & (inputs.detach() <= codec.caster.highest))
    if isinstance(codec.caster, BlockCaster):
        assert inside.float().mean() > 0.8


def test_a_network_learns_through_a_block_format() -> None:
    torch.manual_seed(0)
    codec = make_codec(parse_format("mxfp4"))
    layer = torch.nn.Linear(32, 8)
    inputs = torch.randn(256, 32)
    target = inputs @ torch.randn(32, 8)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        output = torch.nn.functional.linear(codec.fake_quantize(inputs), codec.fake_quantize(layer.weight), layer.bias)
        loss = (output - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 5


def test_stochastic_rounding_is_seeded() -> None:
    for name in ("e4m3", "fixed<8,2>", "mxfp4", "binary"):
        codec = make_codec(parse_format(name), None, Rounding.STOCHASTIC)
        inputs = torch.full((100, 320), 0.8)
        inputs[:, ::32] = 1.0
        first = codec.quantize(inputs, torch.Generator().manual_seed(3))
        assert torch.equal(first, codec.quantize(inputs, torch.Generator().manual_seed(3)))
        assert not torch.equal(first, codec.quantize(inputs, torch.Generator().manual_seed(4)))
        chosen = torch.ones(320, dtype=torch.bool)
        chosen[::32] = False
        assert abs(first[:, chosen].mean().item() - 0.8) < 0.02


def test_torch_compile_keeps_every_bit() -> None:
    codecs = [
        make_codec(parse_format(name))
        for name in ("mxint8", "mxfp8", "nvfp4", "e5m2", "fixed<8,4>", "bfloat16", "float16")
    ]
    form = parse_format("mxint8")
    assert isinstance(form, Block)
    rows = np.concatenate([hard_blocks(form, seed=12), np.random.default_rng(1).standard_normal((64, 32))])
    inputs = torch.from_numpy(rows.astype(np.float32))

    @torch.compile(fullgraph=True)
    def compiled(values: torch.Tensor) -> list[torch.Tensor]:
        return [codec.fake_quantize(values) for codec in codecs]

    for codec, got in zip(codecs, compiled(inputs), strict=True):
        assert same(got, codec.quantize(inputs).double().numpy()), codec.format


def test_errors() -> None:
    with pytest.raises(GatewrightError, match="GW0216"):
        make_codec(Fixed(60, 3))
    with pytest.raises(GatewrightError, match="GW0216"):
        make_codec(Exact(3))
    with pytest.raises(GatewrightError, match="GW0217"):
        make_codec(Real()).encode(torch.ones(2))
    with pytest.raises(GatewrightError, match="GW0203"):
        make_codec(Fixed(8, None))
    with pytest.raises(GatewrightError, match="GW0205"):
        make_codec(Fixed(8, 3), None, Rounding.HALF_EVEN, Overflow.INFINITE)
    with pytest.raises(GatewrightError, match="GW0213"):
        make_codec(parse_format("mxfp4")).decode(torch.zeros(2, 32, dtype=torch.uint8))
    with pytest.raises(GatewrightError, match="GW0211"):
        make_codec(parse_format("mxfp4"), 3).quantize(torch.zeros(2, 32))
    with pytest.raises(GatewrightError, match="GW0214"):
        make_codec(parse_format("ternary<mean>"), None, Rounding.FLOOR)
