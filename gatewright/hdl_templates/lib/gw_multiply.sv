// Product of two mantissas in plain logic, for mantissas too small to be worth a hard multiplier. Combinational.
//
// Tabled: the product of {b_i, a_i} = k is Products[k*ProductWidth +: ProductWidth]; one LUT a bit for up to 6 operand bits.
// Otherwise an operand is two's complement if signed, else a magnitude, and radix-4 Booth
// rows add 0, +-a or +-2a, chosen by three bits of b inside the adder's own LUTs (Walters, "Array Multipliers for High
// Throughput in Xilinx FPGAs with 6-Input LUTs", 2016).
module gw_multiply #(
  parameter int unsigned                   WidthA       = 8,
  parameter bit                            SignedA      = 1'b1,
  parameter int unsigned                   WidthB       = 8,
  parameter bit                            SignedB      = 1'b1,
  parameter int unsigned                   ProductWidth = 16,
  parameter int unsigned                   TableBits    = 1,
  parameter logic [TableBits-1:0]          Products     = '0
) (
  input  logic [WidthA-1:0]       a_i,
  input  logic [WidthB-1:0]       b_i,
  output logic [ProductWidth-1:0] product_o
);

  if (TableBits > 1) begin : gen_table
    assign product_o = Products[ProductWidth*32'({b_i, a_i}) +: ProductWidth];
  end else if (WidthB == 1 && !SignedB) begin : gen_gate
    assign product_o = ProductWidth'(signed'({SignedA && a_i[WidthA-1], a_i})) & {ProductWidth{b_i[0]}};
  end else if (WidthA == 1 && !SignedA) begin : gen_gate_other
    assign product_o = ProductWidth'(signed'({SignedB && b_i[WidthB-1], b_i})) & {ProductWidth{a_i[0]}};
  end else begin : gen_booth
    // b with its sign (or a zero) above and a zero below, an even number of bits.
    localparam int unsigned BitsB = WidthB + (SignedB ? 0 : 1);
    localparam int unsigned Rows = (BitsB + 1) / 2;
    localparam int unsigned RowWidth = WidthA + (SignedA ? 2 : 3);
    localparam int unsigned Width = 2 * (Rows - 1) + RowWidth;
    logic [2*Rows:0]              digits;
    logic [RowWidth-1:0]          factor;
    logic [Rows*(RowWidth+1)-1:0] sums;
    logic [Width-1:0]             product;

    assign digits = {{(2 * Rows - WidthB){SignedB && b_i[WidthB-1]}}, b_i, 1'b0};
    assign factor = RowWidth'(signed'({SignedA && a_i[WidthA-1], a_i}));

    for (genvar row = 0; row < Rows; row++) begin : gen_row
      logic [2:0]          digit;
      logic [RowWidth-1:0] addend;
      logic [RowWidth-1:0] held;

      assign digit  = digits[2*row +: 3];
      // A digit's sign bit inverts the addend and enters the carry chain below it.
      assign addend = {RowWidth{digit[2]}} ^ ((digit[0] ^ digit[1]) ? factor :
                                              (digit[2] ^ digit[1]) ? factor << 1 : '0);
      if (row == 0) begin : gen_first
        assign held = '0;
      end else begin : gen_next
        assign held = RowWidth'(signed'(sums[(row-1)*(RowWidth+1)+3 +: RowWidth-2]));
      end
      assign sums[row*(RowWidth+1) +: RowWidth+1] = {held, 1'b1} + {addend, digit[2]};
      if (row < Rows - 1) begin : gen_low
        assign product[2*row +: 2] = sums[row*(RowWidth+1)+1 +: 2];
      end else begin : gen_high
        assign product[2*row +: RowWidth] = sums[row*(RowWidth+1)+1 +: RowWidth];
      end
    end
    if (ProductWidth == Width) begin : gen_whole
      assign product_o = product;
    end else begin : gen_cut
      logic unused_product;
      assign unused_product = ^product;
      assign product_o = ProductWidth'(signed'(product));
    end

    logic unused_sums;
    assign unused_sums = ^sums;
  end

endmodule
