"""bfloat16 to NVFP4 and MXFP6 in CUDA C++; see ``quantize_cuda.cu``. Triton serves what this does not."""

from __future__ import annotations

import torch
from torch import Tensor

from gatewright.kernels import cuda_build, device
from gatewright.kernels.autotune import tuned
from gatewright.kernels.formats import BlockFormat

SERVED = ("nvfp4", "mxfp6_e3m2", "mxfp6_e2m3")
"""The formats, in the order of the source's."""
GROUP = 16  # elements that a thread takes at a time


def serves(values: Tensor, form: BlockFormat, axis: int) -> bool:
    """Whether the CUDA kernel exists for this conversion and can be built here."""
    fits = form.name in SERVED and values.dtype == torch.bfloat16 and axis == values.ndim - 1 and values.is_cuda
    if not fits or torch.cuda.get_device_capability(values.device)[0] != 9:
        return False
    return cuda_build.library("quantize_cuda") is not None


def launch_quantize(values: Tensor, form: BlockFormat, codes: Tensor, scales: Tensor) -> None:
    """Fill ``codes`` and ``scales`` from ``values`` [..., whole blocks]; all contiguous from 16-byte boundaries."""
    groups = values.numel() // GROUP

    def run(config: dict[str, int]) -> None:
        given = (values, codes, scales, SERVED.index(form.name), groups, config["steps"])
        cuda_build.call("quantize_cuda", "quantize_bfloat16", *given)

    options = [{"steps": steps} for steps in (1, 2)]
    tuned("quantize_cuda", (form.name, device.next_power(groups)), values, {"steps": 2}, options, run)
