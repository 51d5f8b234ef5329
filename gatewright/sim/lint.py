"""Lints SystemVerilog with three independent front ends: Verilator, slang and Yosys."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatewright.backends.synthesis.tool import find_tool, run_yosys
from gatewright.sim.compiler import DATA_SUFFIXES
from gatewright.sim.toolchain import find_toolchain


def lint(sources: Sequence[Path], top: str, *, yosys: bool = False) -> list[str]:
    """Every complaint about ``top`` of ``sources`` (packages first), one text each; empty when clean.

    Runs Verilator with -Wall and slang with -Wextra where it is installed; with ``yosys`` also Yosys's
    ``read_verilog -sv``, hierarchy and check. Raises GatewrightError GW0402, GW0601 where Yosys is missing.
    """
    files = [source.absolute() for source in sources if source.suffix not in DATA_SUFFIXES]
    found = _lint_verilator(files, top)
    if importlib.util.find_spec("pyslang") is not None:
        found += _lint_slang(files, top)
    if yosys:
        found += _lint_yosys(sources, files, top)
    return found


def _lint_verilator(files: Sequence[Path], top: str) -> list[str]:
    tools = find_toolchain()
    done = subprocess.run(
        [tools.verilator, "--lint-only", "-Wall", "--no-timing", "--top-module", top, *files],
        env=tools.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    complaints: list[str] = []
    for line in done.stderr.splitlines():
        if line.startswith("%Error: Exiting due to"):
            continue
        if line.startswith("%"):
            complaints.append(f"verilator: {line}")
        elif complaints and line.strip():
            complaints[-1] += f"\n{line}"
    if done.returncode and not complaints:
        complaints.append(f"verilator: exit status {done.returncode}\n{done.stderr.strip()}")
    return complaints


def _lint_slang(files: Sequence[Path], top: str) -> list[str]:
    driver: Any = importlib.import_module("pyslang.driver").Driver()
    driver.addStandardArgs()
    command = " ".join(["slang", "-Wextra", "--single-unit", "--top", top, *(f'"{file}"' for file in files)])
    if not (driver.parseCommandLine(command) and driver.processOptions() and driver.parseAllSources()):
        return ["slang: the sources could not be parsed"]
    complaints: list[str] = []
    for each in driver.createCompilation().getAllDiagnostics():
        severity = driver.diagEngine.getSeverity(each.code, each.location).name
        if severity in ("Warning", "Error", "Fatal"):
            file = Path(driver.sourceManager.getFileName(each.location)).name
            line = driver.sourceManager.getLineNumber(each.location)
            text = driver.diagEngine.formatMessage(each)
            complaints.append(f"slang: {severity.lower()}: {file}:{line}: {text}")
    return complaints


def _lint_yosys(sources: Sequence[Path], files: Sequence[Path], top: str) -> list[str]:
    tool = find_tool()
    with tempfile.TemporaryDirectory(prefix="gatewright-") as name:
        folder = Path(name)
        for source in sources:
            shutil.copyfile(source, folder / source.name)
        script = f"read_verilog -sv {' '.join(file.name for file in files)}\nhierarchy -check -top {top}\n"
        run = run_yosys(tool, script + "proc\nopt_clean\ncheck -assert\n", folder)
    lines = run.log.splitlines()
    found = [f"yosys: {line}" for line in lines if "Warning:" in line or "ERROR:" in line]
    if run.status and not found:
        found.append(f"yosys: exit status {run.status}\n{run.output}")
    return found
