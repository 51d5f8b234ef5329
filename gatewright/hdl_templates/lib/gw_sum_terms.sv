// Sum of Terms numbers, each chosen from an element of data_i by two bits of selects_i inside the LUTs of the adder that
// takes it: chains of Segment terms, then a tree over the chains.
//
// Paired: an element is {difference, sum}; the low bit of selects_i takes the difference, the high one inverts.
// Otherwise: an element is a number, in two's complement if Signed, which counts from the smallest one; the high bit inverts,
// and without the low bit the term is 0. Terms are unsigned.
// A term is added as a subtraction of its complement below a constant bit, so that synthesis neither swaps the operands (the
// first enters the carries as it is, without a LUT) nor merges adders into carry-save ones. Arithmetic is modulo 2^SumWidth.
// Latency: 1 + Registers cycles in which advance_i is high (after the chains, then in the tree).
module gw_sum_terms #(
  parameter int unsigned TermWidth = 9,
  parameter bit          Paired    = 1'b1,
  parameter bit          Signed    = 1'b0,
  parameter int unsigned Terms     = 4,
  parameter int unsigned Segment   = 4,
  parameter int unsigned SumWidth  = 13,
  parameter int unsigned Registers = 0,
  localparam int unsigned ElementWidth = Paired ? 2 * TermWidth : TermWidth
) (
  input  logic                          clk_i,
  input  logic                          advance_i,
  input  logic [Terms*ElementWidth-1:0] data_i,
  input  logic [2*Terms-1:0]            selects_i,
  output logic [SumWidth-1:0]           total_o
);

  localparam int unsigned Chains = (Terms + Segment - 1) / Segment;
  localparam int unsigned Levels = $clog2(Chains);
  localparam logic [TermWidth-1:0] Bias = Signed ? {TermWidth{1'b1}} << (TermWidth - 1) : '0;

  // Bits of the sum of so many terms, and chains at a level of the tree.
  function automatic int unsigned sum_width(input int unsigned terms);
    sum_width = TermWidth + $clog2(terms) < SumWidth ? TermWidth + $clog2(terms) : SumWidth;
  endfunction

  function automatic int unsigned level_sums(input int unsigned level);
    level_sums = (Chains + (1 << level) - 1) >> level;
  endfunction

  for (genvar level = 0; level <= Levels; level++) begin : gen_level
    localparam int unsigned Width = sum_width(Segment << level);
    localparam int unsigned Sums = level_sums(level);
    localparam bit Registered = level == 0 ||
                                (level * Registers) / (Levels > 0 ? Levels : 1) >
                                ((level - 1) * Registers) / (Levels > 0 ? Levels : 1);
    logic [Sums*Width-1:0] sums;
    logic [Sums*Width-1:0] held;

    if (level == 0) begin : gen_chains
      for (genvar c = 0; c < Sums; c++) begin : gen_chain
        localparam int unsigned Count = (c + 1) * Segment > Terms ? Terms - c * Segment : Segment;

        for (genvar k = 0; k < Count; k++) begin : gen_term
          localparam int unsigned Term = c * Segment + k;
          localparam int unsigned Here = sum_width(k + 1);
          logic                 low;
          logic                 high;
          logic [TermWidth-1:0] term;
          logic [Here-1:0]      sum;

          assign low  = selects_i[2*Term];
          assign high = selects_i[2*Term+1];
          if (Paired) begin : gen_paired
            assign term = {TermWidth{high}} ^ (low ? data_i[(2*Term+1)*TermWidth +: TermWidth] :
                                                     data_i[2*Term*TermWidth +: TermWidth]);
          end else begin : gen_single
            assign term = {TermWidth{low}} & ({TermWidth{high}} ^ Bias ^ data_i[Term*TermWidth +: TermWidth]);
          end

          if (k == 0) begin : gen_first
            assign sum = term;
          end else begin : gen_next
            logic [Here:0] full;
            logic [Here:0] inverted;
            logic          unused_low;

            assign inverted   = (Here+1)'({{(Here+1){1'b1}}, ~term, 1'b1});
            assign full       = {Here'({{SumWidth{1'b0}}, gen_term[k-1].sum}), 1'b0} - inverted;
            assign sum        = full[Here:1];
            assign unused_low = full[0];
          end
        end
        assign sums[c*Width +: Width] = Width'({{SumWidth{1'b0}}, gen_term[Count-1].sum});
      end
    end else begin : gen_tree
      localparam int unsigned Before = sum_width(Segment << (level - 1));
      localparam int unsigned SumsBefore = level_sums(level - 1);

      for (genvar k = 0; k < Sums; k++) begin : gen_sum
        logic [Width-1:0] left;

        assign left = Width'({{SumWidth{1'b0}}, gen_level[level-1].held[2*k*Before +: Before]});
        if (2 * k + 1 == SumsBefore) begin : gen_odd
          assign sums[k*Width +: Width] = left;
        end else begin : gen_pair
          logic [Before-1:0] right;
          logic [Width:0]    full;
          logic [Width:0]    inverted;
          logic              unused_low;

          assign right      = gen_level[level-1].held[(2*k+1)*Before +: Before];
          assign inverted   = (Width+1)'({{(Width+1){1'b1}}, ~right, 1'b1});
          assign full       = {left, 1'b0} - inverted;
          assign unused_low = full[0];
          assign sums[k*Width +: Width] = full[Width:1];
        end
      end
    end
    if (Registered) begin : gen_register
      logic [Sums*Width-1:0] sums_q;

      always_ff @(posedge clk_i) begin
        if (advance_i) sums_q <= sums;
      end
      assign held = sums_q;
    end else begin : gen_wires
      assign held = sums;
    end
  end

  assign total_o = SumWidth'({{SumWidth{1'b0}}, gen_level[Levels].held});

endmodule
