"""Products of 1 to 16 rows with weights of 8 or 4 bits in groups through Hopper's int8 tensor cores, in CUDA C++.

See ``group_decode_cuda.cu``; :mod:`gatewright.kernels.block_product_triton` serves other groups, depths and GPUs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatewright.kernels import cuda_build, device
from gatewright.kernels.autotune import tuned
from gatewright.kernels.integer_decode_cuda import (
    FEWEST_COLUMNS,
    blocks_for,
    candidates,
    chunk_of,
    scale_bytes,
    usual_of,
)

MOST_ROWS = 16
BLOCK = 32  # groups are multiples of it
SLICE = 256  # k to a warp, where there are more rows than one
WARPS = 8  # to a block
MOST_SCALES = 32  # bytes of a row's scales that come with a chunk: float32 for every 32 k of 256
DEEPEST = 2**20  # K, below: from there places of scales would be wrong
SCALES = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 2}


def one_row(rows: int, depth: int, form: str) -> bool:
    """Whether the kernel that keeps all of x in shared memory takes this product."""
    return rows == 1 and depth % chunk_of(form) == 0 and bool(candidates(depth, form, MOST_SCALES))


def serves(x: Tensor, columns: int, depth: int, form: str, group: int) -> bool:
    """Whether a CUDA kernel exists for this product and can be built here."""
    rows = x.shape[0]
    fits = x.is_cuda and x.dtype == torch.bfloat16 and 1 <= rows <= MOST_ROWS and columns >= FEWEST_COLUMNS
    if not fits or group <= 0 or group % BLOCK or not 0 < depth < DEEPEST:
        return False
    if depth % SLICE and not one_row(rows, depth, form):
        return False
    if torch.cuda.get_device_capability(x.device)[0] != 9:
        return False
    return cuda_build.library("group_decode_cuda") is not None


def launch_group_decode(
    x: Tensor, codes: Tensor, scales: Tensor, form: str, bias: Tensor | None, activation: str
) -> Tensor:
    """x [M, K] by weights [N, K] of ``form``, int8 or int4; the arguments are checked already."""
    rows, depth = x.shape
    columns = codes.shape[0]
    group = depth // scales.shape[1]
    bits = int(form[3:])
    early = int(device.frozen(codes, scales))
    x, codes, scales = (device.aligned(each) for each in (x, codes, scales))
    bias = None if bias is None else device.aligned(bias.to(torch.bfloat16))
    out = torch.empty((rows, columns), dtype=torch.bfloat16, device=x.device)
    kind = (device.ACTIVATIONS[activation], bits, SCALES[scales.dtype])
    if one_row(rows, depth, form):
        together = scale_bytes(depth, form, group, scales.element_size())
        options = candidates(depth, form, together)

        def run_one(config: dict[str, int]) -> None:
            cuda_build.call(
                "group_decode_cuda", "group_decode_row", codes, scales, x, bias, out, columns, depth, group, together,
                config["splits"], blocks_for(columns, config["tiles"], x), *kind, config["tiles"], config["stages"],
                early,
            )  # fmt: skip

        default = usual_of(options, columns, depth // chunk_of(form), x)
        tuned("group_decode_cuda", (form, group, 1, columns, depth), x, default, options, run_one)
        return out
    splits, tiles = device.ceil_div(depth, SLICE * WARPS), device.ceil_div(columns, 16)
    width = 128 if rows <= 8 else 256  # results of a tile
    # Two blocks to a multiprocessor, all at once.
    shares = max(1, min(tiles, 2 * device.count_processors(x) // splits))
    options = [{"shares": count} for count in {shares, device.ceil_div(tiles, device.ceil_div(tiles, shares))}]

    def run(config: dict[str, int]) -> None:
        partial = arrived = None
        if splits > 1:
            partial = torch.empty(splits * tiles * width, dtype=torch.float32, device=x.device)
            arrived = device.arrival_counters(x, config["shares"])
        cuda_build.call(
            "group_decode_cuda", "group_decode_rows", codes, scales, x, bias, out, partial, arrived, rows, columns,
            depth, group, config["shares"], *kind, early,
        )  # fmt: skip

    tuned("group_decode_cuda", (form, group, width, columns, depth), x, options[0], options, run)
    return out
