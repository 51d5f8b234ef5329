"""Values too wide for float64, computed exactly in integers inside an otherwise floating-point module.

Where sums or products can exceed 2^53, the printed module carries a float64 approximation for the
gradient, and ``gatewright::wide`` computes the next narrow value (a cast, or an output) from the last
narrow ones by the golden model's own arithmetic on the host. Exact at any width; slow, so that it is only done where
the constants need it (:mod:`gatewright.backends.torch.wide_bounds`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewright.backends.torch.cast import laid_like
from gatewright.backends.torch.exporting import exporting
from gatewright.backends.torch.precision import Precision
from gatewright.backends.torch.wide_bounds import is_exact
from gatewright.diagnostics import GatewrightError
from gatewright.ir.block_products import Grouped
from gatewright.ir.block_values import encoded_blocks
from gatewright.ir.blocks import block_input, legalise_blocks
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.formats import Block, GroupFormat, ScalarFormat
from gatewright.ir.graph import Node
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.constant import Constant
from gatewright.ir.ops.parameter_reshape import ParameterReshape
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.scaled_weights import ScaledWeights
from gatewright.ir.types import Type, Value
from gatewright.sim.golden import evaluate


@dataclass(frozen=True, slots=True)
class Region:
    """The nodes between narrow ``leaves`` and one ``output``; ``streams`` says which leaves have a batch."""

    nodes: tuple[Node, ...]
    leaves: tuple[Value, ...]
    precisions: tuple[Precision, ...]
    streams: tuple[bool, ...]
    output: Value

    @property
    def key(self) -> str:
        """A name made from the content."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]

    def compute(self, arrays: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """The output's reals (float64, rounded to nearest where wider) from the leaves' reals."""
        return _evaluated(*self._integers(arrays))

    def has_integers(self) -> bool:
        """Whether the region has an integer form: whether hardware could compute it."""
        zeros = [
            np.zeros((1, *leaf.shape) if stream else leaf.shape)
            for leaf, stream in zip(self.leaves, self.streams, strict=True)
        ]
        try:
            self._integers(zeros)
        except GatewrightError as problem:
            # Zeros may lie outside the reach of a scale where the real parameters do not.
            return problem.code == "GW0384"
        return True

    def _integers(self, arrays: Sequence[np.ndarray[Any, Any]]) -> tuple[Builder, Grouped, list[np.ndarray[Any, Any]]]:
        """The nodes on integers, their result, and the codes that enter."""
        builder = Builder("wide")
        known: dict[Value, Grouped] = {}
        codes: list[np.ndarray[Any, Any]] = []
        reals: dict[Value, np.ndarray[Any, Any]] = {}

        def enter(value: Value, array: np.ndarray[Any, Any], type: Type, stream: bool) -> None:
            format = type.format
            assert isinstance(format, ScalarFormat)
            if stream:
                known[value] = builder.input(value.name, type)
                codes.append(array)
            else:
                known[value] = builder.integers(array, format)

        for leaf, precision, stream, array in zip(self.leaves, self.precisions, self.streams, arrays, strict=True):
            format = precision.type.format
            if not precision.is_real and isinstance(format, ScalarFormat):
                enter(leaf, format.encode(array), precision.type, stream)
            elif stream:
                reals[leaf] = array
            else:
                known[leaf] = builder.parameter(leaf.name, array)
                reals[leaf] = array
        constants = {leaf for leaf, stream in zip(self.leaves, self.streams, strict=True) if not stream}
        for node in self.nodes:
            op, real = node.op, reals.get(node.inputs[0]) if node.inputs else None
            if isinstance(op, Cast) and real is not None:
                spec, stream = op.spec, node.inputs[0] not in constants
                if isinstance(spec.format, ScalarFormat):
                    type = Type(node.output.shape, spec.format, interval_of_codes(spec.format))
                    enter(node.output, spec.format.encode(real, spec.rounding, spec.overflow), type, stream)
                    continue
                if stream:
                    assert isinstance(spec.format, Block)
                    known[node.output] = block_input(builder, node.output.name, real.shape[1:], spec.format, op.axis)
                    codes.extend(encoded_blocks(real, spec, op.axis))
                    continue
            operands = [known[value] for value in node.inputs]
            result = legalise_blocks(builder, node, operands)
            if result is None:
                values = [value for value in operands if isinstance(value, Value)]
                if not op.takes_codes:
                    values = [builder.decoded(value) for value in values]
                result = op.decompose(builder, *values)
            known[node.output] = result
        return builder, known[self.output], codes


def _evaluated(builder: Builder, output: Grouped, codes: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """The reals of ``output``, by the golden model."""
    assert not isinstance(output, ScaledWeights)
    if isinstance(output, Value):
        graph = builder.finish([output])
        format = graph.outputs[0].format
        assert isinstance(format, ScalarFormat)
        return format.decode(evaluate(graph, codes)[0])
    elements, scales = evaluate(builder.finish([output.elements, output.scales]), codes)
    reals = output.format.element.decode(elements) * output.format.scale.decode(scales)
    return np.moveaxis(reals.reshape(*reals.shape[:-2], -1), -1, output.axis)


_REGIONS: dict[str, Region] = {}


def register_regions(regions: Sequence[Region]) -> None:
    """Make the regions known to :func:`wide` by their keys."""
    _REGIONS.update({region.key: region for region in regions})


def region_of(
    output: Value, producer: dict[Value, Node], precision: dict[Value, Precision], streams: set[Value]
) -> Region:
    """The region that computes ``output`` from the nearest narrow values before it."""
    nodes: dict[Node, None] = {}
    leaves: dict[Value, None] = {}

    def is_grouped(value: Value) -> bool:
        # Rounding blocks again may choose another scale, so that they are entered as what they were made of.
        node = producer.get(value)
        if node is None or not isinstance(node.op, Cast | Reshape | ParameterReshape):
            return False
        return isinstance(precision[value].type.format, GroupFormat) or (
            isinstance(node.op, Reshape | ParameterReshape) and is_grouped(node.inputs[0])
        )

    def visit(value: Value, first: bool) -> None:
        node = producer.get(value)
        is_inside = first or precision[value].dtype == "wide" or is_grouped(value)
        if node is None or isinstance(node.op, Constant) or not is_inside:
            leaves[value] = None
            return
        if node not in nodes:
            for operand in node.inputs:
                visit(operand, first=False)
            nodes[node] = None

    visit(output, first=True)
    return Region(
        tuple(nodes),
        tuple(leaves),
        tuple(precision[value] for value in leaves),
        tuple(value in streams for value in leaves),
        output,
    )


@torch.library.custom_op("gatewright::wide", mutates_args=())
def wide_operator(approximate: Tensor, leaves: list[Tensor], region: str) -> Tensor:
    """The exact value of a region; ``approximate`` is nearly that, and carries the gradient.

    Where the constants happen to be so short that float64 made no rounding, ``approximate`` is the value.
    """
    if is_exact(_REGIONS[region], region, leaves):
        return approximate.clone()
    arrays = [each.detach().double().cpu().numpy() for each in leaves]
    found = torch.from_numpy(np.ascontiguousarray(_REGIONS[region].compute(arrays)))
    return laid_like(found.to(device=approximate.device, dtype=approximate.dtype), approximate)


@wide_operator.register_fake
def _wide_fake(  # pyright: ignore[reportUnusedFunction]
    approximate: Tensor, leaves: list[Tensor], region: str
) -> Tensor:
    return torch.empty_like(approximate)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, list[None], None]:
    return gradient, [None] * ctx.count, None


def _setup_context(ctx: Any, inputs: tuple[Tensor, list[Tensor], str], output: Tensor) -> None:
    ctx.count = len(inputs[1])


wide_operator.register_autograd(_backward, setup_context=_setup_context)


def wide(approximate: Tensor, region: str, *leaves: Tensor) -> Tensor:
    """The exact value that ``approximate`` stands for; see the module's text."""
    if exporting():
        return approximate
    return wide_operator(approximate, [each.detach() for each in leaves], region)
