"""Products of one or two rows with MXINT8, MXFP8 (E4M3), MXFP4 and NVFP4 weights, x whole in shared memory, for Hopper.

See ``shared_decode_cuda.cu``; :mod:`gatewright.kernels.integer_decode_cuda` and
:mod:`gatewright.kernels.fp4_decode_cuda` are faster for one row in some formats, and
:mod:`gatewright.kernels.half_decode_cuda` for more rows and for narrow layers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatewright.kernels import cuda_build, device
from gatewright.kernels.autotune import tuned
from gatewright.kernels.half_decode_cuda import FORMATS, SLICE

MOST_ROWS = 2
# The kernel's instances by `shape`: the queues' depth, warps to a block (four to 16 rows), blocks to a processor.
SHAPES = ((3, 8, 2), (4, 8, 2), (4, 16, 1))
LARGEST_X = 64 * 1024  # bytes, beside the queues


def serves(x: Tensor, columns: int, depth: int, form: str) -> bool:
    """Whether the CUDA kernel exists for this product, can be built here, and has rows for every multiprocessor."""
    rows = x.shape[0]
    fits = x.is_cuda and x.dtype == torch.bfloat16 and 1 <= rows <= MOST_ROWS and form in FORMATS
    if not (fits and depth > 0 and depth % SLICE == 0 and rows * depth * 2 <= LARGEST_X):
        return False
    if torch.cuda.get_device_capability(x.device)[0] != 9 or columns < 2 * 16 * device.count_processors(x):
        return False
    return cuda_build.library("shared_decode_cuda") is not None


def launch_shared_decode(
    x: Tensor, codes: Tensor, scales: Tensor, form: str, bias: Tensor | None, activation: str
) -> Tensor:
    """x [M, K] by weights [N, K]; the arguments are checked already."""
    rows, depth = x.shape
    columns = codes.shape[0]
    early = int(device.frozen(codes, scales))
    x, codes, scales = (device.aligned(each) for each in (x, codes, scales))
    bias = None if bias is None else device.aligned(bias.to(torch.bfloat16))
    out = torch.empty((rows, columns), dtype=torch.bfloat16, device=x.device)
    default = {"shape": 0}
    if form in ("mxint8", "mxfp8_e4m3"):  # deeper queues, where both blocks of a processor still have room
        default = {"shape": 2 if rows > 1 else 1 if depth <= 16384 else 0}
    options = [{"shape": shape} for shape in range(len(SHAPES))]

    def run(config: dict[str, int]) -> None:
        _, warps, together = SHAPES[config["shape"]]
        blocks = device.share_tiles(columns, warps // 4, together * device.count_processors(x))
        cuda_build.call(
            "shared_decode_cuda", "shared_decode_product", codes, scales, x, bias, out, rows, columns, depth, blocks,
            device.ACTIVATIONS[activation], FORMATS[form], config["shape"], early,
        )  # fmt: skip

    tuned("shared_decode_cuda", (form, rows, columns, depth), x, default, options, run)
    return out
