"""Binary and ternary weights as sums of terms: every shape of the unit, against the golden model."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

import gatewright as gw
from gatewright.ir.streams import folding
from gatewright.ir.streams.cost import estimate_network
from gatewright.ir.streams.forms import MatrixForm, Tile
from gatewright.ir.streams.terms import TermContractUnit
from tests.format_hardware.test_pairs import check


class Layers(nn.Module):
    """Linear layers of these sizes."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(sizes[0])
        self.layers = nn.ModuleList(nn.Linear(*each) for each in pairwise(sizes))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


def compiled(
    pair: str, sizes: tuple[int, ...], interval: int, rows: tuple[int, ...] = (), clock: float = 100.0
) -> gw.Design:
    activation, weight = pair.split("/")
    formats = {"default": {"input": activation, "weight": weight, "bias": "fixed<10,4>"}}
    example = torch.randn(2, *rows, sizes[0])
    return gw.compile(Layers(*sizes).eval(), (example,), formats, target=gw.Target("xcup", clock), interval=interval)


def units(design: gw.Design) -> list[TermContractUnit]:
    return [each for each in design.schedule.network.components if isinstance(each, TermContractUnit)]


@pytest.mark.parametrize("weight", ["binary", pytest.param("ternary", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("sizes", "interval", "shape"),
    [
        ((32, 16), 16, (32, 1, 2)),  # a beat holds all inputs and is kept for all results
        ((32, 16), 1, (32, 16, 32)),  # everything at once
        ((32, 16), 4, (32, 4, 8)),  # several results a cycle
        ((32, 16), 64, (8, 1, 2)),  # several beats a result
        ((30, 7), 21, (10, 1, 10)),  # pairs that are no power of two, a memory that is none either
        ((12, 5), 5, (6, 3, 6)),  # a last block of fewer results
    ],
)
def test_shapes(
    weight: str,
    sizes: tuple[int, ...],
    interval: int,
    shape: tuple[int, int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cost(form: MatrixForm, tile: Tile, lanes: int) -> float:
        return 0.0 if (tile.inputs, tile.outputs, tile.term_lanes) == shape else 1e6

    monkeypatch.setattr(folding, "tile_cost", cost)
    design = compiled(f"fixed<8,4>/{weight}", sizes, interval)
    (unit,) = units(design)
    assert (unit.inputs_per_beat, unit.outputs_per_beat) == shape[:2]
    check(design)


@pytest.mark.parametrize("weight", ["binary", "ternary"])
def test_they_are_chosen_where_they_win(weight: str) -> None:
    """Not where a few adders of the usual array do the same."""
    assert units(compiled(f"fixed<8,4>/{weight}", (32, 16), 16))
    assert not units(compiled(f"fixed<8,4>/{weight}", (32, 16), 512))


@pytest.mark.parametrize(
    "pair",
    [
        "ufixed<5,2>/binary",
        "e4m3/ternary",
        "fixed<8,4>/binary01",
        *(
            pytest.param(pair, marks=pytest.mark.slow)
            for pair in ("e2m3/binary", "e4m3/binary", "log<4>/binary", "ternary/binary", "fixed<2,0>/binary")
        ),
        *(
            pytest.param(pair, marks=pytest.mark.slow)
            for pair in ("ufixed<5,2>/ternary", "ternary/ternary", "ufixed<5,2>/binary01")
        ),
    ],
)
def test_formats(pair: str) -> None:
    """Codes that are no integers are decoded once, as they arrive."""
    design = compiled(pair, (16, 12, 6), 12)
    assert units(design)
    check(design)


@pytest.mark.parametrize("weight", ["binary", "ternary"])
def test_rows_and_a_fast_clock(weight: str) -> None:
    """Every addition in a cycle of its own, registers in the tree."""
    design = compiled(f"fixed<8,4>/{weight}", (48, 8), 24, rows=(3,), clock=500.0)
    (unit,) = units(design)
    assert unit.segment == 1
    assert unit.tree_registers > 1
    check(design)


def test_an_odd_number_of_inputs() -> None:
    design = compiled("fixed<8,4>/ternary", (13, 8), 8)
    assert units(design)
    check(design)


@pytest.mark.parametrize(
    ("pair", "inputs"), [("binary/binary", 16), ("fixed<8,4>/binary", 13), ("bfloat16/binary", 16)]
)
def test_the_usual_array_elsewhere(pair: str, inputs: int) -> None:
    """Bits are counted; an odd number of inputs has no pairs; wide integers would cost more than shifts."""
    assert not units(compiled(pair, (inputs, 8), 8))


@pytest.mark.parametrize(("weight", "most"), [("binary", 320), ("ternary", 470)])
def test_cost(weight: str, most: int) -> None:
    """The estimate is near, and the layer of 32 inputs and 16 results in 16 cycles takes ``most`` LUTs."""
    design = compiled(f"fixed<8,4>/{weight}", (32, 16), 16)
    found = design.synth().lut
    assert found == pytest.approx(estimate_network(design.schedule.network).lut, rel=0.15)
    assert found <= most
