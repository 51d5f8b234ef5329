"""The report of a design: per layer and in total, every number marked with where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import StringIO
from typing import TYPE_CHECKING

from gatewright.explain import Limit, limit_of
from gatewright.ir.streams.cost import Cost, estimate, estimate_network
from gatewright.ir.streams.network import Component
from gatewright.ir.streams.units import ContractUnit

if TYPE_CHECKING:
    from rich.table import Table

    from gatewright.api import Design
    from gatewright.schedule import Schedule


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer: estimated resources, its own ``interval`` in cycles and what it comes from, and its multipliers.

    ``share`` is the part of the design's interval in which it works.
    """

    name: str
    cost: Cost
    interval: int
    multipliers: int
    share: float
    limit: Limit


@dataclass(frozen=True, slots=True)
class Report:
    """A whole design. ``sources`` says of every figure whether it is measured, simulated or estimated.

    ``interval`` and ``latency`` are in cycles, ``fps`` in samples a second at the target's clock; ``goal`` is what
    was asked for.
    """

    name: str
    goal: str
    layers: tuple[LayerReport, ...]
    total: Cost
    interval: int
    latency: int
    fps: float
    sources: Mapping[str, str]

    @property
    def slowest(self) -> tuple[LayerReport, ...]:
        """The layers that work in every cycle, or those that work in the most."""
        most = max((row.interval for row in self.layers), default=0)
        return tuple(row for row in self.layers if row.interval == most)

    def table(self) -> Table:
        """The report as a rich table."""
        from rich.table import Table

        title = (
            f"{self.name}: interval {self.interval} cycles ({self.sources['interval']}), "
            f"latency {self.latency} cycles ({self.sources['latency']}), {self.fps:,.0f} samples/s\n"
            f"asked for: {self.goal}"
        )
        caption = (
            "behind the semicolon: the next step up where a layer sets the interval, the next step down elsewhere\n"
            f"resources: {self.sources['resources']}"
        )
        table = Table(title=title, caption=caption)
        table.add_column("layer", overflow="fold")
        for column in ("cycles", "share", "mult.", "LUT", "FF", "DSP", "BRAM"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("limited by", min_width=24)
        for row in self.layers:
            cycles = (f"{row.interval:,}", f"{row.share:.0%}", f"{row.multipliers or '-'}")
            table.add_row(row.name, *cycles, *_cells(row.cost), row.limit.text(self.interval))
        table.add_section()
        multipliers = sum(row.multipliers for row in self.layers)
        cycles = (f"{self.interval:,}", "", f"{multipliers or '-'}")
        table.add_row("total", *cycles, *_cells(self.total), self._bottleneck())
        return table

    def _bottleneck(self) -> str:
        """Which layers the interval comes from."""
        names = [row.name for row in self.slowest]
        listed = ", ".join(names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"])
        waiting = self.interval - self.slowest[0].interval
        return listed if waiting <= 0 else f"{listed}, and {waiting:,} cycles of waiting"

    def __str__(self) -> str:
        from rich.console import Console

        text = StringIO()
        Console(file=text, width=132).print(self.table())
        return text.getvalue().rstrip()

    def json(self) -> str:
        """The report as JSON: every field of this class, its layers and their limits."""
        return json.dumps(asdict(self), indent=2)


def _cells(cost: Cost) -> list[str]:
    return [f"{each:,.0f}" for each in (cost.lut, cost.ff, cost.dsp, cost.bram)]


def report(design: Design) -> Report:
    """The report of ``design`` from its schedule and the cost model."""
    plan = design.schedule
    groups: dict[str, list[Component]] = {}
    for each in plan.network.components:
        groups.setdefault(each.location.module or "(model)", []).append(each)
    layers = tuple(_layer(name, members, plan) for name, members in groups.items())
    return Report(
        plan.network.name,
        plan.goal,
        layers,
        estimate_network(plan.network),
        design.interval,
        design.latency,
        design.target.clock_mhz * 1e6 / design.interval,
        {
            "interval": "token-level simulation",
            "latency": "token-level simulation",
            "layers": "from the schedule",
            "resources": "estimated from the cost model; design.synth() measures",
        },
    )


def _layer(name: str, members: list[Component], plan: Schedule) -> LayerReport:
    total = Cost()
    for each in members:
        total += estimate(each)
    multipliers = sum(each.multipliers for each in members if isinstance(each, ContractUnit))
    limit = limit_of(members, plan.folding)
    return LayerReport(name, total, limit.cycles, multipliers, limit.cycles / plan.interval, limit)
