"""Products of one row with MXINT8, MXFP4 and NVFP4 weights through the int8 tensor cores, in CUDA C++ for Hopper.

See ``integer_decode.h``; :mod:`gatewright.kernels.half_decode_cuda` serves more rows, and
:mod:`gatewright.kernels.group_decode_cuda` takes the same kernel for integers in groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatewright.kernels import cuda_build, device
from gatewright.kernels.autotune import tuned

FORMATS = {"mxint8": 0, "mxfp4": 2, "nvfp4": 3}
ACTIVATIONS = {"none": 0, "relu": 1, "gelu": 2, "silu": 3}
# The kernel's instances by `shape`: 16-row groups and K groups of warps, the queues' depth, blocks to a processor.
SHAPES = ((2, 4, 3, 2), (2, 8, 2, 2), (4, 4, 3, 1), (1, 8, 2, 4))
SLOTS = {"nvfp4": 2304, "int8": 2048, "int4": 2048}  # bytes of a chunk in a queue, where scales take more or none
SHARED_LIMIT = 227 * 1024
CLUSTERS = (1, 2, 4, 8)
FEWEST_COLUMNS = 16  # a tile of the tensor cores


def chunk_of(form: str) -> int:
    """k in the 128 bytes of a row that a warp takes at a time."""
    return 128 if form in ("mxint8", "int8") else 256


def shared_bytes(depth: int, form: str, shape: int, splits: int) -> int:
    """Shared memory of one block, as the kernel lays it out: queues, sums, digits of x."""
    row_groups, k_groups, ring, _ = SHAPES[shape]
    part = -(-(depth // chunk_of(form)) // splits) * chunk_of(form)
    queues = row_groups * k_groups * ring * SLOTS.get(form, 2176)
    sums = 2 * (k_groups * (16 * row_groups + 1) * 4 + 12)
    return queues + sums + part // 32 * 68


def candidates(depth: int, form: str, shapes: int = len(SHAPES)) -> list[dict[str, int]]:
    """The cluster sizes, and instances among the first ``shapes``, that fit this product, the usual best first."""
    usual = 1 if form in ("mxint8", "int8") else 0
    found = [
        {"shape": shape, "splits": splits}
        for shape in range(shapes)
        for splits in CLUSTERS
        if splits <= depth // chunk_of(form) and shared_bytes(depth, form, shape, splits) <= SHARED_LIMIT
    ]
    return sorted(found, key=lambda each: (each["splits"], each["shape"] != usual))


def blocks_for(columns: int, shape: int, x: Tensor) -> int:
    """Blocks, or clusters of them, that share ``columns``."""
    row_groups, _, _, together = SHAPES[shape]
    return device.share_tiles(columns, row_groups, together * device.count_processors(x))


def usual_of(options: list[dict[str, int]], columns: int, x: Tensor) -> dict[str, int]:
    """The first option; narrow layers split K further, so that every multiprocessor has work."""
    default = options[0]
    blocks = blocks_for(columns, default["shape"], x)
    for config in options:
        if config["shape"] == default["shape"] and config["splits"] > default["splits"]:
            if blocks * default["splits"] >= 2 * device.count_processors(x) * 3 // 4:
                break
            default = config
    return default


def serves(x: Tensor, columns: int, depth: int, form: str) -> bool:
    """Whether the CUDA kernel exists for this product and can be built here."""
    fits = x.is_cuda and x.dtype == torch.bfloat16 and x.shape[0] == 1 and columns >= FEWEST_COLUMNS and form in FORMATS
    if not (fits and depth > 0 and depth % chunk_of(form) == 0 and torch.cuda.get_device_capability(x.device)[0] == 9):
        return False
    return bool(candidates(depth, form)) and cuda_build.library("integer_decode_cuda") is not None


def launch_integer_decode(
    x: Tensor, codes: Tensor, scales: Tensor, form: str, bias: Tensor | None, activation: str
) -> Tensor:
    """x [1, K] by weights [N, K]; the arguments are checked already."""
    depth = x.shape[1]
    columns = codes.shape[0]
    early = int(device.frozen(codes, scales))
    x, codes, scales = (device.aligned(each) for each in (x, codes, scales))
    bias = None if bias is None else device.aligned(bias.to(torch.bfloat16))
    out = torch.empty((1, columns), dtype=torch.bfloat16, device=x.device)
    options = candidates(depth, form)
    default = usual_of(options, columns, x)

    def run(config: dict[str, int]) -> None:
        cuda_build.call(
            "integer_decode_cuda", "integer_decode_product", codes, scales, x, bias, out, columns, depth,
            config["splits"], blocks_for(columns, config["shape"], x), ACTIVATIONS[activation], FORMATS[form],
            config["shape"], early,
        )  # fmt: skip

    tuned("integer_decode_cuda", (form, 1, columns, depth), x, default, options, run)
    return out
