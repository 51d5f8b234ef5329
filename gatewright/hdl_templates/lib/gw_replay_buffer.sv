// Keeps each group of Window words and delivers it Repeats times: 0..Window-1, 0..Window-1, ..., next group.
//
// A circular memory of Depth >= Window words (LUT or block RAM, synchronous read) before an output register.
// Capacity: Depth words in the memory, plus the word in the output register.
// Latency: 2 cycles (a word accepted in cycle t is readable at t+1 and offered at t+2); the first pass follows the
// writer word by word. A read moves one word to the output register whenever that is empty or being
// taken: load = ready_i || !valid_o; if (load) valid_o' = available, where available = a pass after the first, or a word that
// was written and not yet read. The slot is free in the cycle after its last pass's read.
// ready_o = fewer than Depth slots in use, a function of registers only.
// Throughput: 1 word per cycle at both sides without bubbles between passes or groups (Depth 1: one bubble per group).
// Cheapest: Depth == Window, or Window a power of two that divides Depth.
module gw_replay_buffer #(
  parameter int unsigned Width   = 8,
  parameter int unsigned Window  = 16,
  parameter int unsigned Repeats = 2,
  parameter int unsigned Depth   = 16
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
  localparam int unsigned IndexWidth = Window > 1 ? $clog2(Window) : 1;
  localparam bit Natural = Depth == 2 ** AddressWidth;
  localparam bit Aligned = Window == 2 ** IndexWidth && Depth % Window == 0;
  localparam logic [AddressWidth-1:0] Last = AddressWidth'(Depth - 1);

  // A pointer is a slot number below a phase bit that flips at every turn.
  function automatic logic [AddressWidth:0] successor(input logic [AddressWidth:0] pointer);
    if (!Natural && pointer[AddressWidth-1:0] == Last) begin
      successor = {!pointer[AddressWidth], {AddressWidth{1'b0}}};
    end else begin
      successor = pointer + 1'b1;
    end
  endfunction

  logic [Width-1:0]      memory_q [Depth];
  logic [Width-1:0]      data_q;
  logic [AddressWidth:0] write_q;
  logic [AddressWidth:0] read_q;
  logic [AddressWidth:0] start;
  logic                  valid_q;
  logic                  first_pass;
  logic                  last_pass;
  logic                  window_end;
  logic                  available;
  logic                  full;
  logic                  load;
  logic                  accept;
  logic                  advance;

  assign available = !first_pass || write_q != read_q;
  assign load      = ready_i || !valid_q;
  assign advance   = load && available;
  assign accept    = valid_i && !full;
  assign ready_o   = !full;
  assign valid_o   = valid_q;
  assign data_o    = data_q;

  // Where the present group starts, and whether the word being read is the group's last.
  if (Depth == Window) begin : gen_whole
    assign start      = {read_q[AddressWidth], {AddressWidth{1'b0}}};
    assign window_end = read_q[AddressWidth-1:0] == Last;
    // Until the last pass the writer can only have turned to slot 0.
    assign full = write_q[AddressWidth] != read_q[AddressWidth] &&
                  (!last_pass || write_q[AddressWidth-1:0] == read_q[AddressWidth-1:0]);
  end else begin : gen_part
    logic [AddressWidth:0] oldest;

    assign oldest = last_pass ? read_q : start;
    assign full   = write_q == {!oldest[AddressWidth], oldest[AddressWidth-1:0]};

    if (Aligned) begin : gen_aligned
      assign start      = {read_q[AddressWidth:IndexWidth], {IndexWidth{1'b0}}};
      assign window_end = &read_q[IndexWidth-1:0];
    end else begin : gen_counted
      logic [AddressWidth:0] start_q;
      logic [IndexWidth-1:0] index_q;

      assign start      = start_q;
      assign window_end = index_q == IndexWidth'(Window - 1);

      always_ff @(posedge clk_i) begin
        if (!rst_ni) begin
          start_q <= '0;
          index_q <= '0;
        end else if (advance) begin
          index_q <= window_end ? '0 : index_q + 1'b1;
          if (window_end && last_pass) start_q <= successor(read_q);
        end
      end
    end
  end

  if (Repeats == 1) begin : gen_once
    assign first_pass = 1'b1;
    assign last_pass  = 1'b1;
  end else begin : gen_passes
    localparam int unsigned PassWidth = $clog2(Repeats);
    logic [PassWidth-1:0] pass_q;

    assign first_pass = pass_q == '0;
    assign last_pass  = pass_q == PassWidth'(Repeats - 1);

    always_ff @(posedge clk_i) begin
      if (!rst_ni) pass_q <= '0;
      else if (advance && window_end) pass_q <= last_pass ? '0 : pass_q + 1'b1;
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      write_q <= '0;
      read_q  <= '0;
      valid_q <= 1'b0;
    end else begin
      if (accept) write_q <= successor(write_q);
      if (load) valid_q <= available;
      if (advance) read_q <= (window_end && !last_pass) ? start : successor(read_q);
    end
  end

  always_ff @(posedge clk_i) begin
    if (accept) memory_q[write_q[AddressWidth-1:0]] <= data_i;
  end

  always_ff @(posedge clk_i) begin
    if (load) data_q <= memory_q[read_q[AddressWidth-1:0]];
  end

endmodule
