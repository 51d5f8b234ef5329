// Assembles a stream from runs of beats: forwarded or dropped from one of Inputs streams, or a fill word.
//
// A cyclic program of Segments segments; segment k lasts Counts[k] beats. Kinds[k]: 0 drop, 1 forward, 2 fill. Sources[k] is
// the input that a drop or forward reads. A program that begins with a fill waits there for input 0 to be
// valid, so that no beat follows the last sample. All inputs have the width of the output.
// Latency: 1 cycle. A phase takes place when the output register is free (ready_i || !valid_o) and its input is valid;
// ready_o[i] = the present phase reads input i and takes place.
module gw_sequence #(
  parameter int unsigned              Width    = 8,
  parameter int unsigned              Inputs   = 2,
  parameter int unsigned              Segments = 2,
  parameter logic [Segments*32-1:0]   Counts   = {32'd2, 32'd3},
  parameter logic [Segments*8-1:0]    Sources  = {8'd1, 8'd0},
  parameter logic [Segments*2-1:0]    Kinds    = {2'd1, 2'd1},
  parameter logic [Width-1:0]         Fill     = '0
) (
  input  logic                    clk_i,
  input  logic                    rst_ni,
  input  logic [Inputs-1:0]       valid_i,
  output logic [Inputs-1:0]       ready_o,
  input  logic [Inputs*Width-1:0] data_i,
  output logic                    valid_o,
  input  logic                    ready_i,
  output logic [Width-1:0]        data_o
);

  localparam int unsigned SegmentWidth = Segments > 1 ? $clog2(Segments) : 1;

  function automatic int unsigned longest();
    longest = 1;
    for (int unsigned k = 0; k < Segments; k++) begin
      if (Counts[k*32 +: 32] > longest) longest = Counts[k*32 +: 32];
    end
  endfunction

  localparam int unsigned CountWidth = $clog2(longest() + 1);

  logic [SegmentWidth-1:0] segment_q;
  logic [CountWidth-1:0]   count_q;
  logic [CountWidth-1:0]   length;
  logic [Inputs-1:0]       wanted;
  logic [Width-1:0]        chosen;
  logic [Width-1:0]        data_q;
  logic                    valid_q;
  logic                    reads;
  logic                    fills;
  logic                    produces;
  logic                    fires;
  logic                    segment_end;

  always_comb begin
    length   = '0;
    wanted   = '0;
    chosen   = Fill;
    reads    = 1'b0;
    fills    = 1'b0;
    produces = 1'b0;
    for (int unsigned k = 0; k < Segments; k++) begin
      if (segment_q == SegmentWidth'(k)) begin
        length   = CountWidth'(Counts[k*32 +: 32]);
        fills    = Kinds[k*2 +: 2] == 2'd2;
        reads    = !fills;
        produces = Kinds[k*2 +: 2] != 2'd0;
        for (int unsigned i = 0; i < Inputs; i++) begin
          if (Sources[k*8 +: 8] == 8'(i) && !fills) begin
            wanted[i] = 1'b1;
            chosen    = data_i[i*Width +: Width];
          end
        end
      end
    end
  end

  assign fires = (ready_i || !valid_q) && (reads ? |(wanted & valid_i) : (segment_q != '0 || valid_i[0]));
  assign ready_o     = fires ? wanted : '0;
  assign segment_end = count_q == length - 1'b1;
  assign valid_o     = valid_q;
  assign data_o      = data_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      segment_q <= '0;
      count_q   <= '0;
      valid_q   <= 1'b0;
    end else begin
      if (ready_i || !valid_q) valid_q <= fires && produces;
      if (fires) begin
        count_q <= segment_end ? '0 : count_q + 1'b1;
        if (segment_end) segment_q <= (segment_q == SegmentWidth'(Segments - 1)) ? '0 : segment_q + 1'b1;
      end
    end
  end

  always_ff @(posedge clk_i) begin
    if (fires) data_q <= chosen;
  end

endmodule
