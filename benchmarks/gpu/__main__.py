"""Time the GPU kernels, check their results, print the table and write it as JSON.

Usage: python -m benchmarks.gpu [--only GROUP ...] [--tune] [--no-compile] [--output FILE]

Groups: conversions products row_kernels attention_kernels backend. ``--tune`` searches the kernels' configurations
first and keeps them in the cache. ``--output`` draws the roofline too, where matplotlib is installed; without it the
JSON is printed below the table. Exits 1 where an output is wrong (its row says WRONG); a missed goal is shown, and is
no error.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.util
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import plot
from benchmarks.gpu.measure import Context, Row, copy_rate
from gatewright.kernels.autotune import autotuning
from gatewright.kernels.device import versions

GROUPS = ("conversions", "products", "row_kernels", "attention_kernels", "backend")


def driver() -> str:
    """The NVIDIA driver's version, which all GPUs of a machine share; empty where it is not told."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return told[0] if told else ""


def line(row: Row) -> str:
    """A row of the table."""
    state = "" if row.met is None else ("met" if row.met else "missed")
    wrong = "" if row.correct else "WRONG "
    return (
        f"{row.what:44} {row.variant:15} {row.milliseconds * 1000:9.1f} us {row.rate:8.0f} {row.unit:8}"
        f"{row.goal:30} {state:7} {wrong}{row.note}"
    )


def main() -> int:
    """Run; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS)
    parser.add_argument("--tune", action="store_true", help="search configurations first")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--output", type=Path, help="write the rows as JSON, and the roofline beside it as .png")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device here: these benchmarks need one. The kernels' tests run on any machine.")
        return 2
    torch.manual_seed(0)
    copy, read = copy_rate()
    print(f"{torch.cuda.get_device_name()}: copy {copy:.0f} GB/s, read {read:.0f} GB/s")
    context = Context(copy, read, not options.no_compile)
    found: list[Row] = []
    for group in options.only:
        module = importlib.import_module(f"benchmarks.gpu.{group}")
        started = time.perf_counter()
        # Tuning happens at a kernel's first call, which is the check of its result.
        with autotuning(options.tune):
            for row in module.rows(context):
                found.append(row)
                print(line(row), flush=True)
        torch.cuda.empty_cache()
        print(f"-- {group}: {time.perf_counter() - started:.0f} s", flush=True)
    record: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        **versions(),
        "driver": driver(),
        "copy_gigabytes_per_second": round(copy, 1),
        "read_gigabytes_per_second": round(read, 1),
        "command": shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]]),
        "rows": [row.record() for row in found],
    }
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(record, indent=1) + "\n")
        if importlib.util.find_spec("matplotlib") is None:
            print("There is no picture: matplotlib, of the extra `bench`, is not installed here.")
        else:
            plot.draw(record, options.output.with_suffix(".png"))
    else:
        print(json.dumps(record))
    wrong = [row for row in found if not row.correct]
    print(f"{len(found)} rows, {sum(row.met is True for row in found)} goals met, "
          f"{sum(row.met is False for row in found)} missed, {len(wrong)} wrong")  # fmt: skip
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
