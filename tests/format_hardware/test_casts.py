"""Casts and decoding as integer expressions equal the formats' own encode and decode, over every code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gatewright as gw
from gatewright.backends.torch.expressions import to_host, torch_expression
from gatewright.diagnostics import GatewrightError
from gatewright.ir.casts import cast_term
from gatewright.ir.decoding import decoded_integers, decoded_interval, digits, lowest_exponent
from gatewright.ir.expressions import Expression, ExpressionBuilder
from gatewright.ir.formats import (
    DETERMINISTIC_ROUNDINGS,
    CastSpec,
    Exact,
    Overflow,
    ScalarFormat,
    SignificandFormat,
    Ternary,
    parse_cast,
    parse_format,
)
from gatewright.ir.intervals import Interval

NAMES = (
    "e4m3", "e5m2", "e3m2", "e2m3", "e2m1", "e1m2", "e4m3<ieee>", "e4m3<none,denormal>", "e3m2<flush>",
    "e2m1<unsigned>", "e5m2<flush,unsigned>", "e4m3<bias=2>", "bfloat16", "float16", "log<5>", "log<4,9>", "e8m0",
    "e4m0", "binary", "binary01", "ternary",
)  # fmt: skip
OVERFLOWS = tuple(Overflow)


def scalar(name: str) -> ScalarFormat:
    format = parse_format(name)
    assert isinstance(format, ScalarFormat)
    return format


def supports(format: ScalarFormat, overflow: Overflow) -> bool:
    """Whether a cast to the format can overflow so."""
    if isinstance(format, SignificandFormat):
        return overflow != Overflow.WRAP and (overflow != Overflow.INFINITE or format.has_nan or format.has_infinity)
    return overflow != Overflow.INFINITE and not (isinstance(format, Ternary) and overflow == Overflow.WRAP)


@pytest.mark.parametrize("name", NAMES)
def test_decoding_every_code(name: str) -> None:
    format = scalar(name)
    codes = np.arange(1 << format.width)
    interval = Interval(0, (1 << format.width) - 1)
    builder = ExpressionBuilder([interval])
    parts = digits(builder.inputs[0], format)
    expression = builder.finish(parts.integer)
    mantissas, exponents = format.decode_scaled(codes)
    shifts = np.broadcast_to(exponents - lowest_exponent(format), mantissas.shape)
    expected = mantissas.astype(object) << shifts.astype(object)
    found = expression.evaluate(codes)
    assert (found.astype(object) == expected).all()
    assert (decoded_integers(format, codes).astype(object) == expected).all()
    bounds = decoded_interval(format, interval)
    assert (bounds.low, bounds.high) == (expected.min(), expected.max())
    if parts.exponent is not None and name not in ("e8m0", "e4m0"):
        # No bit of an exponent or a mantissa is wasted.
        assert builder.finish(parts.exponent).interval == Interval(0, int(shifts.max()), 1)
        assert builder.finish(parts.magnitude).interval.high <= (1 << np.abs(mantissas).max().item().bit_length()) - 1


def cast_expression(interval: Interval, frac: int, spec: CastSpec) -> Expression:
    builder = ExpressionBuilder([interval])
    return builder.finish(cast_term(builder.inputs[0], Exact(frac), spec))


@pytest.mark.parametrize("name", NAMES)
def test_cast_from_every_integer(name: str) -> None:
    format = scalar(name)
    for low, high, frac in ((-2048, 2047, 5), (0, 1023, 0), (-300, 40, 12), (-9, 9, -14)):
        interval = Interval(low, high)
        codes = np.arange(interval.low, interval.high + 1)
        for rounding in DETERMINISTIC_ROUNDINGS:
            for overflow in OVERFLOWS:
                if not supports(format, overflow):
                    continue
                expression = cast_expression(interval, frac, CastSpec(format, rounding, overflow))
                expected = format.encode_scaled(codes, -frac, rounding, overflow)
                found = expression.evaluate(codes)
                np.testing.assert_array_equal(found, expected, err_msg=f"{name} {rounding} {overflow} 2^{-frac}")
                printed = to_host(torch_expression(expression)(torch.from_numpy(codes)))
                np.testing.assert_array_equal(printed, expected)


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m1", "bfloat16", "log<5>", "e8m0"])
def test_cast_of_wide_integers(name: str) -> None:
    format = scalar(name)
    generator = np.random.default_rng(1)
    interval = Interval(-(1 << 68), 1 << 68)
    drawn = [int(generator.integers(1, 1 << 62)) >> int(generator.integers(0, 62)) for _ in range(400)]
    codes = [(each << int(generator.integers(0, 7))) * int(generator.choice([-1, 1])) for each in drawn]
    codes += [sign * (1 << bit) + extra for bit in range(69) for sign in (1, -1) for extra in (0, 1, -1)]
    array = np.asarray([code for code in codes if abs(code) <= 1 << 68], dtype=object)
    for frac in (0, 30, 66):
        for rounding in DETERMINISTIC_ROUNDINGS:
            expression = cast_expression(interval, frac, CastSpec(format, rounding))
            expected = format.encode_scaled(array, -frac, rounding, Overflow.SATURATE)
            assert (expression.evaluate(array).astype(object) == expected.astype(object)).all()


@pytest.mark.parametrize("source", ["e4m3", "e5m2", "e3m2", "e2m3", "e2m1", "log<5>", "ternary", "binary"])
@pytest.mark.parametrize("target", ["e4m3", "e5m2", "e2m1", "log<4>", "ternary", "binary", "fixed<8,4>", "ufixed<6,8>"])
def test_cast_between_formats(source: str, target: str) -> None:
    before, after = scalar(source), scalar(target)
    codes = np.arange(1 << before.width)
    builder = ExpressionBuilder([Interval(0, (1 << before.width) - 1)])
    expression = builder.finish(cast_term(builder.inputs[0], before, CastSpec(after)))
    finite = ~before.is_special(codes)
    integers = decoded_integers(before, codes)
    expected = after.encode_scaled(integers, lowest_exponent(before))
    np.testing.assert_array_equal(expression.evaluate(codes), expected)
    reals = before.decode(codes)
    # Only the sign of a zero is lost on the way through an integer.
    same = finite & (reals != 0)
    np.testing.assert_array_equal(expected[same], after.encode(reals)[same])


@pytest.mark.parametrize("name", ["fixed<8,4>", "ufixed<3,1>", "ternary", "binary01"])
def test_integers_do_not_overflow_to_infinity(name: str) -> None:
    """Neither in software nor in hardware does such a cast turn into another one."""
    spec = parse_cast(f"{name} half_even infinite")
    builder = ExpressionBuilder([Interval(-1000, 1000)])
    with pytest.raises(GatewrightError, match="GW0205"):
        cast_term(builder.inputs[0], Exact(2), spec)
    with pytest.raises(GatewrightError, match="GW0205"):
        gw.cast(torch.tensor([100.0, -100.0]), str(spec))
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    formats = {"default": "fixed<8,4>", "name": {"2": {"input": str(spec)}}}
    with pytest.raises(GatewrightError, match="no infinity") as caught:
        gw.compile(model, (torch.randn(2, 4),), formats)
    assert caught.value.diagnostics[0].location is not None
