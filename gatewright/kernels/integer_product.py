"""Exact int8 products with fused requantisation: the operator.

The sum of K <= 65,536 products of int8 (and an int32 bias) is exact; the cast drops ``shift`` fraction bits with the
named rounding and limits the result with the named overflow, as the integer golden model does.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gatewright.diagnostics import error
from gatewright.kernels import device
from gatewright.kernels.arguments import (
    check_choice,
    check_devices,
    check_dtype,
    check_flag,
    check_shape,
    check_whole,
)

ROUNDINGS = ("half_even", "half_up", "half_down", "half_zero", "half_away", "floor", "toward_zero")
OVERFLOWS = ("saturate", "saturate_symmetric", "saturate_zero", "wrap")
LONGEST = 65536  # products of two -128 sum to 2^30: with any bias the int64 epilogue is exact


def code_dtype(width: int, signed: bool) -> torch.dtype:
    """The smallest torch integer that holds the codes; unsigned codes of 16 bits take an int32."""
    if width <= 8:
        return torch.int8 if signed else torch.uint8
    if width <= 16 and signed:
        return torch.int16
    return torch.int32


def reference_round(value: Tensor, shift: int, rounding: str) -> Tensor:
    """int64 values / 2^shift, rounded to integers."""
    if shift <= 0:
        return value << -shift
    floor = value >> shift
    rest = (value - (floor << shift)) * 2 - (1 << shift)  # twice the remainder, less one unit
    exact = value == floor << shift
    up = {
        "floor": torch.zeros_like(exact),
        "toward_zero": ~exact & (value < 0),
        "half_up": rest >= 0,
        "half_down": rest > 0,
        "half_zero": (rest > 0) | ((rest == 0) & (value < 0)),
        "half_away": (rest > 0) | ((rest == 0) & (value >= 0)),
        "half_even": (rest > 0) | ((rest == 0) & (floor & 1 == 1)),
    }[rounding]
    return floor + up.long()


def reference_limit(value: Tensor, width: int, signed: bool, overflow: str) -> Tensor:
    """int64 values limited to the codes of an integer of ``width`` bits."""
    high = (1 << (width - 1)) - 1 if signed else (1 << width) - 1
    low = -high - 1 if signed else 0
    if overflow == "saturate":
        return value.clamp(low, high)
    if overflow == "saturate_symmetric":
        return value.clamp(-high if signed else 0, high)
    if overflow == "saturate_zero":
        return torch.where((value >= low) & (value <= high), value, 0)
    return (value - low) % (1 << width) + low


def reference_integer_linear(
    x: Tensor, weights: Tensor, bias: Tensor | None, relu: bool, shift: int, rounding: str, overflow: str, width: int,
    signed: bool,
) -> Tensor:  # fmt: skip
    """The int64 result, through exact float64 products (below 2^53)."""
    value = (x.double() @ weights.double().T).long()
    if bias is not None:
        value = value + bias.long()
    if relu:
        value = value.clamp(min=0)
    if not overflow:
        return value
    return reference_limit(reference_round(value, shift, rounding), width, signed, overflow)


@torch.library.custom_op("gatewright::integer_linear", mutates_args=())
@device.on_its_device
def _integer_linear(
    x: Tensor, weights: Tensor, bias: Tensor | None, relu: bool, shift: int, rounding: str, overflow: str, width: int,
    signed: bool,
) -> Tensor:  # fmt: skip
    device.record("integer_linear", x)
    dtype = code_dtype(width, signed)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    shape = (*x.shape[:-1], weights.shape[0])
    if device.uses_kernel(x):
        from gatewright.kernels.integer_product_triton import launch_integer_product

        out = torch.empty((rows.shape[0], weights.shape[0]), dtype=dtype, device=x.device)
        addend = None if bias is None else bias.contiguous()
        launch_integer_product(
            rows.contiguous(),
            weights.contiguous(),
            addend,
            out,
            relu,
            shift,
            rounding,
            overflow,
            width,
            signed,
        )
        return out.reshape(shape)
    found = reference_integer_linear(rows, weights, bias, relu, shift, rounding, overflow, width, signed)
    return found.to(dtype).reshape(shape)


@_integer_linear.register_fake
def _(
    x: Tensor, weights: Tensor, bias: Tensor | None, relu: bool, shift: int, rounding: str, overflow: str, width: int,
    signed: bool,
) -> Tensor:  # fmt: skip
    return x.new_empty((*x.shape[:-1], weights.shape[0]), dtype=code_dtype(width, signed))


def integer_linear(
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    *,
    relu: bool = False,
    shift: int | None = None,
    rounding: str = "half_even",
    overflow: str = "saturate",
    width: int = 8,
    signed: bool = True,
) -> Tensor:
    """cast(relu(x . w^T + bias)) of int8 x [..., K] and weights [N, K], bias int32 [N].

    ``shift`` None returns the exact int32 sums (which the caller's bias must leave within int32); else
    0 <= shift <= 40 bits are rounded away and the codes of ``width`` bits returned in the smallest integer type.
    Errors: GW0502 type, GW0503 devices, GW0505 shapes or K above 65,536, GW0506 names and ranges.
    """
    check_dtype("x", x, (torch.int8,))
    check_dtype("weights", weights, (torch.int8,))
    check_shape("weights", weights, (None, None), "weights are [N, K]")
    check_shape("x", x, [*x.shape[:-1], weights.shape[1]], f"the weights have K = {weights.shape[1]}")
    if weights.shape[1] > LONGEST:
        raise error(
            "GW0505", f"`weights` has K = {weights.shape[1]}", note=f"sums are exact in int32 to K = {LONGEST}",
            help="split K and add the parts in int64",
        )  # fmt: skip
    if bias is not None:
        check_dtype("bias", bias, (torch.int32,))
        check_shape("bias", bias, [weights.shape[0]], "one element for each row of the weights")
    check_devices(x=x, weights=weights, bias=bias)
    check_flag("relu", relu)
    check_flag("signed", signed)
    if shift is None:
        if (rounding, overflow, width, signed) != ("half_even", "saturate", 8, True):
            raise error(
                "GW0506", f"`shift` is None, so the sums are not cast to {overflow} {rounding} codes of {width} bits",
                help="pass `shift=0` to cast them, or leave `rounding`, `overflow`, `width` and `signed` out",
            )  # fmt: skip
        return _integer_linear(x, weights, bias, relu, 0, "floor", "", 32, True)
    check_choice("rounding", rounding, ROUNDINGS)
    check_choice("overflow", overflow, OVERFLOWS)
    shift, width = check_whole("shift", shift, "GW0506"), check_whole("width", width, "GW0506")
    if not 0 <= shift <= 40 or not 1 <= width <= (32 if signed else 31):
        raise error("GW0506", f"`shift` is {shift} and `width` {width}", help="use 0..40 and 1..32 (31 unsigned)")
    return _integer_linear(x, weights, bias, relu, shift, rounding, overflow, width, signed)
