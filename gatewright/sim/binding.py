"""The generated text that ties a design to the driver: C++ for its ports, SystemVerilog for its taps."""

from __future__ import annotations

from collections.abc import Sequence

from gatewright.sim.ports import StreamPort, Tap

BINDING = """// Binds the driver to this design's ports.
#include "Vgw.h"
#include <cstddef>
#include <cstdint>
struct GwPort {
    int kind;
    uint64_t beats;
    size_t bytes;
    uint8_t *valid, *ready, *last;
    void* data;
};
extern const int gw_port_count = COUNT;
GwPort gw_ports[COUNT];
static VerilatedContext* context;
static Vgw* top;
extern "C" void gw_construct(uint64_t seed) {
    context = new VerilatedContext;
    context->randReset(2);
    context->randSeed(static_cast<int>(seed % 0x7FFFFFFE) + 1);
    top = new Vgw{context, ""};
ASSIGNMENTS
}
extern "C" void gw_evaluate(int clock, int reset_n) {
    top->aclk = clock;
    top->aresetn = reset_n;
    top->eval();
}
extern "C" void gw_destroy() {
    top->final();
    delete top;
    delete context;
}
"""


def port_binding(ports: Sequence[StreamPort], taps: Sequence[Tap]) -> str:
    """C++ that constructs the model and lists where its ports are."""
    rows: list[str] = []
    for port in ports:
        kind = "0" if port.direction == "input" else "1"
        rows.append(_row(kind, port, f"{port.name}_t", f"&top->{_member(port.name + '_tlast')}"))
    rows += [_row("2", tap, f"tap{k}_", "nullptr") for k, tap in enumerate(taps)]
    assignments = "".join(f"    gw_ports[{k}] = {row};\n" for k, row in enumerate(rows))
    return BINDING.replace("COUNT", str(len(rows))).replace("ASSIGNMENTS\n", assignments)


def _row(kind: str, stream: StreamPort | Tap, stem: str, last: str) -> str:
    valid, ready, data = (f"&top->{_member(stem + signal)}" for signal in ("valid", "ready", "data"))
    return f"{{{kind}, {stream.beats}, {stream.bytes}, {valid}, {ready}, {last}, {data}}}"


def _member(name: str) -> str:
    """Verilator's C++ name of a port."""
    return name.replace("__", "___05F")


def tap_wrapper(top: str, ports: Sequence[StreamPort], taps: Sequence[Tap]) -> str:
    """A top level around ``top`` with the same streams and one more output per tap."""
    declarations = ["input logic aclk", "input logic aresetn"]
    connections = [".aclk(aclk)", ".aresetn(aresetn)"]
    for port in ports:
        forward, backward = ("input", "output") if port.direction == "input" else ("output", "input")
        declarations += [
            f"{forward} logic [{8 * port.bytes - 1}:0] {port.name}_tdata",
            f"{forward} logic {port.name}_tvalid",
            f"{backward} logic {port.name}_tready",
            f"{forward} logic {port.name}_tlast",
        ]
        for signal in ("tdata", "tvalid", "tready", "tlast"):
            connections.append(f".{port.name}_{signal}({port.name}_{signal})")
    body = [f"  {top} u_top (\n    " + ",\n    ".join(connections) + "\n  );"]
    for k, tap in enumerate(taps):
        declarations += [
            f"output logic [{8 * tap.bytes - 1}:0] tap{k}_data",
            f"output logic tap{k}_valid",
            f"output logic tap{k}_ready",
        ]
        spare = 8 * tap.bytes - tap.width
        data = f"u_top.{tap.data}"
        body += [
            f"  assign tap{k}_data = " + (f"{{{spare}'b0, {data}}};" if spare else f"{data};"),
            f"  assign tap{k}_valid = u_top.{tap.valid};",
            f"  assign tap{k}_ready = u_top.{tap.ready};",
        ]
    header = "module gw_tap_wrapper (\n  " + ",\n  ".join(declarations) + "\n);\n"
    return header + "\n".join(body) + "\nendmodule\n"
