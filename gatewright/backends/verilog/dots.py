"""A dot product of two streams of codes as one module: decoding in each lane, then ``gw_dot``.

It stands alone (no handshake): the core of a product of two streams, and what benchmarks measure.
"""

from __future__ import annotations

from importlib import resources

from gatewright.backends.verilog.datapath import datapath
from gatewright.backends.verilog.expressions import declaration
from gatewright.backends.verilog.units import packing_parameters
from gatewright.ir.streams.products import Packing, plan_product
from gatewright.ir.types import Value

CELLS = ("gw_adder_tree", "gw_dot", "gw_multiply", "gw_popcount")


def dot_module(left: Value, right: Value, size: int, name: str, registers: int | None = None) -> dict[str, str]:
    """Files of module ``name``: ``size`` codes of each operand in, the exact sum out, one result a cycle.

    ``registers`` in the adder tree; by default one per level. Latency: 3 + registers cycles.
    """
    product = plan_product(left, right, padded=False, has_multipliers=False)
    levels = (size - 1).bit_length()
    registers = levels if registers is None else registers
    bits = product.width + product.exponent_max + levels + 1
    sides = [("a", left, product.left), ("b", right, product.right)]
    lines = [f"module {name} (", "  input  logic clk_i,"]
    lines += [f"  input  logic [{size * value.width - 1}:0] {side}_i," for side, value, _ in sides]
    lines += [f"  output logic [{bits - 1}:0] sum_o", ");"]
    for side, value, packing in sides:
        lines += _decoder(side, value, packing, size)
    parameters = [
        ("Inputs", size),
        *packing_parameters(product, ("A", "B")),
        ("SumWidth", bits),
        ("Registers", registers),
    ]
    shown = ", ".join(f".{key}({value})" for key, value in parameters)
    lines += [
        "  logic negative;",
        f"  logic signed [{bits - 1}:0] total;",
        f"  gw_dot #({shown}) u_dot (.clk_i(clk_i), .advance_i(1'b1), .a_i(a), .b_i(b),",
        "    .negative_o(negative), .total_o(total));",
        f"  always_ff @(posedge clk_i) sum_o <= (total ^ {{{bits}{{negative}}}}) + {bits}'(negative);",
        "endmodule",
    ]
    folder = resources.files("gatewright") / "hdl_templates" / "lib"
    files = {f"{cell}.sv": (folder / f"{cell}.sv").read_text() for cell in CELLS}
    return {**files, f"{name}.sv": "\n".join(lines) + "\n"}


def _decoder(side: str, value: Value, packing: Packing, size: int) -> list[str]:
    """The lines that register the codes of one side and take them apart."""
    width = value.width
    lines = [
        f"  logic [{size * width - 1}:0] {side}_q;",
        f"  logic [{size * packing.bits - 1}:0] {side};",
        f"  always_ff @(posedge clk_i) {side}_q <= {side}_i;",
    ]
    if packing.expression is None:
        return [*lines, f"  assign {side} = {side}_q;"]
    lane = datapath(packing.expression, (0,) * len(packing.expression.nodes), 0)
    body = [
        f"{declaration(value.interval)} x0;",
        *lane.declarations,
        f"assign x0 = {side}_q[lane*{width} +: {width}];",
        *lane.statements,
        f"assign {side}[lane*{packing.bits} +: {packing.bits}] = {lane.result};",
    ]
    loop = f"  for (genvar lane = 0; lane < {size}; lane++) begin : gen_{side}"
    return [*lines, loop, *(f"    {line}" for line in body), "  end"]
