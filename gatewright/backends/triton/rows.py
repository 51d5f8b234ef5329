"""Reductions along the last axis and the maps around them as one kernel: every row is read and written once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gatewright.backends.triton.access import (
    Access,
    Held,
    KernelSource,
    Operand,
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
from gatewright.backends.triton.tiles import run_tuned
from gatewright.ir.graph import Node
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.types import Shape, Value
from gatewright.kernels import device

LONGEST = 16384
"""Elements of a row that one program holds in registers."""

TILE = 2048
"""Elements that one program works on where rows are short."""


class RowsKernel:
    """A cluster of maps and reductions over rows: values of shape [*rows, length] or [*rows, 1].

    ``nodes`` in order; ``outputs`` are the results that others read.
    """

    def __init__(self, nodes: Sequence[Node], outputs: Sequence[Value], shape: Shape) -> None:
        self.nodes = tuple(nodes)
        self.outputs = tuple(outputs)
        self.shape = shape
        made = {node.output for node in nodes}
        self.inputs = tuple(dict.fromkeys(each for node in nodes for each in node.inputs if each not in made))
        self.sources: dict[Any, KernelSource] = {}

    def __call__(self, held: Mapping[Value, Held], batch: int) -> dict[Value, Tensor]:
        """The outputs' codes, contiguous and in the narrowest types."""
        *rows, length = self.shape
        columns = [each.shape[-1] if each.shape else 1 for each in self.inputs]
        views = [held[value].expanded((batch, *rows, columns[index])) for index, value in enumerate(self.inputs)]
        where = held[self.inputs[0]].first.device
        results = {
            value: torch.empty((batch, *value.shape), dtype=storage_type(value.interval), device=where)
            for value in self.outputs
        }
        tensors = [part for each in views for part in each.parts]
        every = [*results.values(), *tensors]
        sizes, strides = collapse((None, *rows), [each.stride()[:-1] for each in every])
        across = [each.stride()[-1] if each.shape[-1] > 1 else 0 for each in every]
        whole = [(*row, step) for row, step in zip(strides, across, strict=True)]
        far = is_far(*every)
        key = (sizes, tuple(whole), tuple(each.shifts for each in views), far)
        block = device.next_power(length)
        height = max(TILE // block, 1)
        if key not in self.sources:
            described = access_groups("p", views, iter(whole[len(results) :]), [v.interval for v in self.inputs])
            self.sources[key] = self.print(described, whole[: len(results)], sizes, far)
        count = batch
        for extent in rows:
            count *= extent
        source = self.sources[key]

        def run(config: dict[str, int]) -> None:
            arguments = [*tensors, *results.values(), count]
            launch(source, "rows", device.ceil_div(count, config["ROWS"]), arguments, tensors[0], BLOCK=block, **config)

        warps = 4 if block * height <= 4096 else 8 if block <= 8192 else 16
        options = [{"ROWS": height, "num_warps": warps}, {"ROWS": height, "num_warps": warps // 2},
                   {"ROWS": height, "num_warps": warps * 2}, {"ROWS": 2 * height, "num_warps": warps * 2},
                   {"ROWS": max(height // 2, 1), "num_warps": warps // 2}]  # fmt: skip
        run_tuned("printed_rows", source, every[0], options[0], options, run)
        return results

    def print(
        self, operands: Sequence[Operand], targets: Sequence[tuple[int, ...]], sizes: Sizes, far: bool
    ) -> KernelSource:
        """The kernel for operands and results with these strides (rows' axes, then the column's)."""
        function = f"rows_{identifier(self.outputs[-1].name)}"
        program = "tl.program_id(0).to(tl.int64)" if far else "tl.program_id(0)"
        lines, coordinates = coordinates_text("row", sizes, "r")
        length = self.shape[-1]
        body = [
            f'"""{", ".join(f"%{each.name}" for each in self.outputs)}: rows of {length}"""',
            f"row = {program} * ROWS + tl.arange(0, ROWS)[:, None]",
            "column = tl.arange(0, BLOCK)[None, :]",
            "inside_row = row < count",
            f"inside_column = column < {length}",
            "inside = inside_row & inside_column",
            *lines,
        ]
        names: dict[Value, str] = {}
        for index, (value, operand) in enumerate(zip(self.inputs, operands, strict=True)):
            names[value] = f"x{index}"
            # A row without a column's stride is one element wide.
            body.append(f"x{index} = {operand.load([*coordinates, 'column'], _guard)}")
        tables: list[tuple[str, IntegerArray]] = []
        for index, node in enumerate(self.nodes):
            statements, result = self._node(index, node, names, tables)
            body += statements
            names[node.output] = result
        for index, (value, strides) in enumerate(zip(self.outputs, targets, strict=True)):
            body.append(self._store(f"out{index}", value, names[value], coordinates, strides))
        pointers = [access.parameter for each in operands for access in each.accesses]
        outs = [f"out{index}" for index in range(len(self.outputs))]
        parameters = [*pointers, *outs, "count", *(name for name, _ in tables)]
        parameters += ["ROWS: tl.constexpr", "BLOCK: tl.constexpr"]
        text = "\n    ".join([f"def {function}({', '.join(parameters)}):", *body])
        return KernelSource(function, f"@triton.jit\n{text}\n", tuple(entries for _, entries in tables))

    def _node(
        self, index: int, node: Node, names: Mapping[Value, str], tables: list[tuple[str, IntegerArray]]
    ) -> tuple[list[str], str]:
        op = node.op
        if isinstance(op, Map):
            mask = "inside" if node.output.shape == self.shape else "inside_row"
            operands = [names[each] for each in node.inputs]
            if mask == "inside" and any(each.op == "table" for each in op.expression.nodes):
                # A table's mask has the shape of what it guards.
                operands = [f"({each} + tl.zeros([ROWS, BLOCK], tl.int32))" for each in operands]
            printed = print_expression(op.expression, operands, mask, f"n{index}_")
            tables += printed.tables
            return list(printed.lines), printed.result
        assert isinstance(op, Reduce)
        (source,) = node.inputs
        work = register_type(node.output.interval)
        neutral = {"max": source.interval.low, "min": source.interval.high}.get(op.kind, 0)
        value = names[source]
        if register_type(source.interval) != work:
            value = f"{value}.to(tl.{work})"
        result = f"n{index}"
        row = f"tl.where(inside, {value}, {neutral})"
        found = f"tl.reduce({row}, 1, bitwise_or)" if op.kind == "or" else f"tl.{op.kind}({row}, axis=1)"
        body = f"{found}[:, None].to(tl.{work})"
        return [f"{result} = {body}"], result

    def _store(self, pointer: str, value: Value, name: str, coordinates: Sequence[str], strides: Sequence[int]) -> str:
        stored = triton_type(storage_type(value.interval))
        if value.shape == self.shape:
            place, mask = [*coordinates, "column"], "inside"
            name = f"(tl.zeros([ROWS, BLOCK], tl.{register_type(value.interval)}) + {name})"
        else:
            place, mask = [*coordinates, "row"], "inside_row"
            name = f"(tl.zeros([ROWS, 1], tl.{register_type(value.interval)}) + {name})"
        return f"tl.store({pointer} + {offset_text(place, strides)}, {name}.to({stored}), mask={mask})"


def _guard(access: Access) -> str:
    """The mask of a load: where no column counts, its places are [ROWS, 1]; where no row does, [1, BLOCK]."""
    rows, columns = any(access.strides[:-1]), bool(access.strides[-1])
    return "inside" if rows and columns else "inside_row" if rows else "inside_column"
