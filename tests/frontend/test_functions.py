"""Nonlinear functions: tables against mpmath at every code, pieces within their stated bound."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest

from gatewright.diagnostics import GatewrightError
from gatewright.ir import functions
from gatewright.ir.builder import Builder
from gatewright.ir.formats import DETERMINISTIC_ROUNDINGS, CastSpec, Fixed, ScalarFormat, parse_cast
from gatewright.ir.functions import FUNCTIONS, rounded, table
from gatewright.ir.intervals import Interval
from gatewright.ir.operator import operators
from gatewright.ir.piecewise import MAXIMUM_DEVIATION, fit
from gatewright.ir.types import Type
from gatewright.ir.unary import UnaryFunction
from gatewright.sim.golden import evaluate

UNARY = {name: cls for name, cls in operators().items() if issubclass(cls, UnaryFunction)}
SMOOTH = sorted(
    name
    for name in functions.FUNCTIONS
    if name not in ("square_root", "reciprocal", "reciprocal_square_root", "logarithm")
)

# Written apart from the tables' own definitions, in the textbook's form, on 300-bit numbers.
TEXTBOOK: dict[str, Any] = {
    "sigmoid": lambda x: mpmath.exp(x) / (1 + mpmath.exp(x)),
    "tanh": lambda x: (mpmath.exp(2 * x) - 1) / (mpmath.exp(2 * x) + 1),
    "gelu": lambda x: x * mpmath.ncdf(x),
    "gelu_tanh": lambda x: x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "mish": lambda x: x * mpmath.tanh(mpmath.log(1 + mpmath.exp(x))),
    "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
    "elu": lambda x: x if x > 0 else mpmath.exp(x) - 1,
    "hardsigmoid": lambda x: min(max(x / 6 + mpmath.mpf(1) / 2, mpmath.mpf(0)), mpmath.mpf(1)),
    "hardswish": lambda x: x * min(max(x + 3, mpmath.mpf(0)), mpmath.mpf(6)) / 6,
    "exponential": mpmath.exp,
    "square_root": mpmath.sqrt,
    "reciprocal": lambda x: 1 / x,
    "reciprocal_square_root": lambda x: 1 / mpmath.sqrt(x),
    "logarithm": mpmath.log,
}


def textbook(name: str, argument: Fraction) -> Fraction:
    """The function's value to 300 bits."""
    with mpmath.workprec(300):
        value = mpmath.mpf(TEXTBOOK[name](mpmath.mpf(argument.numerator) / argument.denominator))
        mantissa, exponent = abs(value).man_exp
        return Fraction(int(mantissa)) * Fraction(2) ** int(exponent) * (-1 if value < 0 else 1)


def test_every_function_is_covered() -> None:
    assert set(TEXTBOOK) == set(functions.FUNCTIONS) == {cls.function for cls in UNARY.values()}


@pytest.mark.parametrize("name", sorted(TEXTBOOK))
def test_tables_are_correctly_rounded_at_every_code(name: str) -> None:
    source = Fixed(8, 4)
    positive = name in ("square_root", "reciprocal", "reciprocal_square_root", "logarithm")
    for rounding in DETERMINISTIC_ROUNDINGS:
        spec = CastSpec(Fixed(9, 6), rounding)
        entries = functions.table(name, source, -128, 127, 1, spec)
        for code, entry in zip(range(-128, 128), entries, strict=True):
            argument = Fraction(code, 16)
            if positive and argument <= 0:
                continue
            value = textbook(name, argument)
            # 300 bits leave a value such as sigmoid(0) within 2^-250 of the boundary that it lies on.
            near = Fraction(round(value * 2**200), 2**200)
            if name in ("hardsigmoid", "hardswish"):
                near = value.limit_denominator(1 << 20)
            assert entry == spec.format.encode_fraction(near, rounding), (code, rounding)


def test_values_where_a_function_is_not_defined() -> None:
    spec = parse_cast("fixed<8,4>")
    assert functions.table("reciprocal", Fixed(4, 0), -1, 1, 1, spec) == (-16, 127, 16)
    assert functions.table("reciprocal_square_root", Fixed(4, 0), -1, 1, 1, spec) == (0, 127, 16)
    assert functions.table("logarithm", Fixed(4, 0), -1, 1, 1, spec) == (0, -128, 0)
    assert functions.table("square_root", Fixed(4, 0), -1, 1, 1, spec) == (0, 0, 16)


def run(op: UnaryFunction, source: Fixed, interval: Interval, codes: np.ndarray) -> np.ndarray:
    """The codes that the operator's decomposition gives."""
    builder = Builder("function")
    value = builder.input("x", Type((), source, interval))
    graph = builder.finish([op.decompose(builder, value)])
    return evaluate(graph, [codes])[0]


@pytest.mark.parametrize("result", ["fixed<8,4>", "fixed<16,11>", "fixed<12,8> floor saturate"])
@pytest.mark.parametrize("name", SMOOTH)
def test_pieces_stay_within_their_bound_at_every_code(name: str, result: str) -> None:
    source = Fixed(15, 10)
    spec = parse_cast(result)
    assert isinstance(spec.format, Fixed)
    op = next(cls for cls in UNARY.values() if cls.function == name)(spec)
    low, high = source.code_interval()
    codes = np.arange(low, high + 1)
    found = run(op, source, Interval(low, high), codes)
    reals = np.ldexp(functions.FUNCTIONS[name].fast(np.ldexp(codes.astype(float), -10)), spec.format.fraction_bits)
    wanted = np.clip(reals, *spec.format.code_interval())
    bound = MAXIMUM_DEVIATION + (1.0 if "floor" in result else 0.5)
    assert float(np.abs(found - wanted).max()) <= bound
    assert fit(name, source, low, high, spec).deviation() <= MAXIMUM_DEVIATION


