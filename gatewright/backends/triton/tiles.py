"""Tile sizes of printed kernels: from the autotuner's cache, else a default that suits the shape."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence

from torch import Tensor

from gatewright.backends.triton.access import KernelSource
from gatewright.kernels import device
from gatewright.kernels.autotune import Config, tuned


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
