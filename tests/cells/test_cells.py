"""Every stream cell against its cycle-exact model and the data that it must deliver, under random stalls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gatewright.sim import cell_models
from gatewright.sim.harness import StreamPort, build
from gatewright.sim.words import pack_lanes, unpack_lanes
from tests.sim.designs import CELLS

STALLS = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.4, 0.4), (0.1, 0.8), (0.8, 0.1)]
SAMPLES = 60
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """One cell instance: its parameters, lanes and beats at both sides, its model and its function."""

    name: str
    module: str
    parameters: str
    element_width: int
    lanes_in: int
    lanes_out: int
    beats_in: int
    beats_out: int
    model: Callable[[], cell_models.CellModel]
    expected: Callable[[Codes], Codes]  # [samples, lanes in] to [samples, at most lanes out]


def _instance(k: int, case: Case) -> tuple[str, str]:
    """The ports and the body of one case; a counter at its output makes TLAST."""
    bits_in, bits_out = case.lanes_in * case.element_width, case.lanes_out * case.element_width
    bytes_in, bytes_out = (bits_in + 7) // 8, (bits_out + 7) // 8
    ports = f"""
  input logic [{8 * bytes_in - 1}:0] i{k}_tdata, input logic i{k}_tvalid,
  output logic i{k}_tready, input logic i{k}_tlast,
  output logic [{8 * bytes_out - 1}:0] o{k}_tdata, output logic o{k}_tvalid, input logic o{k}_tready,
  output logic o{k}_tlast"""
    body = f"""
  logic [{bits_out - 1}:0] data{k};
  logic [31:0] beat{k}_q;
  assign o{k}_tdata = {8 * bytes_out}'(data{k});
  assign o{k}_tlast = beat{k}_q == 32'd{case.beats_out - 1};
  always_ff @(posedge aclk) begin
    if (!aresetn) beat{k}_q <= 32'd0;
    else if (o{k}_tvalid && o{k}_tready) beat{k}_q <= o{k}_tlast ? 32'd0 : beat{k}_q + 32'd1;
  end
  {case.module} #({case.parameters}) u_cell{k} (
    .clk_i(aclk), .rst_ni(aresetn), .valid_i(i{k}_tvalid), .ready_o(i{k}_tready),
    .data_i(i{k}_tdata[{bits_in - 1}:0]),
    .valid_o(o{k}_tvalid), .ready_i(o{k}_tready), .data_o(data{k}));
