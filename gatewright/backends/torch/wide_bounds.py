"""Whether float64 computes a region of wide values exactly with the constants that a module has at the moment.

By their formats alone a bias in bfloat16, or the scales of a block format, reach over hundreds of bits. The numbers
that a trained layer holds seldom do: what counts is the largest of them and the lowest bit that any of them uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gatewright.backends.torch.cast import block_codec, cast
from gatewright.backends.torch.elements import values_of
from gatewright.backends.torch.precision import FLOAT32_LIMIT, Precision, precision_of
from gatewright.ir.block_products import BlockOperator
from gatewright.ir.formats import Block, Exact, PowerOfTwo, Real, ScaledSigns
from gatewright.ir.graph import Node
from gatewright.ir.intervals import Interval
from gatewright.ir.ops.cast import Cast
from gatewright.ir.types import Type, Value

if TYPE_CHECKING:
    from gatewright.backends.torch.wide import Region

Span = tuple[int, int]
"""All numbers of a tensor are multiples of 2^low, and below 2^high: (low, high)."""
FLOAT32_BITS = FLOAT32_LIMIT.bit_length() - 1


def constants_of(region: Region) -> dict[Value, Cast | None]:
    """The constants that the region's streams meet: parameters, or their casts."""
    streams = {leaf for leaf, is_stream in zip(region.leaves, region.streams, strict=True) if is_stream}
    casts = {node.output: node for node in region.nodes if isinstance(node.op, Cast)}
    found: dict[Value, Cast | None] = {}
    for node in region.nodes:
        if not streams.intersection(node.inputs):
            continue
        streams.add(node.output)
        for value in node.inputs:
            if value not in streams:
                made = casts.get(value)
                found[value] = made.op if made is not None and isinstance(made.op, Cast) else None
    return found


def is_exact(region: Region, key: str, leaves: Sequence[Tensor]) -> bool:
    """Whether float64, on these leaves, makes no rounding in the region's operators."""
    constants = constants_of(region)
    if not _holds(region, key, tuple((0, 1) for _ in constants)):
        return False  # whatever the constants are
    tensors = dict(zip(region.leaves, leaves, strict=True))
    casts = {node.output: node for node in region.nodes if isinstance(node.op, Cast)}
    spans: list[Span] = []
    for value, op in constants.items():
        source = casts[value].inputs[0] if op is not None else value
        if source not in tensors:
            return False
        span = span_of(tensors[source], op)
        if span is None:
            return False
        spans.append(span)
    return _holds(region, key, tuple(spans))


def span_of(values: Tensor, op: Cast | None) -> Span | None:
    """The span of a parameter, cast by ``op``; None where it is not finite, or where float32 does not hold the cast."""
    values = values.detach()
    limit, more = 1 << 30, 0
    if op is not None:
        format = op.spec.format
        if isinstance(format, ScaledSigns):
            _, scales = block_codec(op.spec).encode(values)
            assert scales is not None
            values = values_of(scales, format.scale)
            more = format.levels.bit_length()
            limit = FLOAT32_BITS - more
        else:
            values = cast(values, str(op.spec), op.axis)
            if isinstance(format, Block) and _bits(format) > FLOAT32_BITS:
                return None
    values = values.double().flatten()
    values = values[values != 0]
    if values.numel() == 0:
        return (0, 1)
    mantissas, exponents = torch.frexp(values)
    integers = torch.nan_to_num(mantissas * 2.0**53).long()
    lowest = torch.frexp((integers & -integers).double())[1] - 1
    found = [torch.isfinite(values).all().long(), (exponents + lowest).min().long() - 53, exponents.max().long()]
    finite, low, high = (int(each) for each in torch.stack(found).cpu().numpy())
    return (low, high + more) if finite and high - low <= limit else None


def _bits(format: Block) -> int:
    """Significant bits of a number in blocks."""
    scale = 0 if isinstance(format.scale, PowerOfTwo) else format.scale.mantissa_bits - 1
    return format.element.mantissa_bits - 1 + scale


_KNOWN: dict[tuple[str, tuple[Span, ...]], bool] = {}


def _holds(region: Region, key: str, spans: tuple[Span, ...]) -> bool:
    """Whether no operator needs more than float64 where the constants have these spans; found out once."""
    found = _KNOWN.get((key, spans))
    if found is None:
        found = _KNOWN[key, spans] = _computes(region, spans)
    return found


def _computes(region: Region, spans: tuple[Span, ...]) -> bool:
    constants = constants_of(region)
    known: dict[Value, Precision] = dict(zip(region.leaves, region.precisions, strict=True))
    inside = dict(zip(constants, spans, strict=True))
    streams = {leaf for leaf, is_stream in zip(region.leaves, region.streams, strict=True) if is_stream}
    for node in region.nodes:
        if not streams.intersection(node.inputs):
            continue
        streams.add(node.output)
        operands = [
            _bounded(node, index, value, constants[value], known.get(value), inside[value])
            if value in inside
            else known[value]
            for index, value in enumerate(node.inputs)
        ]
        known[node.output] = precision_of(node, operands)
        if known[node.output].dtype == "wide" or (known[node.output].is_real and not isinstance(node.op, Cast)):
            return False
    return True


def _bounded(node: Node, index: int, value: Value, op: Cast | None, leaf: Precision | None, span: Span) -> Precision:
    """A constant as what its span says; a factor of a product of blocks stays in its format."""
    if isinstance(node.op, BlockOperator) and node.op.accumulation is not None and index < 2:
        return (
            leaf if op is None and leaf is not None else Precision(Type(value.shape, op.spec.format if op else Real()))
        )
    low, high = span
    largest = 1 << max(high - low, 0)
    return Precision(Type(value.shape, Exact(-low), Interval(-largest, largest)))
