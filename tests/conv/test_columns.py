"""Several output positions a cycle: windows, products, pools, maps and joins of neighbouring columns."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gatewright as gw
from gatewright.ir.streams.geometry import Axis, Columns, Geometry
from gatewright.ir.streams.network import Layout
from gatewright.ir.streams.window_units import ColumnWindow
from tests.conv.checks import FORMATS, check
from tests.conv.test_layers import Wrapped


def _residual(x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
    y = F.relu(first(x))
    return F.relu(second(y)) + y


def _branches(x: Tensor, one: nn.Module, two: nn.Module) -> Tensor:
    return torch.cat([one(x), F.max_pool2d(x, 3, 1, 1), two(x)], 1)


def _shuffled(x: Tensor, conv: nn.Module) -> Tensor:
    return nn.ChannelShuffle(2)(torch.cat([x, F.relu(conv(x))], 1)) * 0.5


def _transposed(x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
    return second(F.relu(first(x)).transpose(2, 3))


def _excited(x: Tensor, conv: nn.Module, gate: nn.Module) -> Tensor:
    y = F.relu(conv(x))
    return y * F.hardsigmoid(gate(F.adaptive_avg_pool2d(y, 1)))


def _of_columns(x: Tensor, conv: nn.Module) -> Tensor:
    y = conv(x)
    return y * F.relu(y.mean(2, keepdim=True)) + F.relu(y.mean(1, keepdim=True))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "same": (lambda: nn.Conv2d(2, 3, 3, padding=1), (2, 4, 8), 20),
    "ragged": (lambda: nn.Conv2d(2, 2, 3, padding=1), (2, 4, 7), 15),
    "whole lines": (lambda: nn.Conv2d(1, 2, (2, 3), padding=(0, 1)), (1, 5, 6), 5),
    "valid": (lambda: nn.Conv2d(1, 2, (3, 5), bias=False), (1, 6, 11), 24),
    "strided and dilated": (lambda: nn.Conv2d(1, 2, 3, (1, 2), (2, 3), (1, 2)), (1, 5, 12), 30),
    "more windows than pixels": (lambda: nn.Conv2d(1, 2, (1, 4), padding=(0, 3)), (1, 4, 5), 16),
    "kernel 1 strided": (lambda: nn.Conv2d(3, 2, 1, 2), (3, 6, 8), 12),
    "depthwise": (lambda: nn.Conv2d(3, 6, 3, padding=1, groups=3), (3, 4, 6), 16),
    "one dimension": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 5, padding=2), nn.ReLU(), nn.Conv1d(3, 2, 3, 2)),
        (2, 16),
        5,
    ),
    "rows of a linear layer": (lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (7, 3), 3),
    "one beat a sample": (lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (2, 3, 3), 1),
    "pools": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)
        ),
        (1, 10, 10),
        24,
    ),
    "overlapping pool": (lambda: nn.MaxPool2d(3, 2, 1), (2, 6, 8), 8),
    "windows of some channels": (lambda: nn.AvgPool2d(3, 1, 1), (4, 4, 5), 50),
    "global average": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)),
        (1, 4, 6),
        8,
    ),
    "residual": (
        lambda: Wrapped(_residual, nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1)),
        (2, 4, 6),
        16,
    ),
    "branches": (lambda: Wrapped(_branches, nn.Conv2d(2, 1, 1), nn.Conv2d(2, 2, 3, padding=1)), (2, 4, 6), 16),
    "squeeze and excitation": (
        lambda: Wrapped(_excited, nn.Conv2d(2, 3, (3, 1), padding=(1, 0)), nn.Conv2d(3, 3, 1)),
        (2, 4, 6),
        16,
    ),
    "transposed blocks": (lambda: Wrapped(_transposed, nn.Linear(3, 3), nn.Linear(2, 2)), (6, 2, 3), 3),
    "channel shuffle": (lambda: Wrapped(_shuffled, nn.Conv2d(2, 2, 1)), (2, 4, 6), 12),
    "broadcast along either axis": (lambda: Wrapped(_of_columns, nn.Conv2d(2, 3, 1)), (2, 4, 6), 12),
}


@pytest.mark.parametrize("name", CASES)
def test_several_positions_a_cycle_equal_the_model(name: str) -> None:
    make, shape, interval = CASES[name]
    torch.manual_seed(1)
    x = torch.randn(3, *shape) * 2
    design = gw.compile(make().eval(), (x[:1],), formats=FORMATS, interval=interval)
    assert design.interval <= interval
    check(design, x)


def test_ports_carry_several_positions_a_beat() -> None:
    torch.manual_seed(0)
    design = gw.compile(nn.Conv2d(2, 3, 3, padding=1), (torch.randn(1, 2, 4, 8),), formats=FORMATS, interval=20)
    network = design.schedule.network
    assert network.inputs[0].layout == Layout(4, 16, 4)
    assert network.outputs[0].layout == Layout(4, 24, 6)
    (tile,) = design.schedule.folding.tiles.values()
    assert tile.columns == 2


@pytest.mark.parametrize("taps", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_cycles_of_columns_are_those_of_their_units(taps: int, stride: int) -> None:
    """What folding counts on is what the line buffers do, and one position a cycle has no idle one between lines."""
    axis = Axis(12, taps, stride, 1, taps - 1, taps // 2)
    geometry = Geometry(Axis(5, 2), axis)
    assert any(True for _ in geometry.column_counts(60))
    for count in geometry.column_counts(10_000):
        columns = Columns(axis, count)
        unit = ColumnWindow("w", (), (), columns=columns, lines=geometry.rows.positions)
        runs = unit.timing.parameters[1:]
        total = sum(runs[::4])
        assert sum(runs[k] * runs[k + 2] for k in range(0, len(runs), 4)) == geometry.rows.positions * columns.beats_in
        assert sum(runs[k] * runs[k + 3] for k in range(0, len(runs), 4)) == geometry.rows.positions * columns.beats_out
        assert geometry.column_cycles(count) == max(total, 5 * columns.beats_in)
        assert total <= geometry.rows.positions * columns.slots + columns.after