def test_float64_agrees_with_the_textbook() -> None:
    """The fast forms are as accurate as the tables assume."""
    for name, row in functions.FUNCTIONS.items():
        for code in (-700, -93, -37, -5, -1, 1, 7, 44, 101, 690):
            argument = Fraction(code, 64)
            if name in ("square_root", "reciprocal_square_root", "logarithm") and code < 0:
                continue
            exact = textbook(name, argument)
            found = Fraction(float(row.fast(np.asarray([float(argument)]))[0]))
            assert abs(found - exact) <= abs(exact) * Fraction(functions.RELATIVE_ERROR) / 16, (name, code)


def test_a_wide_operand_with_a_pole_needs_fewer_bits() -> None:
    op = UNARY["reciprocal"].rounded_to("fixed<8,4>")
    with pytest.raises(GatewrightError) as caught:
        run(op, Fixed(20, 10), Interval(-(1 << 19), (1 << 19) - 1), np.asarray([1]))
    assert caught.value.code == "GW0342"


def test_a_function_needs_a_result_format() -> None:
    with pytest.raises(GatewrightError) as caught:
        run(UNARY["tanh"](), Fixed(8, 4), Interval(-128, 127), np.asarray([1]))
    assert caught.value.code == "GW0341"


def test_codes_with_a_common_step_make_a_small_table() -> None:
    """Multiples of 16 in 15 bits are 11 bits of information: an exact table."""
    op = UNARY["sigmoid"].rounded_to("fixed<9,8>")
    codes = np.arange(-16384, 16384, 16)
    found = run(op, Fixed(15, 10), Interval(-16384, 16368, 16), codes)
    table = functions.table("sigmoid", Fixed(11, 6), -1024, 1023, 1, parse_cast("fixed<9,8>"))
    assert found.tolist() == list(table)


BESIDE = {
    "sigmoid": ((0, 0, 1), (0, 1, -1)),
    "tanh": ((0, -1, 1), (0, 1, -1)),
    "gelu": ((0, 0, -1), (1, 0, -1)),
    "gelu_tanh": ((0, 0, -1), (1, 0, -1)),
    "silu": ((0, 0, -1), (1, 0, -1)),
    "mish": ((0, 0, -1), (1, 0, -1)),
    "softplus": ((0, 0, 1), (1, 0, 1)),
    "elu": ((0, -1, 1), (1, 0, 0)),
    "exponential": ((0, 0, 1), None),
}
"""Far below and far above zero: slope and offset of the line, and on which side of it the values are."""


@pytest.mark.parametrize(
    "result", ["fixed<8,6>", "fixed<40,8>", "e5m2", "e4m3", "e2m1", "bfloat16", "ternary", "log<6>"]
)
@pytest.mark.parametrize("name", BESIDE)
def test_values_beside_a_line_are_rounded_by_their_side(name: str, result: str) -> None:
    """sigmoid(448) is 1 - 2^-646: not 1, whatever the precision; so it is at arguments of hundreds of digits."""
    for sign, line in zip((-1, 1), BESIDE[name], strict=True):
        for x in (Fraction(448), Fraction(57344), Fraction(3) * 2**90, Fraction(2) ** 700):
            if line is None:
                continue
            slope, offset, side = line
            value = slope * sign * x + offset
            for rounding in ("floor", "toward_zero", "half_even", "half_up", "half_down", "half_zero", "half_away"):
                spec = parse_cast(f"{result} {rounding}")
                assert isinstance(spec.format, ScalarFormat)
                # The value is nearer to the line than anything of the format, but not on it.
                beside = value + side * Fraction(1, 2**1200)
                wanted = spec.format.encode_fraction(beside, spec.rounding, spec.overflow)
                assert rounded(name, sign * x, spec) == wanted, (name, sign * x, str(spec))


@pytest.mark.parametrize("rounding", ["floor", "half_down", "half_up", "toward_zero"])
def test_values_near_zero_take_as_many_bits_as_they_need(rounding: str) -> None:
    """tanh(x) is below x, and gelu(x) above x / 2, by parts of x that no float64 holds."""
    spec = parse_cast(f"fixed<16,615> {rounding}")
    assert isinstance(spec.format, ScalarFormat)
    for x in (Fraction(1, 2**600), Fraction(3, 2**611)):
        little = x**3 / 4
        for name, value in (("tanh", x - little), ("gelu", x / 2 + little), ("silu", x / 2 + little)):
            assert rounded(name, x, spec) == spec.format.encode_fraction(value, spec.rounding, spec.overflow)


def test_saturated_tables_in_a_design() -> None:
    """Directed rounding of a minifloat's whole table: no entry of sigmoid but those that round up is 1."""
    for rounding, wanted in (("floor", 63), ("toward_zero", 63), ("half_even", 64)):
        entries = table("sigmoid", parse_cast("e5m2").format, 0, 0x7B, 1, parse_cast(f"fixed<8,6> {rounding}"))  # type: ignore[arg-type]
        assert max(entries) == wanted


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_rational_value_is_known(name: str) -> None:
    """At a value that is rational, and may lie on a boundary, no precision would be enough."""
    spec = parse_cast("fixed<12,6> floor")
    for numerator in range(-12, 13):
        for denominator in (1, 4, 9):
            rounded(name, Fraction(numerator, denominator), spec)
