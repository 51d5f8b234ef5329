"""The synthesis flow itself, on a multiply-accumulate unit whose cost is known beforehand."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import Row, at_most, exactly
from gatewright.backends.synthesis import synthesise

UNIT = """
module unit (
  input  logic clk_i, input logic clear_i,
  input  logic signed [7:0] a_i, input logic signed [7:0] b_i, output logic signed [23:0] sum_o
);
  logic signed [15:0] product_q;
  always_ff @(posedge clk_i) begin
    product_q <= a_i * b_i;
    sum_o <= (clear_i ? 24'sd0 : sum_o) + 24'(product_q);
  end
endmodule
"""


def rows() -> Iterator[Row]:
    """DSP and LUT of one unit, and what a first and a repeated synthesis take."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "unit.sv"
        path.write_text(UNIT)
        first = synthesise([path], "unit", "xcup", cache=Path(folder) / "cache")
        again = synthesise([path], "unit", "xcup", cache=Path(folder) / "cache")
    assert again.cached
    tool = f"{first.tool} {first.version}, synth_xilinx -family xcup"
    yield Row("multiply-accumulate 8x8+24: DSP", first.dsp, "DSP48E2", "synthesised", exactly(1), note=tool)
    yield Row("multiply-accumulate 8x8+24: LUT", first.lut, "LUT", "synthesised", at_most(24))
    yield Row("multiply-accumulate 8x8+24: time of the synthesis", first.seconds, "s", "measured")
