// Sum, maximum, minimum or bitwise or across the lanes of every beat.
//
// Input lane (g*Count + k)*Inner + i, k < Count, counts for output lane g*Inner + i. Kind: 0 sum, 1 maximum, 2 minimum, 3 or.
// Latency: 1 cycle. ready_o = ready_i || !valid_o. Throughput: one beat per cycle.
module gw_reduce_lanes #(
  parameter int unsigned Kind        = 0,
  parameter int unsigned DataWidth   = 8,
  parameter bit          DataSigned  = 1'b1,
  parameter int unsigned ResultWidth = 10,
  parameter int unsigned Groups      = 1,
  parameter int unsigned Count       = 3,
  parameter int unsigned Inner       = 2,
  localparam int unsigned LanesIn    = Groups * Count * Inner,
  localparam int unsigned LanesOut   = Groups * Inner
) (
  input  logic                            clk_i,
  input  logic                            rst_ni,
  input  logic                            valid_i,
  output logic                            ready_o,
  input  logic [LanesIn*DataWidth-1:0]    data_i,
  output logic                            valid_o,
  input  logic                            ready_i,
  output logic [LanesOut*ResultWidth-1:0] data_o
);

  logic [LanesOut*ResultWidth-1:0] data_q;
  logic                            valid_q;
  logic                            advance;

  function automatic logic [ResultWidth-1:0] combine(
    input logic [ResultWidth-1:0] a, input logic [ResultWidth-1:0] b
  );
    logic less;
    less = DataSigned ? signed'(a) < signed'(b) : a < b;
    if (Kind == 0) combine = a + b;
    else if (Kind == 1) combine = less ? b : a;
    else if (Kind == 2) combine = less ? a : b;
    else combine = a | b;
  endfunction

  assign advance = ready_i || !valid_q;
  assign ready_o = advance;
  assign valid_o = valid_q;
  assign data_o  = data_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= 1'b0;
    else if (advance) valid_q <= valid_i;
  end

  for (genvar lane = 0; lane < LanesOut; lane++) begin : gen_result
    logic [Count*ResultWidth-1:0] extended;
    logic [ResultWidth-1:0]       result;

    for (genvar k = 0; k < Count; k++) begin : gen_operand
      localparam int unsigned From = ((lane / Inner) * Count + k) * Inner + lane % Inner;

      // Extension by replication is no cast where the width stays the same.
      assign extended[k*ResultWidth +: ResultWidth] = {
        {(ResultWidth - DataWidth){DataSigned & data_i[(From+1)*DataWidth-1]}}, data_i[From*DataWidth +: DataWidth]
      };
    end

    always_comb begin
      result = extended[ResultWidth-1:0];
      for (int unsigned k = 1; k < Count; k++) result = combine(result, extended[k*ResultWidth +: ResultWidth]);
    end

    always_ff @(posedge clk_i) begin
      if (advance) data_q[lane*ResultWidth +: ResultWidth] <= result;
    end
  end

endmodule
