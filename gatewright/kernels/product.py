"""Linear layers whose weights are in a block format or in integer groups: the operators.

``block_linear`` and ``group_linear`` compute activation(x . w^T + bias) with every weight decoded to x's type (rounded
once) and float32 sums; where a kernel takes them in another form, docs/kernels.md says so, under exactness. Few rows
run fused kernels that are bound by the weights' bytes; many rows decode the weights once and use the library's
product, which costs the decoding's 5% at 4,096 rows.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gatewright.diagnostics import error
from gatewright.kernels import device
from gatewright.kernels.arguments import (
    check_blocks,
    check_choice,
    check_devices,
    check_dtype,
    check_flag,
    check_float,
    check_pair,
    check_shape,
    check_tensor,
    check_whole,
)
from gatewright.kernels.convert import dequantize
from gatewright.kernels.formats import block_format
from gatewright.kernels.gradients import gradients

INTEGERS = {"int8": 8, "int4": 4}  # the bits of weights in groups
GROUPS = (16, 32, 64, 128)  # that the fused kernel takes, and multiples of the last
FUSED_ROWS = 64  # above, decoding once and the library's product are faster


def activate(values: Tensor, activation: str) -> Tensor:
    """The activation called ``activation``."""
    if activation == "none":
        return values
    return {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}[activation](values)


def decode_groups(codes: Tensor, scales: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    """Weights [N, K] of signed integers with a scale for each group of a row."""
    wide = codes.to(torch.int32)
    if bits == 4:
        wide = torch.stack((wide & 15, wide >> 4 & 15), -1).flatten(-2)
        wide = (wide ^ 8) - 8
    size = wide.shape[-1] // max(scales.shape[-1], 1)
    groups = wide.float().reshape(*scales.shape, size) * scales.float().unsqueeze(-1)
    return groups.flatten(-2).to(dtype)


def _decoded(codes: Tensor, scales: Tensor, form: str, dtype: torch.dtype) -> Tensor:
    if form not in INTEGERS:
        return dequantize(codes, scales, form, dtype)
    if not device.uses_kernel(codes):
        return decode_groups(codes, scales, INTEGERS[form], dtype)
    from gatewright.kernels.dequantize_groups_triton import launch_dequantize_groups

    return launch_dequantize_groups(codes, scales, INTEGERS[form], dtype)


def reference_linear(
    x: Tensor, codes: Tensor, scales: Tensor, form: str, bias: Tensor | None, activation: str
) -> Tensor:
    """The float32 result in plain PyTorch."""
    if form in INTEGERS:
        weights = decode_groups(codes, scales, INTEGERS[form], x.dtype).float()
    else:
        weights = dequantize(codes, scales, form, x.dtype).float()
    return activate(F.linear(x.float(), weights, None if bias is None else bias.float()), activation)


@torch.library.custom_op("gatewright::linear", mutates_args=())
@device.on_its_device
def _linear(x: Tensor, codes: Tensor, scales: Tensor, form: str, bias: Tensor | None, activation: str) -> Tensor:
    depth = x.shape[-1]
    rows = x.reshape(math.prod(x.shape[:-1]), depth)
    bias = None if bias is None else bias.to(x.dtype).contiguous()  # as PyTorch's own product has it
    device.record("linear_" + form, x)
    shape = (*x.shape[:-1], codes.shape[0])
    if not device.uses_kernel(x) or not depth:
        return reference_linear(x, codes, scales, form, bias, activation).to(x.dtype)
    from gatewright.kernels import (
        decode_product_cuda,
        fp4_decode_cuda,
        half_decode_cuda,
        integer_decode_cuda,
        shared_decode_cuda,
    )
    from gatewright.kernels.block_product_triton import launch_block_product

    if form in INTEGERS:
        result = _grouped(rows, codes, scales, form, bias, activation)
    elif fp4_decode_cuda.serves(rows, depth, form):
        result = fp4_decode_cuda.launch_fp4_decode(rows, codes, scales, form, bias, activation)
    elif integer_decode_cuda.serves(rows, codes.shape[0], depth, form):
        result = integer_decode_cuda.launch_integer_decode(rows, codes, scales, form, bias, activation)
    elif shared_decode_cuda.serves(rows, codes.shape[0], depth, form):
        result = shared_decode_cuda.launch_shared_decode(rows, codes, scales, form, bias, activation)
    elif half_decode_cuda.serves(rows, depth, form):
        result = half_decode_cuda.launch_half_decode(rows, codes, scales, form, bias, activation)
    elif decode_product_cuda.serves(rows, depth, form):
        result = decode_product_cuda.launch_decode_product(rows, codes, scales, form, bias, activation)
    elif _fused(rows) and not form.startswith("mxfp6"):
        group = depth // scales.shape[-1]
        result = launch_block_product(rows, codes, scales, form, group, bias, activation)
    else:
        result = _by_library(rows, codes, scales, form, bias, activation)
    return result.reshape(shape)


def _grouped(rows: Tensor, codes: Tensor, scales: Tensor, form: str, bias: Tensor | None, activation: str) -> Tensor:
    """The product with groups of integers, by the kernel for it."""
    from gatewright.kernels import group_decode_cuda
    from gatewright.kernels.block_product_triton import launch_block_product

    group = rows.shape[1] // scales.shape[1]
    if group_decode_cuda.serves(rows, codes.shape[0], rows.shape[1], form, group):
        return group_decode_cuda.launch_group_decode(rows, codes, scales, form, bias, activation)
    part = min(group, GROUPS[-1])
    if not _fused(rows) or part not in GROUPS or group % part:
        return _by_library(rows, codes, scales, form, bias, activation)
    if part < group:  # parts of a group share its scale
        scales = scales.repeat_interleave(group // part, 1)
    return launch_block_product(rows, codes, scales, form, part, bias, activation)


def _fused(rows: Tensor) -> bool:
    """Whether the fused Triton kernel is for so many rows of this type."""
    return rows.shape[0] <= FUSED_ROWS and rows.dtype != torch.float32


def _by_library(rows: Tensor, codes: Tensor, scales: Tensor, form: str, bias: Tensor | None, activation: str) -> Tensor:
    """Decoded once, multiplied by the library."""
    weights = _decoded(codes, scales, form, rows.dtype)
    return activate(F.linear(rows, weights, None if bias is None else bias.to(rows.dtype)), activation)


@_linear.register_fake
def _(x: Tensor, codes: Tensor, scales: Tensor, form: str, bias: Tensor | None, activation: str) -> Tensor:
    return x.new_empty((*x.shape[:-1], codes.shape[0]))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, codes, scales, ctx.form, bias, ctx.activation = inputs
    ctx.save_for_backward(x, codes, scales, bias)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, codes, scales, bias = ctx.saved_tensors
    weights = _decoded(codes, scales, ctx.form, x.dtype)
    if ctx.activation != "none":
        before = F.linear(x, weights, None if bias is None else bias.to(x.dtype))

        def activation(values: Tensor) -> Tensor:
            return activate(values, ctx.activation)

        (found,) = gradients(activation, [before], gradient)
        assert found is not None
        gradient = found
    rows = gradient.reshape(-1, gradient.shape[-1])
    scales_gradient = bias_gradient = None
    if ctx.needs_input_grad[2]:  # of groups of integers: a block format's scales are codes

        def decode(values: Tensor) -> Tensor:
            return decode_groups(codes, values, INTEGERS[ctx.form], torch.float32)

        (scales_gradient,) = gradients(decode, [scales], rows.float().T @ x.reshape(-1, x.shape[-1]).float())
    if bias is not None and ctx.needs_input_grad[4]:
        bias_gradient = rows.sum(0).to(bias.dtype)
    return gradient @ weights, None, scales_gradient, None, bias_gradient, None


_linear.register_autograd(_backward, setup_context=_save)


def block_linear(
    x: Tensor, codes: Tensor, scales: Tensor, form: str, bias: Tensor | None = None, activation: str = "none"
) -> Tensor:
    """activation(x . w^T + bias) for x [..., K] and weights [N, K] in the block format ``form`` along K.

    A bias of another type is rounded to x's.
    Errors: GW0501 format, GW0502 type, GW0503 devices, GW0505 shapes, GW0506 activation.
    """
    found = block_format(form)
    check_float("x", x)
    check_shape("codes", codes, (None, None), "weights are [N, packed K]")
    length = check_blocks(codes, scales, found, 1, ("codes", "scales"))
    check_shape("x", x, [*x.shape[:-1], length], f"the weights have K = {length}")
    _check_rest(x, codes, bias, activation)
    return _linear(x, codes, scales, found.name, bias, activation)


def freeze(codes: Tensor, scales: Tensor) -> None:
    """Promise that nobody writes these weights any more, so that products need not wait for other kernels' ends.

    On Hopper, ``block_linear`` and ``group_linear`` with few rows then fetch them while the kernel before is still
    running, which makes one row faster by 4 to 20%. Waits for the GPU once: call it after loading, not while a graph is
    captured. A write that PyTorch sees ends the promise. One through ``.data``, or by another library, breaks it, and
    the next product may read what was there before. Errors: GW0502 type, GW0503 devices.
    """
    for name, each in (("codes", codes), ("scales", scales)):
        check_tensor(name, each)
    check_devices(codes=codes, scales=scales)
    for each in (codes, scales):
        device.freeze(each)


@torch.library.custom_op("gatewright::fp8_product", mutates_args=())
@device.on_its_device
def _fp8_product(x: Tensor, x_scales: Tensor, codes: Tensor, scales: Tensor, form: str) -> Tensor:
    from gatewright.kernels import fp8_product_cuda

    if fp8_product_cuda.serves(x, codes, form):
        device.record("fp8_product", x)
        return fp8_product_cuda.launch_fp8_product((x, x_scales), (codes, scales), form)
    return _linear(dequantize(x, x_scales, form), codes, scales, form, None, "none")


@_fp8_product.register_fake
def _(x: Tensor, x_scales: Tensor, codes: Tensor, scales: Tensor, form: str) -> Tensor:
    return x.new_empty((x.shape[0], codes.shape[0]), dtype=torch.bfloat16)


def block_product(x: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor], form: str, exact: bool = True) -> Tensor:
    """x . w^T in bfloat16 for x [M, K] and weights [N, K], both (codes, scales) in the block format ``form``.

    Both are decoded, exactly, and multiplied in bfloat16 with float32 sums. ``exact=False`` lets MXFP8 operands of
    at least 256 rows go through Hopper's fp8 tensor cores, which is faster than bfloat16: every 128 k of a row get
    one scale, and products are added with 13 bits below the largest (docs/kernels.md bounds both). Elsewhere it
    changes nothing.
    Errors as ``block_linear``, GW0506 exact.
    """
    found = block_format(form)
    check_flag("exact", exact)
    x, weights = check_pair("x", x), check_pair("weights", weights)
    for name, (codes, scales) in (("x", x), ("weights", weights)):
        check_shape(f"{name}[0]", codes, (None, None), "operands are [rows, packed K]")
        check_blocks(codes, scales, found, 1, (f"{name}[0]", f"{name}[1]"))
    packed = weights[0].shape[1]
    check_shape("x[0]", x[0], (None, packed), f"the weights have K = {found.unpacked(packed)}")
    check_devices(**{"x[0]": x[0], "weights[0]": weights[0]})
    if not exact:
        return _fp8_product(*x, *weights, found.name)
    return block_linear(dequantize(*x, found.name), *weights, found.name)


def group_linear(
    x: Tensor, codes: Tensor, scales: Tensor, bits: int, bias: Tensor | None = None, activation: str = "none"
) -> Tensor:
    """The same for signed weights of 8 or 4 bits (two to a byte, the even one low), scales [N, groups].

    Up to 64 rows of x, groups of 16, 32, 64 and multiples of 128 (one scale to a row is such a one) are multiplied as
    they are, as are other multiples of 32 with up to 16 rows on Hopper; the rest is decoded first.
    Errors as ``block_linear``; GW0506 for other widths.
    """
    bits = check_whole("bits", bits, "GW0506")
    check_choice("bits", str(bits), ("8", "4"))
    check_float("x", x)
    check_float("scales", scales)
    check_dtype("codes", codes, (torch.int8, torch.uint8) if bits == 4 else (torch.int8,))
    check_shape("codes", codes, (None, None), "weights are [N, packed K]")
    check_shape("scales", scales, (codes.shape[0], None), "one row of scales for each row of weights")
    length = codes.shape[1] * 8 // bits
    check_shape("x", x, [*x.shape[:-1], length], f"the weights have K = {length}")
    group = length // max(scales.shape[1], 1)
    if group * scales.shape[1] != length:
        raise error(
            "GW0505",
            f"`scales` has {scales.shape[1]} groups for K = {length}",
            help="use groups that divide K: one for a scale to a row",
        )
    check_devices(codes=codes, scales=scales)
    _check_rest(x, codes, bias, activation)
    return _linear(x, codes, scales, f"int{bits}", bias, activation)


def _check_rest(x: Tensor, codes: Tensor, bias: Tensor | None, activation: str) -> None:
    if bias is not None:
        check_float("bias", bias)
        check_shape("bias", bias, [codes.shape[0]], "one element for each row of the weights")
    check_devices(x=x, codes=codes, bias=bias)
    check_choice("activation", activation, tuple(device.ACTIVATIONS))
