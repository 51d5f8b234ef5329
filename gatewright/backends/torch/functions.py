"""Nonlinear functions in PyTorch: the hardware's table or polynomials forward, the real derivative backward.

``gatewright::function`` takes the operand and the real function's value of it. Its result is the integer
expression that the hardware computes; its gradient goes to the real value, as that of the cast of the
result would. While a model is exported the function prints as itself and a cast, so that the importer
finds both again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor

from gatewright.backends.torch.cast import (
    FLOAT32_BITS,
    cast_operator,
    laid_like,
    parsed,
    result_dtype,
    straight_through,
)
from gatewright.backends.torch.elements import codes_of, values_of
from gatewright.backends.torch.exporting import exporting
from gatewright.backends.torch.expressions import TorchExpression, torch_expression
from gatewright.backends.torch.texts import with_result
from gatewright.diagnostics import GatewrightError
from gatewright.ir.builder import Builder
from gatewright.ir.formats import Exact, Fixed, ScalarFormat, parse_format
from gatewright.ir.intervals import Interval
from gatewright.ir.operator import Operator, operators
from gatewright.ir.ops.map import Map
from gatewright.ir.types import Type, fraction_bits

_LISTED_BITS = 16
"""Functions of codes up to this width are one table of results, however the hardware computes them."""


@dataclass(frozen=True, slots=True, eq=False)
class IntegerFunction:
    """What the hardware computes for the codes of ``domain`` in ``source``: reals in, reals out."""

    expression: TorchExpression
    source: ScalarFormat
    domain: Interval
    result: ScalarFormat

    def __call__(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        """The results for ``value``, which must hold values of ``source`` with codes of the domain.

        NaN gives what the result's format has for it. Where ``source`` has none, NaN comes from a parameter and stays.
        """
        low, high = self.domain.low, self.domain.high
        codes = self._codes(value).clamp_(low, high)
        if self.domain.width <= _LISTED_BITS:
            found = _listed(self, value.device, dtype)[codes - low]
        else:
            results = self.expression(codes)
            assert isinstance(results, Tensor)
            found = values_of(results, self.result).to(dtype)
        return found if self.source.has_nan else found.masked_fill_(value.isnan(), math.nan)

    def _codes(self, value: Tensor) -> Tensor:
        if not isinstance(self.source, Fixed | Exact):
            return codes_of(value.double(), self.source).to(torch.int64)
        wide = value.double() if self.domain.width > FLOAT32_BITS else value
        return (wide * 2.0 ** fraction_bits(self.source)).to(torch.int64)


@lru_cache(maxsize=256)
def _listed(function: IntegerFunction, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        codes = function.expression(torch.arange(function.domain.low, function.domain.high + 1))
        assert isinstance(codes, Tensor)
        return values_of(codes, function.result).to(dtype).to(device)


@lru_cache(maxsize=1024)
def integer_function(name: str, source: str, result: str, attributes: str = "{}") -> IntegerFunction:
    """The operator ``name`` on codes of the format ``source``, rounded as the cast ``result`` says.

    ``attributes`` are the operator's other attributes as JSON; ``domain`` limits the codes.
    """
    format, spec = parse_format(source), parsed(result)
    assert isinstance(format, ScalarFormat) and isinstance(spec.format, ScalarFormat)
    fields: dict[str, Any] = {
        key: tuple(cast(list[Any], value)) if isinstance(value, list) else value
        for key, value in json.loads(attributes).items()
    }
    domain = fields.get("domain")
    if domain is None:
        domain = format.code_interval()
    op = cast(Operator, cast(Any, operators()[name])(**fields))
    builder = Builder("function")
    operand = builder.input("x", Type((), format, Interval(*domain)))
    output = with_result(op, spec).decompose(builder, operand)
    node = builder.producer(output)
    assert node is not None and isinstance(node.op, Map)
    expression = torch_expression(node.op.expression)
    return IntegerFunction(expression, format, Interval(*domain), spec.format)


def has_integer_function(name: str, source: str, result: str, attributes: str) -> bool:
    """Whether hardware could compute the function: neither its operand nor its result is too wide."""
    try:
        integer_function(name, source, result, attributes)
    except GatewrightError as problem:
        if problem.code in ("GW0342", "GW0343"):
            return False
        raise
    return True


@torch.library.custom_op("gatewright::function", mutates_args=())
def function_operator(value: Tensor, real: Tensor, name: str, source: str, result: str, attributes: str) -> Tensor:
    """The function ``name`` of ``value`` as the hardware computes it; ``real`` carries the gradient."""
    return laid_like(integer_function(name, source, result, attributes)(value, real.dtype), real)


@function_operator.register_fake
def _function_fake(  # pyright: ignore[reportUnusedFunction]
    value: Tensor, real: Tensor, name: str, source: str, result: str, attributes: str
) -> Tensor:
    return torch.empty_like(real)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.spec = parsed(inputs[4])
    ctx.save_for_backward(inputs[1])


def _backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None, None, None, None]:
    (real,) = ctx.saved_tensors
    return None, straight_through(gradient, real, ctx.spec).to(real.dtype), None, None, None, None


function_operator.register_autograd(_backward, setup_context=_setup_context)


class _FiniteGradient(torch.autograd.Function):
    """The identity, with a gradient of zero where it would be infinite or NaN."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return torch.where(gradients[0].isfinite(), gradients[0], 0.0)


def function(
    name: str,
    value: Tensor,
    real: Callable[[Tensor], Tensor],
    source: str,
    result: str,
    attributes: str = "{}",
) -> Tensor:
    """The nonlinear function ``name`` of ``value`` in format ``source``, rounded to the cast ``result``.

    ``real`` is the same function in PyTorch; it gives the gradient, and is not computed where none is wanted.
    """
    if exporting():
        return cast_operator(real(value), result)
    dtype = result_dtype(result) or value.dtype
    if not torch.compiler.is_compiling() and not (torch.is_grad_enabled() and value.requires_grad):
        return integer_function(name, source, result, attributes)(value, dtype)
    # The gradient at NaN and infinity is zero, as behind every other reader of such an input; so it is where the
    # function has no derivative, or leaves float32: quantised operands are often exactly 0.
    finite = cast(Tensor, _FiniteGradient.apply(torch.nan_to_num(value, nan=0.0)))
    return function_operator(value, real(finite).to(dtype), name, source, result, attributes)
