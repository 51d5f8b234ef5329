"""Many designs in one Verilator build, each held to its golden model and to its declared cycles.

The designs stand side by side under one top level, so that a build and a run serve them all; they share
nothing, so each takes the cycles that it takes alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gatewright.backends.verilog.emit import Hardware, emit, graph_digest
from gatewright.diagnostics import GatewrightError
from gatewright.ir.graph import Graph
from gatewright.ir.targets import Target
from gatewright.schedule import Schedule, schedule
from gatewright.sim import golden
from gatewright.sim.harness import SimulationResult, Simulator, StreamPort, build
from gatewright.sim.lint import lint
from gatewright.sim.tokens import simulate_tokens
from gatewright.sim.verify import STALLS, from_words, ports_of, to_words

TOP = "batch_of_designs"


@dataclass(frozen=True, slots=True)
class Member:
    """One design of a batch: what it is (for messages), its schedule and SystemVerilog, its input codes
    [samples, ...] and the golden output codes.
    """

    label: str
    plan: Schedule
    hardware: Hardware
    codes: tuple[NDArray, ...]
    expected: tuple[NDArray, ...]


def member(
    label: str,
    graph: Graph,
    interval: int | None,
    codes: Sequence[NDArray],
    number: int,
    target: Target | None = None,
) -> Member:
    """Schedule and print an integer graph; ``number`` makes its module names unique in the batch."""
    named = replace(graph, name=f"design{number}")
    plan = schedule(named, target or Target("xcup"), interval=interval)
    hardware = emit(plan.network, graph_digest(plan.graph.text()), plan.interval, plan.latency)
    samples = len(codes[0])
    expected = tuple(array.reshape(samples, -1) for array in golden.evaluate(graph, codes))
    return Member(label, plan, hardware, tuple(codes), expected)


def stream_name(each: Member, port: str) -> str:
    """The name of a member's stream at the batch's top level."""
    return f"{each.hardware.top}_{port}"


def top_level(members: Sequence[Member]) -> str:
    """The SystemVerilog of the common top level."""
    ports = ["input logic aclk", "input logic aresetn"]
    body: list[str] = []
    for each in members:
        connections = [".aclk(aclk)", ".aresetn(aresetn)"]
        for port in ports_of(each.plan.network):
            name = stream_name(each, port.name)
            forward, backward = ("input", "output") if port.direction == "input" else ("output", "input")
            ports += [
                f"{forward} logic [{8 * port.bytes - 1}:0] {name}_tdata",
                f"{forward} logic {name}_tvalid",
                f"{backward} logic {name}_tready",
                f"{forward} logic {name}_tlast",
            ]
            connections += [f".{port.name}_{part}({name}_{part})" for part in ("tdata", "tvalid", "tready", "tlast")]
        body.append(f"  {each.hardware.top} u_{each.hardware.top} (\n    {', '.join(connections)}\n  );")
    return f"module {TOP} (\n  " + ",\n  ".join(ports) + "\n);\n" + "\n".join(body) + "\nendmodule\n"


def write(members: Sequence[Member], folder: Path) -> list[Path]:
    """All sources of a batch."""
    paths = {path.name: path for each in members for path in each.hardware.write(folder)}
    top = folder / f"{TOP}.sv"
    top.write_text(top_level(members))
    return [top, *sorted(paths.values())]


def compile_batch(members: Sequence[Member], *, linted: bool) -> Simulator:
    """Lint (Verilator -Wall, slang) and compile a batch."""
    with tempfile.TemporaryDirectory(prefix="gatewright-") as name:
        sources = write(members, Path(name))
        if linted:
            complaints = lint(sources, TOP)
            assert not complaints, "\n".join(complaints[:20])
        ports = [
            replace(port, name=stream_name(each, port.name)) for each in members for port in ports_of(each.plan.network)
        ]
        return build(sources, TOP, ports)


def simulate(simulator: Simulator, members: Sequence[Member], regime: str, seed: int = 0) -> SimulationResult:
    """Run all members under a stall regime; a deadlock names the members concerned."""
    words = {
        stream_name(each, channel.name): to_words(array, channel.layout, channel.value.width)
        for each in members
        for channel, array in zip(each.plan.network.inputs, each.plan.carried(each.codes), strict=True)
    }
    gap, pressure = STALLS[regime]
    try:
        return simulator.run(
            words, len(members[0].codes[0]), input_stall=gap, output_stall=pressure, seed=seed, idle_limit=3000
        )
    except GatewrightError as problem:
        concerned = [each.label for each in members if f"{each.hardware.top}_" in str(problem.diagnostics[0].message)]
        raise AssertionError(f"{regime}: {', '.join(concerned)}\n{problem}") from problem


def compare_values(each: Member, result: SimulationResult, regime: str) -> list[str]:
    """What differs between a member's outputs and the golden model's."""
    problems: list[str] = []
    outputs = each.plan.network.outputs
    words = [from_words(result.streams[stream_name(each, channel.name)].words, channel) for channel in outputs]
    for channel, codes, wanted in zip(outputs, each.plan.seen(words), each.expected, strict=True):
        found = codes.reshape(wanted.shape)
        wrong = np.argwhere(found != wanted)
        if len(wrong):
            sample, element = wrong[0]
            problems.append(
                f"{each.label}, stalls {regime}, output {channel.name}: {len(wrong)} of {wanted.size} elements differ,"
                f" first sample {sample} element {element}: {found[sample, element]} for {wanted[sample, element]}"
            )
    return problems


def compare_cycles(each: Member, result: SimulationResult) -> list[str]:
    """What differs between declared and measured latency, interval and total cycles, without stalls.

    An interval that alternates, as 3 and 5 cycles, is declared as its mean, rounded up.
    """
    network, samples = each.plan.network, len(each.codes[0])
    begin = min(int(result.streams[stream_name(each, channel.name)].first[0]) for channel in network.inputs)
    lasts = [result.streams[stream_name(each, channel.name)].last.astype(np.int64) for channel in network.outputs]
    half = samples // 2
    measured = {
        "latency": max(int(last[0]) for last in lasts) - begin + 1,
        "cycles": max(int(last[-1]) for last in lasts) + 1,
    }
    declared = {"latency": each.plan.latency, "cycles": simulate_tokens(network, samples).cycles}
    problems = [
        f"{each.label}: {name} declared {declared[name]}, measured {measured[name]}"
        for name in measured
        if declared[name] != measured[name]
    ]
    interval = max(int(last[-1] - last[half]) for last in lasts) / (samples - 1 - half)
    if abs(interval - each.plan.interval) >= (1 if _alternates(lasts, half) else 1e-9):
        problems.append(f"{each.label}: interval declared {each.plan.interval}, measured {interval}")
    return problems


def _alternates(lasts: list[NDArray], half: int) -> bool:
    return any(len(set(np.diff(last[half:]).tolist())) > 1 for last in lasts)


def check_batch(members: Sequence[Member], *, linted: bool = True, regimes: Sequence[str] = tuple(STALLS)) -> None:
    """Every member equals its golden model in every regime, and takes its declared cycles without stalls."""
    simulator = compile_batch(members, linted=linted)
    problems: list[str] = []
    for seed, regime in enumerate(regimes):
        result = simulate(simulator, members, regime, seed)
        for each in members:
            problems += compare_values(each, result, regime)
            if regime == "none":
                problems += compare_cycles(each, result)
    assert not problems, "\n".join(problems[:20])


__all__ = ["Member", "StreamPort", "check_batch", "member"]
