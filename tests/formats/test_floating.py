"""Floating point, powers of two and logarithmic numbers against ml_dtypes, gfloat and exact lookups."""

from __future__ import annotations

import gfloat
import gfloat.formats as gfloat_formats
import ml_dtypes
import numpy as np
import pytest
from gfloat.types import RoundMode

from gatewright.diagnostics import GatewrightError
from gatewright.ir.formats import (
    DETERMINISTIC_ROUNDINGS,
    Float,
    Log,
    Overflow,
    PowerOfTwo,
    Rounding,
    ScalarFormat,
    SignificandFormat,
    Specials,
    Underflow,
    parse_format,
)
from tests.formats.oracle import finite_values, hard_reals, nearest

ML_DTYPES = {
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e3m4<ieee>": ml_dtypes.float8_e3m4,
    "e4m3<ieee>": ml_dtypes.float8_e4m3,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
}
GFLOAT = {
    "e4m3": gfloat_formats.format_info_ocp_e4m3,
    "e5m2": gfloat_formats.format_info_ocp_e5m2,
    "e3m2": gfloat_formats.format_info_ocp_e3m2,
    "e2m3": gfloat_formats.format_info_ocp_e2m3,
    "e2m1": gfloat_formats.format_info_ocp_e2m1,
    "bfloat16": gfloat_formats.format_info_bfloat16,
    "float16": gfloat_formats.format_info_binary16,
}
GFLOAT_ROUNDINGS = {
    Rounding.HALF_EVEN: RoundMode.TiesToEven,
    Rounding.HALF_AWAY: RoundMode.TiesToAway,
    Rounding.TOWARD_ZERO: RoundMode.TowardZero,
    Rounding.FLOOR: RoundMode.TowardNegative,
}
SMALL_FORMATS = [
    "e4m3",
    "e5m2",
    "e3m2",
    "e2m3",
    "e2m1",
    "e8m0",
    "e5m0",
    "e4m0<bias=3>",
    "log<4>",
    "log<5,12>",
    "log<8>",
    "e1m1",
    "e1m3",
    "e4m1<bias=-3>",
    "e3m3<flush>",
    "e3m3<denormal>",
    "e2m1<denormal>",
    "e2m5<denormal,bias=0>",
    "e3m2<ieee>",
    "e3m2<finite>",
    "e2m2<finite,flush>",
    "e4m3<ieee,bias=11>",
    "e4m3<unsigned>",
    "e4m3<none>",
    "e2m4<unsigned,denormal>",
    "e5m2<none,flush,unsigned>",
    "ternary",
    "binary01",
    "fixed<6,3>",
    "ufixed<5,2>",
]


def scalar(name: str) -> ScalarFormat:
    form = parse_format(name)
    assert isinstance(form, ScalarFormat)
    return form


def many_inputs(form: ScalarFormat) -> np.ndarray:
    """More than half a million float32: hard ones, and random ones of all magnitudes around the format's."""
    generator = np.random.default_rng(7)
    spread = max(4, form.exponent_interval[1] - form.exponent_interval[0] + form.mantissa_bits)
    centre = (form.exponent_interval[0] + form.largest_exponent) / 2
    exponents = generator.uniform(centre - spread, centre + spread, 500_000)
    random = generator.choice([-1.0, 1.0], 500_000) * np.exp2(np.clip(exponents, -149, 127.9))
    specials = [0.0, -0.0, np.inf, -np.inf, np.nan]
    with np.errstate(over="ignore"):
        return np.concatenate([hard_reals(finite_values(form)), random, specials]).astype(np.float32)


@pytest.mark.parametrize("name", ML_DTYPES)
def test_equals_ml_dtypes_on_half_a_million_inputs(name: str) -> None:
    form = scalar(name)
    dtype = np.dtype(ML_DTYPES[name])
    unsigned = np.uint16 if form.width == 16 else np.uint8
    inputs = many_inputs(form)
    inputs = inputs[~np.isnan(inputs)]  # which NaN comes out is each library's choice
    with np.errstate(over="ignore"):
        clipped = np.clip(inputs, -float(form.largest), float(form.largest)).astype(dtype)
        assert (form.encode(inputs) == clipped.view(unsigned)).all()
        assert (form.decode(form.encode(inputs)) == clipped.astype(np.float64)).all()
        if form.has_nan:
            unclipped = inputs.astype(dtype).astype(np.float64)
            got = form.decode(form.encode(inputs, overflow=Overflow.INFINITE))
            assert np.array_equal(got, unclipped, equal_nan=True)
    codes = np.arange(1 << form.width)
    values = codes.astype(unsigned).view(dtype).astype(np.float64)
    assert np.array_equal(form.decode(codes), values, equal_nan=True)


