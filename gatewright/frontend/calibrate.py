"""Choosing the fraction bits of ``fixed<8,auto>``: the largest signal-to-noise ratio on real data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from gatewright.backends.torch.cast import cast_values
from gatewright.backends.torch.evaluate import run_real
from gatewright.backends.torch.texts import streams_of
from gatewright.diagnostics import error
from gatewright.ir.formats import CastSpec, Fixed, Rounding
from gatewright.ir.graph import Graph
from gatewright.ir.types import Value

Site = tuple[Value, CastSpec]
"""A value and a cast of it whose fraction bits are still open."""

CLIPPED_BITS = 6
"""How many more fraction bits than the range allows are tried: clipping a few outliers can pay off."""


def read_batches(graph: Graph, calibration: Iterable[Any]) -> list[list[Tensor]]:
    """The calibration data as lists of input tensors; raises GW0230 where it does not fit the model.

    A batch is a tensor (or array) for a model of one input, else a sequence or dictionary of them; the
    sample axis leads.
    """
    if isinstance(calibration, Tensor | np.ndarray | Mapping):
        calibration = [calibration]
    if isinstance(calibration, str) or not isinstance(calibration, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise error(
            "GW0230",
            f"the calibration data is {calibration!r}, a {type(calibration).__name__}",
            help="pass a list of input batches, for example calibration=[x for x, _ in loader]",
        )
    batches = [_read_batch(graph, batch, position) for position, batch in enumerate(calibration)]
    if not any(len(batch[0]) for batch in batches if batch):
        raise error(
            "GW0230",
            "the calibration data is empty",
            note="an iterator that was read before has nothing left",
            help="pass a list of input batches, for example calibration=[x for x, _ in loader]",
        )
    return batches


def _read_batch(graph: Graph, batch: Any, position: int) -> list[Tensor]:
    names = [value.name for value in graph.inputs]
    if isinstance(batch, Mapping):
        given = cast(Mapping[str, Any], batch)
        if set(given) != set(names):
            raise _misfit(position, f"it has {', '.join(given)}; the inputs are {', '.join(names)}")
        items = [given[name] for name in names]
    elif isinstance(batch, tuple | list) and (len(names) > 1 or _are_arrays(cast(Sequence[Any], batch))):
        items = list(cast(Sequence[Any], batch))
    else:
        items = [cast(Any, batch)]
    if len(items) != len(names):
        raise _misfit(position, f"it has {len(items)} tensors; the model takes {len(names)} ({', '.join(names)})")
    tensors: list[Tensor] = []
    for value, item in zip(graph.inputs, items, strict=True):
        try:
            tensor = torch.as_tensor(item)
        except (TypeError, ValueError, RuntimeError):
            raise _misfit(position, f"{value.name} is a {type(item).__name__}, not a tensor") from None
        if tensor.is_complex():
            raise _misfit(position, f"{value.name} is complex")
        tensor = tensor if tensor.is_floating_point() else tensor.float()
        if tuple(tensor.shape[1:]) != value.shape or tensor.ndim == 0:
            expected = ", ".join(["batch", *map(str, value.shape)])
            raise _misfit(position, f"{value.name} is {list(tensor.shape)}; the model takes [{expected}]")
        if not bool(torch.isfinite(tensor).all()):
            raise _misfit(position, f"{value.name} holds NaN or infinity")
        tensors.append(tensor.detach())
    return tensors


def _are_arrays(batch: Sequence[Any]) -> bool:
    return all(isinstance(each, Tensor | np.ndarray) for each in batch)


def _misfit(position: int, note: str) -> Exception:
    return error(
        "GW0230",
        f"calibration batch {position} does not fit the model",
        note=note,
        help="give batches like the example inputs: a tensor, or a tuple or dictionary of tensors",
    )


@dataclass(slots=True)
class _Tally:
    """What calibration learns about one site: the range first, then the noise of every candidate."""

    low: float = 0.0
    high: float = 0.0
    candidates: tuple[CastSpec, ...] = ()
    noise: tuple[float, ...] = ()

    def widen(self, data: Tensor) -> None:
        """Include the range of ``data``."""
        if data.numel():
            self.low = min(self.low, float(data.min()))
            self.high = max(self.high, float(data.max()))

    def prepare(self, spec: CastSpec) -> None:
        """List the fraction bits to try, from those that hold the whole range upwards."""
        assert isinstance(spec.format, Fixed)
        format = spec.format
        magnitude = max(self.high, -self.low if format.signed else 0.0)
        largest = format.resolve(0).code_interval()[1]
        if magnitude == 0.0 or largest == 0:
            first = format.width - format.signed
        else:
            first = math.floor(math.log2(max(largest, 1)) - math.log2(magnitude))
        fractions = range(first - 1, first + 1 + min(CLIPPED_BITS, format.width))
        rounding = Rounding.HALF_EVEN if spec.rounding == Rounding.STOCHASTIC else spec.rounding
        self.candidates = tuple(replace(spec, format=format.resolve(each), rounding=rounding) for each in fractions)
        self.noise = (0.0,) * len(self.candidates)

    def measure(self, data: Tensor) -> None:
        """Add the noise energy that every candidate makes on ``data``."""
        wide = data.double()
        self.noise = tuple(
            noise + float((cast_values(wide, candidate) - wide).square().sum())
            for noise, candidate in zip(self.noise, self.candidates, strict=True)
        )

    def best(self, spec: CastSpec) -> CastSpec:
        """The candidate of least noise; of equal ones that with the largest range."""
        best = min(range(len(self.noise)), key=self.noise.__getitem__)
        return replace(spec, format=self.candidates[best].format)


def choose_fractions(graph: Graph, sites: Iterable[Site], batches: Sequence[Sequence[Tensor]]) -> dict[Site, CastSpec]:
    """For every site the cast with the fraction bits of the largest signal-to-noise ratio.

    Streams are measured on all ``batches`` in the float model, constants on themselves. Two runs over
    the data: the ranges, then the noise of each candidate with the cast's own rounding and overflow.
    """
    tallies = {site: _Tally() for site in sites}
    by_value: dict[Value, list[Site]] = {}
    for site in tallies:
        by_value.setdefault(site[0], []).append(site)
    streams = streams_of(graph)
    constants = Graph(graph.name, (), (), tuple(node for node in graph.nodes if node.output not in streams))

    def run(step: str) -> None:
        def observe(value: Value, data: Tensor) -> None:
            for site in by_value.get(value, ()):
                getattr(tallies[site], step)(data)

        run_real(constants, [], observe)
        if any(value in streams for value in by_value):
            for batch in batches:
                run_real(graph, batch, lambda value, data: observe(value, data) if value in streams else None)

    run("widen")
    for (_, spec), tally in tallies.items():
        tally.prepare(spec)
    run("measure")
    return {site: tally.best(site[1]) for site, tally in tallies.items()}
