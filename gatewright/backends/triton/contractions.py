"""A contraction, the maps before it and the map behind it: which way computes it exactly and fastest.

- A large product of int8 with a constant, cast: :func:`gatewright.kernels.integer_product.integer_linear`.
- Any other large product with a constant: the library's int8 product, operands in int8 digits; the map reads its sums.
- A product in which no operand serves twice: one printed kernel that adds up element by element, the map in it.
- Any other product of operands that fit int8: one printed kernel, the map in it.
- Wider operands: exact floating point in pieces, as the emulation does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from gatewright.backends.torch.emulate import contract
from gatewright.backends.triton.access import Held, KernelSource
from gatewright.backends.triton.factors import Factor, Prologue
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
from gatewright.backends.triton.prologues import printed_form
from gatewright.backends.triton.requantise import Requantisation, requantisation
from gatewright.backends.triton.sums import SumKernel
from gatewright.ir.decoding import decoded_integers, decoded_interval, integer_table
from gatewright.ir.expressions import Expression, ExpressionBuilder
from gatewright.ir.formats import ScalarFormat
from gatewright.ir.graph import Node
from gatewright.ir.intervals import IntegerArray, Interval, fits_int64
from gatewright.ir.ops.contract import Contract
from gatewright.ir.ops.map import Map
from gatewright.ir.types import Value
from gatewright.kernels import device
from gatewright.kernels.integer_product import integer_linear

LARGE = 1 << 22
"""Products in all from which the library's int8 matrix product is worth its own launch."""

DEEP = 512
"""Products of a sum from which that holds; shorter sums are bound by what they write, which a printed kernel casts."""

FILLING = 1 << 21
"""Results whose tiles fill a GPU; of fewer results, the library shares each sum among several multiprocessors."""


