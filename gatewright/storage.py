"""Saving and loading graphs: ``graph.json`` for the structure, ``tensors.safetensors`` for the arrays."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, cast

from gatewright.diagnostics import error
from gatewright.ir.graph import Graph
from gatewright.ir.serialise import from_data, to_data

STRUCTURE = "graph.json"
TENSORS = "tensors.safetensors"


def save_graph(graph: Graph, folder: str | Path) -> Path:
    """Write ``graph`` into ``folder``, which is made where it is missing; the folder.

    Each file is written aside and renamed. Raises GW0373 where the folder cannot be written.
    """
    from safetensors.numpy import save

    saved = to_data(graph)
    target = Path(folder)
    text = json.dumps(saved.structure, separators=(",", ":"), allow_nan=False)
    try:
        target.mkdir(parents=True, exist_ok=True)
        _write(target / TENSORS, save(dict(saved.arrays)))
        _write(target / STRUCTURE, text.encode())
    except OSError as problem:
        raise error(
            "GW0373",
            f"the graph cannot be saved in {target}",
            note=f"{type(problem).__name__}: {problem.strerror}",
            help="choose a folder that can be written",
        ) from problem
    return target


def load_graph(folder: str | Path) -> Graph:
    """The graph saved in ``folder``, equal to the one that was saved.

    Raises GW0372 where a file is missing or no saved graph, GW0370 and GW0371 as ``from_data`` does.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    source = Path(folder)
    try:
        structure: Any = json.loads((source / STRUCTURE).read_text())
        arrays = load((source / TENSORS).read_bytes())
    except (OSError, ValueError, SafetensorError) as problem:
        raise error(
            "GW0372",
            f"{source} holds no saved graph that can be read",
            note=f"{type(problem).__name__}: {problem}",
            help=f"it needs {STRUCTURE} and {TENSORS}, as save_graph writes them",
        ) from problem
    return from_data(cast("dict[str, Any]", structure) if isinstance(structure, dict) else {}, arrays)


def _write(path: Path, content: bytes) -> None:
    """Write a file aside, then rename it, so that no reader ever sees half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)  # noqa: PTH101 (a Path would say no more)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
