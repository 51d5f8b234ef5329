"""Products of 1 to 16 rows with MXINT8, MXFP8 (E4M3), MXFP4 and NVFP4 weights through Hopper's fp16 tensor cores.

See ``half_decode_cuda.cu``; :mod:`gatewright.kernels.integer_decode_cuda` and
:mod:`gatewright.kernels.shared_decode_cuda` serve one or two rows, and :mod:`gatewright.kernels.decode_product_cuda`
other depths and GPUs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatewright.kernels import cuda_build, device
from gatewright.kernels.autotune import tuned

FORMATS = {"mxint8": 0, "mxfp8_e4m3": 1, "mxfp4": 2, "nvfp4": 3}
NIBBLES = ("mxfp4", "nvfp4")
WARPS = (8, 8, 16)
"""Of a block, for each shape of the kernel: queues of depth 3, of depth 4, of depth 3 (nibbles, more than 8 rows)."""
TOGETHER = 16  # warps to a multiprocessor
SLICE = 256  # k to a warp


def serves(x: Tensor, depth: int, form: str) -> bool:
    """Whether the CUDA kernel exists for this product and can be built here."""
    fits = x.is_cuda and x.dtype == torch.bfloat16 and 1 <= x.shape[0] <= 16 and form in FORMATS
    if not (fits and depth > 0 and depth % SLICE == 0 and torch.cuda.get_device_capability(x.device)[0] == 9):
        return False
    return cuda_build.library("half_decode_cuda") is not None


def candidates(rows: int, columns: int, depth: int, form: str, processors: int) -> list[dict[str, int]]:
    """The kernel's shapes for this product, each with counts of tiles to a block: at first all blocks stand at once."""
    found: list[dict[str, int]] = []
    for shape, warps in enumerate(WARPS):
        if warps == TOGETHER and not (rows > 8 and form in NIBBLES and depth > SLICE * WARPS[0]):
            continue  # there is no such instance, or half of its warps would have no k
        blocks = device.ceil_div(depth, SLICE * warps) * device.ceil_div(columns, 16)
        share = device.ceil_div(blocks, TOGETHER // warps * processors)
        found += [{"shape": shape, "tiles": count} for count in (share, share + 1, 2 * share)]
    return found


def usual_of(options: list[dict[str, int]], rows: int, depth: int) -> dict[str, int]:
    """Larger blocks where all of K is then one block's, without sums to exchange; else deeper queues for fewer rows."""
    larger = [each for each in options if WARPS[each["shape"]] == TOGETHER and depth <= SLICE * TOGETHER]
    return (larger or [each for each in options if each["shape"] == (1 if rows <= 8 else 0)])[0]


def launch_half_decode(
    x: Tensor, codes: Tensor, scales: Tensor, form: str, bias: Tensor | None, activation: str
) -> Tensor:
    """x [M, K] by weights [N, K]; the arguments are checked already."""
    rows, depth = x.shape
    columns = codes.shape[0]
    early = int(device.frozen(codes, scales))
    x, codes, scales = (device.aligned(each) for each in (x, codes, scales))
    bias = None if bias is None else device.aligned(bias.to(torch.bfloat16))
    out = torch.empty((rows, columns), dtype=torch.bfloat16, device=x.device)
    if columns == 0:
        return out
    tiles = device.ceil_div(columns, 16)
    width = 128 if rows <= 8 else 256  # results of a tile
    options = candidates(rows, columns, depth, form, device.count_processors(x))
    usual = usual_of(options, rows, depth)

    def run(config: dict[str, int]) -> None:
        partial = arrived = None
        splits = device.ceil_div(depth, SLICE * WARPS[config["shape"]])
        if splits > 1:
            partial = torch.empty(splits * tiles * width, dtype=torch.float32, device=x.device)
            arrived = device.arrival_counters(x, device.ceil_div(tiles, config["tiles"]))
        cuda_build.call(
            "half_decode_cuda", "half_decode_product", codes, scales, x, bias, out, partial, arrived, rows, columns,
            depth, config["tiles"], device.ACTIVATIONS[activation], FORMATS[form], config["shape"], early,
        )  # fmt: skip

    tuned("half_decode_cuda", (form, width, columns, depth), x, usual, options, run)
    return out
