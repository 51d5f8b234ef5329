// Sum, maximum, minimum or bitwise or of Count consecutive groups of Inner beats.
//
// Inner == 1 and ReducesLanes: all lanes of all Count beats make one result (of the last beat only the first Tail
// lanes). Otherwise lanes and the beats of a group stay apart: partial results wait in a memory of Inner words, and
// Inner beats of results leave while the last group arrives. Kind: 0 sum, 1 maximum, 2 minimum, 3 or.
// Latency: 1 cycle. ready_o = ready_i || !valid_o. Throughput: one input beat per cycle.
module gw_reduce #(
  parameter int unsigned Kind         = 0,
  parameter int unsigned DataWidth    = 8,
  parameter bit          DataSigned   = 1'b1,
  parameter int unsigned ResultWidth  = 12,
  parameter int unsigned Lanes        = 2,
  parameter int unsigned Count        = 4,
  parameter int unsigned Inner        = 1,
  parameter bit          ReducesLanes = 1'b1,
  parameter int unsigned Tail         = 2,
  localparam int unsigned LanesOut    = ReducesLanes ? 1 : Lanes
) (
  input  logic                            clk_i,
  input  logic                            rst_ni,
  input  logic                            valid_i,
  output logic                            ready_o,
  input  logic [Lanes*DataWidth-1:0]      data_i,
  output logic                            valid_o,
  input  logic                            ready_i,
  output logic [LanesOut*ResultWidth-1:0] data_o
);

  logic [Lanes*ResultWidth-1:0]    lanes;
  logic [LanesOut*ResultWidth-1:0] beat;
  logic [LanesOut*ResultWidth-1:0] partial;
  logic [LanesOut*ResultWidth-1:0] next;
  logic [LanesOut*ResultWidth-1:0] data_q;
  logic                            valid_q;
  logic                            advance;
  logic                            accept;
  logic                            first;
  logic                            last;
  logic                            group_end;

  function automatic logic [ResultWidth-1:0] combine(
    input logic [ResultWidth-1:0] a, input logic [ResultWidth-1:0] b
  );
    logic less;
    less = DataSigned ? signed'(a) < signed'(b) : a < b;
    if (Kind == 0) combine = a + b;
    else if (Kind == 1) combine = less ? b : a;
    else if (Kind == 2) combine = less ? a : b;
    else combine = a | b;
  endfunction

  assign advance = ready_i || !valid_q;
  assign accept  = advance && valid_i;
  assign ready_o = advance;
  assign valid_o = valid_q;
  assign data_o  = data_q;

  // Every lane at the result's width; lanes beyond a row's end become the neutral element.
  for (genvar k = 0; k < Lanes; k++) begin : gen_lane
    logic [ResultWidth-1:0] extended;

    // Extension by replication is no cast where the width stays the same.
    assign extended = {{(ResultWidth - DataWidth){DataSigned & data_i[(k+1)*DataWidth-1]}},
                       data_i[k*DataWidth +: DataWidth]};
    if (ReducesLanes && k >= Tail) begin : gen_masked
      assign lanes[k*ResultWidth +: ResultWidth] = !last ? extended : (Kind == 0) ? '0 : lanes[ResultWidth-1:0];
    end else begin : gen_used
      assign lanes[k*ResultWidth +: ResultWidth] = extended;
    end
  end

  if (ReducesLanes && Lanes > 1) begin : gen_across
    // A tree: neighbours first, so that the depth is the logarithm of Lanes.
    localparam int unsigned Levels = $clog2(Lanes);
    logic [Lanes*ResultWidth-1:0] tree;

    always_comb begin
      tree = lanes;
      for (int unsigned level = 0; level < Levels; level++) begin
        for (int unsigned k = 0; k < Lanes; k++) begin
          if (k % (2 << level) == 0 && k + (1 << level) < Lanes) begin
            tree[k*ResultWidth +: ResultWidth] = combine(tree[k*ResultWidth +: ResultWidth],
                                                         tree[(k+(1<<level))*ResultWidth +: ResultWidth]);
          end
        end
      end
    end
    assign beat = tree[ResultWidth-1:0];
  end else begin : gen_apart
    assign beat = lanes;
  end

  for (genvar k = 0; k < LanesOut; k++) begin : gen_next
    assign next[k*ResultWidth +: ResultWidth] =
        first ? beat[k*ResultWidth +: ResultWidth]
              : combine(partial[k*ResultWidth +: ResultWidth], beat[k*ResultWidth +: ResultWidth]);
  end

  if (Count == 1) begin : gen_single
    logic unused_group_end;
    assign first = 1'b1;
    assign last  = 1'b1;
    assign unused_group_end = group_end;
  end else begin : gen_count
    localparam int unsigned CountWidth = $clog2(Count);
    logic [CountWidth-1:0] group_q;

    assign first = group_q == '0;
    assign last  = group_q == CountWidth'(Count - 1);

    always_ff @(posedge clk_i) begin
      if (!rst_ni) group_q <= '0;
      else if (accept && group_end) group_q <= last ? '0 : group_q + 1'b1;
    end
  end

  if (Inner == 1) begin : gen_register
    assign group_end = 1'b1;
    assign partial   = data_q;
  end else begin : gen_memory
    localparam int unsigned AddressWidth = $clog2(Inner);
    logic [LanesOut*ResultWidth-1:0] memory_q [Inner];
    logic [AddressWidth-1:0]         address_q;

    assign group_end = address_q == AddressWidth'(Inner - 1);
    assign partial   = memory_q[address_q];

    always_ff @(posedge clk_i) begin
      if (!rst_ni) address_q <= '0;
      else if (accept) address_q <= group_end ? '0 : address_q + 1'b1;
    end

    always_ff @(posedge clk_i) begin
      if (accept) memory_q[address_q] <= next;
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= 1'b0;
    else if (advance) valid_q <= valid_i && last;
  end

  always_ff @(posedge clk_i) begin
    if (accept) data_q <= next;
  end

endmodule
