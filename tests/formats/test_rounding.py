"""Rounding, overflow and fixed point against exact fractions and against apytypes."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from apytypes import APyFixedArray, OverflowMode, QuantizationMode

from gatewright.diagnostics import GatewrightError
from gatewright.ir.formats import (
    DETERMINISTIC_ROUNDINGS,
    Exact,
    Fixed,
    Overflow,
    Rounding,
    apply_overflow,
    round_scaled,
)

INTEGER_OVERFLOWS = (Overflow.SATURATE, Overflow.SATURATE_SYMMETRIC, Overflow.SATURATE_ZERO, Overflow.WRAP)

APY_ROUNDINGS = {
    Rounding.FLOOR: QuantizationMode.TO_NEG,
    Rounding.TOWARD_ZERO: QuantizationMode.TO_ZERO,
    Rounding.HALF_UP: QuantizationMode.TIES_POS,
    Rounding.HALF_DOWN: QuantizationMode.TIES_NEG,
    Rounding.HALF_EVEN: QuantizationMode.TIES_EVEN,
    Rounding.HALF_ZERO: QuantizationMode.TIES_ZERO,
    Rounding.HALF_AWAY: QuantizationMode.TIES_AWAY,
}
APY_OVERFLOWS = {Overflow.SATURATE: OverflowMode.SAT, Overflow.WRAP: OverflowMode.WRAP}


def rounded(value: Fraction, rounding: Rounding) -> int:
    """The definition of each mode, in rational arithmetic."""
    floor = math.floor(value)
    fraction = value - floor
    half = Fraction(1, 2)
    nearest = floor if fraction < half else floor + 1
    tie = fraction == half
    zeroward = floor if value >= 0 else floor + 1
    match rounding:
        case Rounding.FLOOR:
            return floor
        case Rounding.TOWARD_ZERO:
            return math.trunc(value)
        case Rounding.HALF_UP:
            return floor + 1 if tie else nearest
        case Rounding.HALF_DOWN:
            return floor if tie else nearest
        case Rounding.HALF_EVEN:
            return floor + floor % 2 if tie else nearest
        case Rounding.HALF_ZERO:
            return zeroward if tie else nearest
        case Rounding.HALF_AWAY:
            return 2 * floor + 1 - zeroward if tie else nearest
        case Rounding.STOCHASTIC:
            raise AssertionError


def overflowed(value: int, low: int, high: int, overflow: Overflow) -> int:
    inside = low <= value <= high
    match overflow:
        case Overflow.SATURATE:
            return max(low, min(high, value))
        case Overflow.SATURATE_SYMMETRIC:
            return max(low, -high, min(high, value))
        case Overflow.SATURATE_ZERO:
            return value if inside else 0
        case Overflow.WRAP:
            return (value - low) % (high - low + 1) + low
        case Overflow.INFINITE:
            raise AssertionError


@pytest.mark.parametrize("rounding", DETERMINISTIC_ROUNDINGS)
@pytest.mark.parametrize("shift", [-3, 0, 1, 2, 5])
def test_round_scaled_is_the_rational_definition(rounding: Rounding, shift: int) -> None:
    integers = np.arange(-300, 301)
    expected = [rounded(Fraction(int(value)) / Fraction(2) ** shift, rounding) for value in integers]
    assert round_scaled(integers, shift, rounding).tolist() == expected
    assert round_scaled(integers.astype(object), shift, rounding).tolist() == expected


@pytest.mark.parametrize("rounding", DETERMINISTIC_ROUNDINGS)
def test_round_scaled_is_exact_beyond_64_bits(rounding: Rounding) -> None:
    numbers = [sign * (2**base + delta) for base in (61, 62, 63, 64, 100) for delta in (-1, 0, 1) for sign in (1, -1)]
    for shift in (-70, -1, 1, 60, 61, 62, 63, 64, 99, 101):
        expected = [rounded(Fraction(value) / Fraction(2) ** shift, rounding) for value in numbers]
        assert [int(value) for value in round_scaled(numbers, shift, rounding)] == expected
        for value, result in zip(numbers, expected, strict=True):  # each alone stays in int64 where it fits
            assert int(round_scaled(value, shift, rounding)) == result


@pytest.mark.parametrize("overflow", INTEGER_OVERFLOWS)
@pytest.mark.parametrize(("low", "high"), [(-8, 7), (0, 15), (-1, 0), (0, 1), (-(2**63), 2**63 - 1)])
def test_apply_overflow_is_its_definition(overflow: Overflow, low: int, high: int) -> None:
    numbers = [*range(-40, 41), *(sign * 2**62 + delta for sign in (1, -1, 3, -3) for delta in range(-3, 4))]
    expected = [overflowed(value, low, high, overflow) for value in numbers]
    assert [int(value) for value in apply_overflow(numbers, low, high, overflow)] == expected


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("rounding", DETERMINISTIC_ROUNDINGS)
@pytest.mark.parametrize("overflow", INTEGER_OVERFLOWS)
def test_every_cast_of_eight_bits_is_exact(rounding: Rounding, overflow: Overflow, signed: bool) -> None:
    """All 8-bit sources to several targets: the integer path, the real path, fractions and apytypes agree."""
    source = Fixed(8, 4, signed)
    codes = np.arange(source.code_interval()[0], source.code_interval()[1] + 1)
    reals = source.decode(codes)
    for width, frac, to_signed in itertools.product((1, 2, 4, 9), (-2, 0, 3, 4, 6), (True, False)):
        target = Fixed(width, frac, to_signed)
        low, high = target.code_interval()
        expected = [
            overflowed(rounded(Fraction(int(code), 16) * Fraction(2) ** frac, rounding), low, high, overflow)
            for code in codes
        ]
        assert target.encode_scaled(codes, -4, rounding, overflow).tolist() == expected
        assert target.encode(reals, rounding, overflow).tolist() == expected
        if signed and to_signed and overflow in APY_OVERFLOWS:
            array = APyFixedArray.from_array(reals, int_bits=4, frac_bits=4)
            cast = array.cast(
                bits=width,
                frac_bits=frac,
                quantization=APY_ROUNDINGS[rounding],
                overflow=APY_OVERFLOWS[overflow],
            )
            assert (cast.to_numpy() == target.decode(np.asarray(expected))).all()


@pytest.mark.parametrize("rounding", DETERMINISTIC_ROUNDINGS)
@pytest.mark.parametrize("overflow", sorted(APY_OVERFLOWS))
def test_casts_of_positive_codes_equal_apytypes(rounding: Rounding, overflow: Overflow) -> None:
    codes = np.arange(256)
    array = APyFixedArray.from_array(codes / 16, int_bits=5, frac_bits=4)
    for width, frac in itertools.product((2, 4, 9), (-2, 0, 3, 6)):
        cast = array.cast(
            bits=width, frac_bits=frac, quantization=APY_ROUNDINGS[rounding], overflow=APY_OVERFLOWS[overflow]
        )
        target = Fixed(width, frac)
        assert (target.decode(target.encode_scaled(codes, -4, rounding, overflow)) == cast.to_numpy()).all()


@pytest.mark.parametrize("rounding", DETERMINISTIC_ROUNDINGS)
def test_real_and_integer_paths_agree_on_hard_reals(rounding: Rounding) -> None:
    """Ties, their neighbours, tiny, subnormal and huge numbers."""
    ties = np.arange(-9, 10) / 2.0
    reals = np.concatenate(
        [
            ties,
            np.nextafter(ties, np.inf),
            np.nextafter(ties, -np.inf),
            [5e-324, -5e-324, 1e300, -1e300, 2.0**62, 3e18],
        ]
    )
    for target in (Fixed(8, 0), Fixed(8, 200), Fixed(70, -900), Fixed(100, 10), Fixed(8, -1200), Exact(3)):
        for overflow in INTEGER_OVERFLOWS:
            got = target.encode(reals, rounding, overflow)
            for real, code in zip(reals, got, strict=True):
                mantissa, exponent = np.frexp(real)
                wanted = target.encode_scaled(int(mantissa * 2**53), int(exponent) - 53, rounding, overflow)
                assert int(code) == int(wanted), (target, real, overflow)


def test_special_reals() -> None:
    reals = [np.inf, -np.inf, np.nan]
    target = Fixed(8, 4)
    assert target.encode(reals).tolist() == [127, -128, 0]
    assert target.encode(reals, overflow=Overflow.SATURATE_SYMMETRIC).tolist() == [127, -127, 0]
    assert target.encode(reals, overflow=Overflow.WRAP).tolist() == [0, 0, 0]
    assert target.encode(reals, overflow=Overflow.SATURATE_ZERO).tolist() == [0, 0, 0]
    with pytest.raises(GatewrightError, match="GW0205"):
        target.encode([1.0], overflow=Overflow.INFINITE)


@pytest.mark.parametrize("width", [1, 2, 5, 8, 12, 16])
@pytest.mark.parametrize("signed", [True, False])
def test_every_code_round_trips(width: int, signed: bool) -> None:
    for frac in (-3, 0, width, width + 7):
        target = Fixed(width, frac, signed)
        low, high = target.code_interval()
        codes = np.arange(low, high + 1)
        for rounding in DETERMINISTIC_ROUNDINGS:
            assert (target.encode(target.decode(codes), rounding) == codes).all()
        integers, exponents = target.decode_scaled(codes)
        assert (target.encode_scaled(integers, int(exponents[0])) == codes).all()
        assert target.decode_fraction(low) == Fraction(low) / Fraction(2) ** frac


@pytest.mark.parametrize("rounding", DETERMINISTIC_ROUNDINGS)
def test_rational_numbers_are_correctly_rounded(rounding: Rounding) -> None:
    target = Fixed(9, 3)
    for numerator, denominator in itertools.product(range(-70, 71, 3), (1, 3, 5, 7, 16, 10**30)):
        value = Fraction(numerator, denominator)
        assert target.encode_fraction(value, rounding) == overflowed(
            rounded(value * 8, rounding), -256, 255, Overflow.SATURATE
        )


def test_stochastic_rounding_is_seeded_and_unbiased() -> None:
    target = Fixed(8, 0)
    reals = np.full(20000, -2.25)
    first = target.encode(reals, Rounding.STOCHASTIC, generator=np.random.default_rng(1))
    again = target.encode(reals, Rounding.STOCHASTIC, generator=np.random.default_rng(1))
    assert (first == again).all()
    assert set(first.tolist()) == {-2, -3}
    assert abs(first.mean() + 2.25) < 0.02
    for shift in (2, 40, 70):
        scaled = round_scaled([-9 << (shift - 2)] * 20000, shift, Rounding.STOCHASTIC, np.random.default_rng(2))
        assert abs(scaled.mean() + 2.25) < 0.02
    with pytest.raises(GatewrightError, match="GW0204"):
        target.encode(reals, Rounding.STOCHASTIC)
