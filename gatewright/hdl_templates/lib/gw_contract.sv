// Multiply-accumulate array: OutputsPerBeat (PE) rows of InputsPerBeat (SIMD) multipliers with constant weights.
//
// Each result sums InputBeats beats. The weights of every accepted beat are one word of a read-only memory of
// Words words, in the order of use: lane p*InputsPerBeat + s of a word multiplies input lane s for output lane p.
// With DataGroups > 1 the output lanes fall into as many groups, each with inputs of its own: group g reads the
// lanes s*DataGroups + g (a depthwise convolution). With WeightRows < OutputsPerBeat the groups share their
// weights: output lane p uses row p mod WeightRows (several columns of a convolution at once).
// Latency: 3 + TreeRegisters cycles from a result's last input beat to its output (operands, products, TreeRegisters
// registers in the adder tree, sum). Capacity: the pipeline. Throughput: one input beat per cycle.
// ready_o = ready_i || !valid_o: everything moves unless a finished result waits.
module gw_contract #(
  parameter int unsigned DataWidth      = 8,
  parameter bit          DataSigned     = 1'b1,
  parameter int unsigned WeightWidth    = 8,
  parameter bit          WeightSigned   = 1'b1,
  parameter int unsigned SumWidth       = 20,
  parameter int unsigned InputsPerBeat  = 2,
  parameter int unsigned OutputsPerBeat = 2,
  parameter int unsigned DataGroups     = 1,
  parameter int unsigned WeightRows     = OutputsPerBeat,
  parameter int unsigned InputBeats     = 4,
  parameter int unsigned Words          = 8,
  parameter int unsigned TreeRegisters  = 0,
  parameter bit          RomBlock       = 1'b0,
  parameter              RomFile        = "",
  localparam int unsigned DataLanes     = InputsPerBeat * DataGroups
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

  localparam int unsigned Weights = InputsPerBeat * WeightRows;
  localparam int unsigned ProductWidth = DataWidth + WeightWidth + (DataSigned ? 0 : 1) + (WeightSigned ? 0 : 1);
  localparam int unsigned Levels = $clog2(InputsPerBeat);
  // Flags travel beside the operands, the products and the registers of the tree.
  localparam int unsigned Stages = 2 + TreeRegisters;

  logic [Weights*WeightWidth-1:0]       weight_q;
  logic [DataLanes*DataWidth-1:0]       data_q;
  logic [OutputsPerBeat*SumWidth-1:0]   totals;
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
    .Width(Weights * WeightWidth),
    .Words(Words),
    .Block(RomBlock),
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
    logic signed [InputsPerBeat*ProductWidth-1:0] product_q;
    logic signed [SumWidth-1:0]                   total;

    for (genvar s = 0; s < InputsPerBeat; s++) begin : gen_input
      localparam int unsigned DataLane = s * DataGroups + p / (OutputsPerBeat / DataGroups);
      localparam int unsigned WeightLane = (p % WeightRows) * InputsPerBeat + s;
      logic signed [ProductWidth-1:0] factor;
      logic signed [ProductWidth-1:0] weight;

      if (DataSigned) begin : gen_signed_data
        assign factor = ProductWidth'(signed'(data_q[DataLane*DataWidth +: DataWidth]));
      end else begin : gen_unsigned_data
        assign factor = ProductWidth'(signed'({1'b0, data_q[DataLane*DataWidth +: DataWidth]}));
      end
      if (WeightSigned) begin : gen_signed_weight
        assign weight = ProductWidth'(signed'(weight_q[WeightLane*WeightWidth +: WeightWidth]));
      end else begin : gen_unsigned_weight
        assign weight = ProductWidth'(signed'({1'b0, weight_q[WeightLane*WeightWidth +: WeightWidth]}));
      end

      always_ff @(posedge clk_i) begin
        if (advance) product_q[s*ProductWidth +: ProductWidth] <= factor * weight;
      end
    end

    gw_adder_tree #(
      .Inputs     (InputsPerBeat),
      .InputWidth (ProductWidth),
      .SumWidth   (SumWidth),
      .Levels     (Levels),
      .Registers  (TreeRegisters)
    ) u_tree (
      .clk_i    (clk_i),
      .advance_i(advance),
      .data_i   (product_q),
      .sum_o    (total)
    );

    assign totals[p*SumWidth +: SumWidth] = total;
  end

  // A result's first beat replaces the sum, the others add to it; its last beat makes it valid.
  if (InputBeats == 1) begin : gen_single
    assign last = 1'b1;

    always_ff @(posedge clk_i) begin
      if (advance) sum_q <= totals;
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
      always_ff @(posedge clk_i) begin
        if (advance && take_q[Stages-1]) begin
          sum_q[p*SumWidth +: SumWidth] <= (first_q ? SumWidth'(0) : sum_q[p*SumWidth +: SumWidth]) +
                                           totals[p*SumWidth +: SumWidth];
        end
      end
    end
  end

endmodule
