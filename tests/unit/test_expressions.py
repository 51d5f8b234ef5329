"""Intervals and scalar expressions: inference covers evaluation, construction folds only what is equal."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewright.ir.expressions import ExpressionBuilder, Term
from gatewright.ir.formats import DETERMINISTIC_ROUNDINGS
from gatewright.ir.intervals import Interval, fits_int64, widen
from gatewright.ir.ops.contract import exact_einsum
from gatewright.ir.scalar_ops import SCALAR_OPS


@st.composite
def intervals(draw: st.DrawFn, lowest: int = -40, highest: int = 40) -> Interval:
    """Small intervals, many with a step."""
    step = draw(st.integers(1, 7))
    low = -(-draw(st.integers(lowest, highest)) // step) * step
    high = low + step * draw(st.integers(0, 12))
    return Interval(low, high, step) if low != high else Interval.constant(low)


def codes(interval: Interval) -> list[int]:
    """All codes of an interval."""
    return list(range(interval.low, interval.high + 1, max(interval.step, 1)))


def holds(interval: Interval, value: int) -> bool:
    """Whether the interval has this code."""
    return interval.low <= value <= interval.high and (value % interval.step == 0 if interval.step else value == 0)


ATTRIBUTES = {
    "shl": [(0,), (3,)],
    "shr": [(0,), (1,), (2,), (5,)],
    "shlw": [(4,), (9,)],
    "round": [(shift, str(mode)) for shift in (1, 2, 4) for mode in DETERMINISTIC_ROUNDINGS],
    "wrap": [(3, True), (3, False), (7, True), (8, False)],
    "lzc": [(9,)],
}
NOT_NEGATIVE = {"shlv": (1,), "shrv": (1,), "shlw": (0, 1), "lzc": (0,)}
"""Operands that must not be negative."""


@pytest.mark.parametrize("op", sorted(set(SCALAR_OPS) - {"table"}))
@given(data=st.data())
def test_inference_covers_every_value(op: str, data: st.DataObject) -> None:
    row = SCALAR_OPS[op]
    bounds = [
        data.draw(intervals(0, 8) if index in NOT_NEGATIVE.get(op, ()) else intervals()) for index in range(row.arity)
    ]
    grids = [np.array(each, dtype=object) for each in zip(*product(*map(codes, bounds)), strict=True)]
    for attributes in ATTRIBUTES.get(op, [()]):
        inferred = row.infer(attributes, *bounds)
        values = np.asarray(row.evaluate(attributes, *grids))
        wrong = [int(each) for each in values.ravel() if not holds(inferred, int(each))]
        assert not wrong, f"{op}{attributes} of {', '.join(map(str, bounds))} gives {wrong[:3]}, not in {inferred}"


@given(intervals(), intervals())
def test_interval_arithmetic(a: Interval, b: Interval) -> None:
    for x, y in product(codes(a), codes(b)):
        assert holds(a + b, x + y)
        assert holds(a - b, x - y)
        assert holds(a * b, x * y)
        assert holds(a.union(b), x)
    assert all(holds(-a, -x) for x in codes(a))
    assert holds(a.scaled(3), 3 * a.high)
    assert a.scaled(0) == Interval(0, 0, 0)
    assert a.union(b).contains(a)


@given(st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=6))
def test_interval_of_values(values: list[int]) -> None:
    for array in (np.array(values, dtype=object), values):
        found = Interval.of(array)
        assert (found.low, found.high) == (min(values), max(values))
        assert all(holds(found, each) for each in values)


@pytest.mark.parametrize(
    ("low", "high", "width"), [(0, 0, 1), (0, 1, 1), (-1, 0, 1), (-1, 1, 2), (0, 255, 8), (-128, 127, 8), (-129, 0, 9)]
)
def test_width_is_the_narrowest_code(low: int, high: int, width: int) -> None:
    assert Interval(low, high).width == width


def test_arrays_widen_only_where_they_must() -> None:
    small, large = Interval(-(2**62) + 1, 2**62 - 1), Interval(0, 2**62)
    assert fits_int64(small)
    assert not fits_int64(small, large)
    assert widen(np.array([1]), small).dtype == np.int64
    assert widen(np.array([1]), large).dtype == object


def test_an_empty_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="empty interval"):
        Interval(1, 0)


# ---- construction ------------------------------------------------------------------------------
def random_term(builder: ExpressionBuilder, generator: np.random.Generator, depth: int) -> Term:
    """A random expression over the builder's inputs."""
    if depth == 0 or generator.random() < 0.15:
        if generator.random() < 0.3:
            return builder.constant(int(generator.integers(-9, 10)))
        return builder.inputs[int(generator.integers(len(builder.inputs)))]
    a, b = (random_term(builder, generator, depth - 1) for _ in range(2))
    choice = int(generator.integers(14))
    return [
        lambda: a + b,
        lambda: a - b,
        lambda: a * b,
        lambda: -a,
        a.absolute,
        lambda: a.maximum(b),
        lambda: a.minimum(b),
        lambda: a.clamp(-5, 6),
        lambda: a.round(2, "half_even"),
        lambda: a.wrap(4, True),
        lambda: (a < b).select(a, b),
        lambda: a.equals(b).select(3, a),
        lambda: a >> 1,
        lambda: a << 2,
    ][choice]()


