"""Softmax, layer norm, RMS norm, GELU and SiLU gate: the operators, with an optional cast of the result.

Each works along the last axis. Without ``output`` the result is a tensor of the input's type, and has gradients
(PyTorch's own formulas, on the saved inputs). With the name of a format, it is the float32 value, rounded once:
``(codes, scales)`` of a block format, packed as ``convert.quantize`` packs, or the codes of any other cast
(:mod:`gatewright.kernels.outputs`).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gatewright.diagnostics import error
from gatewright.kernels import device
from gatewright.kernels.arguments import check_choice, check_devices, check_float, check_number, check_shape
from gatewright.kernels.gradients import gradients
from gatewright.kernels.outputs import read_output, shape_of_output

ROW_KINDS = ("softmax", "layer_norm", "rms_norm")
GATE_KINDS = ("gelu", "gelu_tanh", "silu_gate")


def reference_rows(values: Tensor, weight: Tensor | None, bias: Tensor | None, kind: str, epsilon: float) -> Tensor:
    """The float32 result in plain PyTorch."""
    wide = values.float()
    gain = None if weight is None else weight.float()
    if kind == "softmax":
        return torch.softmax(wide, -1)
    if kind == "layer_norm":
        return F.layer_norm(wide, wide.shape[-1:], gain, None if bias is None else bias.float(), epsilon)
    return F.rms_norm(wide, wide.shape[-1:], gain, epsilon)


def reference_gates(values: Tensor, other: Tensor | None, kind: str) -> Tensor:
    """The float32 result in plain PyTorch."""
    if kind == "silu_gate":
        assert other is not None
        return F.silu(values.float()) * other.float()
    return F.gelu(values.float(), approximate="tanh" if kind == "gelu_tanh" else "none")


@torch.library.custom_op("gatewright::rows", mutates_args=())
@device.on_its_device
def _rows(
    values: Tensor, weight: Tensor | None, bias: Tensor | None, kind: str, epsilon: float, output: str
) -> tuple[Tensor, Tensor]:
    target = read_output(output)
    if device.uses_kernel(values):
        from gatewright.kernels import rows_cuda
        from gatewright.kernels.rows_triton import launch_rows, row_limit

        if row_limit(values):
            device.record(kind, values)
            out, scales = target.empty(values)
            gain = None if weight is None else weight.contiguous()
            shift = None if bias is None else bias.contiguous()
            values = values.contiguous()
            given = (ROW_KINDS.index(kind), values, gain, shift, epsilon, out, scales)
            packed = output if target.form is None else target.form.name
            if rows_cuda.serves(values, gain, shift, packed):
                rows_cuda.launch_rows(*given, packed)
            else:
                launch_rows(*given, target.kernel)
            return target.finish((out, scales))
    device.LAUNCHES[kind, "reference"] += 1
    return target.of(reference_rows(values, weight, bias, kind, epsilon), values.dtype)


@_rows.register_fake
def _(
    values: Tensor, weight: Tensor | None, bias: Tensor | None, kind: str, epsilon: float, output: str
) -> tuple[Tensor, Tensor]:
    target = read_output(output)
    return target.finish(target.empty(values))


def _save_rows(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    values, weight, bias, ctx.kind, ctx.epsilon, _ = inputs
    ctx.save_for_backward(values, weight, bias)


def _rows_backward(context: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    def plain(values: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        return reference_rows(values, weight, bias, context.kind, context.epsilon)

    return (*gradients(plain, context.saved_tensors, gradient.float()), None, None, None)


_rows.register_autograd(_rows_backward, setup_context=_save_rows)


@torch.library.custom_op("gatewright::gates", mutates_args=())
@device.on_its_device
def _gates(values: Tensor, other: Tensor | None, kind: str, output: str) -> tuple[Tensor, Tensor]:
    target = read_output(output)
    device.record(kind, values)
    if device.uses_kernel(values):
        from gatewright.kernels.gates_triton import launch_gates

        out, scales = target.empty(values)
        factor = None if other is None else other.contiguous()
        launch_gates(GATE_KINDS.index(kind), values.contiguous(), factor, out, scales, target.kernel)
        return target.finish((out, scales))
    return target.of(reference_gates(values, other, kind), values.dtype)


@_gates.register_fake
def _(values: Tensor, other: Tensor | None, kind: str, output: str) -> tuple[Tensor, Tensor]:
    target = read_output(output)
    return target.finish(target.empty(values))


def _save_gates(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    values, other, ctx.kind, _ = inputs
    ctx.save_for_backward(values, other)


def _gates_backward(context: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    def plain(values: Tensor, other: Tensor | None) -> Tensor:
        return reference_gates(values, other, context.kind)

    return (*gradients(plain, context.saved_tensors, gradient.float()), None, None)


_gates.register_autograd(_gates_backward, setup_context=_save_gates)


def _check_rows(name: str, values: Tensor) -> None:
    """GW0505 unless ``values`` has a last axis."""
    if not values.ndim:
        raise error("GW0505", f"`{name}` has shape (), expected at least one axis", help=f"pass `{name}.reshape(1)`")


def _check_output(name: str, values: Tensor, output: str) -> None:
    """GW0505 if a row is no whole number of the output's blocks, besides what ``read_output`` refuses."""
    form, size, _ = shape_of_output(output)
    if not form:
        return
    _check_rows(name, values)
    if values.shape[-1] % size:
        raise error(
            "GW0505",
            f"the last axis of `{name}` has {values.shape[-1]} elements, no multiple of {form}'s {size}",
            help="pad the axis, or leave `output` out and quantise the result",
        )