"""
    return ports, body


def _run(cases: Sequence[Case], folder: Path) -> None:
    instances = [_instance(k, case) for k, case in enumerate(cases)]
    source = folder / "cells.sv"
    source.write_text(
        "module cells (\n  input logic aclk, input logic aresetn,"
        + ",".join(ports for ports, _ in instances)
        + "\n);"
        + "".join(body for _, body in instances)
        + "endmodule\n"
    )
    streams: list[StreamPort] = []
    for k, case in enumerate(cases):
        streams.append(StreamPort(f"i{k}", "input", case.lanes_in * case.element_width, case.beats_in))
        streams.append(StreamPort(f"o{k}", "output", case.lanes_out * case.element_width, case.beats_out))
    simulator = build([*CELLS, source], "cells", streams)
    random = np.random.default_rng(1)
    codes = [
        random.integers(0, 1 << min(case.element_width, 62), (SAMPLES, case.beats_in * case.lanes_in)) for case in cases
    ]
    inputs = {
        f"i{k}": pack_lanes(codes[k].reshape(-1, case.lanes_in), case.element_width) for k, case in enumerate(cases)
    }
    for seed, (input_stall, output_stall) in enumerate(STALLS):
        result = simulator.run(
            inputs, SAMPLES, input_stall=input_stall, output_stall=output_stall, seed=seed, trace=True
        )
        for k, case in enumerate(cases):
            delivered = unpack_lanes(result.streams[f"o{k}"].words, case.element_width, case.lanes_out, False)
            expected = case.expected(codes[k])
            delivered = delivered.reshape(SAMPLES, -1)[:, : expected.shape[1]]
            assert np.array_equal(delivered, expected), case.name
            _check_cycles(case, result.streams[f"i{k}"].trace, result.streams[f"o{k}"].trace)


def _check_cycles(case: Case, trace_in: NDArray[np.uint8], trace_out: NDArray[np.uint8]) -> None:
    model = case.model()
    for cycle, (seen_in, seen_out) in enumerate(zip(trace_in.tolist(), trace_out.tolist(), strict=True)):
        ready_in, valid_out = model.step(bool(seen_in & 1), bool(seen_out & 2))
        assert (ready_in, valid_out) == (bool(seen_in & 2), bool(seen_out & 1)), f"{case.name}, cycle {cycle}"


def _same(codes: Codes) -> Codes:
    return codes


def _fifo(width: int, depth: int) -> Case:
    def model() -> cell_models.Fifo:
        return cell_models.Fifo(depth)

    name = f"fifo {width} {depth}"
    return Case(name, "gw_fifo", f".Width({width}), .Depth({depth})", width, 1, 1, 5, 5, model, _same)


def _slice(width: int) -> Case:
    return Case(
        f"slice {width}",
        "gw_register_slice",
        f".Width({width})",
        width,
        1,
        1,
        5,
        5,
        cell_models.RegisterSlice,
        _same,
    )


def _replay(window: int, repeats: int, depth: int) -> Case:
    def expected(codes: Codes) -> Codes:
        return np.tile(codes, (1, repeats))

    def model() -> cell_models.ReplayBuffer:
        return cell_models.ReplayBuffer(window, repeats, depth)

    parameters = f".Width(9), .Window({window}), .Repeats({repeats}), .Depth({depth})"
    name = f"replay {window} {repeats} {depth}"
    return Case(name, "gw_replay_buffer", parameters, 9, 1, 1, window, window * repeats, model, expected)


def _repeat(repeats: int) -> Case:
    def expected(codes: Codes) -> Codes:
        return np.repeat(codes, repeats, axis=1)

    def model() -> cell_models.WidthDown:
        return cell_models.WidthDown(repeats, repeats, 1)

    parameters = f".Width(9), .Repeats({repeats})"
    return Case(f"repeat {repeats}", "gw_repeat", parameters, 9, 1, 1, 3, 3 * repeats, model, expected)


def _reorder(count: int, loops: Sequence[tuple[int, int]], offset: int = 0) -> Case:
    """``loops``: (count, stride) of each loop, the slowest first."""
    order = np.full((1,), offset)
    for length, stride in loops:
        order = (order[:, None] + np.arange(length) * stride).reshape(-1)

    def expected(codes: Codes) -> Codes:
        return codes[:, order]

    def model() -> cell_models.ReorderBuffer:
        return cell_models.ReorderBuffer(count, len(order))

    counts = ", ".join(f"32'd{length}" for length, _ in loops)
    strides = ", ".join(f"32'h{stride & 0xFFFFFFFF:x}" for _, stride in loops)
    nest = f".Loops({len(loops)}), .Counts({{{counts}}}), .Strides({{{strides}}}), .Offset({offset})"
    parameters = f".Width(11), .Count({count}), {nest}"
    return Case(
        f"reorder {count} {loops}",
        "gw_reorder_buffer",
        parameters,
        11,
        1,
        1,
        count,
        len(order),
        model,
        expected,
    )


def _width(tile_in: int, tile_out: int, elements: int) -> Case:
    def expected(codes: Codes) -> Codes:
        return codes[:, :elements]

    def model() -> cell_models.CellModel:
        return cell_models.width_adapter(tile_in, tile_out, elements)

    beats_in, beats_out = -(-elements // tile_in), -(-elements // tile_out)
    parameters = f".ElementWidth(5), .TileIn({tile_in}), .TileOut({tile_out}), .Elements({elements})"
    name = f"width {tile_in}->{tile_out} of {elements}"
    return Case(name, "gw_width_adapter", parameters, 5, tile_in, tile_out, beats_in, beats_out, model, expected)


FAMILIES: dict[str, list[Case]] = {
    "queues": [_slice(1), _slice(70), *(_fifo(8, depth) for depth in (1, 2, 3, 4, 5, 6, 9, 17, 18)),
        _fifo(100, 33)],
    "repeat": [_repeat(repeats) for repeats in (2, 3, 16)],
    "replay": [
        _replay(*sizes)
        for sizes in (
            (1, 1, 1), (1, 3, 1), (1, 3, 2), (1, 2, 5), (2, 2, 2), (3, 1, 3), (3, 2, 3), (3, 2, 4), (3, 5, 7),
            (4, 3, 4), (4, 3, 8), (4, 2, 12), (4, 2, 6),
            (5, 2, 16), (7, 1, 9), (8, 3, 64), (16, 8, 16), (16, 2, 32),
        )
    ],
    "reorder": [
        _reorder(1, [(1, 1)]),
        _reorder(2, [(2, 1)]),
        _reorder(6, [(3, 1), (2, 3)]),
        _reorder(12, [(3, 1), (4, 3)]),
        _reorder(24, [(4, 1), (2, 12), (3, 4)]),
        _reorder(8, [(8, -1)], offset=7),
        _reorder(5, [(3, 0), (5, 1)]),
        _reorder(16, [(1, 5), (4, 4), (1, 9), (2, 2)], offset=1),
        _reorder(30, [(2, 1), (3, 2), (5, 6)]),
    ],
    "width": [
        _width(tile_in, tile_out, elements)
        for tile_in, tile_out in (
            (1, 4), (4, 1), (2, 6), (6, 2), (2, 3), (3, 2), (4, 6), (6, 4), (3, 5), (5, 3), (5, 7), (1, 16),
            (16, 1), (16, 4), (4, 4), (9, 6),
        )
        for elements in (1, 5, 10, 12, 30)
    ],
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_cells_agree_with_their_models(family: str, tmp_path: Path) -> None:
    _run(FAMILIES[family], tmp_path)


def test_fork(tmp_path: Path) -> None:
    source = tmp_path / "forks.sv"
    source.write_text(
        """module forks (
  input logic aclk, input logic aresetn,
  input logic [7:0] i_tdata, input logic i_tvalid, output logic i_tready, input logic i_tlast,
"""
        + ",\n".join(
            f"  output logic [7:0] o{k}_tdata, output logic o{k}_tvalid,\n"
            f"  input logic o{k}_tready, output logic o{k}_tlast"
            for k in range(3)
        )
        + """);
  logic [8:0] data;
  gw_fork #(.Width(9), .Outputs(3)) u_fork (
    .clk_i(aclk), .rst_ni(aresetn), .valid_i(i_tvalid), .ready_o(i_tready), .data_i({i_tlast, i_tdata}),
    .valid_o({o2_tvalid, o1_tvalid, o0_tvalid}), .ready_i({o2_tready, o1_tready, o0_tready}), .data_o(data));
