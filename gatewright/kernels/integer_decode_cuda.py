"""Products of 1 to 4 rows with MXINT8 and MXFP4 weights through the int8 tensor cores, in CUDA C++ for Hopper.

See ``integer_decode_cuda.cu``; :mod:`gatewright.kernels.decode_product_cuda` and
:mod:`gatewright.kernels.block_product_triton` serve other cases.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from gatewright.kernels import cuda_build, device
from gatewright.kernels.autotune import tuned

FORMATS = {"mxint8": 0, "mxfp4": 2}
ACTIVATIONS = {"none": 0, "relu": 1, "gelu": 2, "silu": 3}
# The kernel's instances by `shape`: 16-row groups and K groups of warps, and the depth of the queues.
SHAPES = ((1, 8, 2), (1, 8, 3), (2, 4, 2), (2, 4, 3), (1, 4, 3), (2, 8, 2))
SHARED_LIMIT = 227 * 1024
CLUSTERS = (1, 2, 4, 8)
# Weights that an earlier launch has read, with their version: they are complete, and a launch may fetch
# them before its predecessor ends.
_settled: WeakIdKeyDictionary = WeakIdKeyDictionary()


def chunk_of(form: str) -> int:
    """k in the 128 bytes of a row that a warp takes at a time."""
    return 256 if form == "mxfp4" else 128


def shared_bytes(rows: int, depth: int, form: str, shape: int, splits: int) -> int:
    """Shared memory of one block, as the kernel lays it out: queues or sums, scales, digits of x."""
    row_groups, k_groups, ring = SHAPES[shape]
    part = -(-(depth // chunk_of(form)) // splits) * chunk_of(form)
    queues = row_groups * k_groups * ring * 2048
    sums = k_groups * 4 * (16 * row_groups + 1) * 4 + 16
    return max(queues, sums) + 16 * row_groups * (part // (32 if form == "mxint8" else 8) + 36) + part // 32 * rows * 68


def candidates(rows: int, depth: int, form: str) -> list[dict[str, int]]:
    """The instances and cluster sizes that fit this product, the usual best first."""
    found = [
        {"shape": shape, "splits": splits}
        for shape in range(len(SHAPES))
        for splits in CLUSTERS
        if splits <= depth // chunk_of(form) and shared_bytes(rows, depth, form, shape, splits) <= SHARED_LIMIT
    ]
    target = 56 * 1024  # four blocks to a multiprocessor
    return sorted(
        found, key=lambda each: max(0, shared_bytes(rows, depth, form, each["shape"], each["splits"]) - target)
    )


def serves(x: Tensor, depth: int, form: str) -> bool:
    """Whether the CUDA kernel exists for this product and can be built here."""
    fits = x.is_cuda and x.dtype == torch.bfloat16 and 1 <= x.shape[0] <= 4 and form in FORMATS
    if not (fits and depth > 0 and depth % chunk_of(form) == 0 and torch.cuda.get_device_capability(x.device)[0] == 9):
        return False
    return bool(candidates(x.shape[0], depth, form)) and cuda_build.library("integer_decode_cuda") is not None


def _may_overlap(codes: Tensor, scales: Tensor) -> int:
    """1 if an earlier launch has read these weights, unchanged since."""
    known = True
    for each in (codes, scales):
        version: int = each._version
        known = known and _settled.get(each) == version  # pyright: ignore[reportUnknownVariableType]
        _settled[each] = version
    return 1 if known else 0


def launch_integer_decode(
    x: Tensor, codes: Tensor, scales: Tensor, form: str, bias: Tensor | None, activation: str
) -> Tensor:
    """x [M, K] by weights [N, K]; the arguments are checked already."""
    rows, depth = x.shape
    columns = codes.shape[0]
    plain = codes.is_contiguous() and scales.is_contiguous()
    overlap = _may_overlap(codes, scales) if plain else 0
    x, codes, scales = x.contiguous(), codes.contiguous(), scales.contiguous()
    bias = None if bias is None else bias.contiguous().to(torch.bfloat16)
    out = torch.empty((rows, columns), dtype=torch.bfloat16, device=x.device)
    if columns == 0:
        return out
    options = candidates(rows, depth, form)
    default = options[0]
    # Narrow layers split K further, so that every multiprocessor has work.
    blocks = device.ceil_div(columns, 16 * SHAPES[default["shape"]][0])
    for config in options:
        if config["shape"] == default["shape"] and config["splits"] > default["splits"]:
            if blocks * default["splits"] >= 2 * device.count_processors(x):
                break
            default = config

    def run(config: dict[str, int]) -> None:
        cuda_build.call(
            "integer_decode_cuda", "integer_decode_product", codes, scales, x, bias, out, rows, columns, depth,
            config["splits"], ACTIVATIONS[activation], FORMATS[form], config["shape"], overlap,
        )  # fmt: skip

    tuned("integer_decode_cuda", (form, rows, columns, depth), x, default, options, run)
    return out
