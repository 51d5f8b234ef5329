"""Products of 1 to 16 rows with MXINT8, MXFP8 (E4M3), MXFP4 and NVFP4 weights in CUDA C++.

See ``decode_product_cuda.cu``; :mod:`gatewright.kernels.block_product_triton` serves all other cases.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatewright.kernels import cuda_build, device
from gatewright.kernels.autotune import tuned

FORMATS = {"mxint8": 0, "mxfp8_e4m3": 1, "mxfp4": 2, "nvfp4": 3}
# The kernel's instances by `shape`: 16-row tiles to a warp and warps to a block.
SMALL = ((1, 8), (1, 8), (2, 8), (2, 4), (1, 4), (1, 16))  # up to 8 rows of x
LARGE = ((2, 8), (1, 8), (4, 4), (4, 8), (2, 4), (1, 16))  # up to 16


def serves(x: Tensor, depth: int, form: str) -> bool:
    """Whether the CUDA kernel exists for this product and can be built here."""
    chunk = 128 if form in ("mxfp4", "nvfp4") else 64
    fits = x.is_cuda and x.dtype == torch.bfloat16 and 1 <= x.shape[0] <= 16 and depth % chunk == 0
    return fits and form in FORMATS and cuda_build.library("decode_product_cuda") is not None


def launch_decode_product(
    x: Tensor, codes: Tensor, scales: Tensor, form: str, bias: Tensor | None, activation: str
) -> Tensor:
    """x [M, K] by weights [N, K]; the arguments are checked already."""
    rows, depth = x.shape
    columns = codes.shape[0]
    x, codes, scales = (device.aligned(each) for each in (x, codes, scales))
    bias = None if bias is None else device.aligned(bias.to(torch.bfloat16))
    out = torch.empty((rows, columns), dtype=torch.bfloat16, device=x.device)
    if columns == 0:
        return out
    shapes, width = (SMALL, 8) if rows <= 8 else (LARGE, 16)
    chunks = depth // (128 if form in ("mxfp4", "nvfp4") else 64)

    def groups(shape: int) -> int:
        return device.ceil_div(columns, 16 * shapes[shape][0])

    # Enough blocks for three on every multiprocessor, as long as every warp still has two chunks of K.
    wanted = device.ceil_div(3 * device.count_processors(x), groups(0))
    splits = max(1, min(8, wanted, chunks // (2 * shapes[0][1])))
    default = {"shape": 0, "splits": splits}
    options = [{"shape": shape, "splits": parts} for shape in range(len(shapes)) for parts in {1, 2, 4, splits}]

    def run(config: dict[str, int]) -> None:
        shape, parts = config["shape"], config["splits"]
        partial = arrived = None
        if parts > 1:
            tile = 16 * shapes[shape][0] * width
            partial = torch.empty(parts * groups(shape) * tile, dtype=torch.float32, device=x.device)
            arrived = device.arrival_counters(x, groups(shape))
        cuda_build.call(
            "decode_product_cuda", "decode_product_blocks", codes, scales, x, bias, out, partial, arrived,
            rows, columns, depth, parts, device.ACTIVATIONS[activation], FORMATS[form], shape,
        )  # fmt: skip

    tuned("decode_product_cuda", (form, width, columns, depth), x, default, options, run)
    return out
