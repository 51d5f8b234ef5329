// Delivers, for each beat, the same beat of the Taps lines that a sliding kernel covers along one axis.
//
// A sample (or a line of a sample) is Lines lines of Beats beats. Behind them stand PadAfter lines that are made here, and
// PadBefore before them; both read as Fill. An output line k covers the lines k*Stride - PadBefore + j*Dilation,
// j < Taps; lane group j of the output, group 0 least significant, is a beat of the j-th of these. OutLines output lines leave.
// A memory of Beats words of (Taps-1)*Dilation beats (LUT or block RAM, synchronous read; registers for Beats 1).
// Latency: 1 cycle from a line's beat to the output that it completes. Throughput: one input beat per cycle; lines that
// are padding take one cycle a beat too. ready_o = the present line is an input line and the stage advances
// (ready_i || !valid_o); a beat that completes nothing passes without an output.
module gw_line_buffer #(
  parameter int unsigned      Width     = 8,
  parameter int unsigned      Beats     = 4,
  parameter int unsigned      Lines     = 5,
  parameter int unsigned      OutLines  = 3,
  parameter int unsigned      Taps      = 3,
  parameter int unsigned      Dilation  = 1,
  parameter int unsigned      Stride    = 1,
  parameter int unsigned      PadBefore = 0,
  parameter logic [Width-1:0] Fill      = '0
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  input  logic                  valid_i,
  output logic                  ready_o,
  input  logic [Width-1:0]      data_i,
  output logic                  valid_o,
  input  logic                  ready_i,
  output logic [Taps*Width-1:0] data_o
);

  localparam int unsigned Delays = (Taps - 1) * Dilation;
  // The line that completes the first output line, and the lines that pass in all.
  localparam int unsigned First = Delays - PadBefore;
  localparam int unsigned Reach = (OutLines - 1) * Stride + First + 1;
  localparam int unsigned Total = Reach > Lines ? Reach : Lines;
  localparam bit Masked = PadBefore > 0 || Reach > Lines;
  localparam int unsigned LineWidth = Total > 1 ? $clog2(Total) : 1;
  localparam int unsigned WaitWidth = $clog2((First > Stride ? First : Stride) + 1);

  logic [LineWidth-1:0]  line_q;
  logic [WaitWidth-1:0]  wait_q;
  logic [Width-1:0]      new_q;
  logic [Taps*Width-1:0] taps;
  logic [Taps-1:0]       covered;
  logic                  valid_q;
  logic                  real_line;
  logic                  line_end;
  logic                  sample_end;
  logic                  advance;
  logic                  fires;

  assign advance    = ready_i || !valid_q;
  assign fires      = advance && (valid_i || !real_line);
  assign ready_o    = advance && real_line;
  assign sample_end = line_q == LineWidth'(Total - 1);
  assign valid_o    = valid_q;

  if (Total > Lines) begin : gen_phantom
    assign real_line = line_q < LineWidth'(Lines);
  end else begin : gen_all_real
    assign real_line = 1'b1;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      line_q  <= '0;
      wait_q  <= WaitWidth'(First);
      valid_q <= 1'b0;
    end else begin
      if (advance) valid_q <= fires && wait_q == '0;
      if (fires && line_end) begin
        line_q <= sample_end ? '0 : line_q + 1'b1;
        if (sample_end) wait_q <= WaitWidth'(First);
        else wait_q <= (wait_q == '0) ? WaitWidth'(Stride - 1) : wait_q - 1'b1;
      end
    end
  end

  always_ff @(posedge clk_i) begin
    if (fires) new_q <= data_i;
  end

  if (Beats == 1) begin : gen_one_beat
    assign line_end = 1'b1;
  end else begin : gen_beats
    localparam int unsigned BeatWidth = $clog2(Beats);
    logic [BeatWidth-1:0] beat_q;

    assign line_end = beat_q == BeatWidth'(Beats - 1);

    always_ff @(posedge clk_i) begin
      if (!rst_ni) beat_q <= '0;
      else if (fires) beat_q <= line_end ? '0 : beat_q + 1'b1;
    end
  end

  // The beats of the lines before, the nearest least significant.
  if (Delays == 0) begin : gen_no_delay
    assign taps = new_q;
  end else begin : gen_delay
    logic [Delays*Width-1:0]     past_q;
    logic [(Delays+1)*Width-1:0] column;

    assign column = {past_q, new_q};

    if (Beats == 1) begin : gen_registers
      always_ff @(posedge clk_i) begin
        if (fires) past_q <= column[Delays*Width-1:0];
      end
    end else begin : gen_memory
      localparam int unsigned AddressWidth = $clog2(Beats);
      logic [Delays*Width-1:0] memory_q [Beats];
      logic [AddressWidth-1:0] address_q;
      logic                    held_q;

      always_ff @(posedge clk_i) begin
        if (!rst_ni) held_q <= 1'b0;
        else if (advance) held_q <= fires;
      end

      always_ff @(posedge clk_i) begin
        if (fires) begin
          past_q    <= memory_q[gen_beats.beat_q];
          address_q <= gen_beats.beat_q;
        end
      end

      always_ff @(posedge clk_i) begin
        if (held_q) memory_q[address_q] <= column[Delays*Width-1:0];
      end
    end

    for (genvar tap = 0; tap < Taps; tap++) begin : gen_tap
      assign taps[tap*Width +: Width] = column[(Taps-1-tap)*Dilation*Width +: Width];
    end
  end

  // Taps on lines outside the sample read as Fill.
  if (Masked) begin : gen_mask
    logic [Taps-1:0] covered_q;

    for (genvar tap = 0; tap < Taps; tap++) begin : gen_covered
      localparam int unsigned Back = (Taps - 1 - tap) * Dilation;

      if (Back == 0) begin : gen_newest
        assign covered[tap] = real_line;
      end else if (Back >= Total) begin : gen_never
        assign covered[tap] = 1'b0;
      end else if (Back + Lines >= Total) begin : gen_begun
        assign covered[tap] = line_q >= LineWidth'(Back);
      end else begin : gen_between
        assign covered[tap] = line_q >= LineWidth'(Back) && line_q < LineWidth'(Back + Lines);
      end
      assign data_o[tap*Width +: Width] = covered_q[tap] ? taps[tap*Width +: Width] : Fill;
    end

    always_ff @(posedge clk_i) begin
      if (fires) covered_q <= covered;
    end
  end else begin : gen_plain
    assign covered = '1;
    assign data_o = taps;

    logic unused_covered;
    assign unused_covered = ^{covered, Fill};
  end

endmodule
