// Regroups lanes where neither tile divides the other: TileIn lanes in, TileOut lanes out, aligned at every sample.
//
// For samples of at least two beats in and two beats out. Lane 0 is least significant; lanes beyond the sample's end
// hold anything. With a unit of gcd(TileIn, TileOut) lanes, a beat in is A units and a beat out B units. A ring
// of A*B units is written in B fixed slots and read in A fixed slots, so that writing costs no multiplexer. A sample that ends
// inside the ring restarts at slot 0 of a second ring while the first one drains (none is needed where the ring's length divides Elements).
// Cycle behaviour: `fill` = units of the sample being written that are in the ring and unread; `ahead` = samples
// completely written and not completely read (0..2; without a second ring always 0).
//   valid_o = ahead > 0 || fill >= B         (the reader's sample is complete, or its next beat is)
//   ready_o = ahead < 2 && fill <= A*B - A   (both from registers only; latency 1)
//   per cycle: fill += A on an accepted beat, -= B on a delivered beat while ahead == 0, and = 0 as a sample's last beat in is
//   accepted; ahead += (last beat in accepted) - (last beat out delivered).
// Throughput: the narrower side moves a beat every cycle, across sample ends too.
module gw_width_ring #(
  parameter int unsigned ElementWidth = 8,
  parameter int unsigned TileIn       = 2,
  parameter int unsigned TileOut      = 3,
  parameter int unsigned Elements     = 10
) (
  input  logic                            clk_i,
  input  logic                            rst_ni,
  input  logic                            valid_i,
  output logic                            ready_o,
  input  logic [TileIn*ElementWidth-1:0]  data_i,
  output logic                            valid_o,
  input  logic                            ready_i,
  output logic [TileOut*ElementWidth-1:0] data_o
);

  function automatic int unsigned common_divisor(input int unsigned first, input int unsigned second);
    common_divisor = 1;
    for (int unsigned k = 2; k <= first; k++) begin
      if (first % k == 0 && second % k == 0) common_divisor = k;
    end
  endfunction

  localparam int unsigned Unit = common_divisor(TileIn, TileOut);
  localparam int unsigned InUnits = TileIn / Unit;
  localparam int unsigned OutUnits = TileOut / Unit;
  localparam int unsigned InBeats = (Elements + TileIn - 1) / TileIn;
  localparam int unsigned OutBeats = (Elements + TileOut - 1) / TileOut;
  localparam int unsigned Rings = Elements % (Unit * InUnits * OutUnits) == 0 ? 1 : 2;
  localparam int unsigned WriteSlots = InBeats < OutUnits ? InBeats : OutUnits;
  localparam int unsigned ReadSlots = OutBeats < InUnits ? OutBeats : InUnits;
  localparam int unsigned InWidth = TileIn * ElementWidth;
  localparam int unsigned OutWidth = TileOut * ElementWidth;
  localparam int unsigned WrittenWidth = WriteSlots * InWidth;
  localparam int unsigned WriteSlotWidth = $clog2(WriteSlots);
  localparam int unsigned ReadSlotWidth = $clog2(ReadSlots);
  localparam int unsigned ViewWidth = 2 ** ReadSlotWidth * OutWidth;
  localparam int unsigned FillWidth = $clog2(InUnits * OutUnits + 1);

  logic [WriteSlotWidth-1:0]        write_slot_q;
  logic [ReadSlotWidth-1:0]         read_slot_q;
  logic [FillWidth-1:0]             fill_q;
  logic [FillWidth-1:0]             gained;
  logic [FillWidth-1:0]             lost;
  logic [1:0]                       ahead;
  logic                             write_restart;
  logic                             read_restart;
  logic                             sample_written;
  logic                             write_ring;
  logic                             accept;
  logic                             deliver;
  logic [ReadSlotWidth+Rings-2:0]   position;

  assign ready_o = !ahead[1] && fill_q <= FillWidth'(InUnits * OutUnits - InUnits);
  assign valid_o = ahead != 2'd0 || fill_q >= FillWidth'(OutUnits);
  assign accept  = valid_i && ready_o;
  assign deliver = valid_o && ready_i;
  assign gained  = accept ? FillWidth'(InUnits) : '0;
  assign lost    = (deliver && ahead == 2'd0) ? FillWidth'(OutUnits) : '0;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      fill_q       <= '0;
      write_slot_q <= '0;
      read_slot_q  <= '0;
    end else begin
      fill_q <= (accept && sample_written) ? '0 : fill_q + gained - lost;
      if (accept) write_slot_q <= write_restart ? '0 : write_slot_q + 1'b1;
      if (deliver) read_slot_q <= read_restart ? '0 : read_slot_q + 1'b1;
    end
  end

  if (Rings == 1) begin : gen_endless
    assign ahead          = 2'd0;
    assign sample_written = 1'b0;
    assign write_ring     = 1'b0;
    assign write_restart  = write_slot_q == WriteSlotWidth'(WriteSlots - 1);
    assign read_restart   = read_slot_q == ReadSlotWidth'(ReadSlots - 1);
    assign position       = read_slot_q;
  end else begin : gen_aligned
    localparam int unsigned InBeatWidth = $clog2(InBeats);
    localparam int unsigned OutBeatWidth = $clog2(OutBeats);
    logic [InBeatWidth-1:0]  in_beat_q;
    logic [OutBeatWidth-1:0] out_beat_q;
    logic [1:0]              ahead_q;
    logic                    write_ring_q;
    logic                    read_ring_q;
    logic                    sample_read;

    assign ahead          = ahead_q;
    assign write_ring     = write_ring_q;
    assign sample_written = in_beat_q == InBeatWidth'(InBeats - 1);
    assign sample_read    = out_beat_q == OutBeatWidth'(OutBeats - 1);
    assign write_restart  = sample_written || write_slot_q == WriteSlotWidth'(WriteSlots - 1);
    assign read_restart   = sample_read || read_slot_q == ReadSlotWidth'(ReadSlots - 1);
    assign position       = {read_ring_q, read_slot_q};

    always_ff @(posedge clk_i) begin
      if (!rst_ni) begin
        in_beat_q    <= '0;
        out_beat_q   <= '0;
        ahead_q      <= 2'd0;
        write_ring_q <= 1'b0;
        read_ring_q  <= 1'b0;
      end else begin
        if (accept) in_beat_q <= sample_written ? '0 : in_beat_q + 1'b1;
        if (deliver) out_beat_q <= sample_read ? '0 : out_beat_q + 1'b1;
        if (accept && sample_written) write_ring_q <= !write_ring_q;
        if (deliver && sample_read) read_ring_q <= !read_ring_q;
        if ((accept && sample_written) != (deliver && sample_read)) begin
          ahead_q <= (deliver && sample_read) ? ahead_q - 2'd1 : ahead_q + 2'd1;
        end
      end
    end
  end

  // The lanes as read slots, padded so that {ring, slot} is the index of the slot on offer.
  logic [Rings*ViewWidth-1:0]                       lanes;
  logic [Rings*2**ReadSlotWidth-1:0][OutWidth-1:0]  view;

  assign view   = lanes;
  assign data_o = view[position];

  for (genvar r = 0; r < Rings; r++) begin : gen_ring
    logic [WrittenWidth-1:0] written_q;

    for (genvar s = 0; s < WriteSlots; s++) begin : gen_slot
      always_ff @(posedge clk_i) begin
        if (accept && write_ring == 1'(r) && write_slot_q == WriteSlotWidth'(s)) begin
          written_q[s*InWidth +: InWidth] <= data_i;
        end
      end
    end

    if (ViewWidth > WrittenWidth) begin : gen_padded
      assign lanes[r*ViewWidth +: ViewWidth] = {{(ViewWidth - WrittenWidth){1'b0}}, written_q};
    end else begin : gen_cut
      assign lanes[r*ViewWidth +: ViewWidth] = written_q[ViewWidth-1:0];
    end
    if (ViewWidth < WrittenWidth) begin : gen_unused
      logic unused_lanes;
      assign unused_lanes = ^written_q[WrittenWidth-1:ViewWidth];
    end
  end

endmodule
