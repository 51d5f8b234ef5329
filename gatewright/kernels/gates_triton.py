# pyright: basic
"""GELU and SiLU-gated products, in Triton: elementwise, with an optional cast.

Floor: input and output bytes over the copy bandwidth.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from gatewright.kernels import device
from gatewright.kernels.autotune import tuned
from gatewright.kernels.cast_code import encode_scalar, is_scalar
from gatewright.kernels.device_code import exponential2, reciprocal, round_to, to_float32
from gatewright.kernels.formats import FORMATS
from gatewright.kernels.quantize_triton import store_blocks

GELU, GELU_TANH, SILU_GATE = 0, 1, 2


@triton.jit
def gate_value(value, KIND: tl.constexpr, NATIVE: tl.constexpr):
    """GELU (exact or with tanh) or SiLU of float32 values."""
    if KIND == 0:
        # Phi(-|x|) = t P(t) exp(-x^2 / 2) / 2 with t = 1 / (1 + p |x| / sqrt 2): Abramowitz and Stegun 7.1.26,
        # within 7.5e-8, a third of the instructions of erf.
        size = tl.abs(value)
        t = reciprocal(1.0 + 0.23164189 * size, NATIVE)
        series = t * (0.127414796 + t * (-0.142248368 + t * (0.7107068705 + t * (-0.7265760135 + t * 0.5307027145))))
        tail = series * exponential2(-0.7213475204444817 * value * value, NATIVE) * size
        return tl.maximum(value, 0.0) - tl.where(value > 16.0, 0.0, tail)  # that of infinity is NaN
    if KIND == 1:
        inner = 0.7978845608028654 * (value + 0.044715 * value * value * value)
        return value / (1.0 + exponential2(-2.8853900817779268 * inner, NATIVE))
    return value / (1.0 + exponential2(-1.4426950408889634 * value, NATIVE))


@triton.jit
def gates_kernel(
    values,
    other,
    out,
    scales,
    groups,
    KIND: tl.constexpr,
    GROUPS: tl.constexpr,
    SIZE: tl.constexpr,
    FORMAT: tl.constexpr,
    NATIVE: tl.constexpr,
):
    """A tile of GROUPS x SIZE elements of flat tensors: 8 for a plain output, else the block."""
    first = tl.program_id(0).to(tl.int64) * GROUPS
    group = tl.arange(0, GROUPS)
    inside = first + group < groups
    place = tl.max_contiguous(group[:, None] * SIZE + tl.arange(0, SIZE)[None, :], [1, 8])
    value = to_float32(tl.load(values + first * SIZE + place, mask=inside[:, None], other=0.0), NATIVE)
    if KIND == 2:
        factor = to_float32(tl.load(other + first * SIZE + place, mask=inside[:, None], other=0.0), NATIVE)
        value = gate_value(value, KIND, NATIVE) * factor
    else:
        value = gate_value(value, KIND, NATIVE)
    if FORMAT == "":
        result = round_to(value, out.dtype.element_ty, NATIVE)
        tl.store(out + first * SIZE + place, result, mask=inside[:, None])
    elif is_scalar(FORMAT):
        code = encode_scalar(value, FORMAT).to(out.dtype.element_ty)
        tl.store(out + first * SIZE + place, code, mask=inside[:, None])
    else:
        store_blocks(value, out, scales, first, inside, FORMAT, GROUPS, NATIVE, True)


@triton.jit
def gates_tail_kernel(
    values, other, out, start, length, KIND: tl.constexpr, FORMAT: tl.constexpr, NATIVE: tl.constexpr
):
    """The last elements, fewer than 8."""
    place = tl.arange(0, 8)
    inside = start + place < length
    value = to_float32(tl.load(values + start + place, mask=inside, other=0.0), NATIVE)
    value = gate_value(value, KIND, NATIVE)
    if KIND == 2:
        value = value * to_float32(tl.load(other + start + place, mask=inside, other=0.0), NATIVE)
    if FORMAT == "":
        tl.store(out + start + place, round_to(value, out.dtype.element_ty, NATIVE), mask=inside)
    else:
        tl.store(out + start + place, encode_scalar(value, FORMAT).to(out.dtype.element_ty), mask=inside)


def launch_gates(
    kind: int,
    values: Tensor,
    other: Tensor | None,
    out: Tensor,
    scales: Tensor,
    cast: str,
) -> None:
    """Fill ``out`` (and ``scales``) from ``values`` (and ``other``), all contiguous.

    ``cast`` is the output's name in the kernels (``Output.kernel``).
    """
    length = values.numel()
    if length == 0:
        return
    blocks = FORMATS.get(cast)
    size = 8 if blocks is None else blocks.size
    groups = length // size
    factor = values if other is None else other
    default = {"GROUPS": 2048 // size, "num_warps": 8}
    options = [{"GROUPS": elements // size, "num_warps": warps} for elements in (1024, 2048, 4096) for warps in (4, 8)]

    def run(config: dict[str, int]) -> None:
        grid = (device.ceil_div(groups, config["GROUPS"]),)
        gates_kernel[grid](
            values,
            factor,
            out,
            scales,
            groups,
            KIND=kind,
            SIZE=size,
            FORMAT=cast,
            NATIVE=device.native(),
            **config,
        )

    if groups:
        key = (kind, str(values.dtype), cast, device.next_power(groups))
        tuned("gates", key, values, default, options, run)
    if blocks is None and length % 8:
        common = {"KIND": kind, "FORMAT": cast, "NATIVE": device.native()}
        gates_tail_kernel[(1,)](values, factor, out, groups * 8, length, **common)
