"""Nonlinear functions in PyTorch: the hardware's table or polynomials forward, the real derivative backward.

``gatewright::function`` takes the operand and the real function's value of it. Its result is the integer
expression that the hardware computes; its gradient goes to the real value, as that of the cast of the
result would. While a model is exported the function prints as itself and a cast, so that the importer
finds both again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor

from gatewright.backends.torch.cast import cast_operator, parsed, result_dtype, straight_through
from gatewright.backends.torch.expressions import TorchExpression, from_host, torch_expression
from gatewright.backends.torch.texts import with_result
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.formats import Fixed, parse_format
from gatewright.ir.operator import Operator, operators
from gatewright.ir.ops.map import Map
from gatewright.ir.types import Type

_LISTED_BITS = 16
"""Functions of operands up to this width are one table of results, however the hardware computes them."""


@dataclass(frozen=True, slots=True, eq=False)
class IntegerFunction:
    """What the hardware computes for every code of ``source``: reals in, reals out."""

    expression: TorchExpression
    source: Fixed
    result: Fixed

    def __call__(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        """The results for ``value``, which must lie in the source format."""
        low, high = self.source.code_interval()
        codes = (value.double() if self.source.width > 24 else value) * 2.0**self.source.fraction_bits
        codes = codes.to(torch.int64).clamp_(low, high)
        if self.source.width <= _LISTED_BITS:
            return _listed(self, value.device, dtype)[codes - low]
        found = self.expression(codes)
        assert isinstance(found, Tensor)
        return (found.double() * 2.0**-self.result.fraction_bits).to(dtype)


@lru_cache(maxsize=256)
def _listed(function: IntegerFunction, device: torch.device, dtype: torch.dtype) -> Tensor:
    low, high = function.source.code_interval()
    with torch.inference_mode(False):
        found = function.expression(torch.arange(low, high + 1))
        codes = from_host(found, torch.device("cpu")) if not isinstance(found, Tensor) else found
        assert isinstance(codes, Tensor)
        return (codes.double() * 2.0**-function.result.fraction_bits).to(dtype).to(device)


@lru_cache(maxsize=1024)
def integer_function(name: str, source: str, result: str, attributes: str = "{}") -> IntegerFunction:
    """The operator ``name`` on all codes of ``source``, rounded as the cast ``result`` says."""
    format, spec = parse_format(source), parsed(result)
    assert isinstance(format, Fixed) and isinstance(spec.format, Fixed)
    op = cast(Operator, cast(Any, operators()[name])(**json.loads(attributes)))
    builder = Builder("function")
    operand = builder.input("x", Type((), format, interval_of_codes(format)))
    output = with_result(op, spec).decompose(builder, operand)
    node = builder.producer(output)
    assert node is not None and isinstance(node.op, Map)
    return IntegerFunction(torch_expression(node.op.expression), format, spec.format)


@torch.library.custom_op("gatewright::function", mutates_args=())
def function_operator(
    value: Tensor, real: Tensor, name: str, source: str, result: str, attributes: str
) -> Tensor:
    """The function ``name`` of ``value`` as the hardware computes it; ``real`` carries the gradient."""
    return integer_function(name, source, result, attributes)(value, real.dtype)


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
    if torch.compiler.is_exporting():
        return cast_operator(real(value), result)
    dtype = result_dtype(result) or value.dtype
    if not torch.compiler.is_compiling() and not (torch.is_grad_enabled() and value.requires_grad):
        return integer_function(name, source, result, attributes)(value, dtype)
    return function_operator(value, real(value).to(dtype), name, source, result, attributes)
