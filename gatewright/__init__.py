"""Gatewright: PyTorch models to SystemVerilog, equal to the quantised model bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatewright.diagnostics import GatewrightError, MismatchError

if TYPE_CHECKING:
    from gatewright.api import Design, compile, quantize
    from gatewright.backends.torch.cast import cast
    from gatewright.ir.targets import Target
    from gatewright.numbers import format

__all__ = ["Design", "GatewrightError", "MismatchError", "Target", "cast", "compile", "format", "quantize"]

__version__ = "0.1.0"

_HOMES = {
    "cast": "gatewright.backends.torch.cast",
    "Design": "gatewright.api",
    "compile": "gatewright.api",
    "quantize": "gatewright.api",
    "Target": "gatewright.ir.targets",
    "format": "gatewright.numbers",
}


def __getattr__(name: str) -> Any:
    """Import the public names late: torch takes seconds."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gatewright' has no attribute {name!r}")
