// Read-only memory in logic with a registered read, mapped apart from what reads it: for gw_rom.
//
// Among other logic a mapper splits the columns of a table into small functions that they share, which takes several
// look-up tables a column where one would do. The boundary hides the columns' values from the reader.
(* keep_hierarchy = "yes" *)
module gw_rom_logic #(
  parameter int unsigned Width = 8,
  parameter int unsigned Words = 16,
  parameter              File  = "",
  localparam int unsigned AddressWidth = Words > 1 ? $clog2(Words) : 1
) (
  input  logic                    clk_i,
  input  logic                    read_i,
  input  logic [AddressWidth-1:0] address_i,
  output logic [Width-1:0]        data_o
);

  logic [Width-1:0] rom [Words];
  logic [Width-1:0] data_q;

  assign data_o = data_q;

  if (File != "") begin : gen_fill
    initial $readmemh(File, rom);
  end

  always_ff @(posedge clk_i) begin
    if (read_i) data_q <= rom[address_i];
  end

endmodule
