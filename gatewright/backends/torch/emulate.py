"""The integer graph on PyTorch tensors, on any device: the golden model's results at the speed of a GPU.

Sums of products run in floating point, in pieces that are exact: float32 below 2^24, float64 below
2^53, and above that as sums of float64 products of shorter limbs. Values beyond int64 are computed in
Python integers on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from gatewright.backends.torch.expressions import Codes, from_host, to_host, torch_expression
from gatewright.backends.torch.precision import FLOAT32_LIMIT, FLOAT64_LIMIT
from gatewright.ir.decoding import decoded_integers, decoded_interval, integer_table
from gatewright.ir.formats import ScalarFormat
from gatewright.ir.graph import Graph, Node
from gatewright.ir.intervals import Interval, fits_int64
from gatewright.ir.ops.concat import Concat
from gatewright.ir.ops.constant import Constant
from gatewright.ir.ops.contract import Contract, Indices
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.pad import Pad
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.ops.slice import Slice
from gatewright.ir.types import Value

Observer = Callable[[Value, Codes], None]


def emulate(graph: Graph, inputs: Sequence[Codes], observe: Observer | None = None) -> list[Codes]:
    """The codes of all outputs of an integer-level graph for input codes with a leading batch axis.

    Results are int64 tensors on the inputs' device (object arrays where int64 is too narrow).
    ``observe`` is called with every value and its codes; constants have a batch of one.
    """
    first = inputs[0]
    device = first.device if isinstance(first, Tensor) else torch.device("cpu")
    batch = int(first.shape[0])
    environment: dict[Value, Codes] = dict(zip(graph.inputs, inputs, strict=True))
    constants: set[Value] = set()
    for node in graph.nodes:
        if isinstance(node.op, Constant) or all(each in constants for each in node.inputs):
            constants.add(node.output)
        operands = [environment[value] for value in node.inputs]
        environment[node.output] = _run(node, operands, batch, device)
        if observe is not None:
            observe(node.output, environment[node.output])
    return [_repeated(environment[value], batch) for value in graph.outputs]


def _repeated(codes: Codes, batch: int) -> Codes:
    shape = (batch, *codes.shape[1:])
    return codes.expand(shape) if isinstance(codes, Tensor) else np.broadcast_to(codes, shape)


def _run(node: Node, operands: list[Codes], batch: int, device: torch.device) -> Codes:
    op = node.op
    if isinstance(op, Constant):
        return from_host(np.asarray(op.data.array)[np.newaxis], device)
    if isinstance(op, Map):
        rank = len(node.output.shape)
        aligned = [each.reshape(each.shape[0], *(1,) * (rank + 1 - each.ndim), *each.shape[1:]) for each in operands]
        return torch_expression(op.expression)(*aligned)
    if isinstance(op, Concat):
        operands = [_repeated(each, batch) for each in operands]
    tensors = [each for each in operands if isinstance(each, Tensor)]
    if len(tensors) < len(operands) or not fits_int64(node.output.interval):
        return _on_host(node, operands, device)
    result = _move(op, tensors)
    if result is not None:
        return result
    if isinstance(op, Contract):
        decoded = [decoded_interval(value.format, value.interval) for value in node.inputs]
        if not fits_int64(*decoded):
            return _on_host(node, operands, device)
        left, right = (_integers(tensor, format) for tensor, format in zip(tensors, (op.left, op.right), strict=True))
        return contract(op.indices, left, right, (decoded[0], decoded[1]))
    if isinstance(op, Reduce):
        axes = tuple(axis + 1 for axis in op.axes)
        if op.kind == "or":
            return _on_host(node, operands, device)
        if op.kind == "sum":
            return tensors[0].sum(dim=axes, keepdim=True)
        return (torch.amax if op.kind == "max" else torch.amin)(tensors[0], dim=axes, keepdim=True)
    return _on_host(node, operands, device)


def _integers(codes: Tensor, format: ScalarFormat | None) -> Tensor:
    """The exact integers that codes of ``format`` stand for; None where the codes are those."""
    if format is None:
        return codes
    table = integer_table(format)
    if table is None:
        decoded = from_host(decoded_integers(format, codes.cpu().numpy()), codes.device)
        assert isinstance(decoded, Tensor)
        return decoded
    return torch.from_numpy(table.astype(np.int64)).to(codes.device)[codes]


def _move(op: object, tensors: list[Tensor]) -> Tensor | None:
    """The result of an operator that only moves elements; None for any other."""
    first = tensors[0]
    if isinstance(op, Reshape):
        return first.reshape(first.shape[0], *op.shape)
    if isinstance(op, Permute):
        return first.permute(0, *(axis + 1 for axis in op.order))
    if isinstance(op, Slice):
        return first[(*(slice(None),) * (op.axis + 1), slice(op.start, op.stop, op.step))]
    if isinstance(op, Concat):
        return torch.cat(tensors, dim=op.axis + 1)
    if isinstance(op, Pad):
        flat = [amount for pair in reversed(op.amounts) for amount in pair]
        return torch.nn.functional.pad(first, flat, value=op.code)
    return None


def _on_host(node: Node, operands: list[Codes], device: torch.device) -> Codes:
    """Any primitive through its own exact evaluation."""
    arrays = [to_host(each) for each in operands]
    if isinstance(node.op, Contract):
        letters = node.op.indices
        for position, names in enumerate((letters.left, letters.right)):
            if arrays[position].ndim > len(names) and arrays[position].shape[0] == 1:
                arrays[position] = arrays[position][0]
    result = np.asarray(node.op.evaluate(*arrays))
    if result.ndim == len(node.output.shape):
        result = result[np.newaxis]
    return from_host(result, device)


def contract(indices: Indices, left: Tensor, right: Tensor, bounds: tuple[Interval, Interval]) -> Tensor:
    """The exact sum of products of int64 codes with a leading batch axis (of one for a constant).

    ``bounds`` are the operands' intervals.
    """
    sizes = dict(zip(indices.left, left.shape[1:], strict=True))
    count = max(int(np.prod([sizes[name] for name in indices.summed], dtype=np.int64)), 1)
    equation = _equation(indices, left, right)
    operands = [each[0] if each.shape[0] == 1 else each for each in (left, right)]
    total = _exact_einsum(equation, operands[0], operands[1], bounds, count)
    return total if "..." in equation else total[None]


def _equation(indices: Indices, left: Tensor, right: Tensor) -> str:
    names = sorted({*indices.left, *indices.right})
    letter = {name: chr(ord("a") + position) for position, name in enumerate(names)}
    sides = [
        ("..." if tensor.shape[0] != 1 else "") + "".join(letter[name] for name in listed)
        for tensor, listed in ((left, indices.left), (right, indices.right))
    ]
    batch = "..." if "..." in sides[0] + sides[1] else ""
    return f"{sides[0]},{sides[1]}->{batch}{''.join(letter[name] for name in indices.result)}"


def _exact_einsum(equation: str, left: Tensor, right: Tensor, bounds: tuple[Interval, Interval], count: int) -> Tensor:
    """einsum of int64 codes in floating point that is exact for sums of ``count`` such products."""
    largest = bounds[0].magnitude * bounds[1].magnitude * count
    if largest <= FLOAT64_LIMIT:
        dtype = torch.float32 if largest <= FLOAT32_LIMIT else torch.float64
        return torch.einsum(equation, left.to(dtype), right.to(dtype)).to(torch.int64)
    bits = (53 - count.bit_length()) // 2
    parts = [
        torch.einsum(equation, a, b).to(torch.int64) << (low + high)
        for low, a in _limbs(left, bits, bounds[0])
        for high, b in _limbs(right, bits, bounds[1])
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _limbs(codes: Tensor, bits: int, interval: Interval) -> list[tuple[int, Tensor]]:
    """``codes`` as float64 limbs of at most ``bits`` bits, each with the power of two that it counts."""
    found: list[tuple[int, Tensor]] = []
    position, width = 0, interval.width
    while width > bits:
        found.append((position, (codes & ((1 << bits) - 1)).double()))
        codes, position, width = codes >> bits, position + bits, width - bits
    return [*found, (position, codes.double())]
