"""A contraction and the map behind it: which way computes it exactly and fastest.

- A large product with a constant: the library's int8 product, operands in int8 digits; the map reads its sums.
- Any other product of operands that fit int8: one printed kernel, the map in it.
- Wider operands: exact floating point in pieces, as the emulation does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from gatewright.backends.torch.emulate import contract
from gatewright.backends.triton.access import Held, KernelSource
from gatewright.backends.triton.maps import MapKernel
from gatewright.backends.triton.matrices import (
    MOST_PRODUCTS,
    Digits,
    as_matrix,
    balanced_digits,
    digit_count,
    multiply,
    restore,
)
from gatewright.backends.triton.products import LONGEST, ProductKernel, Roles, offset_for
from gatewright.ir.decoding import decoded_integers, decoded_interval, integer_table
from gatewright.ir.expressions import ExpressionBuilder
from gatewright.ir.formats import ScalarFormat
from gatewright.ir.graph import Node
from gatewright.ir.intervals import fits_int64
from gatewright.ir.ops.contract import Contract
from gatewright.ir.ops.map import Map
from gatewright.ir.types import Value
from gatewright.kernels import device

LARGE = 1 << 22
"""Products of a sum from which the library's int8 matrix product is worth its own launch."""


class Contraction:
    """One ``contract`` node and, where one map alone reads it, that map."""

    def __init__(self, node: Node, follower: Node | None, constants: set[Value]) -> None:
        op = node.op
        assert isinstance(op, Contract)
        self.node, self.op, self.follower = node, op, follower
        self.output = follower.output if follower else node.output
        self.others = tuple(value for value in follower.inputs if value != node.output) if follower else ()
        self.streams = tuple(value not in constants for value in node.inputs)
        self.bounds = tuple(decoded_interval(value.format, value.interval) for value in node.inputs)
        self.roles = Roles.of(op.indices, *self.streams)
        self._digits: dict[torch.device, Digits] = {}
        name = self.output.name
        if follower is not None:
            assert isinstance(follower.op, Map)
            expression, position = follower.op.expression, follower.inputs.index(node.output)
        else:
            builder = ExpressionBuilder([node.output.interval])
            expression, position = builder.finish(builder.inputs[0]), 0
        self.map = MapKernel(name, expression)
        self.product = self._product(name, expression, position)

    def _product(self, name: str, expression: object, position: int) -> ProductKernel | None:
        from gatewright.ir.expressions import Expression

        assert isinstance(expression, Expression)
        left, right = self.bounds
        fits = offset_for(left) is not None and offset_for(right) is not None and self.depth <= LONGEST
        if self.roles is None or not fits or self.node.output.interval.magnitude >= 1 << 31:
            return None
        return ProductKernel(name, self.roles, (left, right), expression, position)

    @property
    def depth(self) -> int:
        """How many products make one sum."""
        sizes = self.op.indices.sizes(self.node.inputs[0].shape, self.node.inputs[1].shape)
        return math.prod(sizes[name] for name in self.op.indices.summed)

    @property
    def sources(self) -> dict[object, KernelSource]:
        """The printed kernels so far."""
        own = {} if self.product is None else self.product.sources
        return {**own, **{("map", key): source for key, source in self.map.sources.items()}}

    def __call__(self, left: Tensor, right: Tensor, others: Mapping[Value, Held], batch: int) -> Held:
        """The codes behind the map; ``others`` are its operands beside the sum."""
        left, right = (_integers(each, form) for each, form in zip((left, right), (self.op.left, self.op.right),
                                                                   strict=True))  # fmt: skip
        if self._uses_library(left, right):
            return self._mapped(self._by_library(left, right), others, batch)
        if self.product is not None and self.roles is not None:
            operands = self._operands(None, others)
            a = left if self.streams[0] else left[0]
            b = right if self.streams[1] else right[0]
            return Held((self.product(a, b, operands, batch, self.node.output.shape),))
        total = left.new_empty((batch, *self.node.output.shape), dtype=torch.int64)
        if not left.is_meta:
            device.record("float product", left)
            with _full_precision():
                total = contract(self.op.indices, left.long(), right.long(), (self.bounds[0], self.bounds[1]))
        return self._mapped(Held((total,)), others, batch)

    # ---- the library -----------------------------------------------------------------------
    def _uses_library(self, left: Tensor, right: Tensor) -> bool:
        roles = self.roles
        if roles is None or roles.both or self.streams[0] == self.streams[1] or not self.depth:
            return False
        stream, kept = (left, right) if self.streams[0] else (right, left)
        if not stream.numel() or not kept.numel() or not fits_int64(*self.bounds, self.node.output.interval):
            return False
        stream_bound, kept_bound = self.bounds if self.streams[0] else self.bounds[::-1]
        products = digit_count(stream_bound, True) * digit_count(kept_bound, False)
        if self.product is None:
            return products <= MOST_PRODUCTS
        work = stream.numel() * kept.numel() // self.depth
        # A window's view would have to be copied tap by tap; the printed kernel reads it where it lies.
        dense = sum((size - 1) * step for size, step in zip(stream.shape, stream.stride(), strict=True)) + 1
        return products <= MOST_PRODUCTS and work >= LARGE and dense >= stream.numel()

    def _by_library(self, left: Tensor, right: Tensor) -> Held:
        roles = self.roles
        assert roles is not None
        if self.streams[0]:
            stream, names, rows, bound = left, roles.left, roles.rows, self.bounds[0]
            kept, kept_names, columns, kept_bound = right[0], roles.right, roles.columns, self.bounds[1]
        else:
            stream, names, rows, bound = right, roles.right, roles.columns, self.bounds[1]
            kept, kept_names, columns, kept_bound = left[0], roles.left, roles.rows, self.bounds[0]
        if not stream.is_meta:
            device.record("int8 matrix product", stream)
        if kept.device not in self._digits:
            matrix = as_matrix(kept, kept_names, columns, roles.summed)
            self._digits[kept.device] = balanced_digits(matrix, kept_bound, False).with_sums()
        matrix = as_matrix(stream, names, rows, roles.summed)
        found = multiply(balanced_digits(matrix, bound, True), self._digits[kept.device])
        extents = dict(zip(names, stream.shape, strict=True)) | dict(zip(kept_names, kept.shape, strict=True))
        return restore(found, (*rows, *columns), roles.result, extents)

    # ---- the map ---------------------------------------------------------------------------
    def _operands(self, total: Held | None, others: Mapping[Value, Held]) -> list[Held]:
        if self.follower is None:
            return [] if total is None else [total]
        nothing = Held(())
        return [total or nothing if value == self.node.output else others[value] for value in self.follower.inputs]

    def _mapped(self, total: Held, others: Mapping[Value, Held], batch: int) -> Held:
        if self.follower is None:
            return total
        return Held((self.map(self._operands(total, others), batch, self.follower.output.shape),))


def _integers(codes: Tensor, format: ScalarFormat | None) -> Tensor:
    """The exact integers that codes of ``format`` stand for; None where the codes are those."""
    if format is None or codes.is_meta:
        return codes
    table = integer_table(format)
    if table is None:
        decoded = decoded_integers(format, codes.cpu().numpy())
        return torch.from_numpy(np.asarray(decoded, dtype=np.int64)).to(codes.device)
    return torch.from_numpy(table.astype(np.int64)).to(codes.device)[codes.long()]


@contextmanager
def _full_precision() -> Iterator[None]:
    """float32 products without TF32, which would round them."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
