"""Products of two MXFP8 operands through Hopper's fp8 tensor cores, in CUDA C++; see ``fp8_product_cuda.cu``."""

from __future__ import annotations

import torch
from torch import Tensor

from gatewright.kernels import cuda_build, device

FORMATS = {"mxfp8_e4m3": 1, "mxfp8_e5m2": 2}
GROUP = 128  # k with one scale
TILE_X, TILE_W = 128, 256  # rows of a tile; x's tiles come in pairs
FEWEST = 256  # rows of x: below, decoding both operands is faster
MOST = 2**20  # rows of both operands: what a grid counts


def serves(x: Tensor, codes: Tensor, form: str) -> bool:
    """Whether the kernel exists for this product and can be built here."""
    rows, columns = x.shape[0], codes.shape[0]
    fits = x.is_cuda and form in FORMATS and x.shape[1] > 0 and columns > 0 and FEWEST <= rows <= MOST - columns
    if not fits or torch.cuda.get_device_capability(x.device)[0] != 9:
        return False
    return cuda_build.library("fp8_product_cuda") is not None


def launch_fp8_product(x: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor], form: str) -> Tensor:
    """x [M, K] by weights [N, K], both codes and scales; the arguments are checked already."""
    (rows, depth), columns = x[0].shape, weights[0].shape[0]
    where = x[0].device
    groups = device.ceil_div(depth, GROUP)
    operands: list[Tensor] = []
    for (codes, scales), tile in ((x, 2 * TILE_X), (weights, TILE_W)):
        padded = device.ceil_div(codes.shape[0], tile) * tile
        grouped = torch.empty((codes.shape[0], depth), dtype=torch.uint8, device=where)
        group_scales = torch.empty(padded * groups, dtype=torch.float32, device=where)
        operands += [device.aligned(codes), scales.contiguous(), grouped, group_scales]
    out = torch.empty((rows, columns), dtype=torch.bfloat16, device=where)
    cuda_build.call(
        "fp8_product_cuda", "fp8_product", *operands, out, rows, columns, depth, FORMATS[form],
        device.count_processors(out),
    )  # fmt: skip
    return out
