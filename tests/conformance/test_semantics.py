"""Every operator's samples in software: intervals hold, golden is exact arithmetic, PyTorch equals golden."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gatewright.backends.torch.emulate import emulate
from gatewright.backends.torch.evaluate import run_real
from gatewright.backends.torch.expressions import from_host, to_host, torch_expression
from gatewright.backends.torch.texts import result_cast
from gatewright.ir.expressions import Expression
from gatewright.ir.formats import CastSpec, Fixed, Overflow, Rounding, ScalarFormat
from gatewright.ir.graph import Graph
from gatewright.ir.intervals import Interval
from gatewright.ir.operator import Operator, operators
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.map import Map
from gatewright.ir.unary import TABLE_BITS
from gatewright.sim import golden
from tests.conformance.cases import Case, all_cases, inputs_of, is_integer_primitive, sampled_operators

SAMPLES = 64
MOST_CODES = 1 << 16
OPERATORS = pytest.mark.parametrize("operator", sampled_operators(), ids=lambda cls: cls.name)


def outside(codes: NDArray, interval: Interval) -> bool:
    """Whether a code lies outside the interval, or between its steps."""
    if codes.size == 0:
        return False
    wide = codes.astype(object)
    if wide.min() < interval.low or wide.max() > interval.high:
        return True
    return bool((wide % interval.step != 0).any()) if interval.step > 1 else False


def check_intervals(graph: Graph, inputs: list[NDArray], label: str) -> None:
    """Every value, and every node of every expression, lies in its interval; every value has its shape."""
    known = dict(zip(graph.inputs, inputs, strict=True))

    def observe(value, codes: NDArray) -> None:
        known[value] = codes
        assert codes.shape[1:] == value.shape, f"{label}: %{value.name} is {codes.shape[1:]}, not {value.shape}"
        assert not outside(codes, value.interval), f"{label}: %{value.name} leaves {value.interval}"

    golden.evaluate(graph, inputs, observe)
    for node in graph.nodes:
        if isinstance(node.op, Map):
            rank = len(node.output.shape) + 1
            operands = [_aligned(known[value], rank) for value in node.inputs]
            check_nodes(node.op.expression, operands, label)


def check_nodes(expression: Expression, operands: list[NDArray], label: str) -> None:
    """Every node's values lie in its interval."""
    for index, node in enumerate(expression.nodes):
        codes = replace(expression, nodes=expression.nodes[: index + 1], result=index).evaluate(*operands)
        assert not outside(codes, node.interval), f"{label}: node {index} {node.op} leaves {node.interval}"


def _aligned(codes: NDArray, rank: int) -> NDArray:
    return codes.reshape(codes.shape[0], *(1,) * (rank - codes.ndim), *codes.shape[1:])


@OPERATORS
def test_intervals_and_shapes_hold(operator: type[Operator]) -> None:
    for case in all_cases(operator):
        check_intervals(case.integers, inputs_of(case.integers, SAMPLES), case.label)


# ---- golden against exact arithmetic -----------------------------------------------------------
@pytest.mark.parametrize(
    "operator", [cls for cls in sampled_operators() if not is_integer_primitive(cls)], ids=lambda cls: cls.name
)
def test_golden_is_the_real_function(operator: type[Operator]) -> None:
    """The operator's own PyTorch text in float64 on the decoded inputs; every sample is exact in 53 bits."""
    for case in all_cases(operator):
        assert case.quantised is not None
        codes = inputs_of(case.integers, SAMPLES)
        reals = [
            torch.from_numpy(_format(value).decode(each))
            for value, each in zip(case.integers.inputs, codes, strict=True)
        ]
        (result,) = golden.evaluate(case.integers, codes)
        (value,) = case.integers.outputs
        found = _format(value).decode(result)
        (expected,) = run_real(case.quantised, reals)
        # Outside its domain a function gives zero.
        compare(case, found, np.nan_to_num(expected.numpy(), nan=0.0), _format(value))


def compare(case: Case, found: NDArray, expected: NDArray, format: ScalarFormat) -> None:
    """Equal; where pieces stand in for a table, within one unit in the last place."""
    pieces = result_cast(case.sample.op) is not None and _widest(case.integers) > TABLE_BITS
    if pieces and isinstance(format, Fixed):
        bound = 2.0**-format.fraction_bits
        assert float(np.abs(found - expected).max()) <= bound, f"{case.label}: more than one unit in the last place"
    else:
        np.testing.assert_array_equal(found, expected, err_msg=case.label)


