"""Graphs as plain data and back: structure that JSON can hold, and arrays apart.

Every attribute of every operator is written by reflection: frozen dataclasses and enumerations of the
IR by their names, operators by their registered names, large arrays by reference. Nothing but these closed
sets of classes is ever instantiated, so a saved graph can come from anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gatewright.diagnostics import GatewrightError, error
from gatewright.ir.graph import Graph, Node
from gatewright.ir.operator import Operator, operators
from gatewright.ir.types import Tensor, Value

VERSION = 1

MODULES = (
    "gatewright.diagnostics",
    "gatewright.ir.accumulation",
    "gatewright.ir.expressions",
    "gatewright.ir.formats",
    "gatewright.ir.intervals",
    "gatewright.ir.types",
)
"""Where the dataclasses and enumerations of attributes come from."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A graph apart: ``structure`` holds only what JSON holds, ``arrays`` int64 and float64 arrays by key."""

    structure: dict[str, Any]
    arrays: Mapping[str, NDArray[Any]]


@cache
def classes() -> dict[str, type[Any]]:
    """The dataclasses and enumerations that attributes may be made of, by name."""
    found: dict[str, type[Any]] = {}
    for name in MODULES:
        for each in vars(import_module(name)).values():
            if not isinstance(each, type) or not (is_dataclass(each) or issubclass(each, Enum)):
                continue
            cls = cast("type[Any]", each)
            if found.setdefault(cls.__name__, cls) is not cls:
                raise ValueError(f"two classes are named {cls.__name__}")
    return found


def to_data(graph: Graph) -> Saved:
    """``graph`` as plain data; :func:`from_data` gives an equal graph with the same source locations."""
    writer = _Writer()
    numbers: dict[Value, int] = {}
    values: list[Any] = []
    for value in graph.values():
        numbers[value] = len(values)
        values.append(writer.write(value))
    nodes = [
        {"op": writer.write(node.op), "inputs": [numbers[each] for each in node.inputs], "output": numbers[node.output]}
        for node in graph.nodes
    ]
    structure = {
        "gatewright_graph": VERSION,
        "name": graph.name,
        "values": values,
        "inputs": [numbers[value] for value in graph.inputs],
        "nodes": nodes,
        "outputs": [numbers[value] for value in graph.outputs],
        "output_names": list(graph.output_names),
    }
    return Saved(structure, writer.arrays)


def from_data(structure: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Graph:
    """The graph that :func:`to_data` took apart.

    Raises GW0370 for data that is no graph or of another version, GW0371 for an operator, class or array that
    is not known here.
    """
    version = structure.get("gatewright_graph")
    if version != VERSION:
        raise error(
            "GW0370",
            "this is no saved graph" if version is None else f"the graph was saved in version {version}",
            note=f"this release reads version {VERSION}",
            help="compile the model again and save it with this release",
        )
    reader = _Reader(arrays)
    try:
        values: list[Value] = [reader.read(each) for each in structure["values"]]

        def chosen(numbers: list[int]) -> tuple[Value, ...]:
            return tuple(values[number] for number in numbers)

        nodes = tuple(
            Node(reader.read(each["op"]), chosen(each["inputs"]), chosen([each["output"]])[0])
            for each in structure["nodes"]
        )
        inputs, outputs = chosen(structure["inputs"]), chosen(structure["outputs"])
        return Graph(structure["name"], inputs, outputs, nodes, tuple(structure["output_names"]))
    except GatewrightError:
        raise
    except (KeyError, IndexError, TypeError, ValueError) as problem:
        raise error(
            "GW0370",
            "the saved graph is damaged",
            note=f"{type(problem).__name__}: {problem}",
            help="compile the model again and save it",
        ) from problem


@dataclass(slots=True)
class _Writer:
    """Writes objects as JSON values; a dictionary's key ``$`` says what it stands for."""

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])
    keys: dict[str, str] = field(default_factory=dict[str, str])

    def write(self, item: Any) -> Any:
        """One object."""
        if item is None or isinstance(item, bool | str):
            return item
        if isinstance(item, Enum):
            return {"$": type(item).__name__, "name": item.name}
        if isinstance(item, int):
            return int(item)
        if isinstance(item, float):
            return item if math.isfinite(item) else {"$": "float", "value": repr(item)}
        if isinstance(item, tuple):
            return [self.write(each) for each in cast("tuple[Any, ...]", item)]
        if isinstance(item, Tensor):
            return self._tensor(item)
        if isinstance(item, Operator):
            return {"$": "operator", "name": item.name, **self._fields(item)}
        if classes().get(type(item).__name__) is type(item):
            return {"$": type(item).__name__, **self._fields(item)}
        raise TypeError(f"{type(item).__name__} cannot be saved: it is no dataclass of the IR")

    def _fields(self, item: Any) -> dict[str, Any]:
        return {each.name: self.write(getattr(item, each.name)) for each in fields(item) if each.init}

    def _tensor(self, tensor: Tensor) -> Any:
        if tensor.array.dtype == object:
            numbers = [int(each) for each in tensor.array.ravel()]
            return {"$": "integers", "shape": list(tensor.shape), "values": numbers}
        key = self.keys.setdefault(tensor.digest, f"tensor{len(self.keys)}")
        self.arrays[key] = np.array(tensor.array, order="C")  # ascontiguousarray would add an axis to a scalar
        return {"$": "tensor", "key": key}


@dataclass(slots=True)
class _Reader:
    """The inverse of :class:`_Writer`."""

    arrays: Mapping[str, NDArray[Any]]

    def read(self, item: Any) -> Any:
        """One object."""
        if isinstance(item, list):
            return tuple(self.read(each) for each in cast("list[Any]", item))
        if not isinstance(item, dict):
            return item
        data = cast("dict[str, Any]", item)
        kind: str = data["$"]
        special: dict[str, Callable[[dict[str, Any]], Any]] = {
            "float": _float,
            "tensor": self._tensor,
            "integers": _integers,
            "operator": self._operator,
        }
        if kind in special:
            return special[kind](data)
        if kind not in classes():
            raise _unknown("class", kind)
        cls = classes()[kind]
        if issubclass(cls, Enum):
            return cls[data["name"]]
        return cls(**self._arguments(data, ("$",)))

    def _operator(self, data: dict[str, Any]) -> Operator:
        name = data["name"]
        if name not in operators():
            raise _unknown("operator", name)
        return operators()[name](**self._arguments(data, ("$", "name")))

    def _arguments(self, data: dict[str, Any], without: tuple[str, ...]) -> dict[str, Any]:
        return {name: self.read(each) for name, each in data.items() if name not in without}

    def _tensor(self, data: dict[str, Any]) -> Tensor:
        if data["key"] not in self.arrays:
            raise _unknown("tensor", data["key"])
        return Tensor(self.arrays[data["key"]])


def _float(data: dict[str, Any]) -> float:
    return float(data["value"])


def _integers(data: dict[str, Any]) -> Tensor:
    array: NDArray[Any] = np.empty(len(data["values"]), dtype=object)
    array[:] = data["values"]
    return Tensor(array.reshape(data["shape"]))


def _unknown(kind: str, name: object) -> GatewrightError:
    return error(
        "GW0371",
        f"the saved graph has the {kind} `{name}`, which is not known here",
        help="read it with the release that saved it, or compile the model again",
    )
