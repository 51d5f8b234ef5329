"""The check of a design's inputs that the golden model on the host and on the GPU share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gatewright.diagnostics import error
from gatewright.ir.types import Value


def check_samples(ports: Iterable[Value], shapes: Iterable[Sequence[int]]) -> None:
    """GW0902 unless every input is [samples, *the port's shape], with as many samples as the others."""
    counts: dict[str, int] = {}
    for port, shape in zip(ports, shapes, strict=True):
        if not shape or tuple(shape[1:]) != port.shape:
            raise error(
                "GW0902",
                f"input {port.name} has shape {list(shape)}",
                note=f"expected [{', '.join(('samples', *map(str, port.shape)))}]",
                help="the batch comes first; the other axes are those of the example",
            )
        counts[port.name] = shape[0]
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise error("GW0902", f"the inputs differ in their number of samples: {listed}")
