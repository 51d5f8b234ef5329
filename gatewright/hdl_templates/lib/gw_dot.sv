// Exact sum of the products of Inputs pairs of decoded numbers: (-1)^negative x magnitude x 2^exponent each.
//
// An element of a_i is {negative, exponent, magnitude}: one bit if HasSignA, ExponentA bits, and WidthA bits unless UnitA (the
// magnitude is 1). The magnitude is two's complement if SignedA. The same holds for b_i. Small mantissas are multiplied, then
// shifted by the sum of the exponents (at most ExponentMax), first by its low bits before the product's register, then by the
// rest in front of the adder tree. Signs are never applied to a product: two neighbours are added or subtracted as their signs
// agree or not, and the sum keeps the first one's sign, so that a negation costs nothing.
// The result is (-1)^negative_o x total_o modulo 2^SumWidth. Latency: 1 + Registers cycles in which advance_i is high.
module gw_dot #(
  parameter int unsigned               Inputs       = 4,
  parameter bit                        HasSignA     = 1'b0,
  parameter int unsigned               ExponentA    = 0,
  parameter int unsigned               WidthA       = 8,
  parameter bit                        SignedA      = 1'b1,
  parameter bit                        UnitA        = 1'b0,
  parameter bit                        HasSignB     = 1'b0,
  parameter int unsigned               ExponentB    = 0,
  parameter int unsigned               WidthB       = 8,
  parameter bit                        SignedB      = 1'b1,
  parameter bit                        UnitB        = 1'b0,
  parameter bit                        Hard         = 1'b0,
  parameter int unsigned               ProductWidth = 16,
  parameter int unsigned               TableBits    = 1,
  parameter logic [TableBits-1:0]      Products     = '0,
  parameter int unsigned               ExponentMax  = 0,
  parameter int unsigned               SumWidth     = 18,
  parameter int unsigned               Registers    = 0,
  localparam int unsigned              ElementA     = 32'(HasSignA) + ExponentA + (UnitA ? 0 : WidthA),
  localparam int unsigned              ElementB     = 32'(HasSignB) + ExponentB + (UnitB ? 0 : WidthB)
) (
  input  logic                        clk_i,
  input  logic                        advance_i,
  input  logic [Inputs*ElementA-1:0]  a_i,
  input  logic [Inputs*ElementB-1:0]  b_i,
  output logic                        negative_o,
  output logic signed [SumWidth-1:0]  total_o
);

  localparam int unsigned Levels = $clog2(Inputs);
  localparam int unsigned ExponentWidth = ExponentMax > 0 ? $clog2(ExponentMax + 1) : 0;
  // A shift's low bits are applied before the register; the rest must fit, with both signs, into the adder's LUTs.
  localparam int unsigned Fine = ExponentWidth > 4 ? ExponentWidth - 2 : ExponentWidth > 2 ? 2 : ExponentWidth;
  localparam int unsigned Coarse = ExponentWidth - Fine;
  localparam int unsigned FineShift = Coarse > 0 ? (1 << Fine) - 1 : ExponentMax;
  localparam int unsigned FineWidth = ProductWidth + FineShift;
  localparam bit          HasSign = HasSignA || HasSignB;
  localparam bit          IsSigned = SignedA || SignedB;
  localparam int unsigned TermWidth = ProductWidth + ExponentMax + (IsSigned ? 0 : 1);

  function automatic int unsigned level_width(input int unsigned level);
    level_width = TermWidth + level < SumWidth ? TermWidth + level : SumWidth;
  endfunction

  function automatic int unsigned level_terms(input int unsigned level);
    level_terms = (Inputs + (1 << level) - 1) >> level;
  endfunction

  if (UnitA && UnitB && ExponentWidth == 0) begin : gen_count
    // All magnitudes are 1: the sum is Inputs minus twice the negative products.
    localparam int unsigned CountWidth = $clog2(Inputs + 1);
    logic [Inputs-1:0]     negatives_q;
    logic [CountWidth-1:0] count;

    always_ff @(posedge clk_i) begin
      if (advance_i) negatives_q <= a_i ^ b_i;
    end

    gw_popcount #(
      .Inputs   (Inputs),
      .Width    (CountWidth),
      .Registers(Registers)
    ) u_count (
      .clk_i    (clk_i),
      .advance_i(advance_i),
      .data_i   (negatives_q),
      .count_o  (count)
    );

    assign total_o    = SumWidth'(Inputs) - SumWidth'({{SumWidth{1'b0}}, count, 1'b0});
    assign negative_o = 1'b0;
  end else begin : gen_sum
    logic [Inputs-1:0]                  negatives;
    logic [Inputs*level_width(0)-1:0]   products;

    for (genvar k = 0; k < Inputs; k++) begin : gen_product
      logic [ProductWidth-1:0] product;
      logic [FineWidth-1:0]    fine;
      logic [FineWidth-1:0]    fine_q;
      logic                    unused_fine;  // a narrow sum does not need a product's upper bits

      assign unused_fine = ^fine_q;
      if (UnitA && UnitB) begin : gen_unit
        assign product = ProductWidth'(1);
      end else if (UnitB) begin : gen_unit_b
        assign product = a_i[k*ElementA +: WidthA];
      end else if (UnitA) begin : gen_unit_a
        assign product = b_i[k*ElementB +: WidthB];
      end else if (Hard) begin : gen_hard
        logic signed [ProductWidth-1:0] a;
        logic signed [ProductWidth-1:0] b;

        assign a = ProductWidth'(signed'({SignedA && a_i[k*ElementA+WidthA-1], a_i[k*ElementA +: WidthA]}));
        assign b = ProductWidth'(signed'({SignedB && b_i[k*ElementB+WidthB-1], b_i[k*ElementB +: WidthB]}));
        assign product = a * b;
      end else begin : gen_logic
        gw_multiply #(
          .WidthA      (WidthA),
          .SignedA     (SignedA),
          .WidthB      (WidthB),
          .SignedB     (SignedB),
          .ProductWidth(ProductWidth),
          .TableBits   (TableBits),
          .Products    (Products)
        ) u_multiply (
          .a_i      (a_i[k*ElementA +: WidthA]),
          .b_i      (b_i[k*ElementB +: WidthB]),
          .product_o(product)
        );
      end

      if (HasSign) begin : gen_sign
        logic negative;
        logic negative_q;

        if (HasSignA && HasSignB) begin : gen_both
          assign negative = a_i[(k+1)*ElementA-1] ^ b_i[(k+1)*ElementB-1];
        end else if (HasSignA) begin : gen_a
          assign negative = a_i[(k+1)*ElementA-1];
        end else begin : gen_b
          assign negative = b_i[(k+1)*ElementB-1];
        end
        always_ff @(posedge clk_i) begin
          if (advance_i) negative_q <= negative;
        end
        assign negatives[k] = negative_q;
      end else begin : gen_no_sign
        assign negatives[k] = 1'b0;
      end

      always_ff @(posedge clk_i) begin
        if (advance_i) fine_q <= fine;
      end

      if (ExponentWidth == 0) begin : gen_fixed
        assign fine = product;
      end else begin : gen_shift
        logic [ExponentWidth-1:0] exponent;

        if (ExponentA > 0 && ExponentB > 0) begin : gen_sum
          assign exponent = ExponentWidth'(a_i[k*ElementA+(UnitA ? 0 : WidthA) +: ExponentA]) +
                            ExponentWidth'(b_i[k*ElementB+(UnitB ? 0 : WidthB) +: ExponentB]);
        end else if (ExponentA > 0) begin : gen_a
          assign exponent = a_i[k*ElementA+(UnitA ? 0 : WidthA) +: ExponentA];
        end else begin : gen_b
          assign exponent = b_i[k*ElementB+(UnitB ? 0 : WidthB) +: ExponentB];
        end
        if (IsSigned) begin : gen_signed
          assign fine = FineWidth'(signed'(product)) << exponent[Fine-1:0];
        end else begin : gen_unsigned
          assign fine = FineWidth'(product) << exponent[Fine-1:0];
        end
        if (Coarse > 0) begin : gen_coarse
          logic [Coarse-1:0] coarse_q;

          always_ff @(posedge clk_i) begin
            if (advance_i) coarse_q <= exponent[ExponentWidth-1:Fine];
          end
        end
      end

      if (Coarse > 0 && level_width(0) == FineWidth) begin : gen_same_term
        assign products[k*level_width(0) +: level_width(0)] = fine_q << {gen_shift.gen_coarse.coarse_q, Fine'(0)};
      end else if (Coarse > 0 && IsSigned) begin : gen_signed_term
        assign products[k*level_width(0) +: level_width(0)] =
            level_width(0)'(signed'(fine_q)) << {gen_shift.gen_coarse.coarse_q, Fine'(0)};
      end else if (Coarse > 0) begin : gen_unsigned_term
        assign products[k*level_width(0) +: level_width(0)] =
            level_width(0)'(fine_q) << {gen_shift.gen_coarse.coarse_q, Fine'(0)};
      end else if (IsSigned && level_width(0) == FineWidth) begin : gen_same
        assign products[k*level_width(0) +: level_width(0)] = fine_q;
      end else if (IsSigned) begin : gen_signed_plain
        assign products[k*level_width(0) +: level_width(0)] = level_width(0)'(signed'(fine_q));
      end else begin : gen_unsigned_plain
        assign products[k*level_width(0) +: level_width(0)] = level_width(0)'({2'b0, fine_q});
      end
    end

    for (genvar level = 0; level <= Levels; level++) begin : gen_level
      localparam int unsigned Width = level_width(level);
      localparam int unsigned Terms = level_terms(level);
      logic [Terms*Width-1:0] terms;
      logic [Terms-1:0]       signs;
      logic                   unused_signs;

      assign unused_signs = ^signs;
      if (level == 0) begin : gen_inputs
        assign terms = products;
        assign signs = negatives;
      end else begin : gen_sums
        localparam int unsigned Before = level_width(level - 1);
        localparam int unsigned TermsBefore = level_terms(level - 1);
        localparam bit Registered = (level * Registers) / Levels > ((level - 1) * Registers) / Levels;
        logic [Terms*Width-1:0] sums;
        logic [Terms-1:0]       first;

        for (genvar k = 0; k < Terms; k++) begin : gen_term
          logic [Before-1:0] left_before;
          logic [Width-1:0]  left;

          assign left_before = gen_level[level-1].terms[2*k*Before +: Before];
          assign left        = Width'(signed'({{2{left_before[Before-1]}}, left_before}));
          assign first[k]    = gen_level[level-1].signs[2*k];
          if (2 * k + 1 == TermsBefore) begin : gen_odd
            assign sums[k*Width +: Width] = left;
          end else begin : gen_pair
            logic [Before-1:0] right_before;
            logic [Width-1:0]  right;

            assign right_before = gen_level[level-1].terms[(2*k+1)*Before +: Before];
            assign right        = Width'(signed'({{2{right_before[Before-1]}}, right_before}));
            if (HasSign) begin : gen_signed_pair
              logic [Width:0] sum;
              logic           differ;

              assign differ = gen_level[level-1].signs[2*k] ^ gen_level[level-1].signs[2*k+1];
              assign sum    = {left, 1'b1} + {right ^ {Width{differ}}, differ};
              assign sums[k*Width +: Width] = sum[Width:1];
              logic unused_carry;
              assign unused_carry = sum[0];
            end else begin : gen_plain_pair
              // A sum as a difference below a constant bit, which synthesis cannot merge into larger carry-save adders.
              logic [Width:0] sum;
              logic           unused_low;

              assign sum = {left, 1'b0} - {~right, 1'b1};
              assign sums[k*Width +: Width] = sum[Width:1];
              assign unused_low = sum[0];
            end
          end
        end
        if (Registered) begin : gen_register
          logic [Terms*Width-1:0] sums_q;
          logic [Terms-1:0]       first_q;

          always_ff @(posedge clk_i) begin
            if (advance_i) begin
              sums_q  <= sums;
              first_q <= first;
            end
          end
          assign terms = sums_q;
          assign signs = first_q;
        end else begin : gen_wires
          assign terms = sums;
          assign signs = first;
        end
      end
    end

    if (level_width(Levels) == SumWidth) begin : gen_whole
      assign total_o = gen_level[Levels].terms;
    end else begin : gen_extended
      assign total_o = SumWidth'(signed'(gen_level[Levels].terms));
    end
    assign negative_o = gen_level[Levels].signs[0];
  end

endmodule
