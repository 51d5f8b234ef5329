"""Verilates a design and compiles it with a driver; what does not depend on the design is compiled once.

The C++ compiler is called directly: neither make nor perl is needed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
# Bytes of generated C++. Code that runs only once, at the start, is as much as the rest: above SMALL it is
# compiled apart and unoptimised. Above LARGE, -O1 compiles twice as fast as -O2 and the result runs
# as fast within a tenth.
SMALL = 150_000
LARGE = 1_000_000
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
    slow = sorted(work.glob("*__Slow.cpp"))
    fast = sorted(set(work.glob("*.cpp")) - set(slow))
    if _size(slow) < SMALL:
        fast, slow = fast + slow, []
    level = recipe.optimization or ("-O2" if _size(fast) < LARGE else "-O1")
    runtime = _runtime_folder(recipe, tools, level, cache)
    common = [*COMPILE_OPTIONS, *_includes(tools)]
    jobs = [(unit, [level, *common, f"-I{runtime}", "-include", PRECOMPILED]) for unit in _join("fast", fast)]
    jobs += [(unit, ["-O0", *common]) for unit in _join("slow", slow)]
    objects = _compile_all(tools, jobs, work)
    run_program([tools.compiler, "-o", executable, *objects, runtime / "runtime.a", "-pthread", *recipe.link])
    shutil.rmtree(work)


def _includes(tools: Toolchain) -> list[str]:
    include = tools.verilator_root / "include"
    return [f"-I{include}", f"-I{include / 'vltstd'}"]


def _compile_all(tools: Toolchain, sources: Sequence[tuple[Path, Sequence[str]]], folder: Path) -> list[Path]:
    """Compile every source with its options, side by side; the object files go to ``folder``."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        jobs: list[tuple[Path, Future[str]]] = []
        for source, options in sources:
            target = folder / f"{source.stem}.o"
            job = pool.submit(run_program, [tools.compiler, *options, "-c", source, "-o", target])
            jobs.append((target, job))
        for _, job in jobs:
            job.result()
    return [target for target, _ in jobs]


def _size(files: Sequence[Path]) -> int:
    return sum(each.stat().st_size for each in files)


def _join(stem: str, sources: Sequence[Path]) -> list[Path]:
    """Few translation units: one for a small design, else balanced ones that compile side by side."""
    total = _size(sources)
    count = 1 if total < SMALL else max(os.cpu_count() or 1, total // 1_000_000)
    groups: list[list[Path]] = [[] for _ in range(count)]
    sizes = [0] * count
    for each in sorted(sources, key=lambda path: (-path.stat().st_size, path.name)):
        smallest = sizes.index(min(sizes))
        groups[smallest].append(each)
        sizes[smallest] += each.stat().st_size
    units: list[Path] = []
    for k, group in enumerate(groups):
        if group:
            unit = group[0].with_name(f"{stem}{k}.cc")
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
            sources = [(source, ["-O2", *flags]) for source in recipe.runtime_sources(tools)]
            objects = _compile_all(tools, sources, folder)
            job.result()
        run_program([archiver, "rcs", folder / "runtime.a", *objects])

    return cached_folder(cache, "runtimes", digest(_runtime_key(recipe, tools), level), fill)
