// Line buffer with an address generator: keeps the part of the input that a sliding kernel still needs, and delivers
// the words of every window in the order of a loop nest.
//
// The circular memory of Depth words (LUT or block RAM, synchronous read) is written in order. Loop k of the nest (loop 0
// fastest) runs Counts[k] times; when it steps and all faster loops return to their start, the read address
// moves by AddressSteps[k] modulo Depth, the distance from the window's first word by OffsetSteps[k], and the row and the column
// of the padded input by RowSteps[k] and ColumnSteps[k]. Index Loops stands for the next sample, where row and column are 0. A step
// to another window leaves Advances[k] words behind, which are no longer needed. Leading padding counts as Preload words
// that are there before a sample; the rows PadTop.. PadTop+Rows-1 and columns PadLeft.. PadLeft+Columns-1 are
// input, others are Fill and read nothing. Negative steps are two's complement.
// Capacity: Depth words (less those of leading padding) and the output register. Latency: 2 cycles from a word to its first
// delivery. load = ready_i || !valid_o; if (load) valid_o' = the word has been written (padding: the sample has begun). A
// word's slot is free in the cycle after its window ended. ready_o = fewer than Depth words in use, a
// function of registers only. Throughput: one word per cycle at both sides.
module gw_window #(
  parameter int unsigned             Width        = 8,
  parameter int unsigned             Depth        = 8,
  parameter int unsigned             Loops        = 2,
  parameter logic [Loops*32-1:0]     Counts       = {32'd4, 32'd2},
  parameter logic [Loops*32+31:0]    AddressSteps = {32'd1, 32'd0, 32'd1},
  parameter logic [Loops*32+31:0]    OffsetSteps  = {32'hFFFFFFFF, 32'hFFFFFFFF, 32'd1},
  parameter logic [Loops*32+31:0]    RowSteps     = '0,
  parameter logic [Loops*32+31:0]    ColumnSteps  = {32'd0, 32'd0, 32'd1},
  parameter logic [Loops*32+31:0]    Advances     = {32'd2, 32'd1, 32'd0},
  parameter int unsigned             LevelWidth   = 8,
  parameter int unsigned             Preload      = 0,
  parameter int unsigned             Rows         = 1,
  parameter int unsigned             Columns      = 5,
  parameter int unsigned             PadTop       = 0,
  parameter int unsigned             PadLeft      = 0,
  parameter bit                      MasksRows    = 1'b0,
  parameter bit                      MasksColumns = 1'b0,
  parameter int unsigned             RowWidth     = 1,
  parameter int unsigned             ColumnWidth  = 1,
  parameter logic [Width-1:0]        Fill         = '0
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic             valid_i,
  output logic             ready_o,
  input  logic [Width-1:0] data_i,
  output logic             valid_o,
  input  logic             ready_i,
  output logic [Width-1:0] data_o
);

  localparam int unsigned AddressWidth = Depth > 1 ? $clog2(Depth) : 1;
  localparam bit Natural = Depth == 2 ** AddressWidth;
  localparam int unsigned SelectWidth = $clog2(Loops + 1);
  // Where the first sample's first window begins, Preload words before its first word.
  localparam int unsigned Behind = Preload % Depth;
  localparam logic [AddressWidth-1:0] Origin = AddressWidth'(Behind == 0 ? 0 : Depth - Behind);

  logic [Width-1:0]             memory_q [Depth];
  logic [Width-1:0]             data_q;
  logic [AddressWidth-1:0]      write_q;
  logic [AddressWidth-1:0]      read_q;
  logic [AddressWidth-1:0]      read_step;
  logic [AddressWidth:0]        read_sum;
  logic signed [LevelWidth-1:0] level_q;
  logic signed [LevelWidth-1:0] offset_q;
  logic signed [LevelWidth-1:0] offset_step;
  logic signed [LevelWidth-1:0] passed;
  logic [SelectWidth-1:0]       turn;
  logic [Loops-1:0]             loop_end;
  logic                         sample_end;
  logic                         start_q;
  logic                         valid_q;
  logic                         padding;
  logic                         available;
  logic                         accept;
  logic                         load;
  logic                         advance;

  assign ready_o    = level_q < signed'(LevelWidth'(Depth));
  assign accept     = valid_i && ready_o;
  assign load       = ready_i || !valid_q;
  assign available  = padding ? (!start_q || level_q > signed'(LevelWidth'(Preload))) : offset_q < level_q;
  assign advance    = load && available;
  assign sample_end = &loop_end;
  assign valid_o    = valid_q;

  for (genvar k = 0; k < Loops; k++) begin : gen_loop
    if (Counts[k*32 +: 32] == 32'd1) begin : gen_trivial
      assign loop_end[k] = 1'b1;
    end else begin : gen_counter
      localparam int unsigned IndexWidth = $clog2(Counts[k*32 +: 32]);
      localparam logic [31:0] LastIndex = Counts[k*32 +: 32] - 32'd1;
      logic [IndexWidth-1:0] index_q;
      logic                  turns;

      assign loop_end[k] = index_q == IndexWidth'(LastIndex);
      if (k == 0) begin : gen_fastest
        assign turns = 1'b1;
      end else begin : gen_slower
        assign turns = &loop_end[k-1:0];
      end

      always_ff @(posedge clk_i) begin
        if (!rst_ni) index_q <= '0;
        else if (advance && turns) index_q <= loop_end[k] ? '0 : index_q + 1'b1;
      end
    end
  end

  // The slowest loop that steps.
  always_comb begin
    turn = SelectWidth'(Loops);
    for (int unsigned k = 1; k <= Loops; k++) begin
      if (!loop_end[Loops-k]) turn = SelectWidth'(Loops - k);
    end
  end

  always_comb begin
    read_step   = '0;
    offset_step = '0;
    passed      = '0;
    for (int unsigned k = 0; k <= Loops; k++) begin
      if (turn == SelectWidth'(k)) begin
        read_step   = AddressWidth'(AddressSteps[k*32 +: 32]);
        offset_step = LevelWidth'(OffsetSteps[k*32 +: 32]);
        passed      = LevelWidth'(Advances[k*32 +: 32]);
      end
    end
  end

  assign read_sum = {1'b0, read_q} + {1'b0, read_step};

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      write_q  <= '0;
      read_q   <= Origin;
      level_q  <= LevelWidth'(Preload);
      offset_q <= '0;
      start_q  <= 1'b1;
      valid_q  <= 1'b0;
    end else begin
      if (load) valid_q <= available;
      if (accept) write_q <= (!Natural && write_q == AddressWidth'(Depth - 1)) ? '0 : write_q + 1'b1;
      level_q <= level_q + (accept ? LevelWidth'(1) : '0) - (advance ? passed : '0);
      if (advance) begin
        if (!Natural && read_sum >= (AddressWidth + 1)'(Depth)) read_q <= AddressWidth'(read_sum - (AddressWidth + 1)'(Depth));
        else read_q <= AddressWidth'(read_sum);
        offset_q <= offset_q + offset_step;
        start_q  <= sample_end;
      end
    end
  end

  always_ff @(posedge clk_i) begin
    if (accept) memory_q[write_q] <= data_i;
  end

  always_ff @(posedge clk_i) begin
    if (load) data_q <= memory_q[read_q];
  end

  if (MasksRows || MasksColumns) begin : gen_padding
    logic row_outside;
    logic column_outside;
    logic padding_q;

    if (MasksRows) begin : gen_rows
      logic [RowWidth-1:0] row_q;
      logic [RowWidth-1:0] row_step;

      // Modulo 2^RowWidth, rows above the map come out large.
      assign row_outside = (row_q - RowWidth'(PadTop)) >= RowWidth'(Rows);

      always_comb begin
        row_step = '0;
        for (int unsigned k = 0; k <= Loops; k++) begin
          if (turn == SelectWidth'(k)) row_step = RowWidth'(RowSteps[k*32 +: 32]);
        end
      end

      always_ff @(posedge clk_i) begin
        if (!rst_ni) row_q <= '0;
        else if (advance) row_q <= row_q + row_step;
      end
    end else begin : gen_no_rows
      assign row_outside = 1'b0;
    end

    if (MasksColumns) begin : gen_columns
      logic [ColumnWidth-1:0] column_q;
      logic [ColumnWidth-1:0] column_step;

      assign column_outside = (column_q - ColumnWidth'(PadLeft)) >= ColumnWidth'(Columns);

      always_comb begin
        column_step = '0;
        for (int unsigned k = 0; k <= Loops; k++) begin
          if (turn == SelectWidth'(k)) column_step = ColumnWidth'(ColumnSteps[k*32 +: 32]);
        end
      end

      always_ff @(posedge clk_i) begin
        if (!rst_ni) column_q <= '0;
        else if (advance) column_q <= column_q + column_step;
      end
    end else begin : gen_no_columns
      assign column_outside = 1'b0;
    end

    assign padding = row_outside || column_outside;
    assign data_o  = padding_q ? Fill : data_q;

    always_ff @(posedge clk_i) begin
      if (load) padding_q <= padding;
    end
  end else begin : gen_no_padding
    assign padding = 1'b0;
    assign data_o  = data_q;
  end

endmodule
