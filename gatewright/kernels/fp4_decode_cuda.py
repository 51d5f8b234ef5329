"""Products of one row with MXFP4 and NVFP4 weights through the int8 tensor cores, in CUDA C++ for Hopper.

See ``fp4_decode_cuda.cu``; :mod:`gatewright.kernels.shared_decode_cuda` and
:mod:`gatewright.kernels.half_decode_cuda` serve more rows, and a row that is no multiple of 512 long.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatewright.kernels import cuda_build, device
from gatewright.kernels.autotune import tuned

FORMATS = {"mxfp4": 2, "nvfp4": 3}
PAIR = 512  # k of two boxes of the copy engine
WARPS = 8  # of a block
TOGETHER = 2  # blocks to a processor
SHARED_LIMIT = 228 * 1024 // TOGETHER - 1024  # of a block; a kilobyte of each is the system's
TILES = (2, 1)  # of 16 rows, that a block takes at a time
SPARED = 0.92  # what a tile costs of two that share the loads of x, in tiles alone


def shared_bytes(depth: int, form: str, tiles: int) -> int:
    """Shared memory of one block, as the kernel lays it out: queues, sums, barriers, zeros, digits of x."""
    rows = 16 * tiles
    scales = rows * (32 if form == "nvfp4" else 16)
    queues = WARPS * 2 * (rows * 128 + scales)
    return queues + 2 * WARPS * (rows + 1) * 4 + WARPS * 16 + 64 + depth // 32 * 68


def candidates(depth: int, form: str) -> list[dict[str, int]]:
    """The instances that fit this product."""
    return [{"tiles": tiles} for tiles in TILES if shared_bytes(depth, form, tiles) <= SHARED_LIMIT]


def blocks_for(columns: int, tiles: int, x: Tensor) -> int:
    """Blocks that share ``columns``."""
    return min(device.ceil_div(columns, 16 * tiles), TOGETHER * device.count_processors(x))


def usual_of(options: list[dict[str, int]], columns: int, x: Tensor) -> dict[str, int]:
    """The instance whose busiest block has the least to do."""

    def cost(config: dict[str, int]) -> float:
        tiles = config["tiles"]
        turns = device.ceil_div(device.ceil_div(columns, 16 * tiles), TOGETHER * device.count_processors(x))
        return turns * tiles * (SPARED if tiles > 1 else 1.0)

    return min(options, key=cost)


def serves(x: Tensor, depth: int, form: str) -> bool:
    """Whether the CUDA kernel exists for this product and can be built here."""
    if not (x.is_cuda and x.dtype == torch.bfloat16 and x.shape[0] == 1 and form in FORMATS):
        return False
    if depth == 0 or depth % PAIR or torch.cuda.get_device_capability(x.device)[0] != 9:
        return False
    return bool(candidates(depth, form)) and cuda_build.library("fp4_decode_cuda") is not None


def launch_fp4_decode(
    x: Tensor, codes: Tensor, scales: Tensor, form: str, bias: Tensor | None, activation: str
) -> Tensor:
    """x [1, K] by weights [N, K]; the arguments are checked already."""
    depth = x.shape[1]
    columns = codes.shape[0]
    early = int(device.frozen(codes, scales))
    x, codes, scales = (device.aligned(each) for each in (x, codes, scales))
    bias = None if bias is None else device.aligned(bias.to(torch.bfloat16))
    out = torch.empty((1, columns), dtype=torch.bfloat16, device=x.device)
    if columns == 0:  # the copy engine takes no empty matrix
        return out
    options = candidates(depth, form)
    default = usual_of(options, columns, x)

    def run(config: dict[str, int]) -> None:
        cuda_build.call(
            "fp4_decode_cuda", "fp4_decode_product", codes, scales, x, bias, out, columns, depth,
            blocks_for(columns, config["tiles"], x), device.ACTIVATIONS[activation], FORMATS[form], config["tiles"],
            early,
        )  # fmt: skip

    tuned("fp4_decode_cuda", (form, 1, columns, depth), x, default, options, run)
    return out
