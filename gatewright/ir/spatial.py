"""What convolutions and poolings share: their arguments per spatial axis, and channels-last operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gatewright.diagnostics import error
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.builder import Builder

Pairs = tuple[tuple[int, int], ...]


def per_axis(given: int | Sequence[int] | None, rank: int, default: int = 1) -> tuple[int, ...]:
    """An argument that PyTorch allows as one number or one per axis; an empty one gives ``default``."""
    if given is None:
        return (default,) * rank
    numbers = [given] if isinstance(given, int) else list(given)
    if not numbers:
        return (default,) * rank
    return tuple(numbers) * rank if len(numbers) == 1 else tuple(numbers)


def same_padding(kernel: Sequence[int], dilation: Sequence[int]) -> Pairs:
    """PyTorch's ``padding="same"``: where the amount is odd, the larger half comes after."""
    pairs: list[tuple[int, int]] = []
    for size, step in zip(kernel, dilation, strict=True):
        total = (size - 1) * step
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def positions(
    name: str,
    spatial: Shape,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
) -> Shape:
    """Output positions per axis; raises GW0350 where the kernel is larger than the padded input."""
    sizes: list[int] = []
    for axis, size in enumerate(spatial):
        extent = (kernel[axis] - 1) * dilation[axis] + 1
        padded = size + sum(padding[axis])
        if extent > padded:
            raise error(
                "GW0350",
                f"{name}: the kernel is larger than its padded input",
                note=f"along spatial axis {axis} the kernel spans {extent} elements, the input has {size}, "
                f"with padding {padded}",
                help="use a smaller kernel or dilation, or more padding",
            )
        sizes.append((padded - extent) // stride[axis] + 1)
    return tuple(sizes)


def channels_last(builder: Builder, value: Value) -> Value:
    """``[channels, *spatial]`` as ``[*spatial, channels]``."""
    from gatewright.ir.ops.permute import Permute

    rank = len(value.shape)
    return builder.add(Permute((*range(1, rank), 0)), value)


def channels_first(builder: Builder, value: Value) -> Value:
    """``[*spatial, channels]`` as ``[channels, *spatial]``."""
    from gatewright.ir.ops.permute import Permute

    rank = len(value.shape)
    return builder.add(Permute((rank - 1, *range(rank - 1))), value)
