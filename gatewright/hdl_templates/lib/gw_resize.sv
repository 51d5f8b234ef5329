// Gives every lane of a beat another width: extended by its sign or with zeros, or cut to its low bits.
//
// Wires only.
module gw_resize #(
  parameter int unsigned Lanes    = 1,
  parameter int unsigned WidthIn  = 8,
  parameter int unsigned WidthOut = 12,
  parameter bit          Signed   = 1'b1
) (
  input  logic [Lanes*WidthIn-1:0]  data_i,
  output logic [Lanes*WidthOut-1:0] data_o
);

  for (genvar k = 0; k < Lanes; k++) begin : gen_lane
    if (Signed) begin : gen_signed
      assign data_o[k*WidthOut +: WidthOut] = WidthOut'(signed'(data_i[k*WidthIn +: WidthIn]));
    end else begin : gen_unsigned
      assign data_o[k*WidthOut +: WidthOut] = WidthOut'(data_i[k*WidthIn +: WidthIn]);
    end
  end

endmodule
