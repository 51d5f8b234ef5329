"""Where a call runs: on the GPU through Triton, through Triton's interpreter, or on the reference path.

A CUDA tensor goes to the kernels. A CPU tensor goes to the reference path, unless the interpreter is on
(``TRITON_INTERPRET=1`` before the first import), when the same kernels run on the CPU. Every launch is
counted, so that a test can say which kernels ran where.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections import Counter
from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

HAS_TRITON = importlib.util.find_spec("triton") is not None  # a CPU machine without it has the reference path

ALIGNMENT = 16
"""Bytes of the widest load; PyTorch allocates on such boundaries, a view may start anywhere."""

ACTIVATIONS = {"none": 0, "relu": 1, "gelu": 2, "silu": 3}
"""What a product's epilogue may apply, with its number in the CUDA kernels."""

LAUNCHES: Counter[tuple[str, str]] = Counter()
INTERPRET = HAS_TRITON and os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")


def uses_kernel(value: Tensor) -> bool:
    """Whether a call on ``value`` runs a Triton kernel."""
    return HAS_TRITON and (INTERPRET or value.is_cuda)


def record(kernel: str, value: Tensor) -> None:
    """Count a launch of ``kernel``, or of its reference path."""
    where = "gpu" if value.is_cuda else "interpreter"
    if not uses_kernel(value):
        where = "reference"
    LAUNCHES[kernel, where] += 1


def current(where: torch.device) -> AbstractContextManager[object]:
    """Makes the GPU ``where`` the current one, which is where kernels are launched; nothing to do elsewhere."""
    if where.type != "cuda" or where.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(where)


Rest = ParamSpec("Rest")
Result = TypeVar("Result")


def on_its_device(
    function: Callable[Concatenate[Tensor, Rest], Result],
) -> Callable[Concatenate[Tensor, Rest], Result]:
    """``function`` with its first tensor's GPU as the current one."""

    @wraps(function)
    def run(first: Tensor, *rest: Rest.args, **named: Rest.kwargs) -> Result:
        with current(first.device):
            return function(first, *rest, **named)

    return run


def aligned(value: Tensor) -> Tensor:
    """``value`` contiguous from a 16-byte boundary, for loads of several elements; a copy where it is not."""
    value = value.contiguous()
    return value.clone() if value.data_ptr() % ALIGNMENT else value


def native() -> bool:
    """Whether kernels may use the GPU's own conversions; the interpreter's are wrong at the edges."""
    return not INTERPRET


def overlaps(value: Tensor) -> bool:
    """Whether a launch on ``value`` can set up before its predecessor ends: from Hopper on."""
    return native() and value.is_cuda and torch.cuda.get_device_capability(value.device)[0] >= 9


@cache
def processors(index: int) -> int:
    """Streaming multiprocessors of a GPU; 4 for the index -1, no GPU, to exercise persistent loops."""
    if index < 0:
        return 4
    return int(torch.cuda.get_device_properties(index).multi_processor_count)  # pyright: ignore[reportUnknownArgumentType]


def count_processors(value: Tensor) -> int:
    """Streaming multiprocessors of the GPU that holds ``value``."""
    return processors(value.device.index or 0 if value.is_cuda else -1)


# Weights that nobody writes any more, by their caller's promise, with the version of that moment.
_frozen: MutableMapping[Tensor, int] = WeakIdKeyDictionary()


def version_of(value: Tensor) -> int:
    """How often PyTorch has seen ``value`` written; 0 where it does not count."""
    return 0 if value.is_inference() else value._version


def freeze(weights: Tensor) -> None:
    """Remember the promise that nobody writes ``weights`` any more; waits for writes that are under way."""
    if weights.is_cuda:
        torch.cuda.synchronize(weights.device)
    _frozen[weights] = version_of(weights)


def frozen(*weights: Tensor) -> bool:
    """Whether a launch may fetch ``weights`` before its predecessor ends: they were promised and are read in place."""
    return all(
        _frozen.get(each) == version_of(each) and each.is_contiguous() and not each.data_ptr() % ALIGNMENT
        for each in weights
    )


_arrived: dict[tuple[int, int, int], Tensor] = {}


def arrival_counters(where: Tensor, count: int) -> Tensor:
    """Zeroed int32 counters of the current stream, at least ``count``; the kernels leave them zero."""
    stream = torch.cuda.current_stream(where.device).cuda_stream if where.is_cuda else 0
    key = (where.device.index or 0, stream, next_power(count))
    if key not in _arrived:
        _arrived[key] = torch.zeros(key[2], dtype=torch.int32, device=where.device)
    return _arrived[key]


def ceil_div(value: int, step: int) -> int:
    """``value / step`` rounded up."""
    return -(-value // step)


def share_tiles(columns: int, each: int, blocks: int) -> int:
    """Blocks that share ``columns``, ``each`` tiles of 16 at a time: all ``blocks``, unless fewer are as fast."""
    tiles = ceil_div(columns, 16)
    return min(blocks, tiles) if tiles > blocks * (each - 1) else ceil_div(tiles, each)


def next_power(value: int) -> int:
    """The smallest power of two that is not below ``value``."""
    return 1 << max(value - 1, 0).bit_length()


def versions() -> dict[str, Any]:
    """What a benchmark's figures depend on: device, driver and library versions."""
    found: dict[str, Any] = {
        "torch": torch.__version__,
        "triton": importlib.metadata.version("triton") if HAS_TRITON else None,
    }
    if torch.cuda.is_available():
        found["device"] = torch.cuda.get_device_name()
        found["cuda"] = torch.version.cuda
        found["processors"] = processors(0)
    return found
