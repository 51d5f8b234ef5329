"""Names of a model's inputs and outputs."""

from __future__ import annotations

import re
from typing import Any

import torch.utils._pytree as pytree
from torch.export import ExportedProgram


def input_names(program: ExportedProgram) -> dict[str, str]:
    """The port name of every user input, by its node's name: the name of forward's argument."""
    return {str(name): str(name) for name in program.graph_signature.user_inputs}


def output_names(program: ExportedProgram) -> list[str]:
    """A name for every leaf of what forward returns, in order.

    ``output`` for a single tensor, ``output0`` ... for a tuple, the keys for a dict or a dataclass;
    nested ones are joined with ``_``.
    """
    specification: Any = program.call_spec.out_spec
    count = len(program.graph_signature.user_outputs)
    if specification is None:
        return ["output"] if count == 1 else [f"output{position}" for position in range(count)]
    tree = pytree.tree_unflatten(list(range(specification.num_leaves)), specification)
    leaves, _ = pytree.tree_flatten_with_path(tree)
    return [_path_name(path, len(leaves)) for path, _ in leaves]


def _path_name(path: tuple[Any, ...], count: int) -> str:
    parts: list[str] = []
    for key in path:
        if isinstance(key, pytree.SequenceKey):
            index = str(key.idx)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
            parts.append(index if parts else f"output{index}" if count > 1 else "output")
        else:
            name: Any = getattr(key, "key", getattr(key, "name", key))
            parts.append(re.sub(r"\W", "_", str(name)))
    return "_".join(parts) or "output"