def _result(pair: tuple[Tensor, Tensor], output: str) -> Tensor | tuple[Tensor, Tensor]:
    return pair if shape_of_output(output)[2] else pair[0]


def softmax(values: Tensor, output: str = "") -> Tensor | tuple[Tensor, Tensor]:
    """Softmax along the last axis. Errors: GW02xx format, GW0502 type, GW0505 shape, GW0506 a random rounding."""
    check_float("values", values)
    _check_rows("values", values)
    _check_output("values", values, output)
    return _result(_rows(values, None, None, "softmax", 0.0, output), output)


def layer_norm(
    values: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    epsilon: float = 1e-5,
    output: str = "",
) -> Tensor | tuple[Tensor, Tensor]:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias along the last axis. Errors as ``softmax``."""
    return _norm("layer_norm", values, weight, bias, epsilon, output)


def rms_norm(
    values: Tensor, weight: Tensor | None = None, epsilon: float = 1e-6, output: str = ""
) -> Tensor | tuple[Tensor, Tensor]:
    """x / sqrt(mean(x^2) + epsilon) * weight along the last axis. Errors as ``softmax``."""
    return _norm("rms_norm", values, weight, None, epsilon, output)


def _norm(
    kind: str, values: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float, output: str
) -> Tensor | tuple[Tensor, Tensor]:
    check_float("values", values)
    _check_rows("values", values)
    _check_output("values", values, output)
    for name, each in (("weight", weight), ("bias", bias)):
        if each is not None:
            check_float(name, each)
            check_shape(name, each, [values.shape[-1]], "one element for each of the last axis")
    check_devices(values=values, weight=weight, bias=bias)
    check_number("epsilon", epsilon)
    return _result(_rows(values, weight, bias, kind, epsilon, output), output)


def gelu(values: Tensor, approximate: str = "none", output: str = "") -> Tensor | tuple[Tensor, Tensor]:
    """GELU, exact or with PyTorch's tanh approximation. Errors as ``softmax``, and GW0506 approximate."""
    check_float("values", values)
    check_choice("approximate", approximate, ("none", "tanh"))
    kind = "gelu_tanh" if approximate == "tanh" else "gelu"
    _check_output("values", values, output)
    return _result(_gates(values, None, kind, output), output)


def silu_gate(gate: Tensor, up: Tensor, output: str = "") -> Tensor | tuple[Tensor, Tensor]:
    """silu(gate) * up, of one shape. Errors as ``softmax``, and GW0503 devices."""
    check_float("gate", gate)
    check_float("up", up)
    check_shape("up", up, list(gate.shape), "`gate` and `up` are multiplied element by element")
    check_devices(gate=gate, up=up)
    _check_output("gate", gate, output)
    return _result(_gates(gate, up, "silu_gate", output), output)
