"""Which ATen operators can be imported, and what to say about the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch.fx import Node

from gatewright.diagnostics import Diagnostic, diagnostic, nearest
from gatewright.frontend.arguments import is_overload
from gatewright.frontend.locations import node_location
from gatewright.ir.operator import Operator

SHOWN_PLACES = 3


def is_random(node: Node) -> bool:
    """Whether the call can draw random numbers; recurrent layers cannot in evaluation, nor without dropout."""
    if not is_overload(node.target) or torch.Tag.nondeterministic_seeded not in cast(Any, node.target).tags:
        return False
    names = [each.name for each in cast(Any, node.target)._schema.arguments]
    given: dict[str, Any] = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    return given.get("train", True) is not False and given.get("dropout", 1.0) != 0.0


def unsupported(target: str, nodes: Sequence[Node], by_name: Mapping[str, type[Operator]]) -> Diagnostic:
    """GW0105: ``target`` cannot be imported; ``nodes`` are all calls to it."""
    places = [node_location(node) for node in nodes]
    notes = ["the model calls it through " + _shown(target)]
    others = [str(place) for place in places[1:]]
    if others:
        listed = ", ".join(others[:SHOWN_PLACES])
        rest = len(others) - SHOWN_PLACES
        notes.append(f"also at {listed}" + (f" and {rest} more places" if rest > 0 else ""))
    if is_random(nodes[0]):
        return diagnostic(
            "GW0105",
            f"operator {target.partition('.')[0]} draws random numbers",
            location=places[0],
            note=[*notes, "the same input must give the same result, in the model and in hardware"],
            help="draw them once, outside of forward, and keep them in a buffer or pass them as an input",
        )
    base = target.partition(".")[0]
    bases = sorted({name.partition(".")[0] for name in by_name})
    likeness = 0.8 if len(base) < 6 else 0.5  # short names are alike by chance
    close = nearest(base, [name for name in bases if name != base], likeness)
    overloads = sorted(name for name in by_name if name.partition(".")[0] == base)
    if overloads:
        help = f"the form {' or '.join(overloads)} is supported"
    elif close:
        help = f"the nearest supported operator is {close}"
    else:
        help = "write it with supported operators; docs/adding-an-op.md shows how to add one"
    return diagnostic("GW0105", f"operator {base} is not supported", location=places[0], note=notes, help=help)


def _shown(target: str) -> str:
    return target if target.count(".") > 1 else f"aten.{target}"
