"""How much noise quantisation adds, layer by layer, against the float model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gatewright.backends.torch.evaluate import run_real
from gatewright.backends.torch.precision import precisions
from gatewright.backends.torch.texts import MOVEMENTS, streams_of
from gatewright.frontend.calibrate import read_batches
from gatewright.ir.graph import Graph
from gatewright.ir.ops.cast import Cast
from gatewright.ir.types import Value


@dataclass(frozen=True, slots=True)
class LayerQuality:
    """One value of the model: its name, operator, module path, format after quantisation, and its quality.

    ``sqnr`` is 10 log10 of the float model's energy over that of the difference, in dB; infinite where
    nothing differs. It includes the noise of all layers before.
    """

    name: str
    operator: str
    module: str
    format: str
    sqnr: float


def quantisation_report(graph: Graph, quantised: Graph, data: Iterable[Any]) -> list[LayerQuality]:
    """A row for every computed value of the float ``graph``, in order, measured on batches of inputs.

    ``quantised`` is what ``quantise`` made of ``graph``. Both run in float64.
    """
    streams = streams_of(graph)
    nodes = [node for node in graph.nodes if node.output in streams and not isinstance(node.op, (*MOVEMENTS, Cast))]
    names = {node.output.name for node in nodes}
    signal = dict.fromkeys(names, 0.0)
    noise = dict.fromkeys(names, 0.0)
    for batch in read_batches(graph, data):
        inputs = [tensor.double() for tensor in batch]
        reference: dict[str, Tensor] = {}

        def remember(value: Value, tensor: Tensor, reference: dict[str, Tensor] = reference) -> None:
            if value.name in names:
                reference[value.name] = tensor

        def compare(value: Value, tensor: Tensor, reference: dict[str, Tensor] = reference) -> None:
            expected = reference.get(value.name)
            if expected is not None and expected.shape == tensor.shape:
                signal[value.name] += float(expected.square().sum())
                noise[value.name] += float((expected - tensor).square().sum())

        run_real(graph, inputs, remember)
        run_real(quantised, inputs, compare)
    formats = {value.name: str(each.type.format) for value, each in precisions(quantised).items()}
    return [
        LayerQuality(
            node.output.name,
            node.op.name,
            node.location.module,
            formats.get(node.output.name, "real"),
            _decibels(signal[node.output.name], noise[node.output.name]),
        )
        for node in nodes
    ]


def _decibels(signal: float, noise: float) -> float:
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf
