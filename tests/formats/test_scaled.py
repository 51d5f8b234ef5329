"""Binary, ternary and residual-sign tensors against an exact rational model."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gatewright.diagnostics import GatewrightError
from gatewright.ir.formats import (
    Binary,
    Float,
    GroupFormat,
    ResidualSign,
    Rounding,
    ScaledBinary,
    ScaledSigns,
    ScaledTernary,
    Ternary,
    parse_format,
)

NAMES = [
    "binary<tensor>",
    "binary<channel>",
    "binary<channel,float32>",
    "binary<tensor,e8m0>",
    "ternary<mean>",
    "ternary<max>",
    "ternary<mean,max>",
    "ternary<max,max>",
    "ternary<max,channel>",
    "ternary<mean,channel,fixed<16,12>>",
    "residual<1>",
    "residual<2>",
    "residual<3,channel>",
    "residual<2,channel,float32>",
]


def grouped(name: str) -> ScaledSigns:
    form = parse_format(name)
    assert isinstance(form, ScaledSigns)
    return form


def rational(form: ScaledSigns, row: list[Fraction]) -> list[Fraction]:
    """The definitions, in fractions, for one group."""

    def cast(value: Fraction) -> Fraction:
        return form.scale.decode_fraction(form.scale.encode_fraction(value))

    magnitudes = [abs(value) for value in row]
    mean = sum(magnitudes, Fraction(0)) / len(row)
    if isinstance(form, ScaledBinary):
        return [cast(mean) if value >= 0 else -cast(mean) for value in row]
    if isinstance(form, ScaledTernary):
        limit = Fraction(7, 10) * mean if form.threshold == "mean" else Fraction(1, 20) * max(magnitudes)
        kept = [value for value in magnitudes if value > limit] or [Fraction(0)]
        scale = cast(sum(kept, Fraction(0)) / len(kept) if form.scaled_by == "mean" else max(kept))
        return [Fraction(0) if abs(value) <= limit else scale if value > 0 else -scale for value in row]
    total = [Fraction(0)] * len(row)
    rest = list(row)
    for _ in range(form.levels):
        scale = cast(sum(map(abs, rest), Fraction(0)) / len(rest))
        signs = [1 if value >= 0 else -1 for value in rest]
        total = [old + sign * scale for old, sign in zip(total, signs, strict=True)]
        rest = [value - sign * scale for value, sign in zip(rest, signs, strict=True)]
    return total


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spread", [0, 3, 60])
def test_equals_the_rational_model(name: str, spread: int) -> None:
    form = grouped(name)
    generator = np.random.default_rng(spread)
    values = generator.standard_normal((4, 5, 3)) * np.exp2(generator.integers(-spread, spread + 1, (4, 5, 3)))
    values[0, 0] = [0.0, -0.0, 1.0]
    values = np.round(values * 16) / 16 if spread == 0 else values.astype(np.float32).astype(np.float64)
    axis = 1 if form.per == "channel" else None
    codes, scales = form.encode(values, axis)
    got = form.decode(codes, scales, axis)
    groups = [got.reshape(-1)] if axis is None else [got[:, index].reshape(-1) for index in range(5)]
    inputs = [values.reshape(-1)] if axis is None else [values[:, index].reshape(-1) for index in range(5)]
    assert scales.shape == (len(groups), form.levels)
    for group, data in zip(groups, inputs, strict=True):
        wanted = rational(form, [Fraction(float(value)) for value in data])
        assert [float(value) for value in wanted] == group.tolist()


def test_ties_at_the_threshold_are_dropped() -> None:
    # mean 10, threshold exactly 7
    values = np.asarray([7.0, -7.0, 13.0, -13.0])
    codes, scales = grouped("ternary<mean>").encode(values)
    assert codes.tolist() == [0, 0, 1, 3]
    assert Float(8, 7).decode(scales).tolist() == [[13.0]]


def test_degenerate_groups() -> None:
    for name in NAMES:
        form = grouped(name)
        zeros = form.quantize(np.zeros((2, 2)))
        assert (zeros == zeros[0, 0]).all() and abs(zeros[0, 0]) <= 2.0**-126
        assert form.quantize(np.zeros((0, 3)), axis=0).shape == (0, 3)
        if form.scale.has_nan:
            assert np.isnan(form.quantize(np.asarray([[1.0, np.nan]]))).all()
        else:
            with pytest.raises(GatewrightError, match="GW0215"):
                form.quantize(np.asarray([[1.0, np.inf]]))


def test_names_and_errors() -> None:
    for name in NAMES:
        assert str(parse_format(name)) == name
        assert isinstance(parse_format(name), GroupFormat)
    assert isinstance(parse_format("binary"), Binary)
    assert isinstance(parse_format("ternary"), Ternary)
    assert isinstance(parse_format("residual<2>"), ResidualSign)
    assert parse_format("ternary<mean,mean>") == parse_format("ternary<mean>")
    assert parse_format("ternary<max,mean>") == parse_format("ternary<max>")
    for name, code in (
        ("residual", "GW0209"),
        ("residual<0>", "GW0201"),
        ("ternary<median>", "GW0209"),
        ("binary<tensor,mxfp4>", "GW0209"),
        ("binary<tensor,bfloat16,3>", "GW0209"),
        ("binary01<tensor>", "GW0209"),
    ):
        with pytest.raises(GatewrightError, match=code):
            parse_format(name)
    with pytest.raises(GatewrightError, match="GW0214"):
        grouped("ternary<mean>").encode([1.0], rounding=Rounding.STOCHASTIC, generator=np.random.default_rng(0))
    with pytest.raises(GatewrightError, match="GW0211"):
        grouped("binary<channel>").encode(np.zeros((2, 2)), axis=2)
    with pytest.raises(GatewrightError, match="GW0213"):
        grouped("binary<channel>").decode(np.zeros((2, 2)), [[0]])
