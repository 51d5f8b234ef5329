"""Components that compute: one per integer primitive that needs hardware of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gatewright.ir.expressions import Expression
from gatewright.ir.intervals import Interval
from gatewright.ir.streams.network import Component, Timing
from gatewright.ir.streams.products import Product
from gatewright.ir.types import Tensor

Phase = tuple[int, int, int, int]
"""count, inputs that must be valid and inputs consumed (bit masks), whether a beat is produced."""


def merge_runs(phases: list[Phase]) -> tuple[int, ...]:
    """Phases with equal neighbours merged and empty ones left out, flat as timing parameters."""
    merged: list[Phase] = []
    for count, needed, consumed, produces in phases:
        if count == 0:
            continue
        if merged and merged[-1][1:] == (needed, consumed, produces):
            count += merged.pop()[0]
        merged.append((count, needed, consumed, produces))
    return tuple(number for run in merged for number in run)


@dataclass(frozen=True, slots=True)
class MapUnit(Component):
    """A pipelined datapath: ``expression`` on every lane.

    Operand ``i`` of the expression is input channel ``streams.index(i)``, or the constant ``tables[i]``
    of codes [beats, lanes], read beat by beat and repeated. ``stages`` gives each node's pipeline stage;
    ``latency`` registers lie between input and output. ``scalar_inputs`` lists the input channels whose
    one lane feeds all lanes. ``hard``: products may take hard multipliers.
    """

    expression: Expression = field(default_factory=lambda: Expression((), 0, 0))
    streams: tuple[int, ...] = ()
    tables: tuple[tuple[int, Tensor, Interval], ...] = ()
    stages: tuple[int, ...] = ()
    latency: int = 1
    scalar_inputs: tuple[int, ...] = ()
    hard: bool = True

    @property
    def timing(self) -> Timing:
        mask = (1 << len(self.inputs)) - 1
        return Timing("pipeline", (self.latency, 1, mask, mask, 1))


@dataclass(frozen=True, slots=True)
class ContractUnit(Component):
    """A multiply-accumulate array of ``outputs_per_beat`` (PE) by ``inputs_per_beat`` (SIMD) multipliers.

    For each of ``groups`` groups of a row it reads the group's inputs once for every block of outputs
    and accumulates. ``weights`` are codes [groups, outputs, inputs], not padded. With ``data_groups`` above 1 the
    output lanes fall into as many groups, and group g reads the lanes s * data_groups + g. ``product`` says how
    packed operands are multiplied; the weights are packed too. None: two integers by a hard multiplier. With
    ``columns`` above 1 a beat brings the inputs of as many rows, one after the other, which share the weights.
    """

    weights: Tensor = field(default_factory=lambda: Tensor(np.zeros((1, 1, 1), np.int64)))
    weight_interval: Interval = field(default_factory=lambda: Interval(0, 0))
    outputs_per_beat: int = 1
    inputs_per_beat: int = 1
    tree_registers: int = 0
    data_groups: int = 1
    product: Product | None = None
    columns: int = 1

    @property
    def multipliers(self) -> int:
        """Multipliers of the array."""
        return self.columns * self.outputs_per_beat * self.inputs_per_beat

    @property
    def input_beats(self) -> int:
        """Beats accumulated into one result."""
        return -(-self.weights.shape[2] // self.inputs_per_beat)

    @property
    def output_blocks(self) -> int:
        """Blocks of outputs, computed one after the other."""
        return -(-self.weights.shape[1] // self.outputs_per_beat)

    @property
    def latency(self) -> int:
        """Cycles from the last input beat of a result to its output: operands, product, tree, sum."""
        return 3 + self.tree_registers

    @property
    def timing(self) -> Timing:
        phases = [(self.input_beats - 1, 1, 1, 0), (1, 1, 1, 1)]
        return Timing("pipeline", (self.latency, *merge_runs(phases)))


@dataclass(frozen=True, slots=True)
class ReduceUnit(Component):
    """Sum, maximum or minimum of ``count`` consecutive groups of ``inner`` beats.

    With ``inner`` 1 all lanes and all beats of a group make one result; otherwise lanes and beats of a group stay
    apart and ``inner`` beats of results leave with the last group. ``tail`` lanes of the last beat are in
    use when lanes are reduced too.
    """

    kind: str = "sum"
    count: int = 1
    inner: int = 1
    reduces_lanes: bool = True
    tail: int = 0

    @property
    def timing(self) -> Timing:
        phases = [((self.count - 1) * self.inner, 1, 1, 0), (self.inner, 1, 1, 1)]
        return Timing("pipeline", (1, *merge_runs(phases)))


@dataclass(frozen=True, slots=True)
class LaneReduceUnit(Component):
    """``gw_reduce_lanes``: sum, maximum or minimum of ``count`` groups of ``inner`` lanes, for each run of these."""

    kind: str = "sum"
    count: int = 1
    inner: int = 1

    @property
    def timing(self) -> Timing:
        return Timing("pipeline", (1, 1, 1, 1, 1))


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of ``count`` beats: forwarded or dropped from input ``source``, or the fill code (source None)."""

    source: int | None
    count: int
    forward: bool = True


@dataclass(frozen=True, slots=True)
class SequenceUnit(Component):
    """Slice, concat and pad: a cyclic program of segments; ``fill`` is the code of padded elements."""

    segments: tuple[Segment, ...] = ()
    fill: int = 0

    @property
    def timing(self) -> Timing:
        phases: list[Phase] = []
        for position, each in enumerate(self.segments):
            if each.source is None:
                # A sample's leading fill waits for the sample, so that nothing follows the last one.
                phases.append((each.count, int(position == 0), 0, 1))
            else:
                phases.append((each.count, 1 << each.source, 1 << each.source, int(each.forward)))
        return Timing("pipeline", (1, *merge_runs(phases)))


@dataclass(frozen=True, slots=True)
class RewireUnit(Component):
    """Whole rows in one beat, rearranged by wiring: output lane ``i`` is ``lanes[i]`` = (input, lane).

    An input of -1 stands for the fill code.
    """

    lanes: tuple[tuple[int, int], ...] = ()
    fill: int = 0

    @property
    def timing(self) -> Timing:
        mask = (1 << len(self.inputs)) - 1
        return Timing("pipeline", (1, 1, mask, mask, 1))
