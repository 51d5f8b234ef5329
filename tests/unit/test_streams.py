"""Builder, folding, lowering and the token simulation."""

from __future__ import annotations

import numpy as np
import pytest

from gatewright.diagnostics import GatewrightError, Location
from gatewright.ir.builder import Builder
from gatewright.ir.formats import Fixed
from gatewright.ir.graph import Graph
from gatewright.ir.intervals import Interval
from gatewright.ir.ops.concat import Concat
from gatewright.ir.ops.contract import Contract
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.pad import Pad
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.window import Window
from gatewright.ir.streams.cells import Fifo, Fork
from gatewright.ir.streams.identifiers import is_reserved
from gatewright.ir.streams.network import Layout
from gatewright.ir.targets import Target
from gatewright.ir.transforms.fill_concats import fill_concats
from gatewright.ir.transforms.fold_constants import fold_constants
from gatewright.ir.transforms.fuse_maps import fuse_maps
from gatewright.ir.transforms.normalise import normalise
from gatewright.ir.transforms.order_contractions import order_contractions
from gatewright.ir.types import Type, Value
from gatewright.schedule import schedule
from gatewright.sim import golden
from gatewright.sim.tokens import simulate_tokens
from tests.conformance.cases import inputs_of

BYTE = Interval(-128, 127)


def stream(builder: Builder, name: str, *shape: int) -> Value:
    return builder.input(name, Type(shape, Fixed(8, 4), BYTE))


