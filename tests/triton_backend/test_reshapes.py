"""Maps behind views of a product: joined to it where they can be computed before the views."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gatewright.ir.builder import Builder
from gatewright.ir.formats import Exact
from gatewright.ir.graph import Graph
from gatewright.ir.intervals import Interval
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.types import Type
from gatewright.kernels.device import LAUNCHES
from tests.conformance.cases import inputs_of
from tests.triton_backend.checks import check_program

# Views of the product's result [3, 4, 6], and the shape of the map's constant.
VIEWS = {
    "flattened": ([Reshape((72,))], (72,)),
    "channels first, flattened": ([Permute((2, 0, 1)), Reshape((72,))], (72,)),
    "heads": ([Reshape((3, 4, 2, 3)), Permute((2, 0, 1, 3))], (2, 3, 4, 3)),
    "merged": ([Reshape((12, 6))], (1, 1)),
    "back and forth": ([Reshape((12, 6)), Permute((1, 0)), Reshape((3, 24))], (3, 24)),
    "a column apart": ([Reshape((4, 18))], (18,)),
    "a row apart": ([Permute((2, 1, 0)), Reshape((24, 3))], (24, 1)),
}
APART = ("a column apart", "a row apart")


def viewed_graph(views: str, first: bool, shared: bool = False, widens: bool = False) -> Graph:
    """A product, perhaps a map, views, a map with a constant; ``shared``: the views' result is an output too."""
    generator = np.random.default_rng(8)
    builder = Builder("views")
    x = builder.input("x", Type((3, 4, 16), Exact(2), Interval(-128, 127)))
    weights = builder.integers(generator.integers(-128, 128, size=(6, 16)), Exact(3), "weights")
    value = builder.contract("a b k, n k -> a b n", x, weights)
    if first:
        bias = builder.integers(generator.integers(-90, 90, size=6), Exact(5), "bias")
        value = builder.map(lambda s, b: (s + b).maximum(0), value, bias, format=Exact(5))
    moves, shape = VIEWS[views]
    for each in moves:
        value = builder.add(each, value)
    constant = builder.integers(generator.integers(-900, 900, size=shape), Exact(5), "constant")
    if widens:
        result = builder.map(lambda s, c: (s << 20) + c, value, constant, format=Exact(25))
    else:
        result = builder.map(lambda s, c: (s - c).round(6, "half_even").clamp(-128, 127), value, constant,
                             format=Exact(-1))  # fmt: skip
    return builder.finish([result, value] if shared else [result], ["result", "view"][: 1 + shared])


@pytest.mark.parametrize("first", [False, True], ids=["product", "product and map"])
@pytest.mark.parametrize("views", VIEWS)
def test_maps_behind_views(views: str, first: bool, where: torch.device) -> None:
    """One kernel, but for constants that are broadcast along an axis that the product does not have."""
    graph = viewed_graph(views, first)
    LAUNCHES.clear()
    check_program(graph, inputs_of(graph, 5), where)
    kinds = [kind for kind, _ in LAUNCHES]
    assert kinds == (["printed product", "printed map"] if views in APART else ["printed product"])


@pytest.mark.parametrize("views", VIEWS)
def test_views_that_others_read(views: str, where: torch.device) -> None:
    graph = viewed_graph(views, True, shared=True)
    LAUNCHES.clear()
    check_program(graph, inputs_of(graph, 5), where)
    assert {kind for kind, _ in LAUNCHES} == {"printed product", "printed map"}


def test_copies_do_not_widen(where: torch.device) -> None:
    """Where the views copy, they copy the narrower codes."""
    for views, kinds in (("channels first, flattened", {"printed product", "printed map"}),
                         ("flattened", {"printed product"})):  # fmt: skip
        graph = viewed_graph(views, True, widens=True)
        LAUNCHES.clear()
        check_program(graph, inputs_of(graph, 5), where)
        assert {kind for kind, _ in LAUNCHES} == kinds
