"""The report tells what limits every layer, and its neighbouring steps are the true ones."""

from __future__ import annotations

import json
from itertools import product

import pytest
import torch
from torch import nn

import gatewright as gw
from gatewright.explain import Step, limit_of
from gatewright.ir.streams.folding import Folding
from gatewright.ir.streams.forms import Tile
from gatewright.ir.streams.units import ContractUnit
from gatewright.report import LayerReport
from tests.conv.checks import compiled


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(64, 5)
    ).eval()


def layers_of(design: gw.Design) -> dict[str, LayerReport]:
    return {row.name: row for row in design.report().layers}


def test_multipliers_limit_a_convolution() -> None:
    design = compiled(network(), torch.randn(1, 3, 8, 8), 2304)
    first, second = layers_of(design)["0"], layers_of(design)["3"]
    # 8 x 8 positions, 8 outputs, 3 x 3 x 3 inputs.
    assert first.limit.operations == 13_824
    assert (first.limit.kind, first.interval, first.multipliers, first.share) == ("multipliers", 2304, 6, 1.0)
    assert first.limit.text(design.interval).startswith("13,824 MACs / 6 multipliers; ")
    # 4 x 4 positions, 4 outputs, 8 inputs with one multiplier.
    assert (second.interval, second.multipliers, second.share) == (512, 1, 512 / 2304)
    assert second.limit.text(design.interval) == "512 MACs / 1 multiplier; none has fewer"


def test_a_window_limits_a_strided_convolution() -> None:
    torch.manual_seed(0)
    design = compiled(nn.Conv2d(2, 1, 2, 4).eval(), torch.randn(1, 2, 16, 16), 1)
    (row,) = [each for each in design.report().layers if each.multipliers]
    # 16 positions of 8 products each, but 16 lines come in.
    assert (row.limit.kind, row.interval) == ("window", 16)
    assert row.limit.text(design.interval) == "window takes in 16 lines of 1 beat; cannot be divided further"


def test_a_window_limits_a_grouped_convolution() -> None:
    torch.manual_seed(0)
    design = compiled(nn.Conv2d(4, 2, 2, 4, groups=2).eval(), torch.randn(1, 4, 16, 16), 1)
    (row,) = [each for each in design.report().layers if each.multipliers]
    # 16 positions of 16 products each, but 256 pixels of two groups come in.
    assert (row.limit.kind, row.interval) == ("window", 512)
    assert row.limit.text(design.interval) == "window takes in 16 x 16 pixels of 2 beats; cannot be divided further"


def test_a_stream_limits_what_multiplies_nothing() -> None:
    design = compiled(nn.MaxPool2d(2).eval(), torch.randn(1, 3, 8, 6))
    assert [each.limit.text(design.interval) for each in design.report().layers][-1] == (
        "stream of 48 x 3 elements, 1 a beat"
    )


@pytest.mark.parametrize("interval", [100, 300, 640, 1000, 2304, 7000])
def test_the_steps_are_the_nearest_of_all_tiles(interval: int) -> None:
    design = compiled(nn.Conv2d(3, 5, (2, 3)).eval(), torch.randn(1, 3, 6, 7), interval)
    folding: Folding = design.schedule.folding
    ((value, form),) = folding.forms.items()
    assert form.window is not None
    geometry = form.window.geometry
    every = [
        Tile(inputs, outputs, channels, parallel)
        for channels, outputs, parallel in product(range(1, 4), range(1, 6), geometry.choices())
        for inputs in range(1, form.window.elements(channels) + 1)
    ]
    every += [Tile(18, 5, 1, (True, True), columns=count) for count in range(1, 6)]
    steps = [Step(tile.multipliers, form.cycles(tile)) for tile in every]
    tile = folding.tiles[value]
    members = [each for each in design.schedule.network.components if isinstance(each, ContractUnit)]
    limit = limit_of(members, folding)
    faster = [step for step in steps if step.cycles < form.cycles(tile)]
    fewer = [step for step in steps if step.multipliers < tile.multipliers]
    assert limit.finer == min(faster, key=lambda step: (step.multipliers, step.cycles), default=None)
    assert limit.coarser == min(fewer, key=lambda step: (step.cycles, step.multipliers), default=None)


def test_json_holds_what_the_table_shows() -> None:
    design = compiled(network(), torch.randn(1, 3, 8, 8), 2304)
    report = design.report()
    read = json.loads(report.json())
    assert read["goal"] == "a sample every 2,304 cycles"
    assert (read["interval"], read["latency"]) == (design.interval, design.latency)
    text = " ".join(str(report).split())
    assert "asked for: a sample every 2,304 cycles" in text
    for row, layer in zip(report.layers, read["layers"], strict=True):
        assert (layer["name"], layer["interval"], layer["multipliers"]) == (row.name, row.interval, row.multipliers)
        assert layer["limit"]["reason"] == row.limit.reason
        assert layer["limit"]["operations"] == row.limit.operations
        assert f"{row.interval:,}" in text
