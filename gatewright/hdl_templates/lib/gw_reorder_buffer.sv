// Writes each sample of Count words in order and reads it in the order of an affine loop nest.
//
// Word number (i[Loops-1], ..., i[1], i[0]), i[0] fastest, is read from address
// Offset + sum over k of i[k] * Strides[k], which must lie in 0..Count-1 (strides may be negative, two's
// complement). A sample is read in product(Counts) words; that may differ from Count, so a nest may also repeat or drop words.
// Two banks of Count words (LUT or block RAM, synchronous read) before an output register.
// Capacity: two samples, plus the word in the output register.
// Latency: the first word of a sample is offered 2 cycles after the sample's last word was accepted.
// load = ready_i || !valid_o; if (load) valid_o' = the read bank is complete, and one word is read. A bank is free in the
// cycle after its last read. ready_o = the write bank is free, a function of registers only.
// Throughput: 1 word per cycle at both sides while a sample is read in Count words.
module gw_reorder_buffer #(
  parameter int unsigned           Width   = 8,
  parameter int unsigned           Count   = 6,
  parameter int unsigned           Loops   = 2,
  parameter logic [Loops*32-1:0]   Counts  = {32'd3, 32'd2},
  parameter logic [Loops*32-1:0]   Strides = {32'd1, 32'd3},
  parameter int unsigned           Offset  = 0
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

  localparam int unsigned AddressWidth = $clog2(2 * Count);

  // What to add to the address when loop k steps and all faster loops return to their start.
  function automatic logic [Loops*AddressWidth-1:0] address_steps();
    logic [31:0] rewind;
    rewind = 32'd0;
    address_steps = '0;
    for (int unsigned k = 0; k < Loops; k++) begin
      address_steps[k*AddressWidth +: AddressWidth] = AddressWidth'(Strides[k*32 +: 32] - rewind);
      rewind = rewind + (Counts[k*32 +: 32] - 32'd1) * Strides[k*32 +: 32];
    end
  endfunction

  localparam logic [Loops*AddressWidth-1:0] Steps = address_steps();
  localparam logic [AddressWidth-1:0] WriteEnd0 = AddressWidth'(Count - 1);
  localparam logic [AddressWidth-1:0] WriteEnd1 = AddressWidth'(2 * Count - 1);

  logic [Width-1:0]        memory_q [2 * Count];
  logic [Width-1:0]        data_q;
  logic [AddressWidth-1:0] write_q;
  logic [AddressWidth-1:0] read_q;
  logic [AddressWidth-1:0] step;
  logic [1:0]              complete_q;
  logic                    write_bank_q;
  logic                    read_bank_q;
  logic                    valid_q;
  logic [Loops-1:0]        loop_end;
  logic                    available;
  logic                    load;
  logic                    accept;
  logic                    advance;
  logic                    write_end;

  assign ready_o   = !complete_q[write_bank_q];
  assign available = complete_q[read_bank_q];
  assign load      = ready_i || !valid_q;
  assign advance   = load && available;
  assign accept    = valid_i && ready_o;
  assign write_end = write_q == (write_bank_q ? WriteEnd1 : WriteEnd0);
  assign valid_o   = valid_q;
  assign data_o    = data_q;

  for (genvar k = 0; k < Loops; k++) begin : gen_loop
    if (Counts[k*32 +: 32] == 32'd1) begin : gen_trivial
      assign loop_end[k] = 1'b1;
    end else begin : gen_counter
      localparam int unsigned IndexWidth = $clog2(Counts[k*32 +: 32]);
      localparam logic [31:0] LastIndex = Counts[k*32 +: 32] - 32'd1;
      logic [IndexWidth-1:0] index_q;
      logic                  turn;

      assign loop_end[k] = index_q == IndexWidth'(LastIndex);
      if (k == 0) begin : gen_fastest
        assign turn = 1'b1;
      end else begin : gen_slower
        assign turn = &loop_end[k-1:0];
      end

      always_ff @(posedge clk_i) begin
        if (!rst_ni) index_q <= '0;
        else if (advance && turn) index_q <= loop_end[k] ? '0 : index_q + 1'b1;
      end
    end
  end

  always_comb begin
    step = Steps[(Loops-1)*AddressWidth +: AddressWidth];
    for (int unsigned k = 1; k < Loops; k++) begin
      if (!loop_end[Loops-1-k]) step = Steps[(Loops-1-k)*AddressWidth +: AddressWidth];
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      write_q      <= '0;
      read_q       <= AddressWidth'(Offset);
      complete_q   <= 2'b00;
      write_bank_q <= 1'b0;
      read_bank_q  <= 1'b0;
      valid_q      <= 1'b0;
    end else begin
      if (load) valid_q <= available;
      if (accept) write_q <= (write_end && write_bank_q) ? '0 : write_q + 1'b1;
      if (accept && write_end) begin
        write_bank_q             <= !write_bank_q;
        complete_q[write_bank_q] <= 1'b1;
      end
      if (advance && (&loop_end)) begin
        read_q                  <= read_bank_q ? AddressWidth'(Offset) : AddressWidth'(Offset + Count);
        read_bank_q             <= !read_bank_q;
        complete_q[read_bank_q] <= 1'b0;
      end else if (advance) begin
        read_q <= read_q + step;
      end
    end
  end

  always_ff @(posedge clk_i) begin
    if (accept) memory_q[write_q] <= data_i;
  end

  always_ff @(posedge clk_i) begin
    if (load) data_q <= memory_q[read_q];
  end

endmodule
