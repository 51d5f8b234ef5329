"""Softmax and norms of bfloat16 rows in CUDA C++, for Hopper: to bfloat16, MXINT8 and MXFP8 (E4M3).

See ``rows_code.h``; :mod:`gatewright.kernels.rows_triton` serves other types, widths and outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatewright.kernels import cuda_build
from gatewright.kernels.autotune import tuned
from gatewright.kernels.device import next_power

WIDEST = (1024, 2048, 4096, 4096, 8192, 16384, 16384, 8192)
"""The widest row that each shape of ``rows_cuda.cu`` holds."""
WIDEST_OF_BLOCKS = (1024, 2048, 4096, 8192, 16384)
"""The same for ``rows_blocks_cuda.cu``."""
OUTPUTS = ("", "mxint8", "mxfp8_e4m3")
"""Block formats that the kernels write, in the order of the source's; empty for bfloat16."""


def serves(values: Tensor, weight: Tensor | None, bias: Tensor | None, output: str = "") -> bool:
    """Whether the CUDA kernel exists for these rows and can be built here."""
    width = values.shape[-1]
    given = [each for each in (values, weight, bias) if each is not None]
    fits = values.is_cuda and output in OUTPUTS and width % 8 == 0 and WIDEST[0] // 4 < width <= max(WIDEST)
    if not fits or any(each.dtype != torch.bfloat16 or each.data_ptr() % 16 for each in given):
        return False
    if torch.cuda.get_device_capability(values.device)[0] != 9:
        return False
    return cuda_build.library("rows_blocks_cuda" if output else "rows_cuda") is not None


def launch_rows(
    kind: int,
    values: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    epsilon: float,
    out: Tensor,
    scales: Tensor,
    output: str = "",
) -> None:
    """Fill ``out`` (and ``scales``, of a block format) from ``values`` [..., width]; all contiguous."""
    width = values.shape[-1]
    rows = values.numel() // width
    if rows == 0:
        return
    shapes = WIDEST_OF_BLOCKS if output else WIDEST
    options = [{"shape": shape} for shape, widest in enumerate(shapes) if width <= widest <= max(2 * width, WIDEST[0])]
    options.sort(key=lambda option: shapes[option["shape"]])

    def run(config: dict[str, int]) -> None:
        shape = (kind, rows, width, config["shape"], epsilon)
        if output:
            given = (values, weight, bias, out, scales, OUTPUTS.index(output), *shape)
            cuda_build.call("rows_blocks_cuda", "rows_blocks", *given)
        else:
            cuda_build.call("rows_cuda", "rows_bfloat16", values, weight, bias, out, *shape)

    key = (kind, width, next_power(rows), *([output] if output else []))
    tuned("rows_cuda", key, values, options[0], options, run)
