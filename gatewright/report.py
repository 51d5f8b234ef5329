"""The report of a design: per layer and in total, every number marked with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

from gatewright.ir.streams.cost import Cost, estimate, estimate_network
from gatewright.ir.streams.network import Component
from gatewright.ir.streams.units import ContractUnit

if TYPE_CHECKING:
    from rich.table import Table

    from gatewright.api import Design


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer: estimated resources, its own interval in cycles, multipliers, and what limits it."""

    name: str
    cost: Cost
    interval: int
    multipliers: int
    limit: str


@dataclass(frozen=True, slots=True)
class Report:
    """A whole design. ``sources`` says of every figure whether it is measured, simulated or estimated.

    ``interval`` and ``latency`` are in cycles, ``fps`` in samples a second at the target's clock.
    """

    name: str
    layers: tuple[LayerReport, ...]
    total: Cost
    interval: int
    latency: int
    fps: float
    sources: Mapping[str, str]

    def table(self) -> Table:
        """The report as a rich table."""
        from rich.table import Table

        title = (
            f"{self.name}: interval {self.interval} cycles ({self.sources['interval']}), "
            f"latency {self.latency} cycles ({self.sources['latency']}), {self.fps:,.0f} samples/s"
        )
        table = Table(title=title, caption=f"resources: {self.sources['resources']}")
        table.add_column("layer")
        for column in ("cycles", "multipliers", "LUT", "FF", "DSP", "BRAM"):
            table.add_column(column, justify="right")
        table.add_column("limited by")
        for row in self.layers:
            table.add_row(row.name, f"{row.interval:,}", str(row.multipliers or "-"), *_cells(row.cost), row.limit)
        table.add_section()
        multipliers = sum(row.multipliers for row in self.layers)
        table.add_row("total", f"{self.interval:,}", str(multipliers or "-"), *_cells(self.total), "")
        return table

    def __str__(self) -> str:
        from rich.console import Console

        text = StringIO()
        Console(file=text, width=110).print(self.table())
        return text.getvalue().rstrip()


def _cells(cost: Cost) -> list[str]:
    return [f"{each:,.0f}" for each in (cost.lut, cost.ff, cost.dsp, cost.bram)]


def report(design: Design) -> Report:
    """The report of ``design`` from its schedule and the cost model."""
    network = design.schedule.network
    groups: dict[str, list[Component]] = {}
    for each in network.components:
        groups.setdefault(each.location.module or "(ports and buffers)", []).append(each)
    layers = tuple(_layer(name, members, design.interval) for name, members in groups.items())
    return Report(
        network.name,
        layers,
        estimate_network(network),
        design.interval,
        design.latency,
        design.target.clock_mhz * 1e6 / design.interval,
        {
            "interval": "token-level simulation",
            "latency": "token-level simulation",
            "resources": "estimated from the cost model; design.synth() measures",
        },
    )


def _layer(name: str, members: list[Component], interval: int) -> LayerReport:
    total = Cost()
    for each in members:
        total += estimate(each)
    busiest = max(members, key=busy_cycles)
    cycles = busy_cycles(busiest)
    multipliers = sum(
        each.inputs_per_beat * each.outputs_per_beat for each in members if isinstance(each, ContractUnit)
    )
    kind = type(busiest).__name__.removesuffix("Unit").lower()
    limit = f"{kind}: sets the interval" if cycles >= interval else f"{kind}: idle {1 - cycles / interval:.0%}"
    return LayerReport(name, total, cycles, multipliers, limit)


def busy_cycles(component: Component) -> int:
    """Cycles a sample in which the component moves beats: the most beats of any of its streams."""
    return max(channel.layout.beats for channel in (*component.inputs, *component.outputs))
