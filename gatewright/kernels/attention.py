"""Attention: the operators. Prefill over plain tensors, decode over a block-format key-value cache."""

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
    check_number,
    check_pair,
    check_shape,
    check_whole,
)
from gatewright.kernels.convert import dequantize
from gatewright.kernels.formats import block_format
from gatewright.kernels.gradients import gradients

CACHE_FORMATS = ("mxint8", "mxfp8_e4m3", "mxfp8_e5m2")
DEPTHS = (32, 64, 128, 256)


def reference_attention(query: Tensor, keys: Tensor, values: Tensor, causal: bool, scale: float) -> Tensor:
    """softmax(scale q . k^T) . v in float32; a causal mask lets the last query see the last key."""
    group = query.shape[1] // keys.shape[1]
    keys, values = keys.repeat_interleave(group, 1).float(), values.repeat_interleave(group, 1).float()
    scores = query.float() @ keys.mT * scale
    if causal:
        visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device)
        scores = scores.masked_fill(~visible.tril(scores.shape[-1] - scores.shape[-2]), float("-inf"))
    return torch.softmax(scores, -1) @ values


@torch.library.custom_op("gatewright::attention", mutates_args=())
@device.on_its_device
def _attention(query: Tensor, keys: Tensor, values: Tensor, causal: bool, scale: float) -> Tensor:
    device.record("attention", query)
    if device.uses_kernel(query):
        from gatewright.kernels.attention_prefill_triton import launch_attention_prefill

        return launch_attention_prefill(query, keys, values, causal, scale)
    return reference_attention(query, keys, values, causal, scale).to(query.dtype)