"""
        + "".join(f"  assign {{o{k}_tlast, o{k}_tdata}} = data;\n" for k in range(3))
        + "endmodule\n"
    )
    outputs = ("o0", "o1", "o2")
    ports = [StreamPort("i", "input", 8, 3), *(StreamPort(name, "output", 8, 3) for name in outputs)]
    simulator = build([*CELLS, source], "forks", ports)
    words = np.random.default_rng(2).integers(0, 256, 3 * SAMPLES).astype(np.uint64)
    for seed, (input_stall, output_stall) in enumerate(STALLS):
        result = simulator.run(
            {"i": words}, SAMPLES, input_stall=input_stall, output_stall=output_stall, seed=seed, trace=True
        )
        model = cell_models.Fork(3)
        seen_in = result.streams["i"].trace.tolist()
        for cycle, seen in enumerate(zip(*(result.streams[name].trace.tolist() for name in outputs), strict=True)):
            ready_in, valid_out = model.step(bool(seen_in[cycle] & 1), tuple(bool(each & 2) for each in seen))
            assert ready_in == bool(seen_in[cycle] & 2), cycle
            assert valid_out == tuple(bool(each & 1) for each in seen), cycle
        for name in outputs:
            assert np.array_equal(result.streams[name].words, words)


@pytest.mark.parametrize(
    ("case", "input_cycles", "output_cycles"),
    [
        (_fifo(8, 3), 5, 5), (_replay(4, 3, 4), 12, 12), (_replay(3, 2, 5), 6, 6),
        (_repeat(3), 9, 9),
        (_reorder(6, [(3, 1), (2, 3)]), 6, 6),
        (_width(2, 3, 10), 5, 5), (_width(3, 2, 10), 5, 5), (_width(4, 6, 10), 3, 3),
        (_width(5, 7, 30), 6, 6),
        (_width(5, 3, 17), 6, 6), (_width(1, 4, 10), 10, 10), (_width(4, 1, 10), 10, 10),
    ],
)  # fmt: skip
def test_no_bubbles(case: Case, input_cycles: int, output_cycles: int) -> None:
    """With both sides willing, a sample takes as many cycles as its busier side has beats."""
    model = case.model()
    taken = given = 0
    warm_up, samples = 200, 100
    for cycle in range(warm_up + samples * max(input_cycles, output_cycles)):
        ready_in, valid_out = model.step(True, True)
        if cycle >= warm_up:
            taken += ready_in
            given += valid_out
    assert taken == samples * case.beats_in
    assert given == samples * case.beats_out
