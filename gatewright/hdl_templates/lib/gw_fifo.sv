// First-in first-out queue whose read is registered (first word falls through).
//
// Capacity: exactly Depth words, the output register included.
// Latency: Depth 1 and 2: 1 cycle, registers only. Depth >= 3: 2 cycles through a memory of Depth-1 words
// (a word accepted in cycle t is in the memory at t+1 and offered at t+2). The memory is written and read
// synchronously, so that it maps to LUT or block RAM; Depth = 2**n + 1 has the cheapest pointers.
// ready_o = fewer than Depth words held, a function of registers only. Throughput: 1 word per cycle for
// Depth >= 2; Depth 1 alternates between accepting and delivering.
// Depth >= 3, per cycle: load = ready_i || !valid_o; if (load) valid_o' = memory not empty, and a word moves from the
// memory to the output; a word accepted joins the memory; ready_o = memory holds fewer than Depth-1 words.
module gw_fifo #(
  parameter int unsigned Width = 8,
  parameter int unsigned Depth = 16
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

  if (Depth == 1) begin : gen_single
    logic             valid_q;
    logic [Width-1:0] data_q;

    assign valid_o = valid_q;
    assign ready_o = !valid_q;
    assign data_o  = data_q;

    always_ff @(posedge clk_i) begin
      if (!rst_ni) valid_q <= 1'b0;
      else valid_q <= valid_q ? !ready_i : valid_i;
    end

    always_ff @(posedge clk_i) begin
      if (!valid_q) data_q <= data_i;
    end
  end else if (Depth == 2) begin : gen_pair
    gw_register_slice #(
      .Width(Width)
    ) u_slice (
      .clk_i  (clk_i),
      .rst_ni (rst_ni),
      .valid_i(valid_i),
      .ready_o(ready_o),
      .data_i (data_i),
      .valid_o(valid_o),
      .ready_i(ready_i),
      .data_o (data_o)
    );
  end else begin : gen_memory
    localparam int unsigned Slots = Depth - 1;
    localparam int unsigned AddressWidth = $clog2(Slots);
    localparam bit Natural = Slots == 2 ** AddressWidth;
    localparam logic [AddressWidth-1:0] Last = AddressWidth'(Slots - 1);

    // A pointer is a slot number below a phase bit that flips at every turn: equal pointers mean an empty
    // memory, equal slots in different phases a full one.
    function automatic logic [AddressWidth:0] successor(input logic [AddressWidth:0] pointer);
      if (!Natural && pointer[AddressWidth-1:0] == Last) begin
        successor = {!pointer[AddressWidth], {AddressWidth{1'b0}}};
      end else begin
        successor = pointer + 1'b1;
      end
    endfunction

    logic [Width-1:0]      memory_q [Slots];
    logic [Width-1:0]      data_q;
    logic [AddressWidth:0] write_q;
    logic [AddressWidth:0] read_q;
    logic                  valid_q;
    logic                  empty;
    logic                  full;
    logic                  load;

    assign empty   = write_q == read_q;
    assign full    = write_q == {!read_q[AddressWidth], read_q[AddressWidth-1:0]};
    assign load    = ready_i || !valid_q;
    assign ready_o = !full;
    assign valid_o = valid_q;
    assign data_o  = data_q;

    always_ff @(posedge clk_i) begin
      if (!rst_ni) begin
        write_q <= '0;
        read_q  <= '0;
        valid_q <= 1'b0;
      end else begin
        if (valid_i && !full) write_q <= successor(write_q);
        if (load) valid_q <= !empty;
        if (load && !empty) read_q <= successor(read_q);
      end
    end

    always_ff @(posedge clk_i) begin
      if (valid_i && !full) memory_q[write_q[AddressWidth-1:0]] <= data_i;
    end

    always_ff @(posedge clk_i) begin
      if (load) data_q <= memory_q[read_q[AddressWidth-1:0]];
    end
  end

endmodule
