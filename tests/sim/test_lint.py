"""The cells are clean for many parameter values, and a linter that cannot complain would fail here."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from gatewright.sim.lint import lint
from tests.sim.designs import CELLS, design, fifo

TILES = [1, 2, 3, 4, 6, 7, 16]
ADAPTERS = [
    f".TileIn({tile_in}), .TileOut({tile_out}), .Elements({elements})"
    for tile_in, tile_out in itertools.product(TILES, TILES)
    for elements in (1, 5, 12, 21)
]
REPLAYS = [
    f".Window({window}), .Repeats({repeats}), .Depth({window + more})"
    for window, repeats, more in itertools.product((1, 2, 3, 8, 13), (1, 2, 5), (0, 1, 3, 8))
]
FIFOS = [f".Width({width}), .Depth({depth})" for width in (1, 33) for depth in (1, 2, 3, 4, 5, 16, 17, 1000)]
REORDERS = [
    "",
    ".Count(1), .Loops(1), .Counts(32'd1), .Strides(32'd1)",
    ".Count(8), .Loops(1), .Counts(32'd8), .Strides(-32'sd1), .Offset(7)",
    ".Count(24), .Loops(3), .Counts({32'd4, 32'd2, 32'd3}), .Strides({32'd1, 32'd12, 32'd4})",
]
FAMILIES = {
    "gw_width_adapter": ADAPTERS,
    "gw_replay_buffer": REPLAYS,
    "gw_fifo": FIFOS,
    "gw_reorder_buffer": REORDERS,
    "gw_fork": [".Outputs(1)", ".Outputs(2)", ".Outputs(7)"],
    "gw_register_slice": [".Width(1)", ".Width(100)"],
}


@pytest.mark.parametrize("cell", FAMILIES)
def test_cells_are_clean(cell: str, tmp_path: Path) -> None:
    """One instance per parameter value, all in one design; only the cells themselves are held to silence."""
    body = "\n".join(
        f"  {cell} #({parameters}) u_cell{k} (.clk_i(clk_i), .rst_ni(rst_ni), .valid_i(1'b1), .ready_o(), "
        f".data_i('0), .valid_o(), .ready_i('1), .data_o());"
        for k, parameters in enumerate(FAMILIES[cell])
    )
    top = tmp_path / "many.sv"
    top.write_text(f"module many (input logic clk_i, input logic rst_ni);\n{body}\nendmodule\n")
    complaints = lint([*CELLS, top], "many")
    assert [each for each in complaints if "many.sv" not in each] == []


def test_a_clean_design(tmp_path: Path) -> None:
    source = tmp_path / "example.sv"
    source.write_text(fifo())
    assert lint([*CELLS, source], "example", yosys=True) == []


def test_faults_are_found_by_all_three(tmp_path: Path) -> None:
    source = tmp_path / "example.sv"
    source.write_text(design("  assign y_tdata = x_tdata[3:0];\n  assign y_tvalid = absent;"))
    complaints = lint([source], "example", yosys=True)
    assert {each.partition(":")[0] for each in complaints} == {"verilator", "slang", "yosys"}
