"""Compiles a design and its driver into a cached executable.

Verilator's runtime and the driver are compiled once per machine; a design adds one generated file that
binds its ports. The C++ compiler is called directly: neither make nor perl is needed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gatewright.diagnostics import error
from gatewright.sim.cache import cached_folder, digest
from gatewright.sim.ports import StreamPort, Tap
from gatewright.sim.toolchain import Toolchain, find_toolchain, run_program

DRIVER = Path(__file__).with_name("driver.cpp")
RUNTIME_SOURCES = ("verilated.cpp", "verilated_threads.cpp")
FEATURES = ("COVERAGE", "SC", "TIMING", "TRACE", "TRACE_FST", "TRACE_VCD", "TRACE_SAIF")
COMPILE_OPTIONS = (
    *("-DVERILATOR=1", *(f"-DVM_{feature}=0" for feature in FEATURES)),
    *("-std=gnu++17", "-faligned-new", "-fcf-protection=none", "-w"),
)
VERILATE_OPTIONS = (
    *("--cc", "-O3", "--x-assign", "fast", "--x-initial", "unique", "--no-timing", "--prefix", "Vgw"),
    *("-Wno-fatal", "-Wno-lint", "-Wno-style", "--output-split", "8000", "--output-split-cfuncs", "2000"),
)
PRECOMPILED = "gw_verilated.h"
DATA_SUFFIXES = (".hex", ".mem", ".dat")


def build_executable(
    sources: Sequence[Path],
    top: str,
    ports: Sequence[StreamPort],
    taps: Sequence[Tap],
    *,
    cache: Path | None,
    optimization: str | None,
) -> Path:
    """The path of the design's executable, from the cache or built now.

    ``sources`` are SystemVerilog files, packages first, and data files for ``$readmemh`` (.hex, .mem, .dat),
    which the design opens by their bare name. Raises GatewrightError GW0402 to GW0404, GW0407.
    """
    for source in sources:
        if not source.is_file():
            raise error("GW0407", f"the source file {source} does not exist")
    tools = find_toolchain()
    contents = [part for source in sources for part in (source.name, source.read_bytes())]
    wrapper = tap_wrapper(top, ports, taps) if taps else ""
    binding = port_binding(ports, taps)
    options = " ".join((*COMPILE_OPTIONS, *VERILATE_OPTIONS, optimization or ""))
    key = digest(tools.version, options, DRIVER.read_bytes(), top, wrapper, binding, *contents)

    def fill(folder: Path) -> None:
        _compile_design(folder, tools, sources, top, wrapper, binding, cache, optimization)

    return cached_folder(cache, "simulators", key, fill) / "simulator"


def _compile_design(
    folder: Path,
    tools: Toolchain,
    sources: Sequence[Path],
    top: str,
    wrapper: str,
    binding: str,
    cache: Path | None,
    optimization: str | None,
) -> None:
    verilog = [source.absolute() for source in sources if source.suffix not in DATA_SUFFIXES]
    for source in sources:
        if source.suffix in DATA_SUFFIXES:
            shutil.copyfile(source, folder / source.name)
    work = folder / "work"
    work.mkdir()
    if wrapper:
        (work / "gw_tap_wrapper.sv").write_text(wrapper)
        verilog.append(work / "gw_tap_wrapper.sv")
        top = "gw_tap_wrapper"
    run_program(
        [tools.verilator, *VERILATE_OPTIONS, "--Mdir", str(work), "--top-module", top, *verilog],
        folder=folder,
        environment=tools.environment,
    )
    (work / "binding.cpp").write_text(binding)
    generated = sorted(work.glob("*.cpp"))
    level = optimization or _optimization(sum(each.stat().st_size for each in generated))
    runtime = runtime_folder(tools, level, cache)
    command = [tools.compiler, level, *COMPILE_OPTIONS, f"-I{runtime}", "-include", PRECOMPILED]
    command += _includes(tools)
    jobs: list[list[str | Path]] = []
    objects: list[Path] = []
    for unit in _units(work, generated):
        objects.append(unit.with_suffix(".o"))
        jobs.append([*command, "-c", unit, "-o", objects[-1]])
    _run_all(jobs)
    run_program([tools.compiler, "-o", folder / "simulator", *objects, runtime / "runtime.a", "-pthread"])
    shutil.rmtree(work)


def _includes(tools: Toolchain) -> list[str]:
    include = tools.verilator_root / "include"
    return [f"-I{include}", f"-I{include / 'vltstd'}"]


def _run_all(jobs: Sequence[Sequence[str | Path]]) -> None:
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        list(pool.map(run_program, jobs))


def _optimization(size: int) -> str:
    """Small designs compile in no time at -O2; unrolled ones of many megabytes would take minutes."""
    return "-O2" if size < 400_000 else "-O1" if size < 8_000_000 else "-O0"


def _units(work: Path, generated: Sequence[Path]) -> list[Path]:
    """Few translation units: one for a small design, else balanced ones that compile side by side."""
    total = sum(each.stat().st_size for each in generated)
    count = 1 if total < 150_000 else max(os.cpu_count() or 1, total // 1_000_000)
    groups: list[list[Path]] = [[] for _ in range(count)]
    sizes = [0] * count
    for each in sorted(generated, key=lambda path: (-path.stat().st_size, path.name)):
        smallest = sizes.index(min(sizes))
        groups[smallest].append(each)
        sizes[smallest] += each.stat().st_size
    units: list[Path] = []
    for k, group in enumerate(groups):
        if group:
            unit = work / f"unit{k}.cc"
            unit.write_text("".join(f'#include "{each.name}"\n' for each in group))
            units.append(unit)
    return units


def runtime_folder(tools: Toolchain, level: str, cache: Path | None) -> Path:
    """The cached folder with ``runtime.a`` (Verilator's runtime and the driver) and a precompiled header.

    The header is compiled at ``level``, the level of the design's own files.
    """

    def fill(folder: Path) -> None:
        flags = [*COMPILE_OPTIONS, *_includes(tools)]
        header = folder / PRECOMPILED
        header.write_text('#include "verilated.h"\n')
        precompiled = folder / f"{PRECOMPILED}.gch"
        jobs: list[list[str | Path]] = [
            [tools.compiler, level, *flags, "-x", "c++-header", header, "-o", precompiled]
        ]
        objects: list[Path] = []
        for source in (*(tools.verilator_root / "include" / name for name in RUNTIME_SOURCES), DRIVER):
            objects.append(folder / f"{source.stem}.o")
            jobs.append([tools.compiler, "-O2", *flags, "-c", source, "-o", objects[-1]])
        _run_all(jobs)
        run_program(["ar", "rcs", folder / "runtime.a", *objects])

    options = " ".join((*COMPILE_OPTIONS, level))
    key = digest(tools.version, str(tools.verilator_root), options, DRIVER.read_bytes())
    return cached_folder(cache, "runtimes", key, fill)


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
