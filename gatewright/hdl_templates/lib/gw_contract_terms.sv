// Sums of inputs with constant signs: OutputsPerBeat rows of Terms terms, where each term takes one adder.
//
// Paired: an element of data_i is the sum and the difference of two inputs (gw_pair_sums), and +-a +-b is one of these up to
// its sign. Otherwise an element is one input, which is added, subtracted or left out.
// Each result sums InputBeats beats. With Repeats > 1 (and InputBeats = 1) a beat is kept for so many results, one after
// the other. The choices of a beat are one word of a read-only memory, in the order of use: for each output lane two
// bits a term (see gw_sum_terms), then SumWidth bits that are added to the lane's result in its first beat: what undoes
// the biases of its terms, and the ones that complements leave out.
// Latency: 3 + TreeRegisters cycles from a result's last input beat to its output. Capacity: the pipeline.
// ready_o = a new beat is due and (ready_i || !valid_o): everything moves unless a finished result waits.
module gw_contract_terms #(
  parameter int unsigned TermWidth      = 9,
  parameter bit          Paired         = 1'b1,
  parameter bit          Signed         = 1'b0,
  parameter int unsigned Terms          = 4,
  parameter int unsigned OutputsPerBeat = 1,
  parameter int unsigned InputBeats     = 1,
  parameter int unsigned Repeats        = 4,
  parameter int unsigned Words          = 4,
  parameter int unsigned SumWidth       = 13,
  parameter int unsigned Segment        = 4,
  parameter int unsigned TreeRegisters  = 0,
  localparam int unsigned RomWidth      = OutputsPerBeat * (2 * Terms + SumWidth),
  parameter bit          RomBlock       = 1'b0,
  parameter bit          RomApart       = 1'b0,
  parameter logic [RomWidth-1:0] RomZeros = '0,
  parameter logic [RomWidth-1:0] RomOnes  = '0,
  parameter              RomFile        = "",
  localparam int unsigned DataWidth     = Terms * (Paired ? 2 * TermWidth : TermWidth)
) (
  input  logic                               clk_i,
  input  logic                               rst_ni,
  input  logic                               valid_i,
  output logic                               ready_o,
  input  logic [DataWidth-1:0]               data_i,
  output logic                               valid_o,
  input  logic                               ready_i,
  output logic [OutputsPerBeat*SumWidth-1:0] data_o
);

  localparam int unsigned LaneWidth = 2 * Terms + SumWidth;
  localparam int unsigned AddressWidth = Words > 1 ? $clog2(Words) : 1;
  // Flags travel beside the operands, the chains and the registers of the tree.
  localparam int unsigned Stages = 2 + TreeRegisters;

  logic [RomWidth-1:0]                 word_q;
  logic [DataWidth-1:0]                data_q;
  logic [OutputsPerBeat*SumWidth-1:0]  sum_q;
  logic [AddressWidth-1:0]             address_q;
  logic [Stages-1:0]                   take_q;
  logic                                valid_q;
  logic                                advance;
  logic                                fresh;
  logic                                fire;
  logic                                first;
  logic                                last;

  assign advance = ready_i || !valid_q;
  assign ready_o = advance && fresh;
  assign fire    = valid_i || !fresh;
  assign valid_o = valid_q;
  assign data_o  = sum_q;

  // Whether the next result needs a new beat.
  if (Repeats == 1) begin : gen_once
    assign fresh = 1'b1;
  end else begin : gen_repeats
    localparam int unsigned RepeatWidth = $clog2(Repeats);
    logic [RepeatWidth-1:0] repeat_q;

    assign fresh = repeat_q == '0;
    always_ff @(posedge clk_i) begin
      if (!rst_ni) repeat_q <= '0;
      else if (advance && fire) begin
        repeat_q <= (repeat_q == RepeatWidth'(Repeats - 1)) ? '0 : repeat_q + 1'b1;
      end
    end
  end

  always_ff @(posedge clk_i) begin
    if (advance && fresh) data_q <= data_i;
  end

  // The choices of the beat: the memory is read in order.
  always_ff @(posedge clk_i) begin
    if (!rst_ni) address_q <= '0;
    else if (advance && fire) begin
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
  ) u_choices (
    .clk_i    (clk_i),
    .read_i   (advance),
    .address_i(address_q),
    .data_o   (word_q)
  );

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      take_q  <= '0;
      valid_q <= 1'b0;
    end else if (advance) begin
      take_q  <= {take_q[Stages-2:0], fire};
      valid_q <= take_q[Stages-1] && last;
    end
  end

  if (InputBeats == 1) begin : gen_single
    assign first = 1'b1;
    assign last  = 1'b1;
  end else begin : gen_accumulate
    localparam int unsigned BeatWidth = $clog2(InputBeats);
    logic [BeatWidth-1:0] beat_q;

    assign first = beat_q == '0;
    assign last  = beat_q == BeatWidth'(InputBeats - 1);
    always_ff @(posedge clk_i) begin
      if (!rst_ni) beat_q <= '0;
      else if (advance && take_q[Stages-1]) beat_q <= last ? '0 : beat_q + 1'b1;
    end
  end

  for (genvar p = 0; p < OutputsPerBeat; p++) begin : gen_output
    logic [SumWidth-1:0]        total;
    logic [Stages*SumWidth-1:0] offsets;
    logic [SumWidth-1:0]        held;

    gw_sum_terms #(
      .TermWidth(TermWidth),
      .Paired   (Paired),
      .Signed   (Signed),
      .Terms    (Terms),
      .Segment  (Segment),
      .SumWidth (SumWidth),
      .Registers(TreeRegisters)
    ) u_sum (
      .clk_i    (clk_i),
      .advance_i(advance),
      .data_i   (data_q),
      .selects_i(word_q[p*LaneWidth +: 2*Terms]),
      .total_o  (total)
    );

    // The lane's offset waits for the total.
    assign offsets[SumWidth-1:0] = word_q[p*LaneWidth+2*Terms +: SumWidth];
    for (genvar k = 1; k < Stages; k++) begin : gen_delay
      logic [SumWidth-1:0] offset_q;

      always_ff @(posedge clk_i) begin
        if (advance) offset_q <= offsets[(k-1)*SumWidth +: SumWidth];
      end
      assign offsets[k*SumWidth +: SumWidth] = offset_q;
    end

    assign held = first ? offsets[(Stages-1)*SumWidth +: SumWidth] : sum_q[p*SumWidth +: SumWidth];
    always_ff @(posedge clk_i) begin
      if (advance && take_q[Stages-1]) sum_q[p*SumWidth +: SumWidth] <= held + total;
    end
  end

endmodule
