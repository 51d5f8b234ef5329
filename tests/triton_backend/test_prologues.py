"""Maps in front of products: computed while the product reads its operand, where that costs less."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gatewright.backends.triton import clusters, contractions, prologues
from gatewright.backends.triton.prologues import costs_less
from gatewright.ir.builder import Builder
from gatewright.ir.expressions import Expression, ExpressionBuilder, Term
from gatewright.ir.formats import Exact
from gatewright.ir.graph import Graph
from gatewright.ir.intervals import Interval
from gatewright.ir.ops.contract import Contract
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.slice import Slice
from gatewright.ir.ops.window import Window
from gatewright.ir.types import Type, Value
from gatewright.kernels.device import LAUNCHES
from tests.conformance.cases import inputs_of
from tests.triton_backend.checks import check_program

# The map's shape, the views behind it, the equation, and the constant's shape: every kind of product and of view.
LAYOUTS = {
    "dense": ((37,), [], "k, n k -> n", (11, 37)),
    "rows": ((3, 64), [], "r k, n k -> r n", (9, 64)),
    "permuted": ((3, 4, 5), [Permute((1, 0, 2))], "b a c, n c a -> n b", (6, 5, 3)),
    "flattened": ((3, 4, 5), ["reshape"], "k, n k -> n", (7, 60)),
    "cut": ((4, 21), [Slice(1, 2, 20, 3)], "r k, n k -> r n", (5, 6)),
    "window": ((8, 7, 3), [Window((3, 2), (2, 1), ((0, 0), (0, 0)), (1, 2))], "y x i j c, n i j c -> n y x",
               (5, 3, 2, 3)),
    "patches": ((6, 6, 2), [Window((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))], "y x i j c, n i j c -> y x n",
                (5, 2, 2, 2)),
    "depthwise": ((9, 4), [Window((3,), (1,), ((0, 0),), (1,))], "p k c, c k -> p c", (4, 3)),
    "long sum": ((40, 4), [], "k c, c k -> c", (4, 40)),
}  # fmt: skip


def short(x: Term, y: Term) -> Term:
    """A few operations."""
    return (x + y).round(2, "half_even").clamp(-128, 127)


def unsigned(x: Term, y: Term) -> Term:
    """Codes that int8 holds with an offset alone: 0 is not what a masked lane may have."""
    return (x - y).absolute().minimum(250) + 3


def looked_up(x: Term, y: Term) -> Term:
    """With a table."""
    entries = np.random.default_rng(3).integers(-100, 100, size=64).tolist()
    return (x.maximum(y) >> 2).clamp(-32, 31).lookup(-32, entries)


def wide(x: Term, y: Term) -> Term:
    """Over int64."""
    return (x * (1 << 40) + y).round(41, "half_up").clamp(-100, 100)


FUNCTIONS = {each.__name__: each for each in (short, unsigned, looked_up, wide)}


def prologue_graph(layout: str, function: str, seed: int = 0, flipped: bool = False) -> Graph:
    """A map of two operands, of which one may be broadcast or constant; views; a product; a map behind it."""
    generator = np.random.default_rng(seed)
    shape, views, equation, right = LAYOUTS[layout]
    builder = Builder("prologue")
    format = Exact(2)
    x = builder.input("x", Type(shape, format, Interval(-500, 700)))
    # The second operand: of every broadcast shape, a stream or a constant.
    cut = tuple(size if generator.random() < 0.6 else 1 for size in shape)[int(generator.integers(len(shape))) :]
    if generator.random() < 0.5:
        y: Value = builder.input("y", Type(cut, format, Interval(-200, 300)))
    else:
        y = builder.integers(generator.integers(-200, 300, size=cut), format, "y")
    value = builder.map(FUNCTIONS[function], x, y, format=format)
    for view in views:
        value = builder.reshape(value, (int(np.prod(shape)),)) if view == "reshape" else builder.add(view, value)
    low = 0 if seed % 2 else -128  # unsigned ones need an offset, which counts what masked lanes hold
    weights = builder.integers(generator.integers(low, low + 256, size=right), format, "weights")
    if flipped:
        operands, result = equation.split(" -> ")
        first, second = operands.split(", ")
        total = builder.add(Contract(f"{second}, {first} -> {result}"), weights, value)
    else:
        total = builder.contract(equation, value, weights)
    if generator.random() < 0.3:
        return builder.finish([total], ["total"])
    bias = builder.integers(generator.integers(-500, 500, size=total.shape[-1:]), format, "bias")
    result = builder.map(lambda s, b: (s + b).round(5, "half_even").clamp(-300, 500), total, bias, format=format)
    return builder.finish([result], ["result"])


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_prologues(layout: str, function: str, where: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """One kernel where the rule is made to say so, exact for every kind of operand."""
    monkeypatch.setattr(prologues, "costs_less", lambda *_: True)
    monkeypatch.setattr(prologues, "LONGEST_TEXT", 1 << 20)
    for seed in range(3):
        graph = prologue_graph(layout, function, seed, flipped=seed == 2)
        LAUNCHES.clear()
        check_program(graph, inputs_of(graph, 5), where)
        assert len(LAUNCHES) == 1
        assert {kind for kind, _ in LAUNCHES} <= {"printed product", "printed sum"}


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(seed: int, where: torch.device) -> None:
    """As the rule decides."""
    generator = np.random.default_rng(seed + 100)
    layout, function = generator.choice(list(LAYOUTS)), generator.choice(list(FUNCTIONS))
    graph = prologue_graph(str(layout), str(function), seed, bool(generator.integers(2)))
    check_program(graph, inputs_of(graph, 4), where)


def test_both_operands(where: torch.device) -> None:
    """Two streams, each with its own map."""
    builder = Builder("both")
    x = builder.input("x", Type((2, 5, 17), Exact(1), Interval(-500, 500)))
    y = builder.input("y", Type((2, 7, 17), Exact(1), Interval(0, 900)))
    left = builder.map(lambda each: (each >> 2).clamp(-128, 127), x, format=Exact(1))
    right = builder.map(lambda each: each.round(2, "half_up"), y, format=Exact(1))
    graph = builder.finish([builder.contract("h q d, h k d -> h q k", left, right)], ["scores"])
    LAUNCHES.clear()
    check_program(graph, inputs_of(graph, 4), where)
    assert [kind for kind, _ in LAUNCHES] == ["printed product"]


def test_the_librarys_product_has_its_own_map(where: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contractions, "LARGE", 1)
    monkeypatch.setattr(contractions, "DEEP", 1)
    graph = prologue_graph("rows", "short", 1)
    LAUNCHES.clear()
    check_program(graph, inputs_of(graph, 40), where)
    assert {kind for kind, _ in LAUNCHES} >= {"printed map", "int8 matrix product"}


def expression_of(function: str) -> Expression:
    """One of the functions, of operands in 16 bits."""
    builder = ExpressionBuilder([Interval(-500, 700), Interval(-200, 300)])
    return builder.finish(FUNCTIONS[function](*builder.inputs))


def test_the_rule() -> None:
    """Once, everything; again, what is cheap beside a write and a read of int8, 8 operations."""
    for function in FUNCTIONS:
        assert costs_less(expression_of(function), [8, 8], 1)
    builder = ExpressionBuilder([Interval(-128, 127)])
    relu = builder.finish(builder.inputs[0].maximum(0))
    assert costs_less(relu, [1], 9)
    assert not costs_less(relu, [1], 10)
    assert not costs_less(relu, [2], 9)
    assert not costs_less(expression_of("looked_up"), [1, 0], 2)


def test_what_is_read_elsewhere_too_keeps_its_kernel(where: torch.device) -> None:
    builder = Builder("shared")
    x = builder.input("x", Type((3, 16), Exact(1), Interval(-500, 500)))
    value = builder.map(lambda each: (each >> 2).clamp(-128, 127), x, format=Exact(1))
    weights = np.random.default_rng(0).integers(-128, 128, size=(2, 5, 16))
    totals = [builder.contract("r k, n k -> r n", value, builder.integers(each, Exact(0), "w")) for each in weights]
    graph = builder.finish(totals, ["first", "second"])
    assert all(len(group.nodes) == 1 for group in clusters.group_nodes(graph))
    check_program(graph, inputs_of(graph, 4), where)
