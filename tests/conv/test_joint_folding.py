"""Folding chooses all layers together: no other tiles of small graphs cost less, adapters included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gatewright as gw
from gatewright.ir.graph import Graph
from gatewright.ir.streams.cost import estimate_network
from gatewright.ir.streams.folding import (
    ANY_LANES,
    fastest_interval,
    fold,
    folding_steps,
    reader_cost,
    serial_interval,
    tile_cost,
)
from gatewright.ir.streams.forms import MatrixForm, Tile
from gatewright.ir.streams.joint_folding import Choice, Step, cheapest, cost_of, solve
from gatewright.ir.targets import Target
from gatewright.ir.types import Value
from gatewright.schedule import at_interval, schedule
from tests.conv.checks import FORMATS
from tests.conv.test_layers import Wrapped


def _branches(x: Tensor, first: nn.Module, second: nn.Module, third: nn.Module) -> Tensor:
    y = F.relu(first(x))
    return torch.cat([second(y), third(y)], 1)


def _residual(x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
    y = F.relu(first(x))
    return second(y) + y


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), (5,)),
    "four layers": (
        lambda: nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 2)),
        (3,),
    ),
    "convolutions": (lambda: nn.Sequential(nn.Conv2d(2, 3, (1, 2)), nn.ReLU(), nn.Conv2d(3, 2, (2, 1))), (2, 4, 5)),
    "branches": (
        lambda: Wrapped(_branches, nn.Conv2d(2, 3, 1), nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, (1, 3), padding=(0, 1))),
        (2, 3, 4),
    ),
    "residual": (lambda: Wrapped(_residual, nn.Conv1d(2, 3, 3, padding=1), nn.Conv1d(3, 3, 1)), (2, 6)),
}


def graph_of(name: str) -> Graph:
    """The integer graph of a model, as it is lowered."""
    make, shape = MODELS[name]
    torch.manual_seed(0)
    return gw.compile(make().eval(), (torch.randn(1, *shape),), formats=FORMATS).schedule.graph


def all_tiles(form: MatrixForm) -> Iterator[Tile]:
    """Every tile of a contraction."""
    counts = range(1, form.row_shape[-1] + 1) if form.row_shape else range(0)
    if form.window is None:
        for inputs, outputs in product(range(1, form.inputs + 1), range(1, form.outputs + 1)):
            yield Tile(inputs, outputs)
        yield from (Tile(form.inputs, form.outputs, columns=count) for count in counts if count > 1)
        return
    geometry = form.window.geometry
    for channels, outputs, parallel in product(
        range(1, form.window.channels + 1), range(1, form.outputs + 1), geometry.choices()
    ):
        for inputs in range(1, form.window.elements(channels) + 1):
            yield Tile(inputs, outputs, channels, parallel)
    for count in geometry.column_counts(10**9):
        yield Tile(geometry.taps * form.window.channels, form.outputs, 1, (True, True), columns=count)


def least_cost(graph: Graph, interval: int) -> float:
    """The cost of the cheapest of all combinations of tiles and lanes of ports, one by one."""
    steps, forms = folding_steps(graph, interval)
    users = graph.users()
    options: list[list[tuple[Value, Choice]]] = []
    for step in steps:
        choices: Sequence[Choice] = step.choices
        if step.value in forms:
            form, after = forms[step.value], reader_cost(step.value, users)
            choices = cheapest(
                Choice(
                    form.lanes_in(tile),
                    tile.lanes_out,
                    tile_cost(form, tile, ANY_LANES) + after * tile.lanes_out,
                    tile,
                )
                for tile in all_tiles(form)
                if form.cycles(tile) <= interval
            )
        if choices:
            options.append([(step.value, choice) for choice in choices])
    return min(cost_of(steps, dict(chosen)) for chosen in product(*options))


def intervals(graph: Graph) -> list[int]:
    """Some intervals between the fastest and the serial."""
    low, high = fastest_interval(graph), serial_interval(graph)
    return sorted({low, low + 1, (3 * low + high) // 4, (low + high) // 2, high - 1, high})


@pytest.mark.parametrize("name", MODELS)
def test_no_combination_of_tiles_costs_less(name: str) -> None:
    graph = graph_of(name)
    checked = 0
    for interval in intervals(graph):
        try:
            steps, _ = folding_steps(graph, interval)
        except gw.GatewrightError:
            continue
        combinations = 1
        for step in steps:
            combinations *= max(len(step.choices), 1)
        if combinations > 15_000:
            continue
        solution = solve(steps)
        assert solution.cost == pytest.approx(cost_of(steps, solution.chosen))
        assert solution.cost == pytest.approx(least_cost(graph, interval))
        checked += 1
    assert checked >= 2


def test_the_cost_is_that_of_the_folding() -> None:
    graph = graph_of("branches")
    interval = 2 * fastest_interval(graph)
    steps, forms = folding_steps(graph, interval)
    folding = fold(graph, interval)
    chosen = solve(steps).chosen
    assert {value: chosen[value].tile for value in forms} == dict(folding.tiles)
    assert {value: chosen[value].lanes_out for value in graph.inputs} == dict(folding.input_lanes)


@pytest.mark.parametrize("name", MODELS)
def test_what_meets_an_interval_meets_every_larger_one(name: str) -> None:
    graph = graph_of(name)
    met = False
    for interval in range(1, 33):
        try:
            found = schedule(graph, Target(), interval=interval).interval
        except gw.GatewrightError as problem:
            assert problem.code == "GW0703"
            assert not met
            continue
        assert found <= interval
        met = True
    assert met


@pytest.mark.parametrize(("name", "most"), [("dense", 900), ("residual", 1400), ("branches", 1200)])
def test_the_smallest_interval_within_a_budget_is_found(name: str, most: int) -> None:
    graph, target = graph_of(name), Target()
    fitting: list[int] = []
    for interval in range(1, serial_interval(graph) + 1):
        try:
            plan = at_interval(graph, target, interval)
        except gw.GatewrightError:
            continue
        if estimate_network(plan.network).lut <= most:
            fitting.append(plan.interval)
    assert 1 < min(fitting) < serial_interval(graph)
    assert schedule(graph, target, budget={"lut": most}).interval == min(fitting)


def choices_of(*options: tuple[int, int, float]) -> tuple[Choice, ...]:
    return tuple(Choice(lanes_in, lanes_out, cost) for lanes_in, lanes_out, cost in options)


def test_a_dearer_layer_is_taken_where_that_saves_an_adapter(value: Callable[[str], Value]) -> None:
    x, y = value("x"), value("y")
    first = Step(x, choices=choices_of((0, 3, 10.0), (0, 4, 15.0)))
    second = Step(y, (x,), choices_of((4, 1, 20.0), (2, 1, 80.0)))
    solution = solve([first, second])
    assert (solution.chosen[x].lanes_out, solution.chosen[y].lanes_in, solution.cost) == (4, 4, 35.0)


@pytest.fixture(name="value")
def fixture_value() -> Callable[[str], Value]:
    graph = graph_of("dense")

    def make(name: str) -> Value:
        template = graph.inputs[0]
        return Value(name, template.type, template.location)

    return make
