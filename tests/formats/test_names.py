"""Names parse back, and bad names are answered with the nearest good one."""

from __future__ import annotations

import itertools

import pytest

from gatewright.diagnostics import GatewrightError
from gatewright.ir.formats import (
    CastSpec,
    Exact,
    Fixed,
    Format,
    Gradient,
    Overflow,
    Real,
    Rounding,
    cast_to,
    known_names,
    parse_cast,
    parse_format,
)
from gatewright.numbers import format as number_format

FIXED_FORMATS: list[Format] = [
    Real(),
    Fixed(8, 4),
    Fixed(8, 8, signed=False),
    Fixed(8, None),
    Fixed(5, None, signed=False),
    Fixed(6, -3),
    Fixed(3, 12),
    Exact(8),
    Exact(0),
    Exact(-5),
]


@pytest.mark.parametrize("format", FIXED_FORMATS, ids=str)
def test_names_parse_back(format: Format) -> None:
    assert parse_format(str(format)) == format
    assert hash(parse_format(str(format))) == hash(format)


def test_names_are_as_documented() -> None:
    assert str(Fixed(8, 4)) == "fixed<8,4>"
    assert str(Fixed(8, 8, signed=False)) == "ufixed<8,8>"
    assert str(Fixed(8, None)) == "fixed<8,auto>"
    assert str(Exact(8)) == "exact 2^-8"
    assert parse_format(" FIXED< 8 , 4 >") == Fixed(8, 4)
    assert parse_format("fixed<8,auto>").is_auto
    assert Fixed(8, None).resolve(3) == Fixed(8, 3)


@pytest.mark.parametrize("name", known_names())
def test_known_names_parse_back(name: str) -> None:
    format = parse_format(name)
    assert parse_format(str(format)) == format


def test_casts_print_and_parse_back() -> None:
    cast = parse_cast("ufixed<8,4> half_up saturate")
    assert cast == CastSpec(Fixed(8, 4, False), Rounding.HALF_UP, Overflow.SATURATE)
    assert str(cast) == "ufixed<8,4> half_up saturate"
    assert parse_cast("fixed<8,4>") == cast_to(Fixed(8, 4)) == CastSpec(Fixed(8, 4))
    assert parse_cast("fixed<8,4> wrap") == CastSpec(Fixed(8, 4), overflow=Overflow.WRAP)
    assert parse_cast("fixed<8,4> SAT_SYM RND_CONV").overflow is Overflow.SATURATE_SYMMETRIC
    assert parse_cast("exact 2^-8 floor") == CastSpec(Exact(8), Rounding.FLOOR)
    assert parse_cast("real") == CastSpec(Real())
    for rounding, overflow, gradient in itertools.product(Rounding, Overflow, Gradient):
        spec = CastSpec(Fixed(8, 4), rounding, overflow, gradient)
        assert parse_cast(str(spec)) == spec
    assert parse_cast("mxint8 plain floor").gradient is Gradient.PLAIN
    assert str(parse_cast("mxint8 clipped")) == "mxint8 half_even saturate_symmetric"


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("fixd<8,4>", "GW0202", 'did you mean "fixed<8,4>"'),
        ("banana", "GW0202", "no number format"),
        ("", "GW0202", "no number format"),
        ("fixed<8>", "GW0209", "fixed<8,4>"),
        ("fixed<8,4", "GW0209", "not closed"),
        ("fixed<8,>", "GW0209", "empty"),
        ("fixed<8,x>", "GW0209", "not a whole number"),
        ("fixed<0,4>", "GW0201", "from 1 to"),
        ("fixed<-8,4>", "GW0201", "from 1 to"),
        ("real<3>", "GW0209", "no arguments"),
    ],
)
def test_bad_names(name: str, code: str, says: str) -> None:
    with pytest.raises(GatewrightError, match=code) as caught:
        parse_format(name)
    assert says in str(caught.value)


def test_bad_casts() -> None:
    with pytest.raises(GatewrightError, match='did you mean "half_up"'):
        parse_cast("fixed<8,4> halfup")
    with pytest.raises(GatewrightError, match="GW0208"):
        parse_cast("fixed<8,4> half_up half_even")
    with pytest.raises(GatewrightError, match="GW0208"):
        parse_cast("fixed<8,4> plain half_up clipped")
    with pytest.raises(GatewrightError, match='did you mean "clipped"'):
        parse_cast("e4m3 clip")
    with pytest.raises(GatewrightError, match="clip=True"):
        number_format("e4m3 clipped")
    with pytest.raises(GatewrightError, match="GW0203"):
        Fixed(8, None).encode([1.0])
    with pytest.raises(GatewrightError, match="GW0206"):
        _ = Exact(8).width
    with pytest.raises(GatewrightError, match="GW0201"):
        Fixed(8.5, 4)  # pyright: ignore[reportArgumentType]
