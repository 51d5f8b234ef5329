// How many of Inputs bits are set: groups of six as tables (three LUTs each), then an adder tree.
//
// Latency: Registers cycles in which advance_i is high; registers that the tree has no level for follow the result.
module gw_popcount #(
  parameter int unsigned Inputs    = 32,
  parameter int unsigned Width     = 6,
  parameter int unsigned Registers = 0
) (
  input  logic              clk_i,
  input  logic              advance_i,
  input  logic [Inputs-1:0] data_i,
  output logic [Width-1:0]  count_o
);

  localparam int unsigned Groups = (Inputs + 5) / 6;
  localparam int unsigned Levels = $clog2(Groups);
  localparam int unsigned Inner = Registers < Levels ? Registers : Levels;
  localparam int unsigned Outer = Registers - Inner;
  logic [6*Groups-1:0]     padded;
  logic [4*Groups-1:0]     counts;
  logic signed [Width:0]   total;

  assign padded = (6*Groups)'(data_i);

  for (genvar k = 0; k < Groups; k++) begin : gen_group
    logic [5:0] bits;

    assign bits = padded[6*k +: 6];
    assign counts[4*k +: 4] = 4'({2'b0, bits[0]} + {2'b0, bits[1]} + {2'b0, bits[2]} +
                                 {2'b0, bits[3]} + {2'b0, bits[4]} + {2'b0, bits[5]});
  end

  gw_adder_tree #(
    .Inputs     (Groups),
    .InputWidth (4),
    .SumWidth   (Width + 1),
    .Levels     (Levels),
    .Registers  (Inner)
  ) u_tree (
    .clk_i    (clk_i),
    .advance_i(advance_i),
    .data_i   (counts),
    .sum_o    (total)
  );

  if (Outer == 0) begin : gen_wire
    assign count_o = total[Width-1:0];
  end else begin : gen_delay
    logic [Outer*Width-1:0] delay_q;

    always_ff @(posedge clk_i) begin
      if (advance_i) delay_q <= (Outer*Width)'({delay_q, total[Width-1:0]});
    end
    assign count_o = delay_q[Outer*Width-1 -: Width];
  end

  logic unused_sign;
  assign unused_sign = total[Width];

endmodule
