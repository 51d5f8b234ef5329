"""Folding is exact on single layers, and its buffers are as small as the interval allows."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from gatewright.ir.formats import Fixed
from gatewright.ir.intervals import Interval
from gatewright.ir.streams.folding import ANY_LANES, tile_cost
from gatewright.ir.streams.forms import MatrixForm, Tile
from gatewright.ir.streams.geometry import Axis, Geometry, WindowForm
from gatewright.ir.streams.window_units import WindowUnit
from gatewright.ir.types import Type, Value
from gatewright.sim.tokens import simulate_tokens
from tests.conv.checks import check, compiled


def form_of(channels: int, outputs: int, kernel: tuple[int, int], size: tuple[int, int]) -> MatrixForm:
    byte = Interval(-128, 127)
    source = Value("x", Type((*size, channels), Fixed(8, 4), byte))
    weight = Value("w", Type((outputs, channels, *kernel), Fixed(8, 4), byte))
    geometry = Geometry(Axis(size[0], kernel[0]), Axis(size[1], kernel[1]))
    codes = np.zeros((1, outputs, kernel[0] * kernel[1] * channels), np.int64)
    return MatrixForm(geometry.positions, codes, source, weight, WindowForm(geometry, source, source, channels))


@pytest.mark.parametrize("kernel", [(1, 3), (3, 1), (2, 3), (3, 3)])
@pytest.mark.parametrize("interval", [60, 100, 250, 700, 2000])
def test_the_cheapest_tile_is_found(kernel: tuple[int, int], interval: int) -> None:
    form = form_of(4, 6, kernel, (7, 6))
    assert form.window is not None
    geometry = form.window.geometry
    every = [
        Tile(inputs, outputs, channels, parallel)
        for channels, outputs, parallel in product(range(1, 5), range(1, 7), geometry.choices())
        for inputs in range(1, form.window.elements(channels) + 1)
    ]
    fitting = [tile for tile in every if form.cycles(tile) <= interval]
    found = list(form.tiles(interval))
    assert bool(fitting) == bool(found)
    if fitting:
        best = min(tile_cost(form, tile, ANY_LANES) for tile in fitting)
        assert min(tile_cost(form, tile, ANY_LANES) for tile in found) == pytest.approx(best)


@pytest.mark.parametrize(("interval", "inputs", "outputs"), [(900, 4, 3), (1440, 7, 1)])
def test_an_array_takes_other_numbers_of_elements_than_its_window_delivers(
    interval: int, inputs: int, outputs: int
) -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(1, 16, (5, 4), stride=2, padding=1).eval()
    x = torch.randn(3, 1, 12, 13)
    design = compiled(model, x, interval)
    ((value, form),) = design.schedule.folding.forms.items()
    tile = design.schedule.folding.tiles[value]
    assert form.regroups(tile)
    assert (tile.inputs, tile.outputs, design.interval) == (inputs, outputs, interval)
    check(design, x)


def test_line_buffers_are_as_small_as_the_interval_allows() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 3, stride=2)).eval()
    design = compiled(model, torch.randn(1, 1, 8, 9))
    network = design.schedule.network
    windows = [each for each in network.components if isinstance(each, WindowUnit)]
    assert windows
    for window in windows:
        if window.depth == window.span:
            continue
        smaller = tuple(
            replace(each, depth=window.depth - 1) if isinstance(each, WindowUnit) and each is window else each
            for each in network.components
        )
        assert simulate_tokens(replace(network, components=smaller)).interval > design.interval


def test_the_interval_is_the_slowest_layers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 10),
    ).eval()
    design = compiled(model, torch.randn(1, 1, 28, 28), 5900)
    folding = design.schedule.folding
    ideal = max(form.cycles(folding.tiles[value]) for value, form in folding.forms.items())
    assert folding.multipliers <= 36
    assert design.interval == ideal <= 5900