@_attention.register_fake
def _(query: Tensor, keys: Tensor, values: Tensor, causal: bool, scale: float) -> Tensor:
    return torch.empty(query.shape, dtype=query.dtype, device=query.device)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    query, keys, values, ctx.causal, ctx.scale = inputs
    ctx.save_for_backward(query, keys, values)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    again = torch.is_grad_enabled()  # the library's attention has no second derivative

    def plain(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if again:
            return reference_attention(query, keys, values, ctx.causal, ctx.scale).to(query.dtype)
        return _library_attention(query, keys, values, ctx.causal, ctx.scale)

    return (*gradients(plain, ctx.saved_tensors, gradient), None, None)


def _library_attention(query: Tensor, keys: Tensor, values: Tensor, causal: bool, scale: float) -> Tensor:
    group = query.shape[1] // keys.shape[1]
    square = bool(causal and query.shape[2] == keys.shape[2])
    mask = None
    if causal and not square:
        visible = torch.ones(query.shape[2], keys.shape[2], dtype=torch.bool, device=query.device)
        mask = visible.tril(keys.shape[2] - query.shape[2])
    wide = [each.repeat_interleave(group, 1) for each in (keys, values)]
    return F.scaled_dot_product_attention(query, *wide, attn_mask=mask, is_causal=square, scale=scale)


_attention.register_autograd(_backward, setup_context=_save)


def attention(query: Tensor, keys: Tensor, values: Tensor, causal: bool = False, scale: float | None = None) -> Tensor:
    """Attention for query [B, H, Q, D] and keys, values [B, G, S, D], H a multiple of G; default scale 1 / sqrt(D).

    Causal: the last query sees the last key, so S must not be below Q. Errors: GW0502 type, GW0503 devices,
    GW0505 shapes, GW0506 causal and scale.
    """
    check_flag("causal", causal)
    check_float("query", query)
    check_dtype("keys", keys, (query.dtype,))
    check_dtype("values", values, (query.dtype,))
    check_shape("query", query, (None,) * 4, "[batch, heads, queries, depth]")
    batch, heads, queries, depth = query.shape
    check_shape("keys", keys, (batch, None, None, depth), "[batch, key-value heads, tokens, depth]")
    check_shape("values", values, list(keys.shape), "keys and values have one shape")
    _check_heads(heads, keys.shape[1], depth)
    check_devices(query=query, keys=keys, values=values)
    if keys.shape[2] == 0 or (causal and keys.shape[2] < queries):
        raise error("GW0505", f"`keys` has {keys.shape[2]} tokens for {queries} queries", note="a row would see none")
    return _attention(query, keys, values, causal, _scale(scale, depth))


@torch.library.custom_op("gatewright::attention_decode", mutates_args=())
@device.on_its_device
def _attention_decode(
    query: Tensor, key_codes: Tensor, key_scales: Tensor, value_codes: Tensor, value_scales: Tensor, form: str,
    length: int, scale: float,
) -> Tensor:  # fmt: skip
    device.record("attention_decode_" + form, query)
    if device.uses_kernel(query):
        from gatewright.kernels import attention_decode_cuda
        from gatewright.kernels.attention_decode_triton import launch_attention_decode

        keys = device.aligned(key_codes), device.aligned(key_scales)
        values = device.aligned(value_codes), device.aligned(value_scales)
        if attention_decode_cuda.serves(query, keys[0], values[0], form):
            return attention_decode_cuda.launch_attention_decode(query, keys, values, form, length, scale)
        return launch_attention_decode(query, keys, values, form, length, scale)
    keys_plain = dequantize(key_codes[:, :, :length], key_scales[:, :, :length], form, torch.float32)
    values_plain = dequantize(value_codes[:, :, :length], value_scales[:, :, :length], form, torch.float32)
    found = reference_attention(query.unsqueeze(2), keys_plain, values_plain, False, scale)
    return found.squeeze(2).to(query.dtype)


@_attention_decode.register_fake
def _(
    query: Tensor, key_codes: Tensor, key_scales: Tensor, value_codes: Tensor, value_scales: Tensor, form: str,
    length: int, scale: float,
) -> Tensor:  # fmt: skip
    return torch.empty(query.shape, dtype=query.dtype, device=query.device)


def attention_decode(
    query: Tensor,
    keys: tuple[Tensor, Tensor],
    values: tuple[Tensor, Tensor],
    form: str,
    length: int | None = None,
    scale: float | None = None,
) -> Tensor:
    """One query token [B, H, D] over the first ``length`` tokens of a cache in an 8-bit block format.

    ``keys`` and ``values`` are (codes [B, G, S, D], scales [B, G, S, D / 32]), blocks along D.
    Errors: GW0501 format, GW0502 type, GW0503 devices, GW0505 shapes, GW0506 a format of other width, scale.
    """
    found = block_format(form)
    check_choice("form", found.name, CACHE_FORMATS)
    check_float("query", query)
    check_shape("query", query, (None,) * 3, "[batch, heads, depth]")
    batch, heads, depth = query.shape
    keys, values = check_pair("keys", keys), check_pair("values", values)
    for name, (codes, scales) in (("keys", keys), ("values", values)):
        check_shape(f"{name}[0]", codes, (batch, None, None, depth), "[batch, key-value heads, tokens, depth]")
        check_blocks(codes, scales, found, 3, (f"{name}[0]", f"{name}[1]"))
    check_shape("values[0]", values[0], list(keys[0].shape), "keys and values have one shape")
    _check_heads(heads, keys[0].shape[1], depth)
    check_devices(query=query, keys=keys[0], values=values[0])
    capacity = keys[0].shape[2]
    tokens = capacity if length is None else check_whole("length", length, "GW0505")
    if not 0 < tokens <= capacity:
        raise error("GW0505", f"`length` is {tokens}, the cache holds {capacity} tokens")
    parts = [each.contiguous() for each in (*keys, *values)]
    return _attention_decode(query, *parts, found.name, tokens, _scale(scale, depth))


def _scale(scale: float | None, depth: int) -> float:
    if scale is None:
        return 1.0 / math.sqrt(depth)
    check_number("scale", scale)
    return scale


def _check_heads(heads: int, shared: int, depth: int) -> None:
    if shared == 0 or heads % shared:
        raise error("GW0505", f"`query` has {heads} heads, which do not divide among the {shared} of `keys`")
    if depth not in DEPTHS:
        raise error("GW0505", f"`query` has heads of depth {depth}", help=f"use one of {DEPTHS}")
