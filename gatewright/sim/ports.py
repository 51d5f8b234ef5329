"""What the harness knows about a design: its streams, and taps on streams inside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gatewright.diagnostics import error


@dataclass(frozen=True, slots=True)
class StreamPort:
    """A stream of the top level: ``<name>_tdata``, ``_tvalid``, ``_tready``, ``_tlast``.

    ``width`` is the number of payload bits in use; tdata itself is rounded up to whole bytes. A sample
    takes ``beats`` transfers.
    """

    name: str
    direction: Literal["input", "output"]
    width: int
    beats: int

    @property
    def bytes(self) -> int:
        """Bytes of one word of tdata."""
        return (self.width + 7) // 8


@dataclass(frozen=True, slots=True)
class Tap:
    """A stream inside the design, recorded like an output but never driven.

    ``valid``, ``ready`` and ``data`` are paths below the top level, such as ``u_layer.out_valid``;
    ``data`` has ``width`` bits; a sample takes ``beats`` transfers.
    """

    name: str
    valid: str
    ready: str
    data: str
    width: int
    beats: int

    @property
    def bytes(self) -> int:
        """Bytes of one word."""
        return (self.width + 7) // 8


def check_ports(ports: Sequence[StreamPort], taps: Sequence[Tap]) -> None:
    """Raise GatewrightError GW0405 where names repeat or a width or number of beats is not positive."""
    names = [each.name for each in (*ports, *taps)]
    if len(set(names)) != len(names):
        raise error("GW0405", f"stream names must differ: {', '.join(names)}")
    for port in ports:
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", port.name) is None:
            raise error("GW0405", f"`{port.name}` is not a SystemVerilog name")
    for each in (*ports, *taps):
        if each.width < 1 or each.beats < 1:
            raise error("GW0405", f"stream `{each.name}` needs a positive width and number of beats")
