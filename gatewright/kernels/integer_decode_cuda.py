"""Products of one row with MXINT8 weights through the int8 tensor cores, in CUDA C++ for Hopper.

See ``integer_decode.h``; :mod:`gatewright.kernels.shared_decode_cuda` serves more rows, and
:mod:`gatewright.kernels.group_decode_cuda` takes the same kernel for integers in groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatewright.kernels import cuda_build, device
from gatewright.kernels.autotune import tuned

FORMATS = ("mxint8",)
# The kernel's instances: 16-row tiles that a block takes at a time, chunks of each in a warp's queue. Scales that lanes
# load themselves wait behind all that is queued.
SHAPES = ((2, 2), (2, 3), (1, 3))
SHAPES_OF_LOADED_SCALES = ((2, 2), (1, 3))
WARPS = 8  # of a block
TOGETHER = 2  # blocks to a processor
PROCESSOR_LIMIT = 228 * 1024  # of shared memory; a kilobyte of each block's is the system's
SHARED_LIMIT = 227 * 1024  # of a block
CLUSTERS = (1, 2, 4, 8)
FEWEST_COLUMNS = 16  # a tile of the tensor cores


def chunk_of(form: str) -> int:
    """k in the 128 bytes of a row that a warp takes at a time."""
    return 256 if form == "int4" else 128


def scale_bytes(depth: int, form: str, group: int, size: int) -> int:
    """Bytes of a row's scales, ``size`` each, that come with a chunk; 0 where each lane loads its own.

    That is where chunks are no whole number of groups, and where two bytes begin at even places in some rows alone.
    """
    chunk = chunk_of(form)
    found = 0 if chunk % group else chunk // group * size
    return 0 if found == 2 and depth // chunk % 2 else found


def shared_bytes(depth: int, form: str, scales: int, tiles: int, stages: int, splits: int) -> int:
    """Shared memory of one block, as the kernel lays it out: queues, sums, digits of x; zeros.

    ``scales``: what :func:`scale_bytes` says.
    """
    rows = 16 * tiles
    part = -(-(depth // chunk_of(form)) // splits) * chunk_of(form)
    queues = WARPS * stages * rows * (128 + (max(scales, 4) if scales else 0))
    sums = 2 * (-(-WARPS * (rows + 1) * 4 // 16) * 16)
    return queues + sums + part // 32 * 68 + 64


def candidates(depth: int, form: str, scales: int = 4) -> list[dict[str, int]]:
    """The instances and cluster sizes that fit this product, those that split K least first.

    Where some fit twice into a processor, only they: launches could not overlap otherwise.
    """
    for limit in (PROCESSOR_LIMIT // TOGETHER - 1024, SHARED_LIMIT):
        found = [
            {"tiles": tiles, "stages": stages, "splits": splits}
            for splits in CLUSTERS
            for tiles, stages in (SHAPES if scales else SHAPES_OF_LOADED_SCALES)
            if splits <= depth // chunk_of(form) and shared_bytes(depth, form, scales, tiles, stages, splits) <= limit
        ]
        if found:
            return found
    return []


def blocks_for(columns: int, tiles: int, x: Tensor) -> int:
    """Blocks, or clusters of them, that share ``columns``."""
    return device.share_tiles(columns, tiles, TOGETHER * device.count_processors(x))


def usual_of(options: list[dict[str, int]], columns: int, chunks: int, x: Tensor) -> dict[str, int]:
    """The first option, but for narrow layers parts of K, of ``chunks``, on every processor.

    That is one block with long queues, or two where each warp has more chunks than short ones hold.
    """
    blocks, processors = blocks_for(columns, 2, x), device.count_processors(x)

    def suits(config: dict[str, int]) -> bool:
        splits = config["splits"]
        if blocks * splits <= processors:
            return True
        long = config["stages"] == 2 and chunks // splits > 2 * WARPS
        return long and blocks * splits <= TOGETHER * processors

    def rank(config: dict[str, int]) -> tuple[int, int, int]:
        return config["splits"], config["tiles"], config["stages"]

    found = [each for each in options if suits(each)] if blocks <= processors else []
    return max(found, key=rank) if found else options[0]


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
    default = usual_of(options, columns, depth // chunk_of(form), x)

    def run(config: dict[str, int]) -> None:
        cuda_build.call(
            "integer_decode_cuda", "integer_decode_product", codes, scales, x, bias, out, columns, depth,
            config["splits"], blocks_for(columns, config["tiles"], x), device.ACTIVATIONS[activation], config["tiles"],
            config["stages"], early,
        )  # fmt: skip

    tuned("integer_decode_cuda", (form, 1, columns, depth), x, default, options, run)
    return out
