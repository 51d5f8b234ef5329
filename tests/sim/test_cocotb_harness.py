"""The cocotb harness agrees with the fast one to the cycle, and resets in mid-stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gatewright.diagnostics import GatewrightError, MismatchError
from gatewright.sim.cocotb_harness import run_cocotb
from gatewright.sim.harness import StreamPort, build
from tests.sim.designs import CELLS, ROM, fifo


def _ports(bits: int) -> list[StreamPort]:
    return [StreamPort("x", "input", bits, 4), StreamPort("y", "output", bits, 4)]


@pytest.mark.parametrize("bits", [8, 72])
def test_both_harnesses_count_the_same_cycles(bits: int, tmp_path: Path) -> None:
    source = tmp_path / "example.sv"
    source.write_text(fifo(bits))
    sources = [*CELLS, source]
    words = np.random.default_rng(1).integers(0, 256, (200,) if bits == 8 else (200, 2)).astype(np.uint64)
    simulator = build(sources, "example", _ports(bits))
    for input_stall, output_stall in ((0.0, 0.0), (0.4, 0.2)):
        stalls = {"input_stall": input_stall, "output_stall": output_stall, "seed": 5}
        fast = simulator.run({"x": words}, 50, **stalls)
        slow = run_cocotb(sources, "example", _ports(bits), {"x": words}, {"y": words}, 50, **stalls)
        assert slow.cycles == fast.cycles
        assert np.array_equal(slow.outputs["y"], words)


def test_reset_in_midstream_and_mismatches(tmp_path: Path) -> None:
    (tmp_path / "rom.hex").write_text("10\n20\n30\n40\n")
    source = tmp_path / "example.sv"
    words = np.array([0, 1, 2, 3] * 4)
    expected = {"y": np.array([0x10, 0x20, 0x30, 0x40] * 4) + np.arange(16)}

    def run(text: str) -> None:
        source.write_text(text)
        sources = [source, tmp_path / "rom.hex"]
        run_cocotb(sources, "example", _ports(8), {"x": words}, expected, 4)

    run(ROM)
    with pytest.raises(MismatchError, match="differs first at sample 0, beat 0"):
        run(ROM.replace("if (!aresetn) count_q <= 8'd0;\n    else if", "if"))
    with pytest.raises(MismatchError, match="differs first at sample 2, beat 1"):
        run(ROM.replace("+ count_q;", "+ count_q + 8'(count_q == 8'd9);"))
    with pytest.raises(GatewrightError, match="TLAST is wrong at transfer 3"):
        run(ROM.replace("y_tlast  = x_tlast", "y_tlast  = 1'b0"))
