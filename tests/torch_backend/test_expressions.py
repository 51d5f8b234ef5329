"""Every scalar operation printed as PyTorch equals the exact evaluation, at any width."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gatewright.backends.torch.expressions import RULES, bit_length, from_host, to_host, torch_expression
from gatewright.ir.expressions import Expression, ExpressionBuilder, Term
from gatewright.ir.formats import DETERMINISTIC_ROUNDINGS
from gatewright.ir.intervals import Interval
from gatewright.ir.scalar_ops import SCALAR_OPS

WIDTHS = (1, 2, 7, 8, 23, 24, 31, 32, 52, 53, 54, 60, 61, 62, 63, 64, 90)


def operands(intervals: list[Interval], generator: np.random.Generator) -> list[np.ndarray]:
    """All pairs of corners, and random codes."""
    found: list[np.ndarray] = []
    for interval in intervals:
        span = interval.high - interval.low
        corners = [
            interval.low,
            interval.high,
            0,
            1,
            -1,
            interval.low + 1,
            interval.high - 1,
            interval.high // 2,
        ]
        drawn = [interval.low + int(generator.random() * span) for _ in range(30)]
        powers = [sign * (1 << bit) + extra for bit in range(0, 90, 3) for sign in (1, -1) for extra in (-1, 0, 1)]
        codes = [code for code in corners + drawn + powers if interval.low <= code <= interval.high]
        found.append(np.asarray(codes, dtype=object))
    if len(found) == 1:
        return found
    grids = np.meshgrid(*found, indexing="ij")
    chosen = generator.permutation(grids[0].size)[:400]
    return [grid.reshape(-1)[chosen] for grid in grids]


def check(expression: Expression, arrays: list[np.ndarray]) -> None:
    """The printed expression gives the exact values, on int64 tensors wherever the operands fit them."""
    expected = expression.evaluate(*arrays)
    codes = [from_host(array, torch.device("cpu")) for array in arrays]
    found = to_host(torch_expression(expression)(*codes))
    assert found.shape == expected.shape
    assert (found.astype(object) == expected.astype(object)).all(), torch_expression(expression).code


def unary(op: str, width: int, signed: bool, attributes: tuple = ()) -> Expression:
    low = -(1 << (width - 1)) if signed else 0
    builder = ExpressionBuilder([Interval(low, low + (1 << width) - 1)])
    return builder.finish(builder.apply(op, builder.inputs[0], attributes=attributes))


def test_every_scalar_operation_has_a_rule() -> None:
    assert {*RULES, "table"} == set(SCALAR_OPS)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("op", ["add", "sub", "mul", "max", "min", "eq", "lt", "le", "and", "or", "xor"])
def test_binary(op: str, width: int) -> None:
    generator = np.random.default_rng(width)
    for left_signed, right_signed in ((True, True), (True, False), (False, False)):
        bounds = []
        for signed, bits in ((left_signed, width), (right_signed, max(width - 3, 1))):
            low = -(1 << (bits - 1)) if signed else 0
            bounds.append(Interval(low, low + (1 << bits) - 1))
        builder = ExpressionBuilder(bounds)
        check(builder.finish(builder.apply(op, *builder.inputs)), operands(bounds, generator))
        for constant in (bounds[1].low, bounds[1].high, 0, 1):
            for swapped in (False, True):
                builder = ExpressionBuilder(bounds[:1])
                terms: list[Term | int] = [builder.inputs[0], constant]
                term = builder.apply(op, *reversed(terms) if swapped else terms)
                check(builder.finish(term), operands(bounds[:1], generator))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("signed", [True, False])
def test_unary(width: int, signed: bool) -> None:
    generator = np.random.default_rng(width)
    cases: list[tuple[str, tuple]] = [("neg", ()), ("abs", ())]
    cases += [(op, (shift,)) for op in ("shl", "shr") for shift in (0, 1, 5, 40, 64)]
    cases += [("wrap", (bits, sign)) for bits in (1, 4, 40, 62, 70) for sign in (True, False)]
    cases += [("round", (shift, str(mode))) for shift in (1, 2, 5, 30, 61, 65) for mode in DETERMINISTIC_ROUNDINGS]
    cases += [] if signed else [("lzc", (width + 2,))]
    for op, attributes in cases:
        expression = unary(op, width, signed, attributes)
        check(expression, operands([expression.nodes[0].interval], generator))


@pytest.mark.parametrize("width", [1, 8, 40, 61, 70])
def test_variable_shifts_and_select(width: int) -> None:
    generator = np.random.default_rng(width)
    bounds = [Interval(-(1 << (width - 1)), (1 << (width - 1)) - 1), Interval(0, 9), Interval(-1, 1)]
    for amount in (Interval(0, 9), Interval(3, 70)):
        builder = ExpressionBuilder([bounds[0], amount])
        value, shift = builder.inputs
        check(builder.finish(value >> shift), operands([bounds[0], amount], generator))
        check(builder.finish(value << shift), operands([bounds[0], amount], generator))
        check(builder.finish(builder.constant(5) << shift), operands([bounds[0], amount], generator))
    builder = ExpressionBuilder([bounds[0], bounds[2]])
    value, condition = builder.inputs
    check(builder.finish(condition.select(value, 3)), operands([bounds[0], bounds[2]], generator))
    check(builder.finish(condition.select(-2, value + 1)), operands([bounds[0], bounds[2]], generator))


@pytest.mark.parametrize("large", [1, 1 << 70])
def test_table(large: int) -> None:
    interval = Interval(-20, 35)
    builder = ExpressionBuilder([interval])
    entries = [(code * code - 7) * large for code in range(-30, 50)]
    expression = builder.finish(builder.inputs[0].lookup(-30, entries) + 1)
    check(expression, [np.arange(-20, 36)])


def test_bit_length_next_to_powers_of_two() -> None:
    codes = sorted({max((1 << bit) + extra, 0) for bit in range(62) for extra in (-1, 0, 1)})
    found = bit_length(torch.tensor(codes))
    assert found.tolist() == [code.bit_length() for code in codes]


def test_a_constant_expression_takes_the_operands_shape() -> None:
    builder = ExpressionBuilder([Interval(0, 3)])
    expression = builder.finish(builder.constant(5))
    assert torch_expression(expression)(torch.zeros(2, 3, dtype=torch.int64)).tolist() == [[5] * 3] * 2
