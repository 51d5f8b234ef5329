// Two-slot register: cuts the valid, data and ready paths of a stream at full throughput.
//
// Capacity: 2 words. Latency: 1 cycle (a word accepted in cycle t is offered from cycle t+1).
// valid_o = at least one word held; ready_o = fewer than two words held. Both are registers, so neither
// side's handshake reaches the other combinationally. With `count` words held, per cycle:
//   count += (valid_i && ready_o) - (valid_o && ready_i).
module gw_register_slice #(
  parameter int unsigned Width = 8
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic             valid_i,
  output logic             ready_o,
  input  logic [Width-1:0] data_i,
  output logic             valid_o,
  input  logic             ready_i,
  output logic [Width-1:0] data_o
);

  logic             valid_q;
  logic             ready_q;
  logic             load;
  logic [Width-1:0] data_q;
  logic [Width-1:0] spare_q;

  assign load    = ready_i || !valid_q;
  assign valid_o = valid_q;
  assign ready_o = ready_q;
  assign data_o  = data_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      valid_q <= 1'b0;
      ready_q <= 1'b1;
    end else if (load) begin
      valid_q <= valid_i || !ready_q;
      ready_q <= 1'b1;
    end else begin
      ready_q <= ready_q && !valid_i;
    end
  end

  always_ff @(posedge clk_i) begin
    if (load) data_q <= ready_q ? data_i : spare_q;
    if (ready_q) spare_q <= data_i;
  end

endmodule
