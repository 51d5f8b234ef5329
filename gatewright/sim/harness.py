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

from gatewright.diagnostics import GatewrightError, error
from gatewright.sim.build import build_executable
from gatewright.sim.ports import StreamPort, Tap, check_ports
from gatewright.sim.words import Words, bytes_to_words, words_to_bytes

__all__ = ["SimulationResult", "Simulator", "StreamPort", "StreamResult", "Tap", "build"]

Cycles = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class StreamResult:
    """What one stream carried.

    ``words``: uint64 [samples * beats], or limbs [samples * beats, limbs] above 64 bits; empty for inputs.
    ``first`` and ``last``: the cycles of each sample's first and last transfer. ``trace`` (only with
    ``trace=True``): per cycle, tvalid in bit 0 and tready in bit 1. ``transfers``: how many were seen (a tap's
    words beyond that are zero).
    """

    words: Words
    first: Cycles
    last: Cycles
    transfers: int
    trace: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class SimulationResult:
    """All streams by name, and the number of cycles from reset to the last output transfer inclusive."""

    streams: Mapping[str, StreamResult]
    cycles: int
    samples: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def latency(self) -> int:
        """Cycles from the first input transfer of sample 0 to its last output transfer, inclusive."""
        begin = min(int(self.streams[name].first[0]) for name in self.inputs)
        return max(int(self.streams[name].last[0]) for name in self.outputs) - begin + 1

    @property
    def interval(self) -> float:
        """Cycles between samples at the outputs, the mean over the second half of the run; 0 for one sample."""
        ends = np.max([self.streams[name].last for name in self.outputs], axis=0).astype(np.int64)
        half = len(ends) // 2 if len(ends) > 2 else 0
        return float(ends[-1] - ends[half]) / (len(ends) - 1 - half) if len(ends) > 1 else 0.0


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
    ) -> SimulationResult:
        """Send ``samples`` samples through the design, back to back.

        ``inputs``: for each input stream its words in order, uint64 [samples * beats] (signed integers are
        taken as two's complement), or limbs [samples * beats, ceil(width/64)] above 64 bits.
        ``input_stall`` and ``output_stall``: the probability that an idle input offers nothing, or an output is not
        ready, in a cycle. Registers start from random values drawn from ``seed``. After the last output, ``drain`` cycles
        watch for surplus words.

        Raises GatewrightError: GW0406 for words that do not fit, GW0408 where nothing moved for
        ``idle_limit`` cycles or ``max_cycles`` passed (with the state of every stream), GW0409 for a TLAST that is not
        exactly at a sample's end, GW0410 for an output that changed while it waited, GW0411 for a surplus word, GW0412
        where the simulator crashed.
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
            job = (samples, *stalls, seed, max_cycles or 0, idle_limit, drain, int(trace))
            (folder / "job").write_text(" ".join(map(str, job)))
            done = subprocess.run(
                [self.executable, folder], cwd=self.executable.parent, capture_output=True, text=True, check=False
            )
            report = folder / "result"
            if done.returncode != 0 or not report.is_file():
                note = (done.stderr + done.stdout).strip() or f"exit status {done.returncode}"
                raise error("GW0412", f"the simulator of `{self.top}` failed", note=note)
            return self._collect(folder, report.read_text().splitlines(), samples, trace)

    def _collect(self, folder: Path, report: Sequence[str], samples: int, trace: bool) -> SimulationResult:
        status, cycle, culprit = report[0].split()
        states = [tuple(map(int, line.split())) for line in report[1:]]
        streams = (*self.ports, *self.taps)
        if status != "ok":
            raise self._failure(status, int(cycle), int(culprit), states, samples)
        results: dict[str, StreamResult] = {}
        for k, stream in enumerate(streams):
            output = folder / f"{k}.out"
            data = output.read_bytes() if output.is_file() else b""
            results[stream.name] = StreamResult(
                bytes_to_words(data, stream.width),
                np.fromfile(folder / f"{k}.first", np.uint64),
                np.fromfile(folder / f"{k}.last", np.uint64),
                states[k][2],
                np.fromfile(folder / f"{k}.trace", np.uint8) if trace else np.empty(0, np.uint8),
            )
        names = {
            kind: tuple(port.name for port in self.ports if port.direction == kind) for kind in ("input", "output")
        }
        cycles = 1 + max((int(results[name].last[-1]) for name in names["output"]), default=-1) if samples else 0
        return SimulationResult(MappingProxyType(results), cycles, samples, names["input"], names["output"])

    def _failure(
        self, status: str, cycle: int, culprit: int, states: Sequence[tuple[int, ...]], samples: int
    ) -> GatewrightError:
        streams = (*self.ports, *self.taps)
        if status in ("deadlock", "max_cycles"):
            return self._timeout(status, cycle, states, samples)
        stream = streams[culprit]
        sample, beat = divmod(states[culprit][2] - (status == "tlast"), stream.beats)
        place = f"in cycle {cycle}, sample {sample}, beat {beat}"
        if status == "tlast":
            return error(
                "GW0409", f"output `{stream.name}`: TLAST is wrong {place}", note=f"a sample has {stream.beats} beats"
            )
        if status == "unstable":
            return error("GW0410", f"output `{stream.name}` changed while it waited for tready, {place}")
        return error("GW0411", f"output `{stream.name}` offered a word after the last sample, in cycle {cycle}")

    def _timeout(
        self, status: str, cycle: int, states: Sequence[tuple[int, ...]], samples: int
    ) -> GatewrightError:
        streams = (*self.ports, *self.taps)
        stuck = [
            port.name for port, state in zip(self.ports, states, strict=False) if state[2] < samples * port.beats
        ]
        notes: list[str] = []
        for stream, (valid, ready, transfers) in zip(streams, states, strict=True):
            kind = stream.direction if isinstance(stream, StreamPort) else "tap"
            sample, beat = divmod(transfers, stream.beats)
            notes.append(
                f"{kind} {stream.name}: tvalid={valid} tready={ready}, {transfers} of {samples * stream.beats} "
                f"transfers (sample {sample}, beat {beat})"
            )
        what = "nothing moves any more" if status == "deadlock" else "the limit of cycles has passed"
        return error(
            "GW0408",
            f"simulation of `{self.top}` stopped in cycle {cycle}: {what}; unfinished streams: {', '.join(stuck)}",
            note=notes,
            help="a FIFO on one side of a fork and join may be too shallow"
            if status == "deadlock"
            else "raise max_cycles if the design is only slow",
        )


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

    The result comes from ``cache`` (None: the user's cache folder) when the same content was built
    before. ``optimization`` is the C++ compiler's level, by default chosen from the design's size. Raises GatewrightError GW0401 to GW0405,
    GW0407.
    """
    check_ports(ports, taps)
    executable = build_executable(sources, top, ports, taps, cache=cache, optimization=optimization)
    return Simulator(executable, top, tuple(ports), tuple(taps))
