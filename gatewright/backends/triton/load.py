"""Printed kernels as functions: compiled from text once, and launched."""

from __future__ import annotations

import hashlib
import linecache
import sys
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gatewright.backends.triton.access import KernelSource
from gatewright.backends.triton.expressions import storage_type
from gatewright.ir.intervals import Interval
from gatewright.kernels import device

HEADER = '''"""Printed by gatewright; every kernel states its operands."""

import triton
import triton.language as tl

from gatewright.backends.triton.device_code import bit_length, bitwise_or
'''


@lru_cache(maxsize=4096)
def load_kernel(source: KernelSource) -> Any:
    """The Triton function of a printed kernel; tracebacks show its lines."""
    text = f"{HEADER}\n\n{source.text}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    file = f"<gatewright {source.name} {digest}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    module = ModuleType(f"gatewright_kernel_{digest}")
    module.__file__ = file
    sys.modules[module.__name__] = module
    exec(compile(text, file, "exec"), module.__dict__)  # noqa: S102 (our own printer's source)
    return getattr(module, source.name)


def _placed(source: KernelSource, where: torch.device) -> list[Tensor]:
    if where not in source.placed:
        source.placed[where] = [
            torch.from_numpy(entries).to(storage_type(Interval.of(entries))).to(where) for entries in source.tables
        ]
    return source.placed[where]


def launch(source: KernelSource, kind: str, grid: int, arguments: list[Any], out: Tensor, **constants: Any) -> None:
    """Run a printed kernel over ``grid`` programs; ``arguments`` come before the tables."""
    if not grid:
        return
    device.record(f"printed {kind}", out)
    load_kernel(source)[(grid,)](*arguments, *_placed(source, out.device), **constants)
