"""The second harness: cocotb drives the design in Verilator, with the same words and stalls as the fast one.

Slower by orders of magnitude, but independent of the compiled driver, and it resets the design in mid-stream.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewright.diagnostics import MismatchError, diagnostic, error
from gatewright.sim.compiler import Recipe, compile_simulator
from gatewright.sim.ports import StreamPort, check_ports
from gatewright.sim.words import Words, bytes_to_words, limbs, words_to_bytes

RUNTIME = ("verilated.cpp", "verilated_threads.cpp", "verilated_vpi.cpp")


@dataclass(frozen=True, slots=True, eq=False)
class CocotbResult:
    """The words of each output, as the fast harness gives them, and the cycles since the last reset."""

    outputs: Mapping[str, Words]
    cycles: int


def run_cocotb(
    sources: Sequence[Path],
    top: str,
    ports: Sequence[StreamPort],
    inputs: Mapping[str, NDArray[np.generic]],
    expected: Mapping[str, NDArray[np.generic]],
    samples: int,
    *,
    input_stall: float = 0.0,
    output_stall: float = 0.0,
    seed: int = 0,
    reset_midstream: bool = True,
    idle_limit: int = 20_000,
    drain: int = 32,
    cache: Path | None = None,
) -> CocotbResult:
    """Send ``samples`` samples through ``top`` and compare the words of the outputs that ``expected`` names.

    The arguments mean what they mean in :mod:`gatewright.sim.harness`. With ``reset_midstream`` a first run
    is cut off by aresetn when half of the output words have come; then the samples start again.

    Raises MismatchError GW0414 that names the first differing word; GatewrightError GW0415 for a fault of
    the handshake (TLAST, a surplus word, a deadlock), GW0412 where the simulator failed, and those of
    ``build``.
    """
    check_ports(ports, ())
    executable = _build(sources, top, cache)
    with tempfile.TemporaryDirectory(prefix="gatewright-") as name:
        folder = Path(name)
        for position, port in enumerate(ports):
            if port.direction == "input":
                data = words_to_bytes(inputs[port.name], port.width, samples * port.beats, port.name)
                (folder / f"{position}.in").write_bytes(data)
        job = {
            "samples": samples,
            "input_stall": round(input_stall * 2**32),
            "output_stall": round(output_stall * 2**32),
            "seed": seed,
            "reset_midstream": reset_midstream,
            "idle_limit": idle_limit,
            "drain": drain,
            "ports": [{**asdict(port), "bytes": port.bytes} for port in ports],
        }
        (folder / "job.json").write_text(json.dumps(job))
        report = _simulate(executable, top, folder, seed)
        if report["faults"]:
            raise error("GW0415", f"`{top}` broke the stream protocol under cocotb", note=report["faults"])
        outputs: dict[str, Words] = {}
        for position, port in enumerate(ports):
            if port.direction == "output":
                outputs[port.name] = bytes_to_words((folder / f"{position}.out").read_bytes(), port.width)
                if port.name in expected:
                    _compare(port, outputs[port.name], expected[port.name], samples)
    return CocotbResult(outputs, report["cycles"])


def _build(sources: Sequence[Path], top: str, cache: Path | None) -> Path:
    from cocotb_tools import config

    driver = config.share_dir / "lib" / "verilator" / "verilator.cpp"
    recipe = Recipe(
        kind="cocotb",
        prefix="Vtop",
        runtime=RUNTIME,
        verilate=("--vpi", "--public-depth", "1", "--timescale", "1ns/1ns"),
        link=(f"-Wl,-rpath,{config.libs_dir}", f"-L{config.libs_dir}", "-lcocotbvpi_verilator"),
        optimization="-O1",
    )
    generated = {"cocotb_main.cpp": driver.read_text()}
    return compile_simulator(recipe, sources, top, generated, executable=top, cache=cache)


def _simulate(executable: Path, top: str, folder: Path, seed: int) -> dict[str, Any]:
    from cocotb_tools.runner import get_runner

    log = folder / "log"
    failure = ""
    try:
        get_runner("verilator").test(
            test_module="gatewright.sim.cocotb_streams",
            hdl_toplevel=top,
            hdl_toplevel_lang="verilog",
            build_dir=executable.parent,
            test_dir=executable.parent,
            results_xml=str(folder / "results.xml"),
            seed=seed,
            test_args=[f"+verilator+seed+{seed % 0x7FFFFFFE + 1}", "+verilator+rand+reset+2"],
            extra_env={"GATEWRIGHT_COCOTB_JOB": str(folder), "COCOTB_ANSI_OUTPUT": "0"},
            log_file=log,
        )
    except (SystemExit, RuntimeError) as problem:
        failure = str(problem)
    report = folder / "report.json"
    if not report.is_file():
        text = log.read_text(errors="replace") if log.is_file() else ""
        note = "\n".join([failure, *text.strip().splitlines()[-20:]])
        raise error("GW0412", f"the cocotb simulation of `{top}` failed", note=note)
    return json.loads(report.read_text())


def _compare(port: StreamPort, found: Words, expected: NDArray[np.generic], samples: int) -> None:
    count = samples * port.beats
    wanted = bytes_to_words(words_to_bytes(expected, port.width, count, port.name), port.width)
    wrong = np.flatnonzero((found.reshape(-1, limbs(port.width)) != wanted.reshape(-1, limbs(port.width))).any(axis=1))
    if len(wrong):
        sample, beat = divmod(int(wrong[0]), port.beats)
        raise MismatchError(
            diagnostic(
                "GW0414",
                f"output `{port.name}` differs first at sample {sample}, beat {beat}",
                note=f"{len(wrong)} of {count} words differ; found {found[wrong[0]]}, expected {wanted[wrong[0]]}",
            )
        )
