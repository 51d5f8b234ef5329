"""Verilates a design and compiles it with a driver; what does not depend on the design is compiled once.

The C++ compiler is called directly: neither make nor perl is needed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gatewright.diagnostics import error
from gatewright.sim.cache import cached_folder, digest
from gatewright.sim.toolchain import Toolchain, find_program, find_toolchain, run_program

FEATURES = ("COVERAGE", "SC", "TIMING", "TRACE", "TRACE_FST", "TRACE_VCD", "TRACE_SAIF")
COMPILE_OPTIONS = (
    *("-DVERILATOR=1", *(f"-DVM_{feature}=0" for feature in FEATURES)),
    *("-std=gnu++17", "-faligned-new", "-fcf-protection=none", "-w"),
)
VERILATE_OPTIONS = (
    *("--cc", "-O3", "--x-assign", "fast", "--x-initial", "unique", "--no-timing", "-Wno-fatal"),
    *("-Wno-lint", "-Wno-style", "--output-split", "8000", "--output-split-cfuncs", "2000"),
)
PRECOMPILED = "gw_verilated.h"
DATA_SUFFIXES = (".hex", ".mem", ".dat")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a kind of simulator is made.

    ``runtime``: C++ sources compiled once, by bare name where they are Verilator's own. ``verilate`` and
    ``link``: more options for Verilator and for the linker. ``optimization``: the compiler's level, chosen
    from the design's size when empty.
    """

    kind: str
    prefix: str
    runtime: tuple[str | Path, ...]
    verilate: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    optimization: str = ""

    def runtime_sources(self, tools: Toolchain) -> list[Path]:
        """The paths of the runtime's sources."""
        include = tools.verilator_root / "include"
        return [include / each if isinstance(each, str) else each for each in self.runtime]


def compile_simulator(
    recipe: Recipe,
    sources: Sequence[Path],
    top: str,
    generated: Mapping[str, str],
    *,
    executable: str,
    cache: Path | None,
) -> Path:
    """The path of the executable of ``top``, from the cache or compiled now.

    ``sources``: SystemVerilog, packages first, and data files (.hex, .mem, .dat), which the design opens by
    their bare name as it runs in the executable's folder. ``generated``: more files by name, .sv and .cpp.
    Raises GatewrightError GW0401 to GW0404, GW0407.
    """
    for source in sources:
        if not source.is_file():
            raise error("GW0407", f"the source file {source} does not exist")
    tools = find_toolchain()
    contents = [part for source in sources for part in (source.name, source.read_bytes())]
    contents += [part for pair in sorted(generated.items()) for part in pair]
    key = digest(_runtime_key(recipe, tools), *VERILATE_OPTIONS, *recipe.verilate, top, executable, *contents)

    def fill(folder: Path) -> None:
        _compile(folder / executable, recipe, tools, sources, top, generated, cache)

    return cached_folder(cache, recipe.kind, key, fill) / executable


def _compile(
    executable: Path,
    recipe: Recipe,
    tools: Toolchain,
    sources: Sequence[Path],
    top: str,
    generated: Mapping[str, str],
    cache: Path | None,
) -> None:
    folder = executable.parent
    work = folder / "work"
    work.mkdir()
    for name, text in generated.items():
        (work / name).write_text(text)
    for source in sources:
        if source.suffix in DATA_SUFFIXES:
            shutil.copyfile(source, folder / source.name)
    verilog = [source.absolute() for source in sources if source.suffix not in DATA_SUFFIXES]
    verilog += [work / name for name in generated if name.endswith(".sv")]
    command = [tools.verilator, *VERILATE_OPTIONS, *recipe.verilate, "--prefix", recipe.prefix]
    run_program([*command, "--Mdir", work, "--top-module", top, *verilog], environment=tools.environment)
    units = sorted(work.glob("*.cpp"))
    level = recipe.optimization or _optimization(sum(each.stat().st_size for each in units))
    runtime = _runtime_folder(recipe, tools, level, cache)
    flags = [level, *COMPILE_OPTIONS, f"-I{runtime}", "-include", PRECOMPILED, *_includes(tools)]
    objects = _compile_all(tools, flags, _join(work, units), work)
    run_program([tools.compiler, "-o", executable, *objects, runtime / "runtime.a", "-pthread", *recipe.link])
    shutil.rmtree(work)


def _includes(tools: Toolchain) -> list[str]:
    include = tools.verilator_root / "include"
    return [f"-I{include}", f"-I{include / 'vltstd'}"]


def _compile_all(tools: Toolchain, flags: Sequence[str], sources: Sequence[Path], folder: Path) -> list[Path]:
    """Compile every source, side by side; the object files go to ``folder``."""
    objects = [folder / f"{source.stem}.o" for source in sources]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        jobs = [
            pool.submit(run_program, [tools.compiler, *flags, "-c", source, "-o", target])
            for source, target in zip(sources, objects, strict=True)
        ]
        for job in jobs:
            job.result()
    return objects


def _optimization(size: int) -> str:
    """-O2 compiles a megabyte of generated C++ in seconds, but unrolled designs of many in minutes."""
    return "-O2" if size < 3_000_000 else "-O1"


def _join(work: Path, sources: Sequence[Path]) -> list[Path]:
    """Few translation units: one for a small design, else balanced ones that compile side by side."""
    total = sum(each.stat().st_size for each in sources)
    count = 1 if total < 150_000 else max(os.cpu_count() or 1, total // 1_000_000)
    groups: list[list[Path]] = [[] for _ in range(count)]
    sizes = [0] * count
    for each in sorted(sources, key=lambda path: (-path.stat().st_size, path.name)):
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


def _runtime_key(recipe: Recipe, tools: Toolchain) -> str:
    own = [each.read_bytes() for each in recipe.runtime if isinstance(each, Path)]
    names = [each for each in recipe.runtime if isinstance(each, str)]
    options = [*COMPILE_OPTIONS, *recipe.link, recipe.prefix, recipe.optimization]
    return digest(tools.version, str(tools.verilator_root), *names, *own, *options)


def _runtime_folder(recipe: Recipe, tools: Toolchain, level: str, cache: Path | None) -> Path:
    """The cached folder with ``runtime.a`` (at -O2) and a header precompiled at ``level``."""

    def fill(folder: Path) -> None:
        archiver = find_program("ar", "gcc-ar", "llvm-ar", package="binutils", purpose="build a simulation")
        flags = [*COMPILE_OPTIONS, *_includes(tools)]
        header = folder / PRECOMPILED
        header.write_text('#include "verilated.h"\n')
        with ThreadPoolExecutor(max_workers=1) as pool:
            command = [tools.compiler, level, *flags, "-x", "c++-header", header]
            job = pool.submit(run_program, [*command, "-o", folder / f"{PRECOMPILED}.gch"])
            objects = _compile_all(tools, ["-O2", *flags], recipe.runtime_sources(tools), folder)
            job.result()
        run_program([archiver, "rcs", folder / "runtime.a", *objects])

    return cached_folder(cache, "runtimes", digest(_runtime_key(recipe, tools), level), fill)
