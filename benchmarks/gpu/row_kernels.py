"""Softmax, norms and gates against the copy bandwidth, eager PyTorch and ``torch.compile``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.measure import Context, Row, compiled, milliseconds, rotation, within
from gatewright.kernels import convert, rows_cuda
from gatewright.kernels import rows as ours

HEIGHT = 8192


def cases(width: int) -> dict[str, tuple[Callable[..., Any], Callable[..., Any], int]]:
    """Our call, PyTorch's, and how many [HEIGHT, width] tensors are read and written."""
    gain = torch.randn(width, device="cuda").bfloat16()
    shift = torch.randn(width, device="cuda").bfloat16()
    return {
        "softmax": (ours.softmax, lambda x: torch.softmax(x, -1), 2),
        "layer_norm": (
            lambda x: ours.layer_norm(x, gain, shift),
            lambda x: F.layer_norm(x, (width,), gain.to(x.dtype), shift.to(x.dtype)),
            2,
        ),
        "rms_norm": (
            lambda x: ours.rms_norm(x, gain),
            lambda x: F.rms_norm(x, (width,), gain.to(x.dtype), 1e-6),
            2,
        ),
    }


def gate(x: Tensor, up: Tensor) -> Tensor:
    """What plain PyTorch does."""
    return F.silu(x) * up


def rows(context: Context) -> Iterator[Row]:
    """Rows of three widths, then the gates."""
    for width in (1024, 4096, 16384):
        size = HEIGHT * width * 2
        sets = rotation(lambda width=width: (torch.randn(HEIGHT, width, device="cuda").bfloat16(),), size)
        copied = milliseconds(torch.clone, sets)
        yield context.bandwidth_row("rows", f"copy {HEIGHT} x {width}", "clone", copied, 2 * size, None)
        for name, (call, plain, passes) in cases(width).items():
            yield from compare(context, f"{name} {HEIGHT} x {width}", call, plain, sets, passes * size, width)
    width = 4096
    sets = rotation(lambda: tuple(torch.randn(2, HEIGHT, width, device="cuda").bfloat16()), 4 * HEIGHT * width)
    yield from compare(context, f"silu_gate {HEIGHT} x {width}", ours.silu_gate, gate, sets, 6 * HEIGHT * width, width)
    single = [(each[0],) for each in sets]
    yield from compare(context, f"gelu {HEIGHT} x {width}", ours.gelu, F.gelu, single, 4 * HEIGHT * width, width)
    work = HEIGHT * width * (2 + 1 + 1 / 32)
    found = ours.rms_norm(*single[0], output="mxint8")
    expected = F.rms_norm(single[0][0].float(), (width,), None, 1e-6)
    correct = within(convert.dequantize(*found, "mxint8", torch.float32), expected, 1e-2)
    taken = milliseconds(lambda x: ours.rms_norm(x, output="mxint8"), single)
    variant = "cuda" if rows_cuda.serves(single[0][0], None, None, "mxint8") else "triton"
    yield context.bandwidth_row("rows", f"rms_norm -> mxint8 {HEIGHT} x {width}", variant, taken, work, 0.93, correct)


def compare(
    context: Context, what: str, call: Callable[..., Any], plain: Callable[..., Any], sets: list[Any], work: float,
    width: int,
) -> Iterator[Row]:  # fmt: skip
    """Ours beside the others on the same inputs."""
    expected = plain(*(each.double() if width <= 4096 else each.float() for each in sets[0]))
    times = {"eager": milliseconds(plain, sets)}
    if context.compiled:
        times["compile"] = milliseconds(compiled(plain), sets)
    for variant, taken in times.items():
        yield context.bandwidth_row("rows", what, variant, taken, work, None)
    found = call(*sets[0])
    taken = milliseconds(call, sets)
    by_cuda = what.startswith(ours.ROW_KINDS) and rows_cuda.serves(sets[0][0], None, None)
    variant = "cuda" if by_cuda else "triton"
    row = context.bandwidth_row("rows", what, variant, taken, work, 0.93 if width >= 4096 else None,
                                within(found, expected, 3e-3))  # fmt: skip
    if width < 4096:
        row.goal, row.met = "best of all", taken <= min(times.values()) * 1.005
    yield row
