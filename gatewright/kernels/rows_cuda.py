"""Softmax and norms of bfloat16 rows in CUDA C++, for Hopper.

See ``rows_cuda.cu``; :mod:`gatewright.kernels.rows_triton` serves other types, widths and outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatewright.kernels import cuda_build
from gatewright.kernels.autotune import tuned
from gatewright.kernels.device import next_power

WIDEST = (1024, 2048, 4096, 4096, 8192, 16384, 16384)
"""The widest row that each shape of the source holds."""


def serves(values: Tensor, weight: Tensor | None, bias: Tensor | None) -> bool:
    """Whether the CUDA kernel exists for these rows and can be built here."""
    width = values.shape[-1]
    given = [each for each in (values, weight, bias) if each is not None]
    fits = values.is_cuda and width % 8 == 0 and WIDEST[0] // 4 < width <= max(WIDEST)
    if not fits or any(each.dtype != torch.bfloat16 or each.data_ptr() % 16 for each in given):
        return False
    if torch.cuda.get_device_capability(values.device)[0] != 9:
        return False
    return cuda_build.library("rows_cuda") is not None


def launch_rows(
    kind: int, values: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float, out: Tensor
) -> None:
    """Fill ``out`` from ``values`` [..., width]; all contiguous."""
    width = values.shape[-1]
    rows = values.numel() // width
    if rows == 0:
        return
    options = [{"shape": shape} for shape, widest in enumerate(WIDEST) if width <= widest <= max(2 * width, WIDEST[0])]

    def run(config: dict[str, int]) -> None:
        cuda_build.call(
            "rows_cuda", "rows_bfloat16", values, weight, bias, out, kind, rows, width, config["shape"], epsilon
        )

    tuned("rows_cuda", (kind, width, next_power(rows)), values, options[0], options, run)
