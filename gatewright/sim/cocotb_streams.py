"""The cocotb test that :mod:`gatewright.sim.cocotb_harness` runs inside the simulator.

Reads its job from the folder named by ``GATEWRIGHT_COCOTB_JOB`` and leaves ``report.json`` there. It plays
the same words with the same stalls as the fast harness, so that both count the same cycles.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import Timer

from gatewright.sim.random_stalls import StallSource

RESET_CYCLES = 4


@dataclass(slots=True)
class Port:
    """One stream at work: its words as integers (to send, or received so far) and its handles."""

    name: str
    is_input: bool
    beats: int
    total: int
    words: list[int]
    stalls: StallSource
    threshold: int
    data: Any
    valid: Any
    ready: Any
    last: Any
    done: int = 0
    offering: bool = False
    last_cycle: int = -1
    faults: list[str] = field(default_factory=list[str])

    def drive(self) -> None:
        """Set this cycle's inputs of the design."""
        if not self.is_input:
            self.ready.value = int(not self.stalls.below(self.threshold))
        elif not self.offering:
            self.offering = self.done < self.total and not self.stalls.below(self.threshold)
            self.valid.value = int(self.offering)
            if self.offering:
                self.data.value = self.words[self.done]
                self.last.value = int((self.done + 1) % self.beats == 0)

    def observe(self, cycle: int) -> bool:
        """Record this cycle's transfer, if there is one."""
        if not (int(self.valid.value) and int(self.ready.value)):
            return False
        self.offering = False
        if not self.is_input:
            if self.done == self.total:
                self.faults.append(f"a word after the last sample, in cycle {cycle}")
                return True
            self.words.append(int(self.data.value))
            if int(self.last.value) != ((self.done + 1) % self.beats == 0):
                self.faults.append(f"TLAST is wrong at transfer {self.done}, in cycle {cycle}")
        self.done += 1
        self.last_cycle = cycle
        return True


def _ports(dut: Any, job: dict[str, Any], folder: Path) -> list[Port]:
    ports: list[Port] = []
    for position, port in enumerate(job["ports"]):
        name, size, is_input = port["name"], port["bytes"], port["direction"] == "input"
        words: list[int] = []
        if is_input:
            data = (folder / f"{position}.in").read_bytes()
            words = [int.from_bytes(data[k : k + size], "little") for k in range(0, len(data), size)]
        signals = (getattr(dut, f"{name}_{suffix}") for suffix in ("tdata", "tvalid", "tready", "tlast"))
        stalls = StallSource(job["seed"], position)
        threshold = job["input_stall" if is_input else "output_stall"]
        total = job["samples"] * port["beats"]
        ports.append(Port(name, is_input, port["beats"], total, words, stalls, threshold, *signals))
    return ports


async def _half_cycle(dut: Any, clock: int) -> None:
    dut.aclk.value = clock
    await Timer(1, unit="ns")


async def _reset(dut: Any, ports: list[Port]) -> None:
    dut.aresetn.value = 0
    for port in ports:
        for signal in (port.valid, port.last) if port.is_input else (port.ready,):
            signal.value = 0
    for _ in range(RESET_CYCLES):
        await _half_cycle(dut, 1)
        await _half_cycle(dut, 0)
    dut.aresetn.value = 1


async def _play(dut: Any, ports: list[Port], job: dict[str, Any], limit: int | None) -> None:
    """Run until all streams are done and drained, or ``limit`` output words were seen."""
    outputs = [port for port in ports if not port.is_input]
    cycle = idle = draining = 0
    while draining <= job["drain"] and (limit is None or sum(port.done for port in outputs) < limit):
        for port in ports:
            port.drive()
        await _half_cycle(dut, 0)
        moved = [port.observe(cycle) for port in ports]
        idle = 0 if any(moved) else idle + 1
        if all(port.done == port.total for port in ports):
            draining += 1
        elif idle >= job["idle_limit"]:
            states = ", ".join(
                f"{port.name} tvalid={int(port.valid.value)} tready={int(port.ready.value)} "
                f"({port.done} of {port.total})"
                for port in ports
            )
            ports[0].faults.append(f"nothing moves any more in cycle {cycle}: {states}")
            break
        await _half_cycle(dut, 1)
        cycle += 1


@cocotb.test()
async def streams(dut: Any) -> None:
    """All samples, after a first part that a reset cuts off where the job asks for it."""
    folder = Path(os.environ["GATEWRIGHT_COCOTB_JOB"])
    job = json.loads((folder / "job.json").read_text())
    dut.aclk.value = 0
    faults: list[str] = []
    if job["reset_midstream"]:
        ports = _ports(dut, job, folder)
        await _reset(dut, ports)
        await _play(dut, ports, job, max(1, sum(port.total for port in ports if not port.is_input) // 2))
        faults += [f"{port.name}, before the reset: {fault}" for port in ports for fault in port.faults]
    ports = _ports(dut, job, folder)
    await _reset(dut, ports)
    await _play(dut, ports, job, None)
    cycles = 1 + max((port.last_cycle for port in ports if not port.is_input), default=-1)
    faults += [f"{port.name}: {fault}" for port in ports for fault in port.faults]
    for position, port in enumerate(ports):
        if not port.is_input:
            size = job["ports"][position]["bytes"]
            (folder / f"{position}.out").write_bytes(b"".join(word.to_bytes(size, "little") for word in port.words))
    (folder / "report.json").write_text(json.dumps({"cycles": cycles, "faults": faults}))
    assert not faults