class Contraction:
    """One ``contract`` node, prologues of its operands, and the map that alone reads it; ``nodes`` in order."""

    def __init__(self, nodes: Sequence[Node], constants: Mapping[Value, IntegerArray]) -> None:
        (node,) = (each for each in nodes if isinstance(each.op, Contract))
        op = node.op
        assert isinstance(op, Contract)
        follower = nodes[-1] if nodes[-1] is not node else None
        self.node, self.op, self.follower = node, op, follower
        self.output = follower.output if follower else node.output
        self.streams = tuple(value not in constants for value in node.inputs)
        self.bounds = tuple(decoded_interval(value.format, value.interval) for value in node.inputs)
        self.roles = Roles.of(op.indices, *self.streams)
        self.prologues = _prologues(nodes, node)
        self._digits: dict[torch.device, Digits] = {}
        self._bias: dict[torch.device, Tensor] = {}
        self._remarks: dict[object, KernelSource] = {}
        name = self.output.name
        if follower is not None:
            assert isinstance(follower.op, Map)
            expression, position = follower.op.expression, follower.inputs.index(node.output)
        else:
            builder = ExpressionBuilder([node.output.interval])
            expression, position = builder.finish(builder.inputs[0]), 0
        self.map = MapKernel(name, expression)
        self.product = self._product(name, expression, position)
        self.cast = self._cast(expression, position, constants)

    def _product(self, name: str, expression: Expression, position: int) -> ProductKernel | SumKernel | None:
        form = printed_form(self.node, self.streams)
        if form is None or self.roles is None:
            return None
        left, right = (
            Factor(side, bound, prologue.expression if prologue else None)
            for side, bound, prologue in zip(("left", "right"), self.bounds, self.prologues, strict=True)
        )
        kernel = SumKernel if form == "sum" else ProductKernel
        return kernel(name, self.roles, (left, right), expression, position)

    def _sizes(self) -> dict[str, int]:
        return dict(self.op.indices.sizes(self.node.inputs[0].shape, self.node.inputs[1].shape))

    def _cast(
        self, expression: Expression, position: int, constants: Mapping[Value, IntegerArray]
    ) -> Requantisation | None:
        """The arguments of ``integer_linear`` that make it this contraction; its bias is one row [columns]."""
        roles = self.roles
        if roles is None or roles.both or self.streams[0] == self.streams[1] or self.product is None:
            return None
        free = roles.columns if self.streams[0] else roles.rows
        stream, kept = self.bounds if self.streams[0] else self.bounds[::-1]
        if offset_for(stream) is None or offset_for(kept) != 0:
            return None
        if self.depth > LONGEST or self.depth % 16 or roles.result[-len(free) :] != free or not free:
            return None
        operands = self.follower.inputs if self.follower else (self.node.output,)
        found = requantisation(expression, position, [constants.get(value) for value in operands])
        if found is None or found.bias is None:
            return found
        shape, sizes = self.node.output.shape, self._sizes()
        columns = math.prod(sizes[name] for name in free)
        bias = found.bias
        while bias.ndim > len(free) and bias.shape[0] == 1:
            bias = bias[0]
        if bias.ndim > len(free) or Interval.of(bias).magnitude >= 1 << 30:
            return None  # it differs from row to row, or int32 does not hold it with the offset's part
        return replace(found, bias=np.broadcast_to(bias, shape[len(shape) - len(free) :]).reshape(columns))

    @property
    def depth(self) -> int:
        """How many products make one sum."""
        sizes = self._sizes()
        return math.prod(sizes[name] for name in self.op.indices.summed)

    @property
    def sources(self) -> dict[object, KernelSource]:
        """The printed kernels so far, and remarks on what the library computes."""
        own: dict[object, KernelSource] = {} if self.product is None else dict(self.product.sources)
        if self._bias and self.cast is not None:
            given = {each.name: getattr(self.cast, each.name) for each in fields(self.cast) if each.name != "bias"}
            text = ", ".join(f"{name}={value!r}" for name, value in given.items())
            own["call"] = KernelSource(
                "integer_linear", f"# %{self.output.name}: integer_linear(x, w, bias, {text})\n", ()
            )
        before = {
            (side, key): source
            for side, each in enumerate(self.prologues) if each is not None
            for key, source in each.map.sources.items()
        }  # fmt: skip
        return {**before, **self._remarks, **own, **{("map", key): source for key, source in self.map.sources.items()}}

    def __call__(self, held: Mapping[Value, Held], batch: int) -> Held:
        """The codes behind the map; ``held`` has what the nodes read, each side without prologue as one tensor."""
        formats = (self.op.left, self.op.right)
        sides = list(zip(self.node.inputs, self.prologues, formats, strict=True))
        # A prologue's result, at first without codes.
        left, right = (
            prologue.layout(batch) if prologue else _integers(held[value].first, format)
            for value, prologue, format in sides
        )
        if self._uses_library(left, right):
            left, right = (
                prologue.result(held, batch) if prologue else each
                for (_, prologue, _), each in zip(sides, (left, right), strict=True)
            )
            if self.cast is not None and batch * math.prod(self.node.output.shape) >= FILLING:
                return self._by_kernel(left, right, self.cast)
            return self._mapped(self._by_library(left, right), held, batch)
        if self.product is not None and self.roles is not None:
            operands = self._operands(None, held)
            a, b = (
                prologue.operands(held, batch) if prologue else [Held((each if stream else each[0],))]
                for prologue, each, stream in zip(self.prologues, (left, right), self.streams, strict=True)
            )
            return Held((self.product(a, b, operands, batch, self.node.output.shape),))
        self._remark("products in floating point, in pieces that are exact")
        total = left.new_empty((batch, *self.node.output.shape), dtype=torch.int64)
        if not left.is_meta:
            device.record("float product", left)
            with _full_precision():
                total = contract(self.op.indices, left.long(), right.long(), (self.bounds[0], self.bounds[1]))
        return self._mapped(Held((total,)), held, batch)

    def _remark(self, what: str) -> None:
        """Name in the text what no printed kernel computes."""
        if what not in self._remarks:
            name = self.node.output.name
            self._remarks[what] = KernelSource(name, f"# %{name}: {what}, in PyTorch\n", ())

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
        large = work >= LARGE and self.depth >= DEEP
        return products <= MOST_PRODUCTS and large and dense >= stream.numel()

    def _matrices(self, left: Tensor, right: Tensor) -> tuple[Digits, Digits, Callable[[Held], Held]]:
        """The stream's digits [rows, summed], the constant's [columns, summed], and what gives the result its axes."""
        roles = self.roles
        assert roles is not None
        if self.streams[0]:
            stream, names, rows, bound = left, roles.left, roles.rows, self.bounds[0]
            kept, kept_names, columns, kept_bound = right[0], roles.right, roles.columns, self.bounds[1]
        else:
            stream, names, rows, bound = right, roles.right, roles.columns, self.bounds[1]
            kept, kept_names, columns, kept_bound = left[0], roles.left, roles.rows, self.bounds[0]
        if kept.device not in self._digits:
            matrix = as_matrix(kept, kept_names, columns, roles.summed)
            self._digits[kept.device] = balanced_digits(matrix, kept_bound, False).with_sums()
        digits = balanced_digits(as_matrix(stream, names, rows, roles.summed), bound, True)
        extents = dict(zip(names, stream.shape, strict=True)) | dict(zip(kept_names, kept.shape, strict=True))
        return digits, self._digits[kept.device], lambda held: restore(held, (*rows, *columns), roles.result, extents)

    def _by_library(self, left: Tensor, right: Tensor) -> Held:
        digits, kept, axes = self._matrices(left, right)
        self._remark("the library's product of int8 digits")
        if not left.is_meta:
            device.record("int8 matrix product", left)
        return axes(multiply(digits, kept))

    def _by_kernel(self, left: Tensor, right: Tensor, cast: Requantisation) -> Held:
        digits, kept, axes = self._matrices(left, right)
        where = left.device
        if where not in self._bias:
            assert kept.sums is not None
            bias = kept.sums * digits.offset
            if cast.bias is not None and not left.is_meta:
                bias = bias + torch.from_numpy(np.array(cast.bias, dtype=np.int64)).to(where)
            self._bias[where] = bias.to(torch.int32)
        found = integer_linear(
            digits.parts[0].contiguous(), kept.parts[0].contiguous(), self._bias[where], relu=cast.relu,
            shift=cast.shift, rounding=cast.rounding, overflow=cast.overflow, width=cast.width, signed=cast.signed,
        )  # fmt: skip
        return axes(Held((found,)))

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


def _prologues(nodes: Sequence[Node], node: Node) -> tuple[Prologue | None, Prologue | None]:
    """The maps among ``nodes`` that make the operands of the contraction ``node``."""
    makers = {each.output: each for each in nodes}

    def before(value: Value) -> Prologue | None:
        chain: list[Node] = []
        while value in makers:
            chain.insert(0, makers[value])
            if isinstance(chain[0].op, Map):
                return Prologue(chain)
            value = chain[0].inputs[0]
        return None

    return before(node.inputs[0]), before(node.inputs[1])


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