@pytest.mark.parametrize("seed", range(40))
def test_inlining_and_folding_keep_the_function(seed: int) -> None:
    """A random expression, rebuilt on the same operands and on constants, has the same values."""
    generator = np.random.default_rng(seed)
    bounds = [Interval(-8, 7), Interval(0, 12, 4)]
    builder = ExpressionBuilder(bounds)
    expression = builder.finish(random_term(builder, generator, 4))
    grids = [np.array(each) for each in zip(*product(*map(codes, bounds)), strict=True)]
    expected = expression.evaluate(*grids)
    assert all(holds(expression.interval, int(each)) for each in expected)
    again = ExpressionBuilder(bounds)
    rebuilt = again.finish(again.inline(expression, again.inputs))
    np.testing.assert_array_equal(rebuilt.evaluate(*grids), expected)
    for row in range(0, len(grids[0]), 7):
        fixed = ExpressionBuilder([])
        operands = [fixed.constant(int(grid[row])) for grid in grids]
        assert fixed.inline(expression, operands).interval == Interval.constant(int(expected[row]))


def test_equal_nodes_are_shared_and_unused_ones_left_out() -> None:
    builder = ExpressionBuilder([Interval(0, 7), Interval(0, 7)])
    a, b = builder.inputs
    assert (a + b).index == (b + a).index
    _ = a * b
    expression = builder.finish((a + b) + 0)
    assert [node.op for node in expression.nodes] == ["input", "input", "add"]
    assert builder.finish(a.clamp(0, 7)).nodes[expression.result - 2].op == "input"


def test_tables_must_cover_and_are_trimmed() -> None:
    builder = ExpressionBuilder([Interval(2, 4)])
    (a,) = builder.inputs
    with pytest.raises(ValueError, match="does not cover"):
        a.lookup(3, [1, 2])
    expression = builder.finish(a.lookup(0, [0, 1, 4, 9, 16, 25]))
    assert expression.nodes[-1].attributes == (2, (4, 9, 16))
    assert expression.evaluate(np.array([2, 3, 4])).tolist() == [4, 9, 16]
    assert "<" not in str(expression)


def test_evaluation_is_exact_beyond_int64() -> None:
    builder = ExpressionBuilder([Interval(-(2**70), 2**70)])
    (a,) = builder.inputs
    expression = builder.finish((a * a).round(3, "half_up"))
    value = np.array([2**70 - 1], dtype=object)
    assert int(expression.evaluate(value)[0]) == ((2**70 - 1) ** 2 + 4) >> 3


def test_wide_expressions_on_small_numbers_equal_those_on_large_ones() -> None:
    """Where an interval is too wide for int64, numbers that fit are computed in it, all others in Python integers."""
    builder = ExpressionBuilder([Interval(-(1 << 40), 1 << 40), Interval(0, 60)])
    value, amount = builder.inputs
    moved = value << amount
    shifted = moved.round(50, "half_even") + moved.absolute().leading_zeros(101)
    expression = builder.finish((moved < 0).select(-shifted, shifted).maximum(-(1 << 80)))
    generator = np.random.default_rng(3)
    values = np.concatenate([generator.integers(-1000, 1000, 50), generator.integers(-(1 << 40), 1 << 40, 50)])
    amounts = np.concatenate([generator.integers(0, 40, 50), generator.integers(0, 61, 50)])
    together = expression.evaluate(values, amounts)
    small = expression.evaluate(values[:50], amounts[:50])
    assert small.dtype == np.int64
    np.testing.assert_array_equal(together[:50].astype(np.int64), small)
    for row, (number, shift) in enumerate(zip(values.tolist(), amounts.tolist(), strict=True)):
        exact = Fraction(number << shift, 1 << 50)
        expected = round(exact) + 101 - (abs(number) << shift).bit_length()
        assert together[row] == max(-expected if number < 0 else expected, -(1 << 80))


def test_leading_zeros_of_every_length() -> None:
    builder = ExpressionBuilder([Interval(0, (1 << 62) - 1)])
    expression = builder.finish(builder.inputs[0].leading_zeros(62))
    numbers = [0, *((1 << bit) + extra for bit in range(62) for extra in (-1, 0, 1) if bit < 61 or extra < 0)]
    found = expression.evaluate(np.asarray(numbers, dtype=np.int64))
    assert found.tolist() == [62 - number.bit_length() for number in numbers]


@pytest.mark.parametrize("bits", [(8, 8), (26, 24), (33, 28), (37, 33), (60, 12), (70, 65)])
def test_products_are_exact_at_any_width(bits: tuple[int, int]) -> None:
    draw = random.Random(sum(bits))

    def drawn(size: int) -> np.ndarray:
        low, high = -(1 << size), (1 << size) - 1
        return np.array(
            [[draw.choice([low, high, draw.randint(low, high)]) for _ in range(32)] for _ in range(5)], object
        )

    left, right = (drawn(size) for size in bits)
    first, second = (
        each.astype(np.int64) if size < 63 else each for each, size in zip((left, right), bits, strict=True)
    )
    found = exact_einsum("...k,nk->...n", first, second)
    assert (found.astype(object) == left @ right.T).all()
