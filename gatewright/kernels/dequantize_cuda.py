"""MXINT8 to bfloat16 in CUDA C++; see ``dequantize_cuda.cu``. Triton serves what this does not."""

from __future__ import annotations

import torch
from torch import Tensor

from gatewright.kernels import cuda_build, device
from gatewright.kernels.autotune import tuned
from gatewright.kernels.formats import BlockFormat

MOST_CODES = 2**24
"""Above, Triton's kernel is faster by about 1%."""


def serves(codes: Tensor, form: BlockFormat, dtype: torch.dtype, axis: int) -> bool:
    """Whether the CUDA kernel exists for this conversion, can be built here, and is the faster one."""
    return codes.numel() <= MOST_CODES and exists(codes, form, dtype, axis)


def exists(codes: Tensor, form: BlockFormat, dtype: torch.dtype, axis: int) -> bool:
    """Whether the CUDA kernel exists for this conversion and can be built here."""
    fits = form.name == "mxint8" and dtype == torch.bfloat16 and axis == codes.ndim - 1 and codes.is_cuda
    return fits and cuda_build.library("dequantize_cuda") is not None


def launch_dequantize(codes: Tensor, scales: Tensor) -> Tensor:
    """Dequantise along the last axis; the arguments are checked already."""
    codes, scales = device.aligned(codes), device.aligned(scales)
    out = torch.empty(codes.shape, dtype=torch.bfloat16, device=codes.device)
    blocks = out.numel() // 32

    def run(config: dict[str, int]) -> None:
        cuda_build.call("dequantize_cuda", "dequantize_mxint8", codes, scales, out, blocks, config["shape"])

    if blocks:
        options = [{"shape": shape} for shape in range(6)]
        tuned("dequantize_cuda", (device.next_power(blocks),), codes, {"shape": 1}, options, run)
    return out
