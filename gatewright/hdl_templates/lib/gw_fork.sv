// Eager fork: hands every word to each of Outputs consumers, each at its own pace.
//
// Latency: 0 cycles; capacity: none beyond one "done" bit per output. Output k is offered the present word until it has
// taken it: valid_o[k] = valid_i && !done[k]. The word leaves the input in the cycle in which its last
// consumer takes it: ready_o = for all k: ready_i[k] || done[k] (combinational from ready_i). All outputs share data_o.
module gw_fork #(
  parameter int unsigned Width   = 8,
  parameter int unsigned Outputs = 2
) (
  input  logic               clk_i,
  input  logic               rst_ni,
  input  logic               valid_i,
  output logic               ready_o,
  input  logic [Width-1:0]   data_i,
  output logic [Outputs-1:0] valid_o,
  input  logic [Outputs-1:0] ready_i,
  output logic [Width-1:0]   data_o
);

  logic [Outputs-1:0] done_q;
  logic [Outputs-1:0] served;

  assign served  = done_q | ready_i;
  assign ready_o = &served;
  assign valid_o = {Outputs{valid_i}} & ~done_q;
  assign data_o  = data_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) done_q <= '0;
    else if (valid_i) done_q <= (&served) ? '0 : served;
  end

endmodule
