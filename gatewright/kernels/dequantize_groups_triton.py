# pyright: basic
"""Signed integers of 8 or 4 bits with a scale for each group to bfloat16, float16 or float32, in Triton.

The layout is that of :mod:`gatewright.kernels.dequantize_triton`: a thread has 8 neighbouring elements. A value is
rounded to float32 as the product of code and scale, then to the result's type. Floor: (bits + output bits) / 8 bytes
an element over the bandwidth.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gatewright.kernels import device
from gatewright.kernels.autotune import tuned
from gatewright.kernels.dequantize_triton import TYPES
from gatewright.kernels.device_code import round_to, to_float32


@triton.jit
def dequantize_groups_kernel(
    codes,
    scales,
    out,
    elements,
    BITS: tl.constexpr,
    GROUP: tl.constexpr,
    WIDE: tl.constexpr,
    OCTETS: tl.constexpr,
    DTYPE: tl.constexpr,
    NATIVE: tl.constexpr,
    STORE: tl.constexpr,
):
    """One tile of OCTETS times 8 elements of a flat sequence; WIDE: groups are made of whole octets."""
    first = tl.program_id(0).to(tl.int64) * (OCTETS * 8)
    octet = tl.arange(0, OCTETS)
    place = octet[:, None] * 8 + tl.arange(0, 8)[None, :]
    inside = first + place < elements
    group = first // GROUP
    begin = (first - group * GROUP).to(tl.int32)
    if WIDE:
        whole = first + octet * 8 < elements
        scale = to_float32(tl.load(scales + group + (begin + octet * 8) // GROUP, mask=whole, other=0.0), NATIVE)
        scale = scale[:, None]
    else:
        scale = to_float32(tl.load(scales + group + (begin + place) // GROUP, mask=inside, other=0.0), NATIVE)
    if BITS == 8:
        code = tl.load(codes + first + place, mask=inside, other=0).to(tl.int32)
    else:
        if WIDE:
            # The hint keeps a thread's words apart, so that words and results lie in the same threads.
            own = tl.max_contiguous(octet, [1])
            word = tl.load(codes.to(tl.pointer_type(tl.int32)) + first // 8 + own, mask=whole, other=0)
            word = word[:, None]
            lane = tl.arange(0, 8)[None, :]
        else:
            word = tl.load(codes + first // 2 + place // 2, mask=inside, other=0).to(tl.int32)
            lane = place % 2
        code = (word << (28 - lane * 4)) >> 28
    value = round_to(code.to(tl.float32) * scale, DTYPE, NATIVE)
    tl.store(out + first + place, value, mask=inside, cache_modifier=STORE)


def launch_dequantize_groups(codes: Tensor, scales: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    """Weights [N, K] of ``dtype``; the arguments are checked already."""
    codes, scales = device.aligned(codes), device.aligned(scales)
    depth = codes.shape[1] * 8 // bits
    out = torch.empty((codes.shape[0], depth), dtype=dtype, device=codes.device)
    elements = out.numel()
    if elements == 0:
        return out
    group = depth // scales.shape[1]
    common = {
        "BITS": bits,
        "GROUP": group,
        "WIDE": group % 8 == 0,
        "DTYPE": TYPES[dtype],
        "NATIVE": device.native(),
    }
    default = {"OCTETS": 256, "num_warps": 4, "STORE": ""}
    options = [
        {"OCTETS": 32 * warps * each, "num_warps": warps, "STORE": store}
        for warps, each in ((4, 1), (4, 2), (4, 4), (8, 1), (8, 2))
        for store in ("", ".cs")
    ]

    def run(config: dict[str, int]) -> None:
        grid = (device.ceil_div(elements, config["OCTETS"] * 8),)
        dequantize_groups_kernel[grid](codes, scales, out, elements, **common, **config)

    tuned("dequantize_groups", (bits, str(dtype), device.next_power(elements // 8)), codes, default, options, run)
    return out
