// The sum and the difference of every pair of neighbouring lanes, for ``gw_contract_terms``. Combinational.
//
// Lanes 2k and 2k+1 of data_i are integers a and b; pair k of data_o is {difference, sum}, each one bit wider than a lane
// and without a sign: 2^Width + a - b, and a + b, to which 2^Width is added too if the lanes are signed.
module gw_pair_sums #(
  parameter int unsigned Width  = 8,
  parameter bit          Signed = 1'b1,
  parameter int unsigned Lanes  = 2
) (
  input  logic                       clk_i,
  input  logic                       rst_ni,
  input  logic                       valid_i,
  output logic                       ready_o,
  input  logic [Lanes*Width-1:0]     data_i,
  output logic                       valid_o,
  input  logic                       ready_i,
  output logic [Lanes*(Width+1)-1:0] data_o
);

  localparam logic [Width-1:0] Bias = Signed ? {Width{1'b1}} << (Width - 1) : '0;

  logic unused_clock_and_reset;

  assign unused_clock_and_reset = clk_i ^ rst_ni;
  assign valid_o = valid_i;
  assign ready_o = ready_i;

  for (genvar k = 0; k < Lanes / 2; k++) begin : gen_pair
    logic [Width-1:0] a;
    logic [Width-1:0] b;
    logic [Width:0]   sum;
    logic [Width:0]   difference;

    assign a          = data_i[2*k*Width +: Width] ^ Bias;
    assign b          = data_i[(2*k+1)*Width +: Width] ^ Bias;
    assign sum        = {1'b0, a} + {1'b0, b};
    assign difference = {1'b1, a} - {1'b0, b};
    assign data_o[2*k*(Width+1) +: 2*(Width+1)] = {difference, sum};
  end

endmodule
