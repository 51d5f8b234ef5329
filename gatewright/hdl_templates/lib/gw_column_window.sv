// The windows of Columns neighbouring positions of a line in one beat, from lines that come InColumns pixels a beat.
//
// A line is Beats input beats; of the last one Tail pixels are in use. A pixel is Rows elements of Width bits, those of the
// kernel's rows; input lane r*InColumns + c is element r of pixel c. Output beat j holds the windows of
// the positions j*Columns + p; lane (p*Taps + k)*Rows + r is element r of the pixel (j*Columns + p)*Stride + k*Dilation - Pad
// of the line, or Fill outside it. OutBeats output beats leave per line; InColumns is Columns*Stride where there are several.
// A sample has Lines lines. Registers hold the beats from Before before to After after the one where the windows begin.
// A line takes as many cycles as the more of its input and output beats: the windows at its end, over
// padding, leave while the next line comes. After the last line follow After cycles, less those in which nothing leaves.
// Latency: 1 cycle from the last beat that is needed. ready_o = an input beat's turn and the stage advances (ready_i || !valid_o).
module gw_column_window #(
  parameter int unsigned      Width     = 8,
  parameter int unsigned      Rows      = 1,
  parameter int unsigned      InColumns = 2,
  parameter int unsigned      Columns   = 2,
  parameter int unsigned      Taps      = 3,
  parameter int unsigned      Stride    = 1,
  parameter int unsigned      Dilation  = 1,
  parameter int unsigned      Pad       = 1,
  parameter int unsigned      Beats     = 3,
  parameter int unsigned      OutBeats  = 3,
  parameter int unsigned      Lines     = 2,
  parameter int unsigned      Before    = 1,
  parameter int unsigned      After     = 1,
  parameter int unsigned      Tail      = 1,
  parameter logic [Width-1:0] Fill      = '0
) (
  input  logic                               clk_i,
  input  logic                               rst_ni,
  input  logic                               valid_i,
  output logic                               ready_o,
  input  logic [Rows*InColumns*Width-1:0]    data_i,
  output logic                               valid_o,
  input  logic                               ready_i,
  output logic [Columns*Taps*Rows*Width-1:0] data_o
);

  localparam int unsigned Slots     = Beats > OutBeats ? Beats : OutBeats;
  localparam int unsigned Flush     = After > Slots - OutBeats ? After - (Slots - OutBeats) : 0;
  localparam int unsigned Held      = Before + After + 1;
  localparam int unsigned BeatWidth = Rows * InColumns * Width;
  localparam int unsigned SlotWidth = Slots > 1 ? $clog2(Slots) : 1;
  localparam int unsigned LineWidth = $clog2(Lines + 1);

  logic [SlotWidth-1:0]      slot_q;
  logic [LineWidth-1:0]      line_q;
  logic [Held*BeatWidth-1:0] held_q;
  logic [Held-1:0]           on_line;
  logic [Held-1:0]           on_line_q;
  logic [Held-1:0]           tail;
  logic [Held-1:0]           tail_q;
  logic                      valid_q;
  logic                      takes;
  logic                      emits;
  logic                      advance;
  logic                      fires;
  logic                      line_end;
  logic                      sample_end;

  assign advance  = ready_i || !valid_q;
  assign fires    = advance && (valid_i || !takes);
  assign ready_o  = advance && takes;
  assign valid_o  = valid_q;
  assign line_end = slot_q == SlotWidth'(Slots - 1);

  if (Flush > 0) begin : gen_flush
    logic flushes;

    assign flushes    = line_q == LineWidth'(Lines);
    assign sample_end = flushes && slot_q == SlotWidth'(Flush - 1);
    assign takes      = !flushes && 32'(slot_q) < Beats;
  end else begin : gen_no_flush
    assign sample_end = line_end && line_q == LineWidth'(Lines - 1);
    assign takes      = 32'(slot_q) < Beats;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      slot_q  <= '0;
      line_q  <= '0;
      valid_q <= 1'b0;
    end else begin
      if (advance) valid_q <= fires && emits;
      if (fires) begin
        slot_q <= (line_end || sample_end) ? '0 : slot_q + 1'b1;
        if (sample_end) line_q <= '0;
        else if (line_end) line_q <= line_q + 1'b1;
      end
    end
  end

  // The beat where the windows begin came After slots ago, perhaps in the line before.
  logic [SlotWidth:0] begin_slot;

  if (After == 0) begin : gen_at_once
    assign begin_slot = {1'b0, slot_q};
    assign emits      = 32'(begin_slot) < OutBeats;
  end else begin : gen_later
    logic wraps;

    assign wraps      = 32'(slot_q) < After;
    assign begin_slot = wraps ? {1'b0, slot_q} + (SlotWidth + 1)'(Slots - After)
                              : {1'b0, slot_q} - (SlotWidth + 1)'(After);
    assign emits      = 32'(begin_slot) < OutBeats && (!wraps || line_q != '0);
  end

  // Beat h of those held is the one Before - h before where the windows begin.
  for (genvar h = 0; h < Held; h++) begin : gen_on_line
    if (h < Before) begin : gen_before
      assign on_line[h] = 32'(begin_slot) >= Before - h && 32'(begin_slot) < Beats + Before - h;
    end else begin : gen_after
      assign on_line[h] = 32'(begin_slot) + (h - Before) < Beats;
    end
    assign tail[h] = 32'(begin_slot) + h == Beats + Before - 1;
  end

  always_ff @(posedge clk_i) begin
    if (fires) begin
      on_line_q <= on_line;
      tail_q   <= tail;
    end
  end

  if (Held == 1) begin : gen_one
    always_ff @(posedge clk_i) begin
      if (fires) held_q <= data_i;
    end
  end else begin : gen_several
    always_ff @(posedge clk_i) begin
      if (fires) held_q <= {data_i, held_q[Held*BeatWidth-1:BeatWidth]};
    end
  end

  for (genvar p = 0; p < Columns; p++) begin : gen_position
    for (genvar k = 0; k < Taps; k++) begin : gen_tap
      // Counted from Pad beats before the line, so that nothing is negative.
      localparam int unsigned Pixel  = p * Stride + k * Dilation + Pad * (InColumns - 1);
      localparam int unsigned Beat   = Pixel / InColumns + Before;
      localparam int unsigned Column = Pixel % InColumns;

      for (genvar r = 0; r < Rows; r++) begin : gen_row
        localparam int unsigned Lane = (p * Taps + k) * Rows + r;

        if (Beat < Pad || Beat >= Pad + Held) begin : gen_fill
          assign data_o[Lane*Width +: Width] = Fill;
        end else begin : gen_pixel
          localparam int unsigned H = Beat - Pad;
          logic covered;

          assign covered = on_line_q[H] && (Column < Tail || !tail_q[H]);
          assign data_o[Lane*Width +: Width] =
              covered ? held_q[H*BeatWidth + (r*InColumns + Column)*Width +: Width] : Fill;
        end
      end
    end
  end

  // Pixels that a stride leaves out are held in vain.
  logic unused_pixels;
  assign unused_pixels = ^{held_q, on_line_q, tail_q};

endmodule
