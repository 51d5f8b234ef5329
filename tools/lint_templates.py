"""Lint every hardware cell: Verilator -Wall, slang, Yosys `read_verilog -sv`. A warning is an error.

Usage: python tools/lint_templates.py [CELL.sv ...]

Each cell is the top once, with its default parameters. Generated hardware is linted by the tests, with
the parameters that it is generated with.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from gatewright.sim.lint import lint

LIBRARY = Path(__file__).resolve().parent.parent / "gatewright" / "hdl_templates" / "lib"


def main(names: Sequence[str]) -> int:
    """Lint the named cells, or all; prints what was found and returns the exit status."""
    library = sorted(LIBRARY.glob("*.sv"))
    packages = [path for path in library if path.stem.endswith("_pkg")]
    cells = [path for path in library if path not in packages]
    chosen = [Path(name).resolve() for name in names if Path(name).resolve() in cells] if names else cells
    found: list[str] = []
    for cell in chosen:
        found += lint([*packages, *cells], cell.stem, yosys=True)
    print("\n".join(found) if found else f"{len(chosen)} cells are clean in Verilator, slang and Yosys")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
