"""Block formats against gfloat, torchao and exact rational arithmetic."""

from __future__ import annotations

import importlib
import itertools
from fractions import Fraction

import gfloat
import gfloat.formats as gfloat_formats
import numpy as np
import pytest

from gatewright.diagnostics import GatewrightError
from gatewright.ir.formats import Block, Fixed, Float, Overflow, PowerOfTwo, Rounding, parse_format
from gatewright.ir.formats.grouped import divide_to_odd

GFLOAT = {
    "mxfp8_e4m3": gfloat_formats.format_info_mxfp8_e4m3,
    "mxfp8_e5m2": gfloat_formats.format_info_mxfp8_e5m2,
    "mxfp6_e3m2": gfloat_formats.format_info_mxfp6_e3m2,
    "mxfp6_e2m3": gfloat_formats.format_info_mxfp6_e2m3,
    "mxfp4": gfloat_formats.format_info_mxfp4_e2m1,
    "mxint8": gfloat_formats.format_info_mxint8,
}
NAMES = [
    *GFLOAT,
    "nvfp4",
    "mxint4",
    "mxint6",
    "mxint13",
    "block<fixed<6,5>,e8m0,16>",
    "block<log<5>,e8m0,8>",
    "block<e4m3<none>,e5m0,7>",
    "block<e3m2,e4m3,16>",
    "block<fixed<8,7>,bfloat16,16>",
    "block<e2m1,float32,16>",
    "block<ternary,e8m0,16>",
    "block<binary,e8m0,16>",
    "block<fixed<4,2>,ufixed<8,4>,16>",
]


def block(name: str) -> Block:
    form = parse_format(name)
    assert isinstance(form, Block)
    return form