def test_powers_of_two_equal_ml_dtypes_on_half_a_million_inputs() -> None:
    """Where ml_dtypes does not overflow to NaN, and not on float32's subnormal numbers, which it rounds up."""
    form = scalar("e8m0")
    more = np.exp2(np.random.default_rng(8).uniform(-126, 127, 300_000)).astype(np.float32)
    inputs = np.concatenate([np.abs(many_inputs(form)), more])
    inputs = inputs[(inputs >= 2.0**-126) & (inputs < 1.5 * 2.0**127)]
    assert inputs.size > 500_000
    theirs = inputs.astype(ml_dtypes.float8_e8m0fnu)
    assert (form.encode(inputs) == theirs.view(np.uint8)).all()
    codes = np.arange(256, dtype=np.uint8)
    expected = codes.view(ml_dtypes.float8_e8m0fnu).astype(np.float64)
    assert np.array_equal(form.decode(codes), expected, equal_nan=True)


@pytest.mark.parametrize("name", GFLOAT)
@pytest.mark.parametrize("rounding", GFLOAT_ROUNDINGS)
def test_equals_gfloat_on_half_a_million_inputs(name: str, rounding: Rounding) -> None:
    form, info = scalar(name), GFLOAT[name]
    inputs = many_inputs(form).astype(np.float64)
    if rounding is not Rounding.HALF_EVEN:
        inputs = inputs[::7]
    saturated = gfloat.round_ndarray(info, inputs, GFLOAT_ROUNDINGS[rounding], sat=True) if form.has_nan else None
    if saturated is not None:
        got = form.decode(form.encode(inputs, rounding))
        assert np.array_equal(got, saturated, equal_nan=True)
        assert (np.signbit(got) == np.signbit(saturated))[~np.isnan(got)].all()
        finite = inputs[np.isfinite(inputs)]
        unsaturated = gfloat.round_ndarray(info, finite, GFLOAT_ROUNDINGS[rounding], sat=False)
        got = form.decode(form.encode(finite, rounding, Overflow.INFINITE))
        assert np.array_equal(got, unsaturated, equal_nan=True)
    else:
        finite = inputs[np.isfinite(inputs)]
        wanted = gfloat.round_ndarray(info, finite, GFLOAT_ROUNDINGS[rounding], sat=True)
        assert (form.decode(form.encode(finite, rounding)) == wanted).all()


@pytest.mark.parametrize("name", SMALL_FORMATS)
@pytest.mark.parametrize("rounding", DETERMINISTIC_ROUNDINGS)
def test_equals_the_lookup_in_all_values(name: str, rounding: Rounding) -> None:
    form = scalar(name)
    values = finite_values(form)
    inputs = hard_reals(values)
    wanted = nearest(values, inputs, rounding)
    overflow = Overflow.SATURATE
    codes = form.encode(inputs, rounding, overflow)
    assert (form.decode(codes) == wanted).all()
    # The integer path, with exponents shared by many numbers and beyond int64.
    fractions, exponents = np.frexp(inputs)
    integers = np.ldexp(fractions, 53).astype(np.int64)
    for exponent in np.unique(exponents):
        chosen = exponents == exponent
        zero_sign = (inputs[chosen] != 0) | ~np.signbit(inputs[chosen])
        got = form.encode_scaled(integers[chosen], int(exponent) - 53, rounding, overflow)
        assert (got == codes[chosen])[zero_sign].all()
        wide = integers[chosen].astype(object) << 40
        assert (form.encode_scaled(wide, int(exponent) - 93, rounding, overflow) == got).all()


