"""A ``map`` as one kernel: its operands are read wherever they lie, broadcast without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gatewright.backends.triton.access import (
    Held,
    KernelSource,
    Operand,
    Sizes,
    access_groups,
    collapse,
    coordinates_text,
    identifier,
    is_far,
    triton_type,
)
from gatewright.backends.triton.expressions import operands_read, print_expression, storage_type
from gatewright.backends.triton.load import launch
from gatewright.backends.triton.tiles import run_tuned
from gatewright.ir.expressions import Expression, ExpressionBuilder
from gatewright.ir.intervals import Interval
from gatewright.kernels import device

BLOCK = 2048


class MapKernel:
    """The kernels of one expression: one for every layout of its operands that has occurred.

    ``name`` is the value's name; ``expression`` must be narrow (GW0520 else).
    """

    def __init__(self, name: str, expression: Expression) -> None:
        self.name = name
        self.expression = expression
        self.stored = storage_type(expression.interval)
        read = operands_read(expression)
        self.read = [index for index, _ in read]
        self.intervals = [interval for _, interval in read]
        self.sources: dict[Any, KernelSource] = {}

    def __call__(self, operands: Sequence[Held], batch: int, shape: Sequence[int]) -> Tensor:
        """The codes [batch, *shape] in the narrowest type, contiguous."""
        full = (batch, *shape)
        views = [operands[index].expanded(full) for index in self.read]
        tensors = [part for each in views for part in each.parts]
        out = torch.empty(full, dtype=self.stored, device=operands[0].first.device)
        sizes, strides = collapse((None, *shape), [each.stride() for each in (out, *tensors)])
        shifts = tuple(each.shifts for each in views)
        key = (sizes, tuple(strides), shifts, is_far(out, *tensors))
        if key not in self.sources:
            described = access_groups("p", views, iter(strides[1:]), self.intervals)
            self.sources[key] = self.print(described, sizes, key[-1])
        source = self.sources[key]

        def run(config: dict[str, int]) -> None:
            grid = device.ceil_div(out.numel(), config["BLOCK"])
            launch(source, "map", grid, [*tensors, out, out.numel()], out, **config)

        options = [{"BLOCK": BLOCK, "num_warps": 4}, {"BLOCK": BLOCK // 2, "num_warps": 4},
                   {"BLOCK": BLOCK // 2, "num_warps": 2}, {"BLOCK": 2 * BLOCK, "num_warps": 8}]  # fmt: skip
        run_tuned("printed_map", source, out, options[0], options, run)
        return out

    def print(self, operands: Sequence[Operand], sizes: Sizes, far: bool) -> KernelSource:
        """The kernel for operands with these strides; ``far`` where places exceed int32."""
        names = [f"x{index}" for index in range(self.expression.inputs)]
        printed = print_expression(self.expression, names, "inside")
        pointers = [access.parameter for each in operands for access in each.accesses]
        function = f"map_{identifier(self.name)}"
        program = "tl.program_id(0).to(tl.int64)" if far else "tl.program_id(0)"
        lines, coordinates = coordinates_text("place", sizes, "c")
        shape = ", ".join("batch" if size is None else str(size) for size in sizes)
        body = [
            f'"""%{self.name}: [{shape}] in {self.expression.interval}"""',
            f"place = {program} * BLOCK + tl.arange(0, BLOCK)",
            "inside = place < count",
            *lines,
            *(f"{names[i]} = {each.load(coordinates, 'inside')}" for i, each in zip(self.read, operands, strict=True)),
            *printed.lines,
        ]
        result = printed.result
        if not operands:
            body.append(f"result = tl.zeros([BLOCK], tl.{printed.work}) + {result}")
            result = "result"
        body.append(f"tl.store(out + place, {result}.to({triton_type(self.stored)}), mask=inside)")
        parameters = [*pointers, "out", "count", *(table for table, _ in printed.tables), "BLOCK: tl.constexpr"]
        text = "\n    ".join([f"def {function}({', '.join(parameters)}):", *body])
        tables = tuple(entries for _, entries in printed.tables)
        return KernelSource(function, f"@triton.jit\n{text}\n", tables)


def copy_kernel(name: str, interval: Interval) -> MapKernel:
    """The identity: a sum of parts becomes one tensor in the narrowest type."""
    builder = ExpressionBuilder([interval])
    return MapKernel(name, builder.finish(builder.inputs[0]))
