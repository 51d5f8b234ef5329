"""Exact sums of products on int8 tensor cores, with the map that follows in the same kernel.

A printed product reads both operands wherever they lie (a window's taps too, so that a convolution needs no
copy of its patches), sums up to 65,536 products of int8 exactly in int32, and stores what the map makes of
the sum. Operands whose codes span at most 256 values are moved into int8 by an offset that is added back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
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
from gatewright.backends.triton.expressions import operands_read, print_expression, register_type, storage_type
from gatewright.backends.triton.factors import Factor, Tables
from gatewright.backends.triton.load import launch
from gatewright.backends.triton.tiles import run_tuned, tile_options
from gatewright.ir.expressions import Expression
from gatewright.ir.intervals import Interval
from gatewright.ir.ops.contract import Indices
from gatewright.kernels import device

LONGEST = 65536
"""Products of int8 of which an int32 holds every sum."""


@dataclass(frozen=True, slots=True)
class Roles:
    """The indices of a contraction by what they do; ``batch`` is the name of the samples' axis.

    ``both`` are in both operands and the result, ``rows`` in the left and the result, ``columns`` in the right
    and the result, ``summed`` in both operands alone.
    """

    both: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    summed: tuple[str, ...]
    left: tuple[str, ...]
    right: tuple[str, ...]
    result: tuple[str, ...]

    @staticmethod
    def of(indices: Indices, left_stream: bool, right_stream: bool) -> Roles | None:
        """None where an index is summed in one operand alone."""
        left = ("*", *indices.left) if left_stream else indices.left
        right = ("*", *indices.right) if right_stream else indices.right
        result = ("*", *indices.result)
        both = tuple(each for each in result if each in left and each in right)
        rows = tuple(each for each in result if each in left and each not in right)
        columns = tuple(each for each in result if each in right and each not in left)
        summed = tuple(each for each in left if each not in result)
        if set(summed) != {each for each in right if each not in result}:
            return None
        return Roles(both, rows, columns, summed, left, right, result)


def offset_for(interval: Interval) -> int | None:
    """What is taken from codes so that they fit int8; None where they span more than 256 values."""
    if interval.low >= -128 and interval.high <= 127:
        return 0
    return interval.low + 128 if interval.high - interval.low <= 255 else None


class ProductKernel:
    """A contraction of operands that fit int8, and the expression of the map behind it.

    The expression's operand number ``position`` is the sum; the others are read like a map's.
    """

    def __init__(self, name: str, roles: Roles, factors: tuple[Factor, Factor], expression: Expression,
                 position: int) -> None:  # fmt: skip
        self.name = name
        self.roles = roles
        self.factors = factors
        offsets = [offset_for(each.bound) for each in factors]
        assert offsets[0] is not None and offsets[1] is not None
        self.offsets = (offsets[0], offsets[1])
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
        lefts, rights = ([part for each in factor for part in each.parts] for factor in (left, right))
        out = torch.empty(full, dtype=self.stored, device=lefts[0].device)
        extents = dict(zip(roles.left, lefts[0].shape, strict=True))
        extents |= dict(zip(roles.right, rights[0].shape, strict=True))
        places = [*[roles.left] * len(lefts), *[roles.right] * len(rights), *[roles.result] * (1 + len(tensors))]
        every = [*lefts, *rights, out, *tensors]

        def strides(names: Sequence[str]) -> list[list[int]]:
            return [
                [tensor.stride(place.index(name)) if name in place else 0 for name in names]
                for tensor, place in zip(every, places, strict=True)
            ]

        def group(names: tuple[str, ...]) -> tuple[Sizes, tuple[tuple[int, ...], ...], int]:
            total = 1
            for name in names:
                total *= extents[name]
            sizes = tuple(extents[name] for name in names)
            found, rows = collapse((None, *sizes[1:]), strides(names)) if names else ((1,), [(0,)] * len(every))
            return found, tuple(rows), total

        groups = [group(names) for names in (roles.both, roles.rows, roles.columns, roles.summed)]
        counts = [total for _, _, total in groups]
        key = (
            tuple((sizes, rows) for sizes, rows, _ in groups), counts[3],
            tuple(each.shifts for each in (*left, *right, *views)), is_far(*every),
        )  # fmt: skip
        if key not in self.sources:
            axes = [(sizes, rows) for sizes, rows, _ in groups]
            self.sources[key] = self.print(axes, counts[3], (left, right), views, key[-1])
        source = self.sources[key]

        def run(config: dict[str, int]) -> None:
            grid = counts[0] * device.ceil_div(counts[1], config["BM"]) * device.ceil_div(counts[2], config["BN"])
            arguments = [*lefts, *rights, *tensors, out, counts[1], counts[2]]
            launch(source, "product", grid, arguments, out, NATIVE=device.native(), **config)

        options = tile_options(*counts[1:])
        run_tuned("printed_product", source, out, options[0], options, run)
        return out

    def print(
        self,
        groups: Sequence[tuple[Sizes, tuple[tuple[int, ...], ...]]],
        depth: int,
        factors: tuple[Sequence[Held], Sequence[Held]],
        views: Sequence[Held],
        far: bool,
    ) -> KernelSource:
        """The kernel for axes (both, rows, columns, summed) with these sizes and strides of every tensor."""
        (both, _), (rows, _), (columns, _), (summed, _) = groups
        function = f"product_{identifier(self.name)}"
        program = "tl.program_id(0).to(tl.int64)" if far else "tl.program_id(0)"
        both_lines, both_names = coordinates_text("both", both, "b")
        row_lines, row_names = coordinates_text("row", rows, "r")
        column_lines, column_names = coordinates_text("column", columns, "c")
        sum_lines, sum_names = coordinates_text("index", summed, "k")
        per_tensor = [[strides[tensor] for _, strides in groups] for tensor in range(len(groups[0][1]))]
        outer = [*both_names, *row_names, *column_names]
        counts = [sum(len(each.parts) for each in factor) for factor in factors]
        lefts, rights = per_tensor[: counts[0]], per_tensor[counts[0] : sum(counts)]
        across = [(*b, *r, *c) for b, r, c, _ in per_tensor[sum(counts) :]]
        left_parameters, left_bases, left = self.factors[0].operands(
            factors[0], [*both_names, *row_names], [(*b, *r) for b, r, _, _ in lefts], "row", [k for *_, k in lefts]
        )
        right_parameters, right_bases, right = self.factors[1].operands(
            factors[1], [*both_names, *column_names], [(*b, *c) for b, _, c, _ in rights], "column",
            [k for *_, k in rights],
        )  # fmt: skip
        step, step_tables = self._step(depth, sum_lines, sum_names, left, right)
        ends = len(both_names), len(both_names) + len(row_names)

        def guard(access: Access) -> str:
            across_rows = any(access.strides[ends[0] : ends[1]])
            across_columns = any(access.strides[: ends[0]]) or any(access.strides[ends[1] :])
            return "inside" if across_rows and across_columns else "row < M" if across_rows else "column < N"

        operands: tuple[Operand, ...] = access_groups("p", views, iter(across[1:]), self.intervals)
        pointers = [access.parameter for each in operands for access in each.accesses]
        body = [
            f'"""%{self.name}: sums of {depth} products, then {self.expression.interval}"""',
            "tiles_m, tiles_n = tl.cdiv(M, BM), tl.cdiv(N, BN)",
            f"program = {program}",
            "both = program // (tiles_m * tiles_n)",
            "tile = program % (tiles_m * tiles_n)",
            "# Down groups of 8 rows of tiles, so that the L2 cache serves both operands.",
            "group = tile // (8 * tiles_n)",
            "height = tl.minimum(tiles_m - group * 8, 8)",
            "row = (group * 8 + tile % (8 * tiles_n) % height) * BM + tl.arange(0, BM)[:, None]",
            "column = tile % (8 * tiles_n) // height * BN + tl.arange(0, BN)[None, :]",
            *both_lines,
            *row_lines,
            *column_lines,
            *left_bases,
            *right_bases,
            "total = tl.zeros([BM, BN], tl.int32)",
            f"for step in range(({depth} + BK - 1) // BK):",
            *(f"    {line}" for line in step),
            "inside = (row < M) & (column < N)",
            f"value = total.to(tl.{self._sum_type()})",
            *(f"{name} += column * 0" for name in both_names),
        ]
        names = [f"x{index}" for index in range(self.expression.inputs)]
        names[self.position] = "value"
        body += [f"{names[index]} = {each.load(outer, guard)}" for index, each in zip(self.read, operands, strict=True)]
        # Loads of fewer axes than the tile's would give tables a smaller mask.
        if any(node.op == "table" for node in self.expression.nodes):
            body += [f"{names[index]} += tl.zeros([BM, BN], tl.int32)" for index in self.read]
        printed = print_expression(self.expression, names, "inside")
        body += printed.lines
        body.append(f"result = tl.zeros([BM, BN], tl.{printed.work}) + {printed.result}")
        place = f"out + {offset_text(outer, across[0])}"
        if not (any(across[0][ends[0] : ends[1]]) and any(across[0][ends[1] :])):
            place += " + row * 0 + column * 0"  # one place for every element of the tile
        body.append(f"tl.store({place}, result.to({triton_type(self.stored)}), mask=inside)")
        tables = (*step_tables, *printed.tables)
        parameters = [*left_parameters, *right_parameters, *pointers, "out", "M", "N", *(table for table, _ in tables)]
        parameters += [f"{each}: tl.constexpr" for each in ("BM", "BN", "BK", "NATIVE")]
        text = "\n    ".join([f"def {function}({', '.join(parameters)}):", *body])
        return KernelSource(function, f"@triton.jit\n{text}\n", tuple(entries for _, entries in tables))

    def _sum_type(self) -> str:
        for node in self.expression.nodes:
            if node.op == "input" and node.attributes[0] == self.position:
                return register_type(node.interval)
        return "int32"

    def _step(
        self, depth: int, lines: Sequence[str], names: Sequence[str], left: Sequence[Operand], right: Sequence[Operand]
    ) -> tuple[list[str], Tables]:
        """One step of the sum: BK indices, of which both operands are loaded or computed, and multiplied."""
        left_offset, right_offset = self.offsets
        statements: list[str] = []
        tables: Tables = ()
        exact: list[str] = []
        ragged: list[str] = []
        for which, (factor, operands) in enumerate(zip(self.factors, (left, right), strict=True)):
            coordinates = [_renamed(each) for each in names] if which else list(names)
            target, guard, index = ("b", "column < N", "down") if which else ("a", "row < M", "index")
            offset = self.offsets[which]
            both = f"({guard}) & ({index} < {depth})"
            if factor.expression is None:
                exact.append(f"    {target} = {_moved(operands[0].raw(coordinates, guard), guard, offset)}")
                ragged.append(f"    {target} = {_moved(operands[0].raw(coordinates, both), both, offset)}")
                continue
            mask = f"{factor.side}_inside"
            exact.append(f"    {mask} = {guard}")
            ragged.append(f"    {mask} = {both}")
            computed, result, found = factor.computed(operands, coordinates, mask)
            statements += [*computed, f"{target} = tl.where({mask}, {result} - ({offset}), 0).to(tl.int8)"]
            tables += found
        found = [
            "index = step * BK + tl.arange(0, BK)[None, :]",
            "down = step * BK + tl.arange(0, BK)[:, None]",
            *lines,
            *(_renamed(line) for line in lines),
            f"if {depth} % BK == 0:",
            *exact,
            "else:",
            *ragged,
            *statements,
            "if NATIVE:",
            "    total = tl.dot(a, b, total, out_dtype=tl.int32)",
            "else:",
            '    total += tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee").to(tl.int32)',
        ]
        if left_offset:
            found.append(f"total += {left_offset} * tl.sum(b.to(tl.int32), axis=0)[None, :]")
        if right_offset:
            found.append(f"total += {right_offset} * tl.sum(a.to(tl.int32), axis=1)[:, None]")
        if left_offset and right_offset:
            found.append(f"total += {left_offset * right_offset} * tl.minimum({depth} - step * BK, BK)")
        return found, tables


def _renamed(text: str) -> str:
    """The statements of the left operand's summed indices, for the right one, which runs down."""
    return re.sub(r"\bk(rest)?(\d+)\b", r"kd\1\2", re.sub(r"\bindex\b", "down", text))


def _moved(load: str, mask: str, offset: int) -> str:
    """A loaded operand in int8, 0 where ``mask`` is not; a load alone gives that only where nothing is moved."""
    return f"tl.where({mask}, {load}.to(tl.int32) - ({offset}), 0).to(tl.int8)" if offset else f"{load}.to(tl.int8)"