def same_function(first: Graph, second: Graph) -> None:
    """Equal outputs on corners and random codes."""
    codes = inputs_of(first, 20)
    for a, b in zip(golden.evaluate(first, codes), golden.evaluate(second, codes), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- builder -----------------------------------------------------------------------------------
def test_builder_shares_names_and_drops() -> None:
    builder = Builder("g")
    x = stream(builder, "x", 4)
    with builder.at(Location("layer", "m.py", 3), "layer!"):
        first = builder.map(lambda a: a + 1, x, frac=4)
        assert builder.map(lambda a: a + 1, x, frac=4) is first
        second = builder.map(lambda a: a + 2, x, frac=4)
        builder.map(lambda a: a + 3, x, frac=4)
    assert (first.name, second.name) == ("layer_", "layer__2")
    assert first.location.module == "layer"
    assert builder.map(lambda a: a, x, format=x.format) is x
    graph = builder.finish([second])
    assert [node.output for node in graph.nodes] == [second]
    assert graph.output_names == ("layer__2",)
    assert builder.is_stream(second)
    assert not builder.is_stream(builder.integers(3, Fixed(4, 0)))


# ---- passes on integers ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("equation", "left", "right"),
    [
        ("k n, m k -> m n", (3, 2), (4, 3)),
        ("a k b, n k -> b n a", (2, 3, 4), (5, 3)),
        ("k g, n g k -> n g", (3, 2), (4, 2, 3)),
        ("j r k, n j k -> r n", (2, 3, 4), (5, 2, 4)),
        ("r k, n k -> r n", (3, 4), (2, 4)),
    ],
)
def test_contractions_in_any_order(equation: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    generator = np.random.default_rng(1)
    operands, result = equation.split(" -> ")
    first, second = operands.split(", ")
    for swapped in (False, True):
        builder = Builder("g")
        x = stream(builder, "x", *left)
        weights = builder.integers(generator.integers(-8, 8, right), Fixed(4, 2))
        text = f"{second}, {first} -> {result}" if swapped else equation
        graph = builder.finish([builder.add(Contract(text), *((weights, x) if swapped else (x, weights)))])
        ordered = order_contractions(graph)
        same_function(graph, ordered)
        assert ordered.outputs[0].type == graph.outputs[0].type
        schedule(ordered, Target())


def test_constants_beside_streams() -> None:
    generator = np.random.default_rng(2)
    builder = Builder("g")
    constants = [builder.integers(generator.integers(-8, 8, (2, size)), Fixed(8, 4)) for size in (1, 2, 3)]
    x, y = stream(builder, "x", 2, 3), stream(builder, "y", 2, 1)
    joined = builder.add(Concat(1), constants[0], constants[1], x, constants[2], y, constants[0])
    graph = builder.finish([joined])
    filled = fill_concats(graph)
    same_function(graph, filled)
    assert filled.outputs[0].type.interval == graph.outputs[0].type.interval


def test_constants_alone_are_folded() -> None:
    builder = Builder("g")
    x = stream(builder, "x", 2)
    weights = builder.map(lambda a: -a, builder.integers(np.array([[1, -2], [3, 4]]), Fixed(4, 0)), frac=0)
    turned = builder.add(Permute((1, 0)), weights)
    twice = builder.add(Concat(0), turned, builder.integers(np.array([[7, 7]]), Fixed(4, 0)))
    summed = builder.add(Reduce("sum", (0,)), twice)
    graph = builder.finish([builder.map(lambda a, b: a * b, x, summed, frac=4)])
    folded = fold_constants(graph)
    same_function(graph, folded)
    assert [node.op.name for node in folded.nodes] == ["constant", "map"]


def test_reductions_and_pads_become_single_runs() -> None:
    builder = Builder("g")
    x = stream(builder, "x", 2, 3, 1, 4)
    total = builder.add(Reduce("max", (0, 3)), x)
    padded = builder.add(Pad(((1, 0), (0, 2), (0, 0), (0, 0)), code=-5), x)
    none = builder.add(Reduce("sum", (2,)), x)
    graph = builder.finish([total, padded, none])
    normal = normalise(graph)
    same_function(graph, normal)
    assert [node.op.name for node in normal.nodes].count("reduce") == 2
    assert [node.op.name for node in normal.nodes].count("pad") == 2


def test_fused_maps_keep_branches_and_broadcasts() -> None:
    builder = Builder("g")
    x, y = stream(builder, "x", 3, 4), stream(builder, "y", 4)
    one = builder.map(lambda a: a * a, x, frac=8)
    two = builder.map(lambda a: a + 5, one, frac=8)
    row = builder.map(lambda a: -a, y, frac=4)
    three = builder.map(lambda a, b: a - b, two, row, frac=8)
    four = builder.map(lambda a, b: a.maximum(b), three, three, frac=8)
    graph = builder.finish([four, row])
    fused = fuse_maps(graph)
    same_function(graph, fused)
    assert sum(isinstance(node.op, Map) for node in fused.nodes) == 2


# ---- streams -----------------------------------------------------------------------------------
def test_layout() -> None:
    layout = Layout(3, 10, 4)
    assert (layout.beats_per_row, layout.beats, layout.is_padded) == (3, 9, True)
    assert str(layout) == "3x10/4"
    assert not Layout(1, 8, 4).is_padded


@pytest.mark.parametrize("name", ["reg", "module", "gw_fork", "table"])
def test_reserved_names(name: str) -> None:
    assert is_reserved(name)
    builder = Builder(name)
    graph = builder.finish([builder.map(lambda a: a + 1, stream(builder, name, 2), frac=4)], [name])
    network = schedule(graph, Target()).network
    assert not is_reserved(network.name)
    names = [network.name, *(channel.name for channel in network.channels()), *(c.name for c in network.components)]
    assert len(set(names)) == len(names)


def residual(depth: int) -> Graph:
    """A shortcut around ``depth`` layers."""
    generator = np.random.default_rng(depth)
    builder = Builder("residual")
    x = stream(builder, "x", 8)
    value = x
    for _ in range(depth):
        total = builder.contract("k, n k -> n", value, builder.integers(generator.integers(-4, 4, (8, 8)), Fixed(3, 0)))
        value = builder.map(lambda a: a.round(4, "half_up").clamp(-128, 127), total, format=Fixed(8, 4))
    return builder.finish([builder.map(lambda a, b: a + b, x, value, frac=4)], ["y"])


@pytest.mark.parametrize("interval", [1, 8, 64])
@pytest.mark.parametrize("depth", [1, 3])
def test_shortcuts_get_fifos_that_keep_the_interval(depth: int, interval: int) -> None:
    plan = schedule(residual(depth), Target(), interval=interval)
    assert plan.interval == interval
    assert any(isinstance(each, Fork) for each in plan.network.components)
    fifos = [each for each in plan.network.components if isinstance(each, Fifo)]
    assert all(each.depth < 1000 for each in fifos)
    assert simulate_tokens(plan.network, 30).interval == interval


@pytest.mark.parametrize("interval", [1, 3, 7, 20, 64])
def test_a_chain_has_no_bubbles(interval: int) -> None:
    """The interval is the largest of the layers' own: groups of outputs times beats of inputs."""
    generator = np.random.default_rng(5)
    builder = Builder("chain")
    value = stream(builder, "x", 9)
    for size in (7, 5):
        weights = builder.integers(generator.integers(-4, 4, (size, value.shape[0])), Fixed(3, 0))
        total = builder.contract("k, n k -> n", value, weights)
        value = builder.map(lambda a: a.clamp(-128, 127), total, format=Fixed(8, 4))
    plan = schedule(builder.finish([value], ["y"]), Target(), interval=interval)
    cycles = [plan.folding.forms[each].cycles(tile) for each, tile in plan.folding.tiles.items()]
    assert plan.interval == max(*cycles, *(channel.layout.beats for channel in plan.network.inputs))
    assert plan.interval <= interval


@pytest.mark.parametrize(("interval", "lanes"), [(1, 20), (2, 10), (3, 10), (4, 5), (8, 3)])
def test_rows_come_side_by_side_where_one_a_cycle_is_too_slow(interval: int, lanes: int) -> None:
    builder = Builder("rows")
    graph = builder.finish([builder.map(lambda a: a + 1, stream(builder, "x", 4, 5), frac=4)], ["y"])
    plan = schedule(graph, Target(), interval=interval)
    assert plan.interval <= interval
    assert plan.network.outputs[0].layout.lanes == lanes


def test_an_interval_that_windows_cannot_meet_is_refused_with_the_best() -> None:
    builder = Builder("windows")
    windows = builder.add(Window((2,), (1,), ((0, 0),), (1,)), stream(builder, "x", 5, 3))
    graph = builder.finish([builder.map(lambda a: a + 1, windows, frac=4)], ["y"])
    with pytest.raises(GatewrightError) as caught:
        schedule(graph, Target(), interval=7)
    assert caught.value.code == "GW0703"
    assert "interval=8" in str(caught.value)
    assert schedule(graph, Target(), interval=8).interval == 8


def test_outputs_that_share_nothing_are_as_slow_as_the_slowest() -> None:
    builder = Builder("two")
    fast, slow = stream(builder, "fast", 2, 3), stream(builder, "slow", 40)
    outputs = [builder.map(lambda a: a + 1, each, frac=4) for each in (fast, slow)]
    assert schedule(builder.finish(outputs, ["a", "b"]), Target(), interval=40).interval == 40
