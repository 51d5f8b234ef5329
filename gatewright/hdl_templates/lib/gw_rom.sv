// Read-only memory with a registered read, filled from a file of hexadecimal words.
//
// data_o is the word at address_i of the last cycle in which read_i was high. Block asks for block memory, Apart for logic
// that is mapped apart from what reads it (see gw_rom_logic), otherwise the tool chooses. Zeros and Ones say which bits are
// zero or one in every word, so that what reads a memory apart is simplified by them.
module gw_rom #(
  parameter int unsigned      Width = 8,
  parameter int unsigned      Words = 16,
  parameter bit               Block = 1'b0,
  parameter bit               Apart = 1'b0,
  parameter logic [Width-1:0] Zeros = '0,
  parameter logic [Width-1:0] Ones  = '0,
  parameter                   File  = "",
  localparam int unsigned AddressWidth = Words > 1 ? $clog2(Words) : 1
) (
  input  logic                    clk_i,
  input  logic                    read_i,
  input  logic [AddressWidth-1:0] address_i,
  output logic [Width-1:0]        data_o
);

  logic [Width-1:0] data_q;

  if (Block) begin : gen_block
    (* rom_style = "block" *) logic [Width-1:0] rom [Words];

    if (File != "") begin : gen_fill
      initial $readmemh(File, rom);
    end

    assign data_o = data_q;

    always_ff @(posedge clk_i) begin
      if (read_i) data_q <= rom[address_i];
    end
  end else if (Apart) begin : gen_apart
    gw_rom_logic #(
      .Width(Width),
      .Words(Words),
      .File (File)
    ) u_logic (
      .clk_i    (clk_i),
      .read_i   (read_i),
      .address_i(address_i),
      .data_o   (data_q)
    );

    assign data_o = (data_q & ~Zeros) | Ones;
  end else begin : gen_any
    logic [Width-1:0] rom [Words];

    if (File != "") begin : gen_fill
      initial $readmemh(File, rom);
    end

    assign data_o = data_q;

    always_ff @(posedge clk_i) begin
      if (read_i) data_q <= rom[address_i];
    end
  end

endmodule
