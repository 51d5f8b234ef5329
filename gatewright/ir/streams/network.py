"""Channels, components and networks: the last level before a hardware description.

A channel is a valid/ready stream of beats. A component reads and writes channels; its
:class:`Timing` states its exact cycle behaviour, so that a token-level simulation of the network
(:mod:`gatewright.sim.tokens`) gives the cycles that the hardware takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from gatewright.diagnostics import Location
from gatewright.ir.types import Shape, Value


@dataclass(frozen=True, slots=True)
class Layout:
    """How the elements of a sample travel: ``rows`` runs of ``elements``, ``lanes`` elements a beat.

    Elements go in row-major order. Each row starts on a new beat; where ``lanes`` does not divide
    ``elements`` the unused lanes of a row's last beat hold anything.
    """

    rows: int
    elements: int
    lanes: int

    @staticmethod
    def of(shape: Shape, lanes: int) -> Layout:
        """The stream of a value of ``shape`` with ``lanes`` elements a beat: a row is the value's last axis.

        More lanes than that are several of these rows side by side: a row of the stream is then as many axes as it
        takes, and ``lanes`` rounded up to whole ones of the axis before.
        """
        axis, unit = len(shape) - 1, 1
        elements = shape[-1] if shape else 1
        while lanes > elements and axis > 0:
            axis -= 1
            unit, elements = elements, elements * shape[axis]
        return Layout(prod(shape[: max(axis, 0)]), elements, min(-(-lanes // unit) * unit, elements))

    @staticmethod
    def fewest_lanes(shape: Shape, interval: int) -> int:
        """The fewest lanes with which a value passes in ``interval`` beats: part of a row, or several whole ones."""
        unit, size = 1, prod(shape)
        for extent in reversed(shape):
            beats = interval // max(size // (unit * extent), 1)
            if beats >= 1:
                return unit * -(-extent // min(beats, extent))
            unit *= extent
        return unit

    @property
    def beats_per_row(self) -> int:
        """Beats that carry one row."""
        return -(-self.elements // self.lanes)

    @property
    def beats(self) -> int:
        """Beats that carry one sample."""
        return self.rows * self.beats_per_row

    @property
    def is_padded(self) -> bool:
        """Whether rows end in unused lanes."""
        return self.elements % self.lanes != 0

    def __str__(self) -> str:
        return f"{self.rows}x{self.elements}/{self.lanes}"


@dataclass(frozen=True, slots=True)
class Channel:
    """One stream: ``value`` in ``layout``. ``name`` is unique in the network."""

    name: str
    value: Value
    layout: Layout

    @property
    def width(self) -> int:
        """Bits of the data of one beat."""
        return self.layout.lanes * self.value.width


@dataclass(frozen=True, slots=True)
class Timing:
    """The cycle behaviour of a component, as :mod:`gatewright.sim.tokens` understands it.

    ``kind`` names the model and ``parameters`` are its integers:

    - ``source`` (), ``sink`` (): always valid, always ready;
    - ``fifo`` (depth), ``fork`` (), ``wires`` ();
    - ``replay`` (window, repeats, depth), ``reorder`` (words written, words read per sample);
    - ``up`` and ``down`` (slots, tail, beats), ``ring`` (units in, units out, beats in, beats out, endless);
    - ``window`` (loops, depth, preload, whether rows and columns have padding, rows, columns, pad top and left; then
      per loop its count, and per loop and for the next sample the steps of offset, freed words, row and column);
    - ``pipeline`` (latency, then runs of (count, needed inputs, consumed inputs, produces), inputs as bit
      masks): a phase of the cyclic program takes place in a cycle in which all needed inputs are valid and
      the pipeline advances; it consumes one beat of each consumed input, and what it produces is
      offered ``latency`` advances later. The pipeline advances unless an offered beat is not taken.
    """

    kind: str
    parameters: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Component:
    """A hardware unit. ``attributes`` is what its printer needs; see the subclasses."""

    name: str
    inputs: tuple[Channel, ...]
    outputs: tuple[Channel, ...]
    location: Location = field(default_factory=Location, compare=False)

    @property
    def timing(self) -> Timing:
        """The component's cycle behaviour."""
        raise TypeError(f"{type(self).__name__} has no timing")


@dataclass(frozen=True, slots=True)
class Network:
    """A scheduled design: ports and components in topological order."""

    name: str
    inputs: tuple[Channel, ...]
    outputs: tuple[Channel, ...]
    components: tuple[Component, ...]
    output_names: tuple[str, ...]

    def consumers(self) -> Mapping[str, Component]:
        """The component that reads each channel."""
        return {channel.name: each for each in self.components for channel in each.inputs}

    def producers(self) -> Mapping[str, Component]:
        """The component that writes each channel."""
        return {channel.name: each for each in self.components for channel in each.outputs}

    def channels(self) -> list[Channel]:
        """All channels: inputs, then each component's outputs."""
        return [*self.inputs, *(channel for each in self.components for channel in each.outputs)]
