"""The fast simulator: a design in Verilator, driven by compiled code from binary vectors.

:func:`build` compiles a design (or finds it in the cache), :meth:`Simulator.run` sends samples through it.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from gatewright.diagnostics import error
from gatewright.sim.binding import port_binding, tap_wrapper
from gatewright.sim.compiler import Recipe, compile_simulator
from gatewright.sim.failures import StreamState, failure
from gatewright.sim.ports import StreamPort, Tap, check_ports
from gatewright.sim.results import SimulationResult, StreamResult
from gatewright.sim.words import bytes_to_words, words_to_bytes

__all__ = ["SimulationResult", "Simulator", "StreamPort", "StreamResult", "Tap", "build"]

DRIVER = Path(__file__).with_name("driver.cpp")


@dataclass(frozen=True, slots=True)
class Simulator:
    """A compiled design. Safe to use from several threads and processes at once."""

    executable: Path
    top: str
    ports: tuple[StreamPort, ...]
    taps: tuple[Tap, ...]

    def run(
        self,
        inputs: Mapping[str, NDArray[np.generic]],
        samples: int,
        *,
        input_stall: float = 0.0,
        output_stall: float = 0.0,
        seed: int = 0,
        max_cycles: int | None = None,
        idle_limit: int = 100_000,
        drain: int = 32,
        trace: bool = False,
        reset_after: int = 0,
    ) -> SimulationResult:
        """Send ``samples`` samples through the design, back to back.

        ``inputs``: for each input stream its words in order, uint64 [samples * beats] (signed integers are
        taken as two's complement), or limbs [samples * beats, ceil(width/64)] above 64 bits.
        ``input_stall`` and ``output_stall``: the probability, each cycle, that an idle input offers nothing
        or that an output is not ready. Registers start from random values drawn from ``seed``. After the last
        output, ``drain`` cycles watch for surplus words. With ``reset_after``, aresetn cuts a first run off
        when that many output words have come, and the samples start again; only the second run counts.

        Raises GatewrightError: GW0406 for words that do not fit, GW0408 where nothing moved for
        ``idle_limit`` cycles or ``max_cycles`` passed (with every stream's state), GW0409 for a TLAST that
        is not exactly at a sample's end, GW0410 for an output that changed while it waited, GW0411 for a
        surplus word, GW0412 where the simulator crashed.
        """
        _check_stalls(input_stall, output_stall)
        with tempfile.TemporaryDirectory(prefix="gatewright-") as name:
            folder = Path(name)
            for k, port in enumerate(self.ports):
                if port.direction == "input":
                    if port.name not in inputs:
                        raise error("GW0406", f"no words were given for the input stream `{port.name}`")
                    data = words_to_bytes(inputs[port.name], port.width, samples * port.beats, port.name)
                    (folder / f"{k}.in").write_bytes(data)
            stalls = (round(input_stall * 2**32), round(output_stall * 2**32))
            job = (samples, *stalls, seed, max_cycles or 0, idle_limit, drain, int(trace), reset_after)
            (folder / "job").write_text(" ".join(map(str, job)))
            done = subprocess.run(
                [self.executable, folder],
                cwd=self.executable.parent,
                capture_output=True,
                text=True,
                check=False,
            )
            report = folder / "result"
            if done.returncode != 0 or not report.is_file():
                note = (done.stderr + done.stdout).strip() or f"exit status {done.returncode}"
                raise error("GW0412", f"the simulator of `{self.top}` failed", note=note)
            return self._collect(folder, report.read_text().splitlines(), samples, trace)

    def _collect(self, folder: Path, report: Sequence[str], samples: int, trace: bool) -> SimulationResult:
        status, cycle, culprit = report[0].split()
        streams = (*self.ports, *self.taps)
        states: list[StreamState] = []
        for stream, line in zip(streams, report[1:], strict=True):
            valid, ready, transfers = map(int, line.split())
            states.append(StreamState(stream, bool(valid), bool(ready), transfers))
        if status != "ok":
            raise failure(status, self.top, int(cycle), int(culprit), states, samples)
        results: dict[str, StreamResult] = {}
        for k, stream in enumerate(streams):
            output = folder / f"{k}.out"
            data = output.read_bytes() if output.is_file() else b""
            results[stream.name] = StreamResult(
                bytes_to_words(data, stream.width),
                np.fromfile(folder / f"{k}.first", np.uint64),
                np.fromfile(folder / f"{k}.last", np.uint64),
                states[k].transfers,
                np.fromfile(folder / f"{k}.trace", np.uint8) if trace else np.empty(0, np.uint8),
            )
        names = {
            kind: tuple(port.name for port in self.ports if port.direction == kind) for kind in ("input", "output")
        }
        cycles = 1 + max((int(results[name].last[-1]) for name in names["output"]), default=-1) if samples else 0
        return SimulationResult(MappingProxyType(results), cycles, samples, names["input"], names["output"])


def _check_stalls(*stalls: float) -> None:
    if not all(0.0 <= stall < 1.0 for stall in stalls):
        raise error("GW0406", f"a stall probability lies in [0, 1), not {stalls}")


def build(
    sources: Sequence[Path],
    top: str,
    ports: Sequence[StreamPort],
    *,
    taps: Sequence[Tap] = (),
    cache: Path | None = None,
    optimization: str | None = None,
) -> Simulator:
    """Compile ``top`` of ``sources`` (SystemVerilog, packages first, and $readmemh data files by bare name).

    The result comes from ``cache`` (None: the user's cache folder) when the same content was built before.
    ``optimization`` is the C++ compiler's level, by default chosen from the design's size.
    Raises GatewrightError GW0401 to GW0405, GW0407.
    """
    check_ports(ports, taps)
    recipe = Recipe(
        "simulators",
        "Vgw",
        ("verilated.cpp", "verilated_threads.cpp", DRIVER),
        optimization=optimization or "",
    )
    generated = {"binding.cpp": port_binding(ports, taps)}
    actual_top = top
    if taps:
        generated["gw_tap_wrapper.sv"] = tap_wrapper(top, ports, taps)
        actual_top = "gw_tap_wrapper"
    executable = compile_simulator(recipe, sources, actual_top, generated, executable="simulator", cache=cache)
    return Simulator(executable, top, tuple(ports), tuple(taps))
