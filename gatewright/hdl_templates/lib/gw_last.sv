// Marks the last beat of every sample: last_o is high while beat Beats-1 is offered.
//
// Counts transfers; combinational from the counter only.
module gw_last #(
  parameter int unsigned Beats = 4
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic transfer_i,
  output logic last_o
);

  if (Beats == 1) begin : gen_single
    logic unused_inputs;
    assign unused_inputs = ^{clk_i, rst_ni, transfer_i};
    assign last_o = 1'b1;
  end else begin : gen_count
    localparam int unsigned BeatWidth = $clog2(Beats);
    logic [BeatWidth-1:0] beat_q;

    assign last_o = beat_q == BeatWidth'(Beats - 1);

    always_ff @(posedge clk_i) begin
      if (!rst_ni) beat_q <= '0;
      else if (transfer_i) beat_q <= last_o ? '0 : beat_q + 1'b1;
    end
  end

endmodule
