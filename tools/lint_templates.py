"""Lint every hardware cell: Verilator -Wall, slang, Yosys `read_verilog -sv`. A warning is an error.

Usage: python tools/lint_templates.py [CELL.sv ...]

Each cell is the top once, with its default parameters. Generated hardware is linted by the tests, with
the parameters that it is generated with.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gatewright.sim.lint import lint

LIBRARY = Path(__file__).resolve().parent.parent / "gatewright" / "hdl_templates" / "lib"
MEMORY = "rom.mem"


def copies(folder: Path) -> list[Path]:
    """The library in ``folder``, where a cell with a memory has a file to read from, as in every design.

    A cell's own default is no file, since Yosys reads each module's defaults before it is instantiated.
    """
    for path in sorted(LIBRARY.glob("*.sv")):
        (folder / path.name).write_text(re.sub(r'(File\s*)= ""', rf'\1= "{MEMORY}"', path.read_text()))
    (folder / MEMORY).write_text("0\n1\n")
    return sorted(folder.glob("*.sv"), key=lambda path: (not path.stem.endswith("_pkg"), path.name))


def main(names: Sequence[str]) -> int:
    """Lint the named cells, or all; prints what was found and returns the exit status."""
    chosen = {Path(name).stem for name in names}
    found: list[str] = []
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        library = copies(Path(folder))
        for cell in library:
            if (cell.stem in chosen or not chosen) and not cell.stem.endswith("_pkg"):
                found += lint([*library, Path(folder) / MEMORY], cell.stem, yosys=True)
                count += 1
    text = "\n".join(dict.fromkeys(found)).replace(f"{folder}/", "")
    print(text if found else f"{count} cells are clean in Verilator, slang and Yosys")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
