// Converts a stream of TileIn lanes a beat to TileOut lanes a beat, aligned at every sample of Elements lanes.
//
// A sample takes ceil(Elements/TileIn) beats in and ceil(Elements/TileOut) beats out; lane 0 is least significant;
// lanes beyond the sample's end hold anything. Chooses the cheapest of:
//   wires (latency 0)             where the tiles are equal, or one beat in becomes one beat out,
//   gw_width_up (latency 1)       where TileIn divides TileOut, or one beat goes out per sample,
//   gw_width_down (latency 1)     where TileOut divides TileIn, or one beat comes in per sample,
//   gw_width_ring (latency 1)     elsewhere.
// Their headers state the cycle behaviour.
module gw_width_adapter #(
  parameter int unsigned ElementWidth = 8,
  parameter int unsigned TileIn       = 4,
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

  if (TileIn == TileOut || (InBeats == 1 && OutBeats == 1)) begin : gen_wires
    logic unused_clock_and_reset;

    assign unused_clock_and_reset = clk_i ^ rst_ni;
    assign valid_o = valid_i;
    assign ready_o = ready_i;
    if (TileOut > TileIn) begin : gen_padded
      assign data_o = {{((TileOut - TileIn) * ElementWidth){1'b0}}, data_i};
    end else begin : gen_cut
      assign data_o = data_i[TileOut*ElementWidth-1:0];
    end
    if (TileOut < TileIn) begin : gen_unused
      logic unused_lanes;
      assign unused_lanes = ^data_i[TileIn*ElementWidth-1:TileOut*ElementWidth];
    end
  end else if (TileOut % TileIn == 0 || OutBeats == 1) begin : gen_up
    gw_width_up #(
      .ElementWidth(ElementWidth),
      .TileIn      (TileIn),
      .TileOut     (TileOut),
      .Elements    (Elements)
    ) u_up (
      .clk_i  (clk_i),
      .rst_ni (rst_ni),
      .valid_i(valid_i),
      .ready_o(ready_o),
      .data_i (data_i),
      .valid_o(valid_o),
      .ready_i(ready_i),
      .data_o (data_o)
    );
  end else if (TileIn % TileOut == 0 || InBeats == 1) begin : gen_down
    gw_width_down #(
      .ElementWidth(ElementWidth),
      .TileIn      (TileIn),
      .TileOut     (TileOut),
      .Elements    (Elements)
    ) u_down (
      .clk_i  (clk_i),
      .rst_ni (rst_ni),
      .valid_i(valid_i),
      .ready_o(ready_o),
      .data_i (data_i),
      .valid_o(valid_o),
      .ready_i(ready_i),
      .data_o (data_o)
    );
  end else begin : gen_ring
    gw_width_ring #(
      .ElementWidth(ElementWidth),
      .TileIn      (TileIn),
      .TileOut     (TileOut),
      .Elements    (Elements)
    ) u_ring (
      .clk_i  (clk_i),
      .rst_ni (rst_ni),
      .valid_i(valid_i),
      .ready_o(ready_o),
      .data_i (data_i),
      .valid_o(valid_o),
      .ready_i(ready_i),
      .data_o (data_o)
    );
  end

endmodule
