// Delivers each word Repeats times.
//
// Capacity: one word, which is kept. Latency: 1 cycle. ready_o = no word held, or its last turn is being taken
// (valid_o && ready_i): no bubble at either side. Repeats of at least 2.
module gw_repeat #(
  parameter int unsigned Width   = 8,
  parameter int unsigned Repeats = 2
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

  localparam int unsigned TurnWidth = $clog2(Repeats);
  localparam bit Natural = Repeats == 2 ** TurnWidth;

  logic [Width-1:0]     data_q;
  logic [TurnWidth-1:0] turn_q;
  logic                 valid_q;
  logic                 last;

  assign last    = turn_q == TurnWidth'(Repeats - 1);
  assign ready_o = !valid_q || (ready_i && last);
  assign valid_o = valid_q;
  assign data_o  = data_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      turn_q  <= '0;
      valid_q <= 1'b0;
    end else begin
      if (ready_o) valid_q <= valid_i;
      if (valid_q && ready_i) turn_q <= (last && !Natural) ? '0 : turn_q + 1'b1;
    end
  end

  always_ff @(posedge clk_i) begin
    if (ready_o) data_q <= data_i;
  end

endmodule