def _widest(graph: Graph) -> int:
    return max(value.width for value in graph.inputs)


def _format(value) -> ScalarFormat:
    assert isinstance(value.format, ScalarFormat)
    return value.format


def rational_cast(number: Fraction, spec: CastSpec) -> int:
    """The code of a number in a fixed-point format, straight from the definitions of the modes."""
    format = spec.format
    assert isinstance(format, Fixed)
    scaled = number * Fraction(2) ** format.fraction_bits
    down, up = math.floor(scaled), math.ceil(scaled)
    toward_zero, away = (down, up) if scaled >= 0 else (up, down)
    is_tie = scaled - down == Fraction(1, 2)
    nearest = down if scaled - down < Fraction(1, 2) else up
    code = {
        Rounding.FLOOR: down,
        Rounding.TOWARD_ZERO: toward_zero,
        Rounding.HALF_UP: up if is_tie else nearest,
        Rounding.HALF_DOWN: down if is_tie else nearest,
        Rounding.HALF_ZERO: toward_zero if is_tie else nearest,
        Rounding.HALF_AWAY: away if is_tie else nearest,
        Rounding.HALF_EVEN: (down if down % 2 == 0 else up) if is_tie else nearest,
    }[spec.rounding]
    low, high = format.code_interval()
    match spec.overflow:
        case Overflow.SATURATE:
            return min(max(code, low), high)
        case Overflow.SATURATE_SYMMETRIC:
            return min(max(code, -high if format.signed else 0), high)
        case Overflow.SATURATE_ZERO:
            return code if low <= code <= high else 0
        case _:
            return (code - low) % (high - low + 1) + low


def test_casts_equal_rational_arithmetic() -> None:
    checked = 0
    for case in all_cases(Cast):
        spec = case.sample.op.spec  # type: ignore[attr-defined]
        (value,) = case.integers.inputs
        if not isinstance(spec.format, Fixed) or not isinstance(value.format, Fixed):
            continue
        every = np.arange(value.interval.low, value.interval.high + 1)
        padded = np.resize(every, (-(-every.size // value.size), *value.shape))
        (found,) = golden.evaluate(case.integers, [padded])
        for code, result in zip(padded.ravel(), found.ravel(), strict=True):
            number = Fraction(int(code)) / Fraction(2) ** value.format.fraction_bits
            assert int(result) == rational_cast(number, spec), f"{case.label}: {number} in {spec}"
        checked += 1
    assert checked >= 28


# ---- PyTorch against golden --------------------------------------------------------------------
@OPERATORS
def test_emulation_equals_golden(operator: type[Operator]) -> None:
    for case in all_cases(operator):
        codes = inputs_of(case.integers, SAMPLES, seed=13)
        expected = golden.evaluate(case.integers, codes)
        found = emulate(case.integers, [from_host(each, torch.device("cpu")) for each in codes])
        for tensor, array in zip(found, expected, strict=True):
            np.testing.assert_array_equal(to_host(tensor), array, err_msg=case.label)


@OPERATORS
def test_printed_expressions_equal_golden_on_every_code(operator: type[Operator]) -> None:
    """All combinations of the operands' codes where they are few."""
    for case in all_cases(operator):
        for node in case.integers.nodes:
            if not isinstance(node.op, Map):
                continue
            ranges = [range(value.interval.low, value.interval.high + 1) for value in node.inputs]
            if math.prod(len(each) for each in ranges) > MOST_CODES:
                continue
            grids = [each.ravel() for each in np.meshgrid(*ranges, indexing="ij")]
            expected = node.op.expression.evaluate(*grids)
            check_nodes(node.op.expression, grids, case.label)
            found = torch_expression(node.op.expression)(*(torch.from_numpy(each) for each in grids))
            np.testing.assert_array_equal(to_host(found), expected, err_msg=case.label)


# ---- nothing is left out -----------------------------------------------------------------------
def test_every_operator_with_a_meaning_has_samples() -> None:
    """Without samples are only rules of the import, which never are in a graph, constants, and what folds them."""
    without = {
        name
        for name, cls in operators().items()
        if not any(True for _ in cls.samples()) and cls.decompose is not Operator.decompose
    }
    assert without == set()
    primitives = {name for name, cls in operators().items() if cls.is_primitive}
    assert primitives - {cls.name for cls in sampled_operators()} == {"constant"}
