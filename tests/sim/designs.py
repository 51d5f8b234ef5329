"""Small designs for the tests of the harnesses: texts of a top level `example` with streams `x` and `y`."""

from __future__ import annotations

from pathlib import Path

import gatewright

STREAM_CELLS = (
    "register_slice fifo fork repeat replay_buffer reorder_buffer width_up width_down width_ring width_adapter"
)
LIBRARY = Path(next(iter(gatewright.__path__))) / "hdl_templates" / "lib"
CELLS = [LIBRARY / f"gw_{name}.sv" for name in STREAM_CELLS.split()]


def design(body: str, bits: int = 8) -> str:
    """A top level with input `x` and output `y` of ``bits`` bits."""
    return f"""module example (
  input  logic aclk, input logic aresetn,
  input  logic [{bits - 1}:0] x_tdata, input logic x_tvalid, output logic x_tready, input logic x_tlast,
  output logic [{bits - 1}:0] y_tdata, output logic y_tvalid, input logic y_tready, output logic y_tlast
);
{body}
endmodule
"""


def fifo(bits: int = 8, depth: int = 16) -> str:
    """A queue of words with their TLAST."""
    return design(
        f"""  gw_fifo #(.Width({bits + 1}), .Depth({depth})) u_fifo (
    .clk_i(aclk), .rst_ni(aresetn), .valid_i(x_tvalid), .ready_o(x_tready), .data_i({{x_tlast, x_tdata}}),
    .valid_o(y_tvalid), .ready_i(y_tready), .data_o({{y_tlast, y_tdata}}));""",
        bits,
    )


# Each word in gives an entry of a ROM, filled from a data file, plus a count that reset must clear.
ROM = design(
    """  logic [7:0] rom [4];
  logic [7:0] count_q;
  initial $readmemh("rom.hex", rom);
  always_ff @(posedge aclk) begin
    if (!aresetn) count_q <= 8'd0;
    else if (x_tvalid && x_tready) count_q <= count_q + 8'd1;
  end
  assign x_tready = y_tready;
  assign y_tvalid = x_tvalid;
  assign y_tlast  = x_tlast;
  assign y_tdata  = rom[x_tdata[1:0]] + count_q;"""
)
