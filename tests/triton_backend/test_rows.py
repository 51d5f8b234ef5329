"""Reductions along rows with the maps around them: one kernel, whatever the row's length."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gatewright.backends.triton.clusters import group_nodes
from gatewright.backends.triton.program import Program
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.formats import Exact, parse_format
from gatewright.ir.graph import Graph
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.types import Type, Value
from tests.conformance.cases import inputs_of
from tests.triton_backend.checks import check_program


def row_input(builder: Builder, shape: tuple[int, ...], format: str = "fixed<8,4>") -> Value:
    parsed = parse_format(format)
    return builder.input("x", Type(shape, parsed, interval_of_codes(parsed)))  # type: ignore[arg-type]


def softmax_graph(shape: tuple[int, ...]) -> Graph:
    """A table of exponentials below the maximum, divided by a table of their sum's reciprocal."""
    builder = Builder("softmax")
    x = builder.map(lambda v: v.round(1, "half_even"), row_input(builder, shape), frac=3)
    last = (len(shape) - 1,)
    peak = builder.add(Reduce("max", last), x)
    powers = [max(1 << (16 + each // 8), 1) if each > -128 else 0 for each in range(-128, 1)]
    scaled = builder.map(lambda v, m: (v - m).minimum(0).lookup(-128, [p >> 10 for p in powers]), x, peak, frac=6)
    total = builder.add(Reduce("sum", last), scaled)

    def divide(value: object, sum: object) -> object:
        top = sum.leading_zeros(20)  # type: ignore[attr-defined]
        return (value << top).round(12, "half_up")  # type: ignore[operator]

    result = builder.map(divide, scaled, total, frac=8)  # type: ignore[arg-type]
    return builder.finish([result, total], ["result", "total"])


@pytest.mark.parametrize("shape", [(5,), (3, 16), (2, 3, 7), (1000,), (2, 2048), (1, 4097)], ids=str)
def test_a_softmax_is_one_kernel(shape: tuple[int, ...], where: torch.device) -> None:
    graph = softmax_graph(shape)
    program = check_program(graph, inputs_of(graph, 5), where)
    assert len(program.kernels) == 1


def test_reductions_of_the_same_rows_are_one_kernel(where: torch.device) -> None:
    """The rows are the graph's own input, or another kernel's result."""
    for first in (False, True):
        builder = Builder("spread")
        x = row_input(builder, (3, 24))
        if first:
            format = parse_format("fixed<8,4>")
            weights = np.random.default_rng(2).integers(-128, 128, size=(24, 24))
            x = builder.contract("r k, n k -> r n", x, builder.integers(weights, format, "weights"))
        peak, total = builder.add(Reduce("max", (1,)), x), builder.add(Reduce("sum", (1,)), x)
        low = builder.add(Reduce("min", (1,)), x)
        result = builder.map(lambda v, m, s, n: v + v - m + s.round(5, "half_even") - n, x, peak, total, low, frac=4)
        graph = builder.finish([result], ["result"])
        program = check_program(graph, inputs_of(graph, 5), where)
        assert len(program.kernels) == 1 + first


@pytest.mark.parametrize("kind", ["sum", "max", "min", "or"])
@pytest.mark.parametrize("format", ["ufixed<8,4>", "ufixed<30,4>", "ufixed<44,4>"])
def test_reductions(kind: str, format: str, where: torch.device) -> None:
    for shape, axes in (((6, 33), (1,)), ((6, 33), (0,)), ((3, 4, 5), (0, 2)), ((3, 4, 5), (1, 2))):
        builder = Builder("reduction")
        graph = builder.finish([builder.add(Reduce(kind, axes), row_input(builder, shape, format))], ["result"])
        check_program(graph, inputs_of(graph, 5), where)


def test_a_table_of_a_rows_own_value(where: torch.device) -> None:
    builder = Builder("table")
    x = row_input(builder, (4, 9))
    peak = builder.add(Reduce("max", (1,)), x)
    table = [each * each for each in range(-128, 128)]
    result = builder.map(lambda v, m: v + m.lookup(-128, table), x, peak, frac=4)
    graph = builder.finish([result, peak], ["result", "peak"])
    program = check_program(graph, inputs_of(graph, 6), where)
    assert len(program.kernels) == 1


def test_no_group_waits_for_itself() -> None:
    """A map that reads a row's maximum directly and through another reduction cannot join before the latter."""
    builder = Builder("diamond")
    x = row_input(builder, (6, 6))
    peak = builder.add(Reduce("max", (1,)), x)
    centred = builder.map(lambda v, m: v - m, x, peak, frac=4)
    across = builder.add(Reduce("sum", (0,)), centred)
    result = builder.map(lambda v, s, m: v + s - m, centred, across, peak, frac=4)
    graph = builder.finish([result], ["result"])
    groups = group_nodes(graph)
    seen: set[object] = set()
    for each in groups:
        assert each.needs <= seen
        seen.add(each)
    check_program(graph, inputs_of(graph, 5), torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    assert len(Program(graph).kernels) == 2


def test_exact_results_keep_their_fraction() -> None:
    builder = Builder("fraction")
    total = builder.add(Reduce("sum", (0,)), row_input(builder, (8,)))
    assert total.format == Exact(4)
