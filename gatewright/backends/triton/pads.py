"""Padding as one kernel: a convolution's operand with its border, read wherever it lies."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gatewright.backends.triton.access import (
    KernelSource,
    coordinates_text,
    identifier,
    is_far,
    offset_text,
    triton_type,
)
from gatewright.backends.triton.expressions import register_type, storage_type
from gatewright.backends.triton.load import launch
from gatewright.backends.triton.tiles import run_tuned
from gatewright.ir.graph import Node
from gatewright.ir.intervals import Interval, fits_int64
from gatewright.ir.ops.pad import Pad
from gatewright.ir.ops.window import Window
from gatewright.kernels import device

BLOCK = 1024


class PadKernel:
    """A border of ``code`` around a value: ``amounts`` has (before, after) for each axis of a sample."""

    def __init__(self, name: str, amounts: tuple[tuple[int, int], ...], code: int, interval: Interval) -> None:
        self.name = name
        self.amounts = amounts
        self.code = code
        self.interval = interval
        self.stored = storage_type(interval)
        self.sources: dict[Any, KernelSource] = {}

    def __call__(self, codes: Tensor) -> Tensor:
        """[batch, ...] with its border, contiguous and in the narrowest type."""
        extents = codes.shape[1:]
        shape = [size + before + after for size, (before, after) in zip(extents, self.amounts, strict=True)]
        out = torch.empty((codes.shape[0], *shape), dtype=self.stored, device=codes.device)
        far = is_far(out, codes)
        key = tuple(extents), codes.stride(), far
        if key not in self.sources:
            self.sources[key] = self.print(shape, tuple(extents), codes.stride(), far)
        source = self.sources[key]

        def run(config: dict[str, int]) -> None:
            launch(
                source, "pad", device.ceil_div(out.numel(), config["BLOCK"]), [codes, out, out.numel()], out, **config
            )

        options = [{"BLOCK": block, "num_warps": warps} for block in (BLOCK, 2 * BLOCK) for warps in (4, 2)]
        run_tuned("printed_pad", source, out, options[0], options, run)
        return out

    def print(self, shape: list[int], extents: tuple[int, ...], strides: tuple[int, ...], far: bool) -> KernelSource:
        """The kernel for an operand of these extents and strides."""
        function = f"pad_{identifier(self.name)}"
        program = "tl.program_id(0).to(tl.int64)" if far else "tl.program_id(0)"
        lines, names = coordinates_text("place", (None, *shape), "c")
        guards = ["inside"]
        moved = [names[0]]
        for name, size, (before, after) in zip(names[1:], extents, self.amounts, strict=True):
            moved.append(f"({name} - {before})" if before else name)
            guards += [f"({name} >= {before})"] if before else []
            guards += [f"({name} < {before + size})"] if after else []
        work = register_type(self.interval)
        body = [
            f'"""%{self.name}: {list(extents)} with a border of {self.code}: {shape}"""',
            f"place = {program} * BLOCK + tl.arange(0, BLOCK)",
            "inside = place < count",
            *lines,
            f"kept = {' & '.join(guards)}",
            f"code = tl.load(codes + {offset_text(moved, strides)}, mask=kept, other=0).to(tl.{work})",
            f"code = tl.where(kept, code, {self.code})",
            f"tl.store(out + place, code.to({triton_type(self.stored)}), mask=inside)",
        ]
        text = "\n    ".join([f"def {function}(codes, out, count, BLOCK: tl.constexpr):", *body])
        return KernelSource(function, f"@triton.jit\n{text}\n", ())


def pad_kernel(node: Node) -> PadKernel | None:
    """The kernel of a ``pad``, or of the border of a ``window``; None where there is none to make."""
    op, interval = node.op, node.output.interval
    if isinstance(op, Pad) and any(map(any, op.amounts)) and fits_int64(interval):
        return PadKernel(node.output.name, op.amounts, op.code, interval)
    if isinstance(op, Window) and any(map(any, op.padding)) and fits_int64(interval):
        return PadKernel(node.output.name, (*op.padding, (0, 0)), op.fill, interval)
    return None
