// Multiply-accumulate array: OutputsPerBeat (PE) rows of InputsPerBeat (SIMD) multipliers with constant weights.
//
// Each result sums InputBeats beats. The weights of every accepted beat are one word of a read-only memory of
// Words words, in the order of use: lane p*InputsPerBeat + s of a word multiplies input lane s for output lane p.
// With DataGroups > 1 the output lanes fall into as many groups, each with inputs of its own: group g reads the
// lanes s*DataGroups + g (a depthwise convolution). With WeightRows < OutputsPerBeat the output lanes are so many of
// several columns, one after the other, and so are the input lanes; all columns share the weights.
// Data and weights are integers, or decoded numbers {negative, exponent, magnitude}: see gw_dot.
// Latency: 3 + TreeRegisters cycles from a result's last input beat to its output (operands, products, TreeRegisters
// registers in the adder tree, sum). Capacity: the pipeline. Throughput: one input beat per cycle.
// ready_o = ready_i || !valid_o: everything moves unless a finished result waits.
module gw_contract #(
  parameter int unsigned DataWidth      = 8,
  parameter bit          DataSigned     = 1'b1,
  parameter bit          DataNegative   = 1'b0,
  parameter int unsigned DataExponent   = 0,
  parameter bit          DataUnit       = 1'b0,
  parameter int unsigned WeightWidth    = 8,
  parameter bit          WeightSigned   = 1'b1,
  parameter bit          WeightNegative = 1'b0,
  parameter int unsigned WeightExponent = 0,
  parameter bit          WeightUnit     = 1'b0,
  parameter bit          Hard           = 1'b1,
  parameter int unsigned ProductWidth   = DataWidth + WeightWidth,
  parameter int unsigned ExponentMax    = 0,
  parameter int unsigned TableBits      = 1,
  parameter logic [TableBits-1:0] Products = '0,
  parameter int unsigned SumWidth       = 20,
  parameter int unsigned InputsPerBeat  = 2,
  parameter int unsigned OutputsPerBeat = 2,
  parameter int unsigned DataGroups     = 1,
  parameter int unsigned WeightRows     = OutputsPerBeat,
  parameter int unsigned InputBeats     = 4,
  parameter int unsigned Words          = 8,
  parameter int unsigned TreeRegisters  = 0,
  localparam int unsigned RomWidth      = InputsPerBeat * WeightRows * WeightWidth,
  parameter bit          RomBlock       = 1'b0,
  parameter bit          RomApart       = 1'b0,
  parameter logic [RomWidth-1:0] RomZeros = '0,
  parameter logic [RomWidth-1:0] RomOnes  = '0,
  parameter              RomFile        = "",
  localparam int unsigned ColumnLanes   = InputsPerBeat * DataGroups,
  localparam int unsigned DataLanes     = ColumnLanes * (OutputsPerBeat / WeightRows)
) (
  input  logic                               clk_i,
  input  logic                               rst_ni,
  input  logic                               valid_i,
  output logic                               ready_o,
  input  logic [DataLanes*DataWidth-1:0]     data_i,
  output logic                               valid_o,
  input  logic                               ready_i,
  output logic [OutputsPerBeat*SumWidth-1:0] data_o
);

  localparam bit HasSign = DataNegative || WeightNegative;
  // Flags travel beside the operands, the products and the registers of the tree.
  localparam int unsigned Stages = 2 + TreeRegisters;

  logic [RomWidth-1:0]                  weight_q;
  logic [DataLanes*DataWidth-1:0]       data_q;
  logic [OutputsPerBeat*SumWidth-1:0]   totals;
  logic [OutputsPerBeat-1:0]            negatives;
  logic [OutputsPerBeat*SumWidth-1:0]   sum_q;
  logic [Stages-1:0]                    take_q;
  logic                                 valid_q;
  logic                                 advance;
  logic                                 last;

  assign advance = ready_i || !valid_q;
  assign ready_o = advance;
  assign valid_o = valid_q;
  assign data_o  = sum_q;

  // The weights of the beat: the memory is read in order.
  localparam int unsigned AddressWidth = Words > 1 ? $clog2(Words) : 1;
  logic [AddressWidth-1:0] address_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) address_q <= '0;
    else if (advance && valid_i) begin
      address_q <= (address_q == AddressWidth'(Words - 1)) ? '0 : address_q + 1'b1;
    end
  end

  gw_rom #(
    .Width(RomWidth),
    .Words(Words),
    .Block(RomBlock),
    .Apart(RomApart),
    .Zeros(RomZeros),
    .Ones (RomOnes),
    .File (RomFile)
  ) u_weights (
    .clk_i    (clk_i),
    .read_i   (advance),
    .address_i(address_q),
    .data_o   (weight_q)
  );

  always_ff @(posedge clk_i) begin
    if (advance) data_q <= data_i;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      take_q  <= '0;
      valid_q <= 1'b0;
    end else if (advance) begin
      take_q  <= {take_q[Stages-2:0], valid_i};
      valid_q <= take_q[Stages-1] && last;
    end
  end

  for (genvar p = 0; p < OutputsPerBeat; p++) begin : gen_output
    logic [InputsPerBeat*DataWidth-1:0] data;
    logic signed [SumWidth-1:0]         total;

    for (genvar s = 0; s < InputsPerBeat; s++) begin : gen_input
      localparam int unsigned Group    = (p % WeightRows) / (WeightRows / DataGroups);
      localparam int unsigned DataLane = (p / WeightRows) * ColumnLanes + s * DataGroups + Group;

      assign data[s*DataWidth +: DataWidth] = data_q[DataLane*DataWidth +: DataWidth];
    end

    gw_dot #(
      .Inputs      (InputsPerBeat),
      .HasSignA    (DataNegative),
      .ExponentA   (DataExponent),
      .WidthA      (DataUnit ? 1 : DataWidth - 32'(DataNegative) - DataExponent),
      .SignedA     (DataSigned),
      .UnitA       (DataUnit),
      .HasSignB    (WeightNegative),
      .ExponentB   (WeightExponent),
      .WidthB      (WeightUnit ? 1 : WeightWidth - 32'(WeightNegative) - WeightExponent),
      .SignedB     (WeightSigned),
      .UnitB       (WeightUnit),
      .Hard        (Hard),
      .ProductWidth(ProductWidth),
      .TableBits   (TableBits),
      .Products    (Products),
      .ExponentMax (ExponentMax),
      .SumWidth    (SumWidth),
      .Registers   (TreeRegisters)
    ) u_dot (
      .clk_i     (clk_i),
      .advance_i (advance),
      .a_i       (data),
      .b_i       (weight_q[(p%WeightRows)*InputsPerBeat*WeightWidth +: InputsPerBeat*WeightWidth]),
      .negative_o(negatives[p]),
      .total_o   (total)
    );

    assign totals[p*SumWidth +: SumWidth] = total;
  end

  if (!HasSign) begin : gen_no_signs
    logic unused_negatives;
    assign unused_negatives = ^negatives;
  end

  // A result's first beat replaces the sum, the others add to it; its last beat makes it valid.
  if (InputBeats == 1) begin : gen_single
    assign last = 1'b1;

    for (genvar p = 0; p < OutputsPerBeat; p++) begin : gen_sum
      if (HasSign) begin : gen_signed
        logic [SumWidth-1:0] carry;

        always_comb begin
          carry    = '0;
          carry[0] = negatives[p];
        end

        always_ff @(posedge clk_i) begin
          if (advance) begin
            sum_q[p*SumWidth +: SumWidth] <= (totals[p*SumWidth +: SumWidth] ^ {SumWidth{negatives[p]}}) + carry;
          end
        end
      end else begin : gen_plain
        always_ff @(posedge clk_i) begin
          if (advance) sum_q[p*SumWidth +: SumWidth] <= totals[p*SumWidth +: SumWidth];
        end
      end
    end
  end else begin : gen_accumulate
    localparam int unsigned BeatWidth = $clog2(InputBeats);
    logic [BeatWidth-1:0] beat_q;
    logic                 first_q;

    assign last = beat_q == BeatWidth'(InputBeats - 1);

    always_ff @(posedge clk_i) begin
      if (!rst_ni) begin
        beat_q  <= '0;
        first_q <= 1'b1;
      end else if (advance && take_q[Stages-1]) begin
        beat_q  <= last ? '0 : beat_q + 1'b1;
        first_q <= last;
      end
    end

    for (genvar p = 0; p < OutputsPerBeat; p++) begin : gen_sum
      logic [SumWidth-1:0] held;
      logic [SumWidth-1:0] next;

      assign held = first_q ? '0 : sum_q[p*SumWidth +: SumWidth];
      if (HasSign) begin : gen_signed
        logic [SumWidth:0] sum;

        assign sum = {held, 1'b1} + {totals[p*SumWidth +: SumWidth] ^ {SumWidth{negatives[p]}}, negatives[p]};
        assign next = sum[SumWidth:1];
        logic unused_carry;
        assign unused_carry = sum[0];
      end else begin : gen_plain
        assign next = held + totals[p*SumWidth +: SumWidth];
      end
      always_ff @(posedge clk_i) begin
        if (advance && take_q[Stages-1]) sum_q[p*SumWidth +: SumWidth] <= next;
      end
    end
  end

endmodule
