"""gelu_tanh: the approximation of gelu through tanh (Hendrycks and Gimpel, 2016)."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.operator import register
from gatewright.ir.unary import UnaryFunction


@register
@dataclass(frozen=True, slots=True)
class GeluTanh(UnaryFunction):
    """The function, correctly rounded into the result's format."""

    name = "gelu_tanh"
    function = "gelu_tanh"
    source = 'F.gelu({}, approximate="tanh")'