def hard_blocks(form: Block, seed: int = 1, count: int = 12) -> np.ndarray:
    """Rows of one block each: random, ties, just below a power of two, tiny, zero, and with outliers."""
    generator = np.random.default_rng(seed)
    size = form.elements
    random = generator.standard_normal((count, size)) * np.exp2(generator.integers(-20, 20, (count, 1)))
    ties = generator.integers(-255, 256, (count, size)) / np.exp2(generator.integers(-3, 9, (count, 1)))
    below = generator.uniform(-1, 1, (count, size))
    below[:, 0] = np.nextafter(np.float32(1), np.float32(0))
    below *= np.exp2(generator.integers(-30, 30, (count, 1)))
    tiny = generator.standard_normal((count, size)) * np.exp2(generator.integers(-148, -100, (count, 1)))
    huge = generator.uniform(-1, 1, (count, size)) * 2.0**127
    outliers = generator.standard_normal((count, size))
    outliers[:, size // 2] *= 1e4
    mixed = np.exp2(generator.uniform(-40, 40, (count, size)))
    zero = np.zeros((2, size))
    zero[1] = -0.0
    return (
        np.concatenate([random, ties, below, tiny, huge, outliers, mixed, zero]).astype(np.float32).astype(np.float64)
    )


@pytest.mark.parametrize("name", GFLOAT)
def test_equals_gfloat(name: str) -> None:
    form = block(name)
    rows = hard_blocks(form)
    # gfloat encodes MXINT8 with -128; E8M0 has no smaller scale than 2^-127 in either.
    got = form.quantize(rows, overflow=Overflow.SATURATE)
    for row, mine in zip(rows, got, strict=True):
        theirs = gfloat.quantize_block(GFLOAT[name], row, gfloat.compute_scale_amax)
        assert np.array_equal(mine, theirs), (row, mine, theirs)


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4", "nvfp4"])
def test_equals_torchao(name: str) -> None:
    torch = importlib.import_module("torch")
    mx = importlib.import_module("torchao.prototype.mx_formats.mx_tensor")
    nv = importlib.import_module("torchao.prototype.mx_formats.nvfp4_tensor")
    form = block(name)
    rows = hard_blocks(form, seed=2, count=200)
    largest = np.abs(rows).max(axis=1)
    if name == "nvfp4":
        # Its scale saturates at 448 as ours does; below 2^-6 both stay at 2^-6.
        scales, codes = nv.nvfp4_quantize(torch.tensor(rows, dtype=torch.float32))
        raw = codes.view(torch.uint8).numpy()
        theirs = np.stack([raw & 15, raw >> 4], -1).reshape(rows.shape)
        mine, my_scales = form.encode(rows)
        assert (my_scales == scales.view(torch.uint8).numpy()).all()
        # It multiplies by the rounded reciprocal of the scale, which misses ties.
        quotients = np.abs(rows / np.repeat(form.scale.decode(my_scales), 16, axis=1))
        ties = np.asarray([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
        clear = (np.abs(quotients[..., None] / ties - 1) > 1e-6).all(axis=-1)
        assert clear.mean() > 0.8
        assert (form.element.decode(mine) == form.element.decode(theirs))[clear].all()
        return
    # torchao is wrong below 2^(emax - 126).
    rows = rows[(largest == 0) | (largest >= 2.0 ** (form.element.largest_exponent - 126))]
    types = {
        "mxfp8_e4m3": torch.float8_e4m3fn,
        "mxfp8_e5m2": torch.float8_e5m2,
        "mxfp6_e3m2": "fp6_e3m2",
        "mxfp6_e2m3": "fp6_e2m3",
        "mxfp4": getattr(torch, "float4_e2m1fn_x2", "fp4_e2m1"),
    }
    scales, codes = mx.to_mx(torch.tensor(rows, dtype=torch.float32), types[name], 32)
    raw = codes.view(torch.uint8).numpy()
    mine, my_scales = form.encode(rows)
    nonzero = np.abs(rows).max(axis=1) > 0
    assert (my_scales == scales.view(torch.uint8).numpy().reshape(my_scales.shape))[nonzero].all()
    if name == "mxfp4":
        raw = np.stack([raw & 15, raw >> 4], -1).reshape(rows.shape)
    assert (form.element.decode(mine) == form.element.decode(raw))[nonzero].all()


def rational_block(form: Block, row: np.ndarray) -> list[Fraction]:
    """The definition, in fractions."""
    exact = [Fraction(float(value)) for value in row]
    amax = max(abs(value) for value in exact)
    if isinstance(form.scale, PowerOfTwo):
        exponent = -form.scale.exponent_bias
        if amax:
            floor = 0
            while Fraction(2) ** floor > amax:
                floor -= 1
            while Fraction(2) ** (floor + 1) <= amax:
                floor += 1
            top = form.scale.layout.largest - form.scale.exponent_bias
            exponent = min(max(floor - form.element.largest_exponent, exponent), top)
        scale = Fraction(2) ** exponent
    else:
        code = form.scale.encode_fraction(amax / form.element.largest)
        scale = max(form.scale.decode_fraction(code), form.scale.smallest_normal)
    overflow = form.default_overflow
    codes = [form.element.encode_fraction(value / scale, overflow=overflow) for value in exact]
    return [form.element.decode_fraction(code) * scale for code in codes]


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_rational_definition(name: str) -> None:
    form = block(name)
    rows = hard_blocks(form, seed=3, count=4)
    for row, mine in zip(rows, form.quantize(rows), strict=True):
        assert [Fraction(float(value)) for value in mine] == rational_block(form, row)


@pytest.mark.parametrize("name", NAMES)
def test_quantising_twice_changes_nothing(name: str) -> None:
    """Not for every format: a scale from amax / largest may be rounded the other way the second time."""
    form = block(name)
    rows = hard_blocks(form, seed=4)
    once = form.quantize(rows)
    if isinstance(form.scale, PowerOfTwo):
        assert np.array_equal(form.quantize(once), once)
    codes, scales = form.encode(rows)
    assert codes.shape == rows.shape
    assert scales.shape == (rows.shape[0], 1)
    low, high = form.element.code_interval()
    assert codes.min() >= low and codes.max() <= high


def test_axes_and_tiles() -> None:
    values = np.random.default_rng(5).standard_normal((6, 8, 10))
    form = Block(Float(4, 3), PowerOfTwo(8), 4)
    for axis in (0, 1, 2, -1, -2):
        codes, scales = form.encode(values, axis)
        assert scales.shape == form.scales_shape(values.shape, axis)
        moved = np.moveaxis(form.quantize(np.moveaxis(values, axis, -1)), -1, axis)
        assert np.array_equal(form.decode(codes, scales, axis), moved)
    tile = Block(Float(4, 3), PowerOfTwo(8), (4, 5))
    assert str(tile) == "block<e4m3,e8m0,4x5>"
    codes, scales = tile.encode(values, (1, 2))
    assert scales.shape == (6, 2, 2)
    for row, column in itertools.product(range(2), range(2)):
        part = values[:, 4 * row : 4 * row + 4, 5 * column : 5 * column + 5]
        flat = Block(Float(4, 3), PowerOfTwo(8), 20).quantize(part.reshape(6, 20)).reshape(part.shape)
        got = tile.decode(codes, scales, (1, 2))[:, 4 * row : 4 * row + 4, 5 * column : 5 * column + 5]
        assert np.array_equal(got, flat)


def test_a_short_last_block_is_padded_with_zeros() -> None:
    values = np.random.default_rng(6).standard_normal((3, 70))
    form = block("mxint8")
    padded = np.concatenate([values, np.zeros((3, 26))], axis=1)
    codes, scales = form.encode(values)
    wide_codes, wide_scales = form.encode(padded)
    assert np.array_equal(codes, wide_codes[:, :70])
    assert np.array_equal(scales, wide_scales)
    assert form.scales_shape((3, 70)) == (3, 3)


def test_specials_make_the_block_nan() -> None:
    values = np.ones((3, 32))
    values[0, 3], values[1, 4] = np.nan, -np.inf
    for name in ("mxint8", "mxfp4", "mxfp8_e5m2", "block<e2m1,e4m3,32>"):
        form = block(name)
        _, scales = form.encode(values)
        assert form.scale.is_special(scales).ravel().tolist() == [True, True, False]
        got = form.quantize(values)
        assert np.isnan(got[:2]).all() and np.allclose(got[2], 1, rtol=0.05)
    form = block("block<fixed<8,6>,ufixed<8,4>,32>")
    got = form.quantize(values)
    assert got[0, 3] == 0 and got[0, 0] != 0 and got[1, 4] < -15


def test_symmetric_by_default_and_full_range_on_request() -> None:
    form = block("mxint8")
    row = np.full((1, 32), -2.0 + 2.0**-20)
    assert form.encode(row)[0].min() == -127
    assert form.encode(row, overflow=Overflow.SATURATE)[0].min() == -128
    assert form.decode(np.full((1, 32), -128), [[127]])[0, 0] == -2.0


def test_stochastic_rounding() -> None:
    form = block("mxfp4")
    values = np.full((1000, 32), 2.3)
    values[:, 0] = 4.0
    got = form.quantize(values, rounding=Rounding.STOCHASTIC, generator=np.random.default_rng(1))
    again = form.quantize(values, rounding=Rounding.STOCHASTIC, generator=np.random.default_rng(1))
    assert np.array_equal(got, again)
    assert abs(got[:, 1:].mean() - 2.3) < 0.02
    with pytest.raises(GatewrightError, match="GW0204"):
        form.quantize(values, rounding=Rounding.STOCHASTIC)


def test_division_rounds_to_odd() -> None:
    generator = np.random.default_rng(8)
    tops = generator.standard_normal(3000) * np.exp2(generator.integers(-50, 50, 3000))
    lows = generator.standard_normal(3000).astype(np.float32).astype(np.float64)
    ties = np.arange(1, 3000, 2) / 2.0**24 + 1  # between two neighbours of float32, and close to that
    tops = np.concatenate([tops[:500], ties * lows[:1500], ties])
    lows = np.concatenate([lows[:2000], np.ones(1500)])
    target = Float(8, 23)
    for top, low, got in zip(tops, lows, divide_to_odd(tops, lows), strict=True):
        exact = Fraction(float(top)) / Fraction(float(low))
        for rounding in (Rounding.HALF_EVEN, Rounding.FLOOR, Rounding.HALF_ZERO):
            assert target.encode(got, rounding) == target.encode_fraction(exact, rounding)


def test_names() -> None:
    assert parse_format("mxfp8") == parse_format("mxfp8_e4m3") == Block(Float(4, 3), PowerOfTwo(8), 32)
    assert parse_format("mxint8") == Block(Fixed(8, 6), PowerOfTwo(8), 32)
    assert str(Block(Fixed(4, 2), PowerOfTwo(8), 32)) == "mxint4"
    assert str(Block(Float(2, 1), PowerOfTwo(8), 16)) == "mxfp4<16>"
    assert parse_format("mxfp4<16>") == Block(Float(2, 1), PowerOfTwo(8), 16)
    assert parse_format("mxint8<16x16>") == Block(Fixed(8, 6), PowerOfTwo(8), (16, 16))
    assert block("mxfp4").bits_per_element == 4.25
    assert block("nvfp4").bits_per_element == 4.5
    for name in NAMES:
        assert str(parse_format(name)) == name
        assert parse_format(block(name).structure) == parse_format(name)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("block<e4m3,e8m0>", "GW0209"),
        ("block<mxfp4,e8m0,32>", "GW0209"),
        ("block<e4m3,e8m0,0>", "GW0201"),
        ("block<fixed<8,auto>,e8m0,32>", "GW0212"),
        ("block<e4m3,fixed<60,3>,32>", "GW0212"),
        ("block<exact 2^-3,e8m0,32>", "GW0212"),
        ("block<e4m3,ternary,4>", "GW0212"),
        ("block<e2m1,binary01,4>", "GW0212"),
        ("ternary<mean,ternary>", "GW0212"),
        ("residual<2,binary>", "GW0212"),
        ("mxint1", "GW0201"),
        ("mxfp4<1,2>", "GW0209"),
        ("block<e4m3,e9q0,32>", "GW0202"),
    ],
)
def test_bad_names(name: str, code: str) -> None:
    with pytest.raises(GatewrightError, match=code):
        parse_format(name)


def test_bad_axes_and_shapes() -> None:
    form = block("mxint8")
    with pytest.raises(GatewrightError, match="GW0211"):
        form.encode(np.zeros((2, 32)), axis=2)
    with pytest.raises(GatewrightError, match="GW0211"):
        form.encode(np.zeros((2, 32)), axis=(0, 1))
    with pytest.raises(GatewrightError, match="GW0213"):
        codes, scales = form.encode(np.zeros((64, 32)), axis=0)
        form.decode(codes, scales, axis=1)
