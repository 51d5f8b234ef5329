// Joins narrow beats into wide ones: TileIn lanes in, TileOut lanes out, aligned at every sample of Elements lanes.
//
// For TileOut a multiple of TileIn, or TileOut >= Elements (one beat out per sample); at least two beats in per
// sample. Lane 0 is least significant; lanes beyond the sample's end hold anything.
// One register set, written slot by slot: `Slots` beats in make a beat out, in a sample's last beat out `Tail`.
// valid_o is a register, set in the cycle after the beat's last part was accepted (latency 1).
// ready_o = !valid_o || ready_i: the next beat's first part is accepted as the present beat leaves, so neither side
// sees a bubble; a stalled output stalls the input only while a complete beat waits.
module gw_width_up #(
  parameter int unsigned ElementWidth = 8,
  parameter int unsigned TileIn       = 2,
  parameter int unsigned TileOut      = 8,
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
  localparam int unsigned Slots = OutBeats == 1 ? InBeats : TileOut / TileIn;
  localparam int unsigned Tail = InBeats - (OutBeats - 1) * Slots;
  localparam int unsigned SlotWidth = $clog2(Slots);
  localparam int unsigned FilledLanes = Slots * TileIn < TileOut ? Slots * TileIn : TileOut;

  logic [FilledLanes*ElementWidth-1:0] data_q;
  logic [SlotWidth-1:0]                slot_q;
  logic                                valid_q;
  logic                                accept;
  logic                                beat_end;

  assign ready_o = ready_i || !valid_q;
  assign accept  = valid_i && ready_o;
  assign valid_o = valid_q;

  if (Tail == Slots) begin : gen_even
    assign beat_end = slot_q == SlotWidth'(Slots - 1);
  end else begin : gen_tail
    localparam int unsigned BeatWidth = $clog2(OutBeats);
    logic [BeatWidth-1:0] beat_q;
    logic                 last_beat;

    assign last_beat = beat_q == BeatWidth'(OutBeats - 1);
    assign beat_end  = slot_q == (last_beat ? SlotWidth'(Tail - 1) : SlotWidth'(Slots - 1));

    always_ff @(posedge clk_i) begin
      if (!rst_ni) beat_q <= '0;
      else if (accept && beat_end) beat_q <= last_beat ? '0 : beat_q + 1'b1;
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      slot_q  <= '0;
      valid_q <= 1'b0;
    end else begin
      if (ready_o) valid_q <= valid_i && beat_end;
      if (accept) slot_q <= beat_end ? '0 : slot_q + 1'b1;
    end
  end

  for (genvar k = 0; k < Slots; k++) begin : gen_slot
    localparam int unsigned Low = k * TileIn;
    localparam int unsigned Lanes = Low + TileIn > TileOut ? TileOut - Low : TileIn;

    always_ff @(posedge clk_i) begin
      if (accept && slot_q == SlotWidth'(k)) begin
        data_q[Low*ElementWidth +: Lanes*ElementWidth] <= data_i[Lanes*ElementWidth-1:0];
      end
    end
  end

  if (FilledLanes < TileOut) begin : gen_padded
    assign data_o = {{((TileOut - FilledLanes) * ElementWidth){1'b0}}, data_q};
  end else begin : gen_filled
    assign data_o = data_q;
  end

endmodule
