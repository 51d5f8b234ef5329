"""Quantise and dequantise block formats: the operators, on whatever device the tensor is.

``quantize`` returns packed codes and scales, ``dequantize`` reals, and ``fake_quantize`` the nearest
representable reals with a straight-through gradient. See :mod:`gatewright.kernels.formats` for the layout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gatewright.diagnostics import error
from gatewright.kernels import device
from gatewright.kernels.arguments import check_axis, check_blocks, check_float, check_tensor, check_whole
from gatewright.kernels.formats import (
    FLOATS,
    block_format,
    dequantize_reference,
    quantize_reference,
)


@torch.library.custom_op("gatewright::quantize", mutates_args=())
@device.on_its_device
def _quantize(values: Tensor, form: str, axis: int) -> tuple[Tensor, Tensor]:
    found = block_format(form)
    padding = -values.shape[axis] % found.size
    if padding:
        shape = list(values.shape)
        shape[axis] = padding
        values = torch.cat((values, values.new_zeros(shape)), axis)
    device.record("quantize", values)
    if device.uses_kernel(values):
        from gatewright.kernels.quantize_triton import launch_quantize

        return launch_quantize(values, found, axis)
    return quantize_reference(values, found, axis)


@_quantize.register_fake
def _(values: Tensor, form: str, axis: int) -> tuple[Tensor, Tensor]:
    found = block_format(form)
    blocks = (values.shape[axis] + found.size - 1) // found.size
    codes, scales = list(values.shape), list(values.shape)
    codes[axis], scales[axis] = found.packed(blocks * found.size), blocks
    return values.new_empty(codes, dtype=found.code_dtype), values.new_empty(scales, dtype=torch.uint8)


@torch.library.custom_op("gatewright::dequantize", mutates_args=())
@device.on_its_device
def _dequantize(codes: Tensor, scales: Tensor, form: str, dtype: torch.dtype, axis: int) -> Tensor:
    found = block_format(form)
    device.record("dequantize", codes)
    if device.uses_kernel(codes):
        from gatewright.kernels import dequantize_cuda
        from gatewright.kernels.dequantize_triton import launch_dequantize

        if dequantize_cuda.serves(codes, found, dtype, axis):
            return dequantize_cuda.launch_dequantize(codes, scales)
        return launch_dequantize(codes, scales, found, dtype, axis)
    return dequantize_reference(codes, scales, found, dtype, axis)


@_dequantize.register_fake
def _(codes: Tensor, scales: Tensor, form: str, dtype: torch.dtype, axis: int) -> Tensor:
    shape = list(codes.shape)
    shape[axis] = block_format(form).unpacked(shape[axis])
    return codes.new_empty(shape, dtype=dtype)


def quantize(values: Tensor, form: str, axis: int = -1) -> tuple[Tensor, Tensor]:
    """Codes and scales of bfloat16, float16 or float32 ``values``, in blocks along ``axis``.

    An axis that is no whole number of blocks is padded with zeros. The codes of a block whose scale is NaN
    (it held a NaN or an infinity) are unspecified. Errors: GW0501 format, GW0502 type, GW0504 axis.
    """
    found = block_format(form)
    check_float("values", values)
    return _quantize(values, found.name, check_axis(axis, values.ndim))


def dequantize(
    codes: Tensor,
    scales: Tensor,
    form: str,
    dtype: torch.dtype = torch.bfloat16,
    axis: int = -1,
    length: int | None = None,
) -> Tensor:
    """The values, rounded once to ``dtype``, the first ``length`` along ``axis`` (default: all).

    Errors: GW0501 format, GW0502 type, GW0503 devices, GW0504 axis, GW0505 shapes that do not fit.
    """
    found = block_format(form)
    check_tensor("codes", codes)
    axis = check_axis(axis, codes.ndim)
    whole = check_blocks(codes, scales, found, axis, ("codes", "scales"))
    if dtype not in FLOATS:
        raise error("GW0502", f"`dtype` is {dtype}", help="pass torch.bfloat16, torch.float16 or torch.float32")
    if length is not None and not 0 <= check_whole("length", length, "GW0505") <= whole:
        raise error("GW0505", f"`length` is {length}, `codes` holds {whole} elements along axis {axis}")
    out = _dequantize(codes, scales, found.name, dtype, axis)
    return out if length is None else out.narrow(axis, 0, length)


@torch.library.custom_op("gatewright::fake_quantize", mutates_args=())
def _fake_quantize(values: Tensor, form: str, axis: int) -> Tensor:
    codes, scales = _quantize(values, form, axis)
    return _dequantize(codes, scales, form, values.dtype, axis).narrow(axis, 0, values.shape[axis]).clone()


@_fake_quantize.register_fake
def _(values: Tensor, form: str, axis: int) -> Tensor:
    return torch.empty(values.shape, dtype=values.dtype, device=values.device)


def _straight_through(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    return gradient, None, None


_fake_quantize.register_autograd(_straight_through)


def fake_quantize(values: Tensor, form: str, axis: int = -1) -> Tensor:
    """The representable values nearest to ``values``; its gradient is the identity. Errors as ``quantize``."""
    found = block_format(form)
    check_float("values", values)
    return _fake_quantize(values, found.name, check_axis(axis, values.ndim))
