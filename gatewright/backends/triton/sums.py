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
    offset_text,
    triton_type,
)
from gatewright.backends.triton.expressions import print_expression, register_type, storage_type
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

    def __init__(self, name: str, roles: Roles, bounds: tuple[Interval, Interval], expression: Expression,
                 position: int) -> None:  # fmt: skip
        self.name = name
        self.roles = roles
        self.bounds = bounds
        self.expression = expression
        self.position = position
        self.stored = storage_type(expression.interval)
        uses = expression.uses()
        reads = [(int(node.attributes[0]), node.interval) for index, node in enumerate(expression.nodes)
                 if node.op == "input" and uses[index]]  # fmt: skip
        self.read = [index for index, _ in reads if index != position]
        self.intervals = [interval for index, interval in reads if index != position]
        self.sources: dict[Any, KernelSource] = {}

    def __call__(
        self, left: Tensor, right: Tensor, operands: Sequence[Held], batch: int, shape: Sequence[int]
    ) -> Tensor:
        """The map's codes [batch, *shape]. ``left`` and ``right`` have the axes that the roles name."""
        roles = self.roles
        full = (batch, *shape)
        views = [operands[index].expanded(full) for index in self.read]
        tensors = [part for each in views for part in each.parts]
        out = torch.empty(full, dtype=self.stored, device=left.device)
        extents = dict(zip(roles.left, left.shape, strict=True)) | dict(zip(roles.right, right.shape, strict=True))
        across = [[each.stride(names.index(name)) if name in names else 0 for name in roles.result]
                  for each, names in ((left, roles.left), (right, roles.right))]  # fmt: skip
        sizes, strides = collapse((None, *shape), [out.stride(), *across, *[each.stride() for each in tensors]])
        along = [[each.stride(names.index(name)) for name in roles.summed]
                 for each, names in ((left, roles.left), (right, roles.right))]  # fmt: skip
        summed = tuple(extents[name] for name in roles.summed)
        far = is_far(out, left, right, *tensors)
        key = sizes, tuple(strides), summed, tuple(map(tuple, along)), tuple(each.shifts for each in views), far
        if key not in self.sources:
            self.sources[key] = self.print(views, sizes, strides, summed, along, far)
        source = self.sources[key]

        def run(config: dict[str, int]) -> None:
            arguments = [left, right, *tensors, out, out.numel()]
            launch(source, "sum", device.ceil_div(out.numel(), config["BLOCK"]), arguments, out, **config)

        options = [{"BLOCK": block, "num_warps": warps} for block in (256, 512, 1024) for warps in (2, 4)]
        run_tuned("printed_sum", source, out, {"BLOCK": 512, "num_warps": 4}, options, run)
        return out

    def print(
        self,
        views: Sequence[Held],
        sizes: Sizes,
        strides: Sequence[tuple[int, ...]],
        summed: Sequence[int],
        along: Sequence[Sequence[int]],
        far: bool,
    ) -> KernelSource:
        """The kernel for results, operands and the map's operands with these strides."""
        function = f"sum_{identifier(self.name)}"
        program = "tl.program_id(0).to(tl.int64)" if far else "tl.program_id(0)"
        lines, coordinates = coordinates_text("place", sizes, "c")
        depth = 1
        for size in summed:
            depth *= size
        work = register_type(Interval(0, self.bounds[0].magnitude * self.bounds[1].magnitude * depth))
        described = access_groups("p", views, iter(strides[3:]), self.intervals)
        names = [f"x{index}" for index in range(self.expression.inputs)]
        names[self.position] = "value"
        printed = print_expression(self.expression, names, "inside")
        body = [
            f'"""%{self.name}: sums of {depth} products one by one, then {self.expression.interval}"""',
            f"place = {program} * BLOCK + tl.arange(0, BLOCK)",
            "inside = place < count",
            *lines,
            f"left_base = left + {offset_text(coordinates, strides[1])}",
            f"right_base = right + {offset_text(coordinates, strides[2])}",
            f"total = tl.zeros([BLOCK], tl.{work})",
        ]
        for index in range(depth):
            places: list[int] = []
            for steps in along:
                rest, place = index, 0
                for size, step in zip(reversed(summed), reversed(steps), strict=True):
                    rest, digit = divmod(rest, size)
                    place += digit * step
                places.append(place)
            factors = [f"tl.load({side}_base + {place}, mask=inside, other=0).to(tl.{work})"
                       for side, place in zip(("left", "right"), places, strict=True)]  # fmt: skip
            body.append(f"total += {' * '.join(factors)}")
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
        parameters = ["left", "right", *pointers, "out", "count", *(table for table, _ in printed.tables)]
        text = "\n    ".join([f"def {function}({', '.join([*parameters, 'BLOCK: tl.constexpr'])}):", *body])
        return KernelSource(function, f"@triton.jit\n{text}\n", tuple(entries for _, entries in printed.tables))
