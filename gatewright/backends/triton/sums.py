"""Short sums of products in which no operand serves twice (a depthwise convolution), and the map that follows.

A tile of tensor cores would use one of its columns. A printed kernel takes a run of results instead, in the order in
which they lie, and adds up product by product, so that neighbours are read together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gatewright.backends.triton.access import (
    Held,
    KernelSource,
    Sizes,
    access_groups,
    collapse,
    coordinates_text,
    identifier,
    is_far,
    triton_type,
)
from gatewright.backends.triton.expressions import operands_read, print_expression, register_type, storage_type
from gatewright.backends.triton.factors import Factor, Tables
from gatewright.backends.triton.load import launch
from gatewright.backends.triton.products import Roles
from gatewright.backends.triton.tiles import run_tuned
from gatewright.ir.expressions import Expression
from gatewright.ir.intervals import INT64_BITS, Interval
from gatewright.kernels import device

LONGEST_SUM = 64
"""Products up to which a sum is unrolled."""


def sums_fit(left: Interval, right: Interval, depth: int) -> bool:
    """Whether int64 holds all sums of ``depth`` products, and one lane may make them."""
    return depth <= LONGEST_SUM and (left.magnitude * right.magnitude * depth).bit_length() <= INT64_BITS


class SumKernel:
    """A contraction as one sum for each result, and the expression of the map behind it; see ``ProductKernel``."""

    def __init__(self, name: str, roles: Roles, factors: tuple[Factor, Factor], expression: Expression,
                 position: int) -> None:  # fmt: skip
        self.name = name
        self.roles = roles
        self.factors = factors
        self.expression = expression
        self.position = position
        self.stored = storage_type(expression.interval)
        reads = operands_read(expression)
        self.read = [index for index, _ in reads if index != position]
        self.intervals = [interval for index, interval in reads if index != position]
        self.sources: dict[Any, KernelSource] = {}

    def __call__(
        self, left: Sequence[Held], right: Sequence[Held], operands: Sequence[Held], batch: int, shape: Sequence[int]
    ) -> Tensor:
        """The map's codes [batch, *shape]. What the factors read has the axes that the roles name."""
        roles = self.roles
        full = (batch, *shape)
        views = [operands[index].expanded(full) for index in self.read]
        tensors = [part for each in views for part in each.parts]
        named = [(part, names) for factor, names in ((left, roles.left), (right, roles.right))
                 for each in factor for part in each.parts]  # fmt: skip
        factors = [part for part, _ in named]
        out = torch.empty(full, dtype=self.stored, device=factors[0].device)
        extents = {name: size for part, names in named for name, size in zip(names, part.shape, strict=True)}
        across = [[each.stride(names.index(name)) if name in names else 0 for name in roles.result]
                  for each, names in named]  # fmt: skip
        sizes, strides = collapse((None, *shape), [out.stride(), *across, *[each.stride() for each in tensors]])
        along = [tuple(each.stride(names.index(name)) for name in roles.summed) for each, names in named]
        summed = tuple(extents[name] for name in roles.summed)
        far = is_far(out, *factors, *tensors)
        shifts = tuple(each.shifts for each in (*left, *right, *views))
        key = sizes, tuple(strides), summed, tuple(along), shifts, far
        if key not in self.sources:
            self.sources[key] = self.print((left, right), views, sizes, strides, summed, along, far)
        source = self.sources[key]

        def run(config: dict[str, int]) -> None:
            arguments = [*factors, *tensors, out, out.numel()]
            launch(source, "sum", device.ceil_div(out.numel(), config["BLOCK"]), arguments, out, **config)

        options = [{"BLOCK": block, "num_warps": warps} for block in (256, 512, 1024) for warps in (2, 4)]
        run_tuned("printed_sum", source, out, {"BLOCK": 512, "num_warps": 4}, options, run)
        return out

    def print(
        self,
        given: tuple[Sequence[Held], Sequence[Held]],
        views: Sequence[Held],
        sizes: Sizes,
        strides: Sequence[tuple[int, ...]],
        summed: Sequence[int],
        along: Sequence[tuple[int, ...]],
        far: bool,
    ) -> KernelSource:
        """The kernel for results, operands and the map's operands with these strides."""
        function = f"sum_{identifier(self.name)}"
        program = "tl.program_id(0).to(tl.int64)" if far else "tl.program_id(0)"
        lines, coordinates = coordinates_text("place", sizes, "c")
        depth = 1
        for size in summed:
            depth *= size
        first, second = (each.bound.magnitude for each in self.factors)
        work = register_type(Interval(0, first * second * depth))
        count = sum(len(each.parts) for each in given[0])
        walks = [each or (0,) for each in along]
        left_parameters, left_bases, left = self.factors[0].operands(
            given[0], coordinates, strides[1 : 1 + count], "place", walks[:count]
        )
        right_parameters, right_bases, right = self.factors[1].operands(
            given[1], coordinates, strides[1 + count : 1 + len(along)], "place", walks[count:]
        )
        described = access_groups("p", views, iter(strides[1 + len(along) :]), self.intervals)
        names = [f"x{index}" for index in range(self.expression.inputs)]
        names[self.position] = "value"
        printed = print_expression(self.expression, names, "inside")
        body = [
            f'"""%{self.name}: sums of {depth} products one by one, then {self.expression.interval}"""',
            f"place = {program} * BLOCK + tl.arange(0, BLOCK)",
            "inside = place < count",
            *lines,
            *left_bases,
            *right_bases,
            f"total = tl.zeros([BLOCK], tl.{work})",
        ]
        tables: Tables = ()
        for index in range(depth):
            rest, digits = index, [0] * len(summed)
            for axis in range(len(summed) - 1, -1, -1):
                rest, digits[axis] = divmod(rest, summed[axis])
            place = [str(each) for each in digits] or ["0"]
            products: list[str] = []
            for factor, operands in zip(self.factors, (left, right), strict=True):
                if factor.expression is None:
                    products.append(f"{operands[0].raw(place, 'inside')}.to(tl.{work})")
                    continue
                lines, text, found = factor.computed(operands, place, "inside", str(index))
                body += lines
                products.append(f"{text}.to(tl.{work})")
                tables += found
            body.append(f"total += {' * '.join(products)}")
        sum_type = next((register_type(node.interval) for node in self.expression.nodes
                         if node.op == "input" and node.attributes[0] == self.position), work)  # fmt: skip
        body += [
            f"value = total.to(tl.{sum_type})",
            *(f"{names[i]} = {each.load(coordinates, 'inside')}" for i, each in zip(self.read, described, strict=True)),
            *printed.lines,
            f"result = tl.zeros([BLOCK], tl.{printed.work}) + {printed.result}",
            f"tl.store(out + place, result.to({triton_type(self.stored)}), mask=inside)",
        ]
        pointers = [access.parameter for each in described for access in each.accesses]
        tables += printed.tables
        parameters = [*left_parameters, *right_parameters, *pointers, "out", "count", *(table for table, _ in tables)]
        text = "\n    ".join([f"def {function}({', '.join([*parameters, 'BLOCK: tl.constexpr'])}):", *body])
        return KernelSource(function, f"@triton.jit\n{text}\n", tuple(entries for _, entries in tables))
