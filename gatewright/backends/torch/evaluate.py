"""Evaluation of a tensor-level graph in PyTorch, operator by operator, with every value observable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from gatewright.backends.torch import runtime
from gatewright.backends.torch.cast import cast_values
from gatewright.backends.torch.texts import operation_text, result_cast, streams_of
from gatewright.ir.formats import ScalarFormat
from gatewright.ir.graph import Graph, Node
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.constant import Constant
from gatewright.ir.types import Value

Observer = Callable[[Value, Tensor], None]

_NAMES = {
    "torch": torch,
    "F": torch.nn.functional,
    "gw": runtime,
    "self": SimpleNamespace(training=False),
}


def run_real(graph: Graph, inputs: Sequence[Tensor], observe: Observer | None = None) -> list[Tensor]:
    """The outputs of a tensor-level graph for batches of real inputs, in the dtype of the first input.

    ``observe`` is called with every value and its tensor: streams with the batch leading, constants without.
    Casts round exactly; a function with a cast of its result is the real function, then the cast.
    """
    first = inputs[0] if inputs else torch.zeros(1, dtype=torch.float64)
    dtype = first.dtype if first.is_floating_point() else torch.float32
    streams = streams_of(graph)
    environment: dict[Value, Tensor] = {}
    for value, tensor in zip(graph.inputs, inputs, strict=True):
        environment[value] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        if observe is not None:
            observe(value, environment[value])
    last = {value: position for position, node in enumerate(graph.nodes) for value in node.inputs}
    with torch.no_grad():
        for position, node in enumerate(graph.nodes):
            environment[node.output] = _run_node(node, environment, streams, first.device, dtype)
            if observe is not None:
                observe(node.output, environment[node.output])
            for value in node.inputs:
                if last[value] == position and value not in graph.outputs:
                    environment.pop(value, None)
    batch = first.shape[0] if graph.inputs else 1
    return [
        environment[value] if value in streams else environment[value].expand(batch, *value.shape)
        for value in graph.outputs
    ]


def _run_node(
    node: Node,
    environment: dict[Value, Tensor],
    streams: set[Value],
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    op = node.op
    if isinstance(op, Constant):
        array = op.format.decode(op.data.array) if isinstance(op.format, ScalarFormat) else op.data.array
        tensor = torch.from_numpy(array.copy()).to(device)  # pyright: ignore[reportUnknownArgumentType]
        return tensor.to(dtype) if tensor.is_floating_point() else tensor
    operands = [environment[value] for value in node.inputs]
    if node.output in streams:
        # What is computed from parameters alone is in float64, so that its rounding is the hardware's.
        operands = [each.to(dtype) if each.dtype == torch.float64 else each for each in operands]
    if isinstance(op, Cast):
        return cast_values(operands[0], op.spec, op.axis)
    arguments = [f"a{index}" for index in range(len(operands))]
    result = _compiled(operation_text(node, arguments, streams), len(operands))(*operands)
    spec = result_cast(op)
    return result if spec is None else cast_values(result, spec)


@lru_cache(maxsize=1024)
def _compiled(text: str, count: int) -> Callable[..., Tensor]:
    arguments = ", ".join(f"a{index}" for index in range(count))
    function: Any = eval(f"lambda {arguments}: {text}", dict(_NAMES))  # noqa: S307 (text of our own operators)
    return function
