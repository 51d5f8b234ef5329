// Balanced adder tree of signed inputs, with Registers pipeline registers spread over its Levels.
//
// Level l sums pairs of level l-1 and is one bit wider, up to SumWidth; the last register, if any, follows the last
// level. Registers move when advance_i is high. Arithmetic is exact modulo 2^SumWidth.
module gw_adder_tree #(
  parameter int unsigned Inputs     = 4,
  parameter int unsigned InputWidth = 16,
  parameter int unsigned SumWidth   = 18,
  parameter int unsigned Levels     = 2,
  parameter int unsigned Registers  = 0
) (
  input  logic                                clk_i,
  input  logic                                advance_i,
  input  logic signed [Inputs*InputWidth-1:0] data_i,
  output logic signed [SumWidth-1:0]          sum_o
);

  // Widths and counts of the levels. Extension by replication is no cast where the width stays the same.
  function automatic int unsigned level_width(input int unsigned level);
    level_width = InputWidth + level < SumWidth ? InputWidth + level : SumWidth;
  endfunction

  function automatic int unsigned level_terms(input int unsigned level);
    level_terms = (Inputs + (1 << level) - 1) >> level;
  endfunction

  for (genvar level = 0; level <= Levels; level++) begin : gen_level
    localparam int unsigned Width = level_width(level);
    localparam int unsigned Terms = level_terms(level);
    logic [Terms*Width-1:0] terms;

    if (level == 0) begin : gen_inputs
      for (genvar k = 0; k < Terms; k++) begin : gen_term
        if (Width < InputWidth) begin : gen_cut
          assign terms[k*Width +: Width] = Width'(data_i[k*InputWidth +: InputWidth]);
        end else begin : gen_extend
          assign terms[k*Width +: Width] = {{(Width - InputWidth){data_i[(k+1)*InputWidth-1]}},
                                            data_i[k*InputWidth +: InputWidth]};
        end
      end
    end else begin : gen_sums
      localparam int unsigned Before = level_width(level - 1);
      localparam int unsigned TermsBefore = level_terms(level - 1);
      localparam bit Registered = (level * Registers) / Levels > ((level - 1) * Registers) / Levels;
      logic [Terms*Width-1:0] sums;

      for (genvar k = 0; k < Terms; k++) begin : gen_term
        if (2 * k + 1 < TermsBefore) begin : gen_pair
          assign sums[k*Width +: Width] = {{(Width - Before){gen_level[level-1].terms[(2*k+1)*Before-1]}},
                                           gen_level[level-1].terms[2*k*Before +: Before]} +
                                          {{(Width - Before){gen_level[level-1].terms[(2*k+2)*Before-1]}},
                                           gen_level[level-1].terms[(2*k+1)*Before +: Before]};
        end else begin : gen_odd
          assign sums[k*Width +: Width] = {{(Width - Before){gen_level[level-1].terms[(2*k+1)*Before-1]}},
                                           gen_level[level-1].terms[2*k*Before +: Before]};
        end
      end
      if (Registered) begin : gen_register
        logic [Terms*Width-1:0] sums_q;

        always_ff @(posedge clk_i) begin
          if (advance_i) sums_q <= sums;
        end
        assign terms = sums_q;
      end else begin : gen_wires
        assign terms = sums;
      end
    end
  end

  localparam int unsigned LastWidth = level_width(Levels);
  assign sum_o = {{(SumWidth - LastWidth){gen_level[Levels].terms[LastWidth-1]}}, gen_level[Levels].terms};

  if (Registers == 0) begin : gen_unused
    logic unused_clock;
    assign unused_clock = clk_i ^ advance_i;
  end

endmodule
