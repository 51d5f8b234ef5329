"""Builds the CUDA C++ kernels at first use, with ``torch.utils.cpp_extension``, and calls them.

The sources export plain C functions that take device pointers, sizes and the stream, and return a
``cudaError_t``: no torch header is compiled, so a build takes seconds. The libraries are kept under
``$GATEWRIGHT_CACHE/cuda`` (default ``~/.cache/gatewright``), by source with what it includes, torch and GPU. Without
nvcc ``library`` is None once a warning has said so, and Triton serves the call; ``GATEWRIGHT_CUDA=0`` asks for that.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import tempfile
import warnings
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from gatewright.diagnostics import error
from gatewright.kernels.autotune import cache_file


@cache
def library(name: str) -> ctypes.CDLL | None:
    """The library built from ``name``.cu, or None where it cannot be built."""
    if not torch.cuda.is_available() or os.environ.get("GATEWRIGHT_CUDA", "1") == "0":
        return None
    from torch.utils import cpp_extension

    source = Path(__file__).with_name(name + ".cu")
    major, minor = torch.cuda.get_device_capability()
    if major < 8:
        return None
    # Hopper's own instructions need the architecture's "a" target.
    target = f"{major}{minor}" + ("a" if major >= 9 else "")
    stamp = hashlib.sha256((text_with_includes(source) + torch.__version__ + target).encode()).hexdigest()[:12]
    folder = cache_file().parent / "cuda" / f"{name}_{stamp}"
    shared = folder / f"{name}.so"
    try:
        if not shared.exists():
            folder.mkdir(parents=True, exist_ok=True)
            flags = ["-O3", "-std=c++17", f"-gencode=arch=compute_{target},code=sm_{target}"]
            # Built aside and moved: another process never sees half a library.
            with tempfile.TemporaryDirectory(dir=folder) as aside:
                cpp_extension.load(
                    name,
                    [str(source)],
                    extra_cuda_cflags=flags,
                    build_directory=aside,
                    is_python_module=False,
                )
                (Path(aside) / shared.name).replace(shared)
        return ctypes.CDLL(str(shared))
    except (OSError, RuntimeError, ImportError) as failure:
        warnings.warn(f"{name}.cu was not built ({why_not_built(failure)}); Triton serves these calls", stacklevel=2)
        return None


def why_not_built(failure: Exception) -> str:
    """The line of a build's failure that says why: the compiler's own, not the command that PyTorch puts first."""
    lines = [each.strip() for each in str(failure).splitlines() if each.strip()] or [type(failure).__name__]
    told = [each for each in lines[1:] if re.search(r"\b(error|fatal|not found)\b", each)]
    return (told or lines)[0][:300]


def text_with_includes(source: Path) -> str:
    """``source`` with the files beside it that it includes, and theirs."""
    text = source.read_text()
    included = re.findall(r'^#include "(.+)"$', text, re.MULTILINE)
    return text + "".join(text_with_includes(source.with_name(each)) for each in included)


def call(name: str, function: str, *arguments: Tensor | int | float | None) -> None:
    """Launch ``function`` of ``name``.cu on the current stream; GW0507 if CUDA refuses the launch."""
    built = library(name)
    assert built is not None, "the caller asks library() first"
    values: list[object] = []
    for each in arguments:
        if each is None or isinstance(each, Tensor):
            values.append(ctypes.c_void_p(0 if each is None else each.data_ptr()))
        else:
            values.append(ctypes.c_float(each) if isinstance(each, float) else ctypes.c_longlong(each))
    stream = torch.cuda.current_stream().cuda_stream
    status = getattr(built, function)(*values, ctypes.c_void_p(stream))
    if status:
        raise error("GW0507", f"CUDA refused to launch `{function}` (error {status})")
