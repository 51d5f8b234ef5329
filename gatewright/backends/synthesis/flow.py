"""Synthesis: SystemVerilog sources to counted FPGA resources, cached by content."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewright.backends.synthesis.families import Family, Resources, find_family
from gatewright.backends.synthesis.hierarchy import ModuleUse, count_modules
from gatewright.backends.synthesis.tool import Run, Tool, find_tool, run_yosys
from gatewright.diagnostics import GatewrightError, error
from gatewright.sim.cache import cached_folder, digest

SOURCE_SUFFIXES = (".sv", ".v")


@dataclass(frozen=True, slots=True)
class SynthesisResult:
    """What a design takes in one FPGA family, after technology mapping and before placement.

    ``lut``, ``lutram``, ``ff``, ``dsp``, ``bram``, ``carry`` and ``cells`` are those of
    :class:`Resources`; ``bram`` counts ``bram_unit``. ``seconds`` is what Yosys took when it ran; ``cached``
    whether that was an earlier time. ``modules`` is filled where a breakdown was asked for.
    """

    family: str
    top: str
    lut: int
    lutram: int
    ff: int
    dsp: int
    bram: int
    carry: int
    cells: dict[str, int]
    bram_unit: str
    seconds: float
    tool: str
    version: str
    cached: bool
    modules: dict[str, ModuleUse]


def synthesise(
    sources: Sequence[Path],
    top: str,
    family: str = "xcup",
    *,
    no_dsp: bool = False,
    no_bram: bool = False,
    per_module: bool | Sequence[str] = False,
    timeout: float | None = None,
    cache: Path | None = None,
) -> SynthesisResult:
    """Synthesise ``top`` for ``family`` (``xcup``, ``ecp5``, ``ice40``) with Yosys.

    ``sources`` are SystemVerilog files, packages first, and data files, which the design opens with
    ``$readmemh`` by their bare names. The hierarchy is dissolved, as the published comparisons do;
    ``per_module=True`` keeps all of it, a list of module names keeps these and dissolves the rest, and
    ``modules`` then tells them apart. A kept boundary costs the optimisations across it. ``no_dsp`` and
    ``no_bram`` forbid those blocks; ``timeout`` is in seconds.

    Raises GatewrightError: GW0601 no Yosys, GW0602 unknown family, GW0603 sources or top not usable,
    GW0604 the design is refused, GW0605 out of time or memory, GW0606 a data file is missing.
    """
    target = find_family(family)
    files = _checked(sources, top)
    tool = find_tool()
    script = _script(target, files, top, no_dsp=no_dsp, no_bram=no_bram, per_module=per_module)
    key = digest(tool.name, tool.version, script, *(part for path in files for part in (path.name, path.read_bytes())))
    ran = False

    def fill(folder: Path) -> None:
        nonlocal ran
        ran = True
        record = _run(tool, script, files, top, timeout)
        (folder / "result.json").write_text(json.dumps(record))

    record = json.loads((cached_folder(cache, "synthesis", key, fill) / "result.json").read_text())
    modules = count_modules(record["statistics"], top, target)
    total = next(iter(modules.values())).total
    return _result(target, top, tool, record["seconds"], not ran, total, modules if per_module else {})


def _result(
    family: Family,
    top: str,
    tool: Tool,
    seconds: float,
    cached: bool,
    total: Resources,
    modules: dict[str, ModuleUse],
) -> SynthesisResult:
    return SynthesisResult(
        family=family.name,
        top=top,
        lut=total.lut,
        lutram=total.lutram,
        ff=total.ff,
        dsp=total.dsp,
        bram=total.bram,
        carry=total.carry,
        cells=total.cells,
        bram_unit=family.bram_unit,
        seconds=seconds,
        tool=tool.name,
        version=tool.version,
        cached=cached,
        modules=modules,
    )


def _checked(sources: Sequence[Path], top: str) -> tuple[Path, ...]:
    """The sources, all there and with names that do not collide."""
    files = tuple(Path(path) for path in sources)
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise error("GW0603", "a source of the synthesis does not exist: " + ", ".join(missing))
    names = [path.name for path in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise error("GW0603", "several sources have the same file name: " + ", ".join(twice))
    if not any(path.suffix in SOURCE_SUFFIXES for path in files):
        raise error("GW0603", "there is no SystemVerilog source", help="pass files that end in .sv or .v")
    if re.fullmatch(r"[A-Za-z_]\w*", top) is None:
        raise error("GW0603", f"`{top}` is no module name")
    return files


def _script(
    family: Family,
    files: Sequence[Path],
    top: str,
    *,
    no_dsp: bool,
    no_bram: bool,
    per_module: bool | Sequence[str],
) -> str:
    """The Yosys script; part of the cache's key."""
    lines = [f'read_verilog -sv "{path.name}"' for path in files if path.suffix in SOURCE_SUFFIXES]
    lines.append(f"hierarchy -check -top {top}")
    if not isinstance(per_module, bool):
        # A module with parameters has a made-up name, and its own name as an attribute.
        lines += [f"setattr -mod -set keep_hierarchy 1 {name} A:hdlname={name}" for name in per_module]
    lines.append(family.script(top, flatten=per_module is not True, no_dsp=no_dsp, no_bram=no_bram))
    # To a file: what the WebAssembly build prints after its logic optimiser ran can be lost.
    lines.append(f"tee -q -o statistics.json stat -json -top {top}")
    return "\n".join(lines) + "\n"


def _run(tool: Tool, script: str, files: Sequence[Path], top: str, timeout: float | None) -> dict[str, Any]:
    """Run Yosys in a folder of its own; the statistics and the seconds that it took."""
    with tempfile.TemporaryDirectory(prefix="gatewright-") as name:
        folder = Path(name)
        for path in files:
            shutil.copyfile(path, folder / path.name)
        began = time.monotonic()
        run = run_yosys(tool, script, folder, timeout=timeout)
        seconds = time.monotonic() - began
        try:
            statistics: dict[str, Any] = json.loads((folder / "statistics.json").read_text())
        except (OSError, ValueError):
            raise _failure(tool, run, files, top) from None
        if run.status != 0:
            raise _failure(tool, run, files, top)
        return {"statistics": statistics, "seconds": round(seconds, 3)}


def _failure(tool: Tool, run: Run, files: Sequence[Path], top: str) -> GatewrightError:
    """The error that a failed run amounts to, with Yosys' own words and the caller's file names."""
    words = [line for line in (run.log + "\n" + run.output).splitlines() if "ERROR:" in line]
    text = "\n".join(dict.fromkeys(words)) or run.output.strip()[-1500:] or "no output"
    for path in files:
        text = re.sub(rf"(?<![\w/.]){re.escape(path.name)}:", lambda _, path=path: f"{path}:", text)
    if found := re.search(r"Can not open file `(.+?)[`'] for \\?\$?\\?readmem", text):
        return error(
            "GW0606",
            f"the data file `{found[1]}` is not among the sources",
            note=text,
            help="pass it with the sources; the design names it without a folder",
        )
    if re.search(rf"Module `\\?{re.escape(top)}' not found", text):
        return error("GW0603", f"no source defines the top module `{top}`", note=text)
    if re.search(r"bad_alloc|out of memory|memory fault|unreachable|memory allocation", text):
        return error(
            "GW0605",
            f"{tool.name} ran out of memory",
            note=text,
            help="synthesise the layers apart, or install a native yosys, which has no limit of 4 GiB",
        )
    return error("GW0604", f"{tool.name} {tool.version} refuses the design", note=text)