@pytest.mark.parametrize("name", [*SMALL_FORMATS, "float16", "bfloat16", "fixed<16,5>", "e3m12", "binary"])
def test_every_code_round_trips(name: str) -> None:
    form = scalar(name)
    low, high = form.code_interval()
    codes = np.arange(low, high + 1)
    reals = form.decode(codes)
    again = form.encode(reals, overflow=Overflow.INFINITE if form.has_nan else Overflow.SATURATE)
    assert np.array_equal(form.decode(again), reals, equal_nan=True)
    redundant = isinstance(form, Float) and form.underflow is not Underflow.GRADUAL
    if not redundant and name not in ("ternary",):
        ordinary = ~np.isnan(reals)
        if name == "fixed<6,3>":
            ordinary &= codes > low
        assert (again == codes)[ordinary].all()
    finite = ~form.is_special(codes)
    mantissas, exponents = form.decode_scaled(codes)
    mantissas, exponents = np.broadcast_arrays(mantissas, exponents)
    assert (np.ldexp(mantissas.astype(np.float64), exponents.astype(np.int32)) == reals)[finite].all()
    limit = 1 << (form.mantissa_bits - 1)
    assert mantissas.min() >= -limit and mantissas.max() < limit
    assert form.exponent_interval == (exponents.min(), exponents.max())


@pytest.mark.parametrize("name", [*SMALL_FORMATS, "float16", "bfloat16", "binary"])
def test_derived_facts(name: str) -> None:
    form = scalar(name)
    values = finite_values(form)
    assert float(form.largest) == values[-1]
    assert float(form.smallest_positive) == values[values > 0][0]
    assert form.has_zero == (0.0 in values)
    assert form.is_signed == (values[0] < 0)
    assert 2.0**form.largest_exponent <= values[-1] < 2.0 ** (form.largest_exponent + 1)
    decoded = form.decode(np.arange(form.code_interval()[0], form.code_interval()[1] + 1))
    assert form.has_nan == bool(np.isnan(decoded).any())
    assert form.has_infinity == bool(np.isinf(decoded).any())


def test_facts_of_the_standard_formats() -> None:
    for name, largest, smallest, exponent in (
        ("e4m3", 448, 2.0**-9, 8),
        ("e5m2", 57344, 2.0**-16, 15),
        ("e3m2", 28, 2.0**-4, 4),
        ("e2m3", 7.5, 2.0**-3, 2),
        ("e2m1", 6, 0.5, 2),
    ):
        form = scalar(name)
        assert (form.largest, form.smallest_positive, form.largest_exponent) == (largest, smallest, exponent)
    assert PowerOfTwo(8).decode([0, 127, 254, 255]).tolist()[:3] == [2.0**-127, 1.0, 2.0**127]
    assert float(scalar("float32").largest) == np.finfo(np.float32).max
    assert scalar("e4m3").smallest_normal == 2.0**-6
    assert Log(5).decode([0, 1, 7, 8, 15, 16, 23]).tolist() == [0, 2.0**-6, 1, 2, 2.0**8, 0, -1]


@pytest.mark.parametrize("name", ["float32", "float16", "e8m12"])
def test_wide_floats_equal_numpy(name: str) -> None:
    form = scalar(name)
    inputs = np.random.default_rng(3).standard_normal(20000) * np.exp2(
        np.random.default_rng(4).integers(-150, 128, 20000)
    )
    if name == "e8m12":
        inputs = inputs[np.abs(inputs) < 1e38]
        got = form.decode(form.encode(inputs.astype(np.float32)))
        assert np.allclose(got, inputs.astype(np.float32), rtol=2.0**-13, atol=2.0**-139)
        return
    dtype = np.dtype(name)
    with np.errstate(over="ignore"):
        wanted = inputs.astype(dtype).astype(np.float64)
    assert np.array_equal(form.decode(form.encode(inputs, overflow=Overflow.INFINITE)), wanted)


