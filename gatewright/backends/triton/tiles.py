"""Tile sizes of printed kernels: from the autotuner's cache, else a default that suits the shape."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence

from torch import Tensor

from gatewright.backends.triton.access import KernelSource
from gatewright.kernels import device
from gatewright.kernels.autotune import Config, tuned

WIDEST = 128
"""Columns (or rows) of the largest default tile."""


def run_tuned(
    kernel: str,
    source: KernelSource,
    out: Tensor,
    default: Config,
    options: Sequence[Config],
    run: Callable[[Config], None],
) -> None:
    """Launch with the configuration kept for this text and size, or the default; nothing without elements.

    The text counts without the names that the model gives, so that equal layers share one entry.
    """
    if out.is_meta or not out.numel():
        return
    nameless = re.sub(r'""".*?"""', "", source.text.replace(source.name, ""), flags=re.DOTALL)
    digest = hashlib.sha256(nameless.encode()).hexdigest()[:12]
    tuned(kernel, (digest, device.next_power(out.numel())), out, default, options, run)


def tile_options(rows: int, columns: int, depth: int) -> list[dict[str, int]]:
    """Configurations for a product of this size, the default first."""

    def tile(tall: int, wide: int, deep: int, stages: int) -> dict[str, int]:
        warps = 8 if tall * wide >= 128 * 128 else 4
        return {"BM": tall, "BN": wide, "BK": deep, "num_warps": warps, "num_stages": stages}

    height, width = (min(max(device.next_power(count), 16), WIDEST) for count in (rows, columns))
    # A short sum is one step.
    deep = max(device.next_power(depth), 32) if depth <= 128 else 64
    found = [tile(height, width, deep, 2 if depth <= 2 * deep else 3)]
    if not device.native():
        return found
    other = 64 if deep == 128 else min(128, 2 * deep)
    found += [
        tile(height, width, deep, 4),
        tile(height, width, other, 3),
        tile(height, max(width // 2, 16), deep, 3),
        tile(max(height // 2, 16), width, deep, 3),
        tile(max(height // 2, 16), max(width // 2, 16), deep, 4),
        tile(height, 256 if columns > 128 else width, other, 4),
    ]
    return list({str(each): each for each in found}.values())
