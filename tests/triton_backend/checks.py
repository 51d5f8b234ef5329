"""Programs against the golden model."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

import numpy as np
import torch

from gatewright.backends.triton.expressions import storage_type
from gatewright.backends.triton.program import Codes, Program
from gatewright.ir.graph import Graph
from gatewright.sim import golden


def place(graph: Graph, codes: Sequence[np.ndarray], where: torch.device) -> list[Codes]:
    """Codes on a device in the narrowest types; what int64 cannot hold stays on the host."""
    return [
        array if array.dtype == object else torch.from_numpy(array).to(storage_type(value.interval)).to(where)
        for array, value in zip(codes, graph.inputs, strict=True)
    ]


def host(codes: Codes) -> np.ndarray:
    """Codes as Python integers."""
    return (codes.cpu().numpy() if isinstance(codes, torch.Tensor) else codes).astype(object)


def check_program(graph: Graph, codes: Sequence[np.ndarray], where: torch.device) -> Program:
    """The program's codes equal the golden model's, and its source is Python; the program."""
    program = Program(graph)
    found = program(*place(graph, codes, where))
    for value, each, wanted in zip(graph.outputs, found, golden.evaluate(graph, codes), strict=True):
        assert tuple(each.shape) == wanted.shape
        assert (host(each) == wanted.astype(object)).all(), f"{value.name}\n{graph.text()}\n{program.source()}"
    source = program.source(len(codes[0]))
    ast.parse(source)
    assert all(0 <= int(fill) < 128 for fill in re.findall(r"other=(-?\d+)", source)), (
        "Triton 3.6 spreads the sign of others"
    )
    return program
