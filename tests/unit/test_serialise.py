"""Graphs saved and loaded are equal, whatever they hold; damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gatewright.diagnostics import GatewrightError, Location
from gatewright.ir.builder import Builder
from gatewright.ir.formats import Exact, Fixed, parse_cast
from gatewright.ir.graph import Graph
from gatewright.ir.intervals import Interval
from gatewright.ir.operator import operators
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.constant import Constant
from gatewright.ir.serialise import from_data, to_data
from gatewright.ir.types import Tensor, Type
from gatewright.storage import STRUCTURE, TENSORS, load_graph, save_graph
from tests.conformance.cases import make_case

SAMPLES = [
    pytest.param(sample, id=f"{name}-{index}")
    for name, cls in sorted(operators().items())
    for index, sample in enumerate(cls.samples())
]


def same(first: Graph, second: Graph) -> bool:
    """Equal in everything, source locations included, which equality of values leaves out."""
    places = [value.location for value in first.values()] == [value.location for value in second.values()]
    return first == second and first.text() == second.text() and places


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_operator_comes_back(sample, tmp_path: Path) -> None:
    case = make_case("case", sample)
    for graph in (case.integers, *([case.quantised] if case.quantised else [])):
        assert same(load_graph(save_graph(graph, tmp_path)), graph)


def tricky() -> Graph:
    """Scalars, empty and huge constants, infinities, shared tensors, locations, nested formats."""
    builder = Builder("tricky")
    with builder.at(Location("a.b", "model.py", 7, "x = y"), "x"):
        x = builder.input("x", Type((2,), Fixed(8, 4), Interval(-128, 127)))
    scalar = builder.integers(np.array(3), Exact(-2))
    huge = builder.integers(np.array([[1 << 80, -(1 << 90)]], dtype=object), Exact(0))
    odd = builder.parameter("weight", np.array([np.inf, -0.0, np.nan]))
    again = builder.add(Constant(scalar_data(), Exact(1), "same"))
    block = builder.add(Cast(parse_cast("mxint8")), builder.parameter("p", np.zeros((2, 32))))
    total = builder.map(lambda a, b: a * b + (1 << 70), x, scalar, frac=2)
    return builder.finish([total, huge, again, block, odd], ["a", "b", "c", "d", "e"])


def scalar_data() -> Tensor:
    return Tensor(np.array(3))


def test_corner_cases_come_back(tmp_path: Path) -> None:
    graph = tricky()
    loaded = load_graph(save_graph(graph, tmp_path / "new" / "folder"))
    assert same(loaded, graph)
    (odd,) = (node.op for node in loaded.nodes if isinstance(node.op, Constant) and node.op.source == "weight")
    assert odd.trainable
    assert np.signbit(odd.data.array[1])
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [STRUCTURE, TENSORS]


def test_equal_tensors_are_kept_once() -> None:
    saved = to_data(tricky())
    digests = [Tensor(array).digest for array in saved.arrays.values()]
    assert len(set(digests)) == len(digests)


def refused(code: str, part: str, call) -> None:
    with pytest.raises(GatewrightError) as caught:
        call()
    assert caught.value.code == code
    assert part in str(caught.value)


def test_damage_is_named(tmp_path: Path) -> None:
    refused("GW0372", STRUCTURE, lambda: load_graph(tmp_path))
    folder = save_graph(tricky(), tmp_path / "graph")
    structure = json.loads((folder / STRUCTURE).read_text())
    refused("GW0370", "no saved graph", lambda: from_data({}, {}))
    refused("GW0370", "version 99", lambda: from_data({**structure, "gatewright_graph": 99}, {}))
    refused("GW0371", "tensor0", lambda: from_data(structure, {}))
    unknown = json.loads(json.dumps(structure).replace('"name": "constant"', '"name": "colander"'))
    refused("GW0371", "colander", lambda: from_data(unknown, to_data(tricky()).arrays))
    (folder / STRUCTURE).write_text(json.dumps({**structure, "nodes": [{}]}))
    refused("GW0370", "damaged", lambda: load_graph(folder))
    (folder / TENSORS).write_bytes(b"nothing")
    refused("GW0372", "no saved graph", lambda: load_graph(folder))


def test_no_class_outside_the_ir_is_made() -> None:
    structure = to_data(tricky()).structure
    structure["values"][0] = {"$": "Path", "name": "x"}
    refused("GW0371", "Path", lambda: from_data(structure, {}))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused("GW0373", "cannot be saved", lambda: save_graph(tricky(), tmp_path / "file" / "folder"))
