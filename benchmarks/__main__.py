"""Run the benchmarks, print their table, write their results.

Usage: python -m benchmarks [--list] [--no-results] [NAME ...]

Without names, all run. Results go to benchmarks/results/VERSION.json: the figures of each benchmark with
its command, its date and commit, and the machine. Running some of them keeps the others' last results.
Exits 1 where a benchmark raises; a missed goal is shown, and is no error.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.metadata
import json
import re
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common import RESULTS, Row, commit, machine, number

COLOURS = {"met": "[green]met[/]", "missed": "[red]missed[/]", "": ""}


def names() -> list[str]:
    """All benchmarks: the modules of this folder that have a function ``rows``; the others help them."""
    modules = Path(__file__).resolve().parent.glob("*.py")
    return sorted(path.stem for path in modules if re.search(r"^def rows\(", path.read_text(), re.MULTILINE))


def measure(name: str) -> Iterator[Row]:
    """The rows of one benchmark, as it measures them."""
    return importlib.import_module(f"benchmarks.{name}").rows()


def record(name: str, rows: list[Row], took: float) -> dict[str, Any]:
    """One benchmark's results as they are written."""
    figures = [
        {
            "name": row.name,
            "measured": row.measured,
            "unit": row.unit,
            "source": row.source,
            "goal": str(row.goal) if row.goal else None,
            "verdict": row.verdict or None,
            "peers": dict(row.peers),
            "note": row.note,
        }
        for row in rows
    ]
    return {
        "command": f"python -m benchmarks {name}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "seconds": round(took, 1),
        "machine": machine(),
        "rows": figures,
    }


def write(results: dict[str, dict[str, Any]]) -> Path:
    """Merge the results into this version's file; its path."""
    path = RESULTS / f"{importlib.metadata.version('gatewright')}.json"
    RESULTS.mkdir(exist_ok=True)
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    known = {name: each for name, each in kept.items() if name in names()}
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps({**known, **results}, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    aside.replace(path)
    return path


def table() -> Table:
    """An empty table with the columns of a row."""
    made = Table(title="Gatewright benchmarks", title_justify="left")
    for heading in ("figure", "measured", "goal", "", "peers", "source"):
        made.add_column(heading, justify="right" if heading in ("measured", "goal") else "left")
    return made


def add(made: Table, row: Row) -> None:
    """Show a row, its note below its name."""
    name = f"{row.name}\n[dim]{row.note}[/]" if row.note else row.name
    peers = "\n".join(f"{peer} {number(value)}" for peer, value in row.peers.items())
    goal = str(row.goal) if row.goal else ""
    made.add_row(name, f"{number(row.measured)} {row.unit}", goal, COLOURS[row.verdict], peers, row.source)


def main(arguments: list[str]) -> int:
    """Run what the command line names; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--no-results", action="store_true", help="write no results file")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(names()))
        return 0
    unknown = sorted(set(options.names) - set(names()))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(names())}")
    progress = Console(stderr=True)
    console = Console() if sys.stdout.isatty() else Console(width=150)
    made, results, failed = table(), dict[str, dict[str, Any]](), list[str]()
    for name in options.names or names():
        rows: list[Row] = []
        began = time.monotonic()
        try:
            with progress.status(name):
                for row in measure(name):
                    rows.append(row)
        except Exception:  # one broken benchmark must not cost the others' figures
            traceback.print_exc()
            failed.append(name)
        else:
            results[name] = record(name, rows, time.monotonic() - began)
        made.add_section()
        for row in rows:
            add(made, row)
    console.print(made)
    if results and not options.no_results:
        path = write(results)
        console.print(f"results: benchmarks/results/{path.name}")
    if failed:
        console.print(f"[red]failed:[/] {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