def test_special_inputs() -> None:
    specials = [np.nan, np.inf, -np.inf]
    for name, nan, infinity in (
        ("e4m3", 0x7F, 0x7E),
        ("e5m2", 0x7E, 0x7B),
        ("e2m1", 0, 7),
        ("e8m0", 255, 254),
    ):
        form = scalar(name)
        sign = 0 if name == "e8m0" else 1 << (form.width - 1)
        lowest = 0 if name == "e8m0" else infinity | sign
        assert form.encode(specials).tolist() == [nan, infinity, lowest]
    assert scalar("e5m2").encode(specials, overflow=Overflow.INFINITE).tolist() == [0x7E, 0x7C, 0xFC]
    assert scalar("e4m3").encode(specials, overflow=Overflow.INFINITE).tolist() == [0x7F, 0x7F, 0xFF]
    assert scalar("e4m3").encode([500.0, -500.0, 3.0], overflow=Overflow.SATURATE_ZERO).tolist() == [
        0,
        128,
        0x44,
    ]
    form = scalar("e5m2")
    mantissas, exponents = form.decode_scaled([0x7E, 0x7C, 0xFC, 0x7B])
    assert mantissas.tolist() == [0, 7, -7, 7]
    assert exponents.tolist()[1:] == [13, 13, 13]
    assert form.is_special([0x7E, 0x7C, 0xFC, 0x7B]).tolist() == [True, True, True, False]
    for name in ("e4m3", "log<5>"):
        with pytest.raises(GatewrightError, match="GW0205"):
            scalar(name).encode([1e9], overflow=Overflow.WRAP)
    with pytest.raises(GatewrightError, match="neither infinity nor NaN"):
        scalar("e2m1").encode([1e9], overflow=Overflow.INFINITE)


def test_overflow_to_infinity_respects_the_rounding_direction() -> None:
    form = scalar("e5m2")
    got = form.decode(form.encode([1e9, -1e9, np.inf], Rounding.TOWARD_ZERO, Overflow.INFINITE))
    assert got.tolist() == [57344, -57344, np.inf]
    got = form.decode(form.encode([1e9, -1e9], Rounding.FLOOR, Overflow.INFINITE))
    assert got.tolist() == [57344, -np.inf]


@pytest.mark.parametrize("name", ["e4m3", "e2m1", "ternary", "binary", "log<5>"])
def test_stochastic_rounding_is_unbiased(name: str) -> None:
    form = scalar(name)
    inputs = np.full(40000, 0.8)
    codes = form.encode(inputs, Rounding.STOCHASTIC, generator=np.random.default_rng(5))
    assert abs(form.decode(codes).mean() - 0.8) < 0.02
    scaled = form.encode_scaled(np.full(40000, 13), -4, Rounding.STOCHASTIC, generator=np.random.default_rng(5))
    assert abs(form.decode(scaled).mean() - 13 / 16) < 0.02


def test_equal_formats_are_equal() -> None:
    assert Float(4, 3, 7, Specials.FINITE) == Float(4, 3) == parse_format("E4M3") == parse_format("e4m3<bias=7>")
    assert str(Float(5, 10)) == "float16"
    assert str(Float(4, 3, 8, Specials.IEEE, Underflow.FLUSH, False)) == "e4m3<bias=8,ieee,flush,unsigned>"
    assert PowerOfTwo(8, 127) == PowerOfTwo(8)
    assert Log(5, 7) == Log(5)
    assert isinstance(parse_format("e8m0"), PowerOfTwo)
    for name in SMALL_FORMATS:
        assert parse_format(str(parse_format(name))) == parse_format(name)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("e0m3", "GW0201"),
        ("e12m3", "GW0201"),
        ("e4m51", "GW0201"),
        ("e11m3", "GW0210"),
        ("e4m3<bias=x>", "GW0209"),
        ("e4m3<fast>", "GW0209"),
        ("e8m0<ieee>", "GW0209"),
        ("e1m3<ieee>", "GW0210"),
        ("e4m3<denormal,ieee>", "GW0210"),
        ("log<1>", "GW0201"),
        ("log<11,-500>", "GW0210"),
        ("log", "GW0209"),
        ("e4n3", "GW0202"),
        ("float61", "GW0202"),
    ],
)
def test_bad_floats(name: str, code: str) -> None:
    with pytest.raises(GatewrightError, match=code):
        parse_format(name)


def test_near_misses_get_a_suggestion() -> None:
    with pytest.raises(GatewrightError, match='did you mean "float16"'):
        parse_format("float61")
    with pytest.raises(GatewrightError, match='did you mean "mxint8"'):
        parse_format("mxnit8")
    assert isinstance(parse_format("mxint8"), object)
    assert isinstance(scalar("e4m3"), SignificandFormat)
