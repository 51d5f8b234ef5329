// Splits wide beats into narrow ones: TileIn lanes in, TileOut lanes out, aligned at every sample of Elements lanes.
//
// For TileIn a multiple of TileOut, or TileIn >= Elements (one beat in per sample); at least two beats out per
// sample. Lane 0 is least significant; lanes beyond the sample's end hold anything.
// One beat is held and read part by part through a multiplexer: `Slots` beats out per beat in, for a sample's last
// beat in `Tail`. valid_o is a register, set in the cycle after a beat was accepted (latency 1).
// ready_o = no beat held, or its last part is leaving (valid_o && ready_i): no bubble at either side.
module gw_width_down #(
  parameter int unsigned ElementWidth = 8,
  parameter int unsigned TileIn       = 8,
  parameter int unsigned TileOut      = 2,
  parameter int unsigned Elements     = 16
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

  localparam int unsigned InBeats = (Elements + TileIn - 1) / TileIn;
  localparam int unsigned OutBeats = (Elements + TileOut - 1) / TileOut;
  localparam int unsigned Slots = InBeats == 1 ? OutBeats : TileIn / TileOut;
  localparam int unsigned Tail = OutBeats - (InBeats - 1) * Slots;
  localparam int unsigned SlotWidth = $clog2(Slots);
  localparam int unsigned HeldLanes = Slots * TileOut < TileIn ? Slots * TileOut : TileIn;

  logic [HeldLanes*ElementWidth-1:0]          data_q;
  logic [Slots-1:0][TileOut*ElementWidth-1:0] parts;
  logic [SlotWidth-1:0]                       slot_q;
  logic                                       valid_q;
  logic                                       beat_end;

  assign ready_o = !valid_q || (ready_i && beat_end);
  assign valid_o = valid_q;
  assign data_o  = parts[slot_q];

  if (HeldLanes < Slots * TileOut) begin : gen_padded
    assign parts = {{((Slots * TileOut - HeldLanes) * ElementWidth){1'b0}}, data_q};
  end else begin : gen_filled
    assign parts = data_q;
  end

  if (HeldLanes < TileIn) begin : gen_unused
    logic unused_lanes;
    assign unused_lanes = ^data_i[TileIn*ElementWidth-1:HeldLanes*ElementWidth];
  end

  if (Tail == Slots) begin : gen_even
    assign beat_end = slot_q == SlotWidth'(Slots - 1);
  end else begin : gen_tail
    localparam int unsigned BeatWidth = $clog2(InBeats);
    logic [BeatWidth-1:0] beat_q;
    logic                 last_beat;

    assign last_beat = beat_q == BeatWidth'(InBeats - 1);
    assign beat_end  = slot_q == (last_beat ? SlotWidth'(Tail - 1) : SlotWidth'(Slots - 1));

    always_ff @(posedge clk_i) begin
      if (!rst_ni) beat_q <= '0;
      else if (valid_q && ready_i && beat_end) beat_q <= last_beat ? '0 : beat_q + 1'b1;
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      slot_q  <= '0;
      valid_q <= 1'b0;
    end else begin
      if (ready_o) valid_q <= valid_i;
      if (valid_q && ready_i) slot_q <= beat_end ? '0 : slot_q + 1'b1;
    end
  end

  always_ff @(posedge clk_i) begin
    if (ready_o) data_q <= data_i[HeldLanes*ElementWidth-1:0];
  end

endmodule
