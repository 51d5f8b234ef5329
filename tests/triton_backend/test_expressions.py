"""Every scalar operation printed as Triton equals the exact evaluation, in int32 and in int64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gatewright.backends.triton.access import Held
from gatewright.backends.triton.expressions import RULES, is_narrow, print_expression, register_type, storage_type
from gatewright.backends.triton.maps import MapKernel
from gatewright.diagnostics import GatewrightError
from gatewright.ir.expressions import Expression, ExpressionBuilder, Term
from gatewright.ir.formats import DETERMINISTIC_ROUNDINGS
from gatewright.ir.intervals import Interval
from gatewright.ir.scalar_ops import SCALAR_OPS

WIDTHS = (1, 2, 8, 15, 29, 30, 31, 32, 45, 61, 62)


def operands(intervals: list[Interval], generator: np.random.Generator) -> list[np.ndarray]:
    """Corners, powers of two and their neighbours, and random codes, crossed."""
    found: list[np.ndarray] = []
    for interval in intervals:
        span = interval.high - interval.low
        corners = [interval.low, interval.high, 0, 1, -1, interval.low + 1, interval.high - 1, interval.high // 2]
        drawn = [interval.low + int(generator.random() * span) for _ in range(30)]
        powers = [sign * (1 << bit) + extra for bit in range(62) for sign in (1, -1) for extra in (-1, 0, 1)]
        codes = [code for code in corners + drawn + powers if interval.low <= code <= interval.high]
        found.append(np.asarray(codes, dtype=np.int64))
    if len(found) == 1:
        return found
    grids = np.meshgrid(*found, indexing="ij")
    chosen = generator.permutation(grids[0].size)[:400]
    return [grid.reshape(-1)[chosen] for grid in grids]


def input_intervals(expression: Expression, count: int) -> list[Interval]:
    """The interval of every operand; one that the expression does not have gets that of zero."""
    found = [Interval(0, 0)] * count
    for node in expression.nodes:
        if node.op == "input":
            found[int(node.attributes[0])] = node.interval
    return found


def check(expression: Expression, arrays: list[np.ndarray], where: torch.device) -> None:
    """The kernel's values are the exact ones; an expression beyond 62 bits is refused."""
    if not is_narrow(expression):
        with pytest.raises(GatewrightError) as caught:
            print_expression(expression, [f"x{index}" for index in range(expression.inputs)], "inside")
        assert caught.value.code == "GW0520"
        return
    intervals = input_intervals(expression, len(arrays))
    held = [
        Held((torch.from_numpy(array)[:, None].to(storage_type(interval)).to(where),))
        for array, interval in zip(arrays, intervals, strict=True)
    ]
    kernel = MapKernel("value", expression)
    found = kernel(held, len(arrays[0]), (1,)).cpu().numpy()[:, 0]
    expected = expression.evaluate(*arrays)
    assert (found.astype(object) == expected.astype(object)).all(), next(iter(kernel.sources.values())).text


def bounds_of(width: int, signed: bool) -> Interval:
    low = -(1 << (width - 1)) if signed else 0
    return Interval(low, low + (1 << width) - 1)


def test_every_scalar_operation_has_a_rule() -> None:
    assert {*RULES, "table"} == set(SCALAR_OPS)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("op", ["add", "sub", "mul", "max", "min", "eq", "lt", "le", "and", "or", "xor"])
def test_binary(op: str, width: int, where: torch.device) -> None:
    generator = np.random.default_rng(width)
    for left_signed, right_signed in ((True, True), (True, False)):
        bounds = [bounds_of(width, left_signed), bounds_of(max(width - 3, 1), right_signed)]
        builder = ExpressionBuilder(bounds)
        check(builder.finish(builder.apply(op, *builder.inputs)), operands(bounds, generator), where)
    for constant, swapped in ((bounds[1].high, False), (bounds[0].low, True)):
        builder = ExpressionBuilder(bounds[:1])
        terms: list[Term | int] = [builder.inputs[0], constant]
        term = builder.apply(op, *reversed(terms) if swapped else terms)
        check(builder.finish(term), operands(bounds[:1], generator), where)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("signed", [True, False])
def test_unary(width: int, signed: bool, where: torch.device) -> None:
    generator = np.random.default_rng(width)
    cases: list[tuple[str, tuple]] = [("neg", ()), ("abs", ())]
    cases += [(op, (shift,)) for op in ("shl", "shr") for shift in (1, 20, 40, 70)]
    cases += [("wrap", (bits, sign)) for bits in (1, 7, 30, 40, 61, 70) for sign in (True, False)]
    cases += [("round", (shift, str(mode))) for shift in (1, 5, 30, 31, 61) for mode in DETERMINISTIC_ROUNDINGS]
    cases += [] if signed else [("lzc", (width + 2,))]
    for op, attributes in cases:
        builder = ExpressionBuilder([bounds_of(width, signed)])
        expression = builder.finish(builder.apply(op, builder.inputs[0], attributes=attributes))
        check(expression, operands([expression.nodes[0].interval], generator), where)


@pytest.mark.parametrize("width", [1, 8, 25, 40, 61])
def test_variable_shifts_and_select(width: int, where: torch.device) -> None:
    generator = np.random.default_rng(width)
    value_bounds, condition_bounds = bounds_of(width, True), Interval(-1, 1)
    for amount in (Interval(0, 9), Interval(3, 40), Interval(3, 70)):
        for build in (
            lambda value, shift: value >> shift,
            lambda value, shift: value << shift,
            lambda value, shift: value.builder.constant(5) << shift,
            lambda value, shift: value.builder.constant(-77) >> shift,
            lambda value, shift: value.absolute().shift_left_within(shift, 12),
        ):
            builder = ExpressionBuilder([value_bounds, amount])
            check(builder.finish(build(*builder.inputs)), operands([value_bounds, amount], generator), where)
    for build in (
        lambda value, condition: condition.select(value, 3),
        lambda value, condition: condition.select(-2, value + 1),
        lambda value, condition: condition.select(5_000_000_000, 3),
    ):
        builder = ExpressionBuilder([value_bounds, condition_bounds])
        bounds = [value_bounds, condition_bounds]
        check(builder.finish(build(*builder.inputs)), operands(bounds, generator), where)


@pytest.mark.parametrize("large", [1, 1 << 20, 1 << 45, 1 << 70])
def test_tables(large: int, where: torch.device) -> None:
    builder = ExpressionBuilder([Interval(-20, 35)])
    entries = [(code * code - 7) * large for code in range(-30, 50)]
    expression = builder.finish(builder.inputs[0].lookup(-30, entries) + 1)
    check(expression, [np.arange(-20, 36)], where)


def test_a_constant_expression_takes_the_operands_shape(where: torch.device) -> None:
    builder = ExpressionBuilder([Interval(0, 3)])
    kernel = MapKernel("five", builder.finish(builder.constant(5)))
    zeros = Held((torch.zeros(2, 3, dtype=torch.uint8, device=where),))
    assert kernel([zeros], 2, (3,)).tolist() == [[5] * 3] * 2


def test_types_follow_intervals() -> None:
    assert storage_type(Interval(0, 255)) is torch.uint8
    assert storage_type(Interval(-129, 0)) is torch.int16
    assert storage_type(Interval(0, 1 << 31)) is torch.int64
    assert register_type(Interval(-(1 << 30) + 1, 0)) == "int32"
    assert register_type(Interval(-(1 << 30), 0)) == "int64"
