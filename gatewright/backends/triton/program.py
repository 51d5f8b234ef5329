"""A whole integer graph on the GPU: groups of nodes as printed kernels, large products in the library.

Between kernels every value lies in the narrowest integer type, and views stay views. What int64 cannot hold is
computed in Python integers on the host, as the golden model does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gatewright.backends.triton.access import Held, KernelSource
from gatewright.backends.triton.clusters import Group, group_nodes
from gatewright.backends.triton.constants import fold_constants
from gatewright.backends.triton.contractions import Contraction
from gatewright.backends.triton.expressions import is_narrow, storage_type
from gatewright.backends.triton.load import HEADER
from gatewright.backends.triton.maps import MapKernel, copy_kernel
from gatewright.backends.triton.moves import can_move, move
from gatewright.backends.triton.pads import PadKernel, pad_kernel
from gatewright.backends.triton.reshapes import sink_reshapes
from gatewright.backends.triton.rows import RowsKernel
from gatewright.backends.triton.views import sink_views
from gatewright.diagnostics import error
from gatewright.ir.decoding import decoded_interval
from gatewright.ir.graph import Graph, Node
from gatewright.ir.intervals import IntegerArray, fits_int64
from gatewright.ir.ops.constant import Constant
from gatewright.ir.ops.contract import Contract
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.permute import Permute
from gatewright.ir.transforms.fuse_maps import fuse_maps
from gatewright.ir.types import Tensor as Data
from gatewright.ir.types import Value
from gatewright.kernels import device
from gatewright.kernels.arguments import check_devices, check_dtype, check_shape
from gatewright.sim import golden

Codes = Tensor | IntegerArray
"""Codes of a port: an integer tensor, or Python integers in an object array where int64 is too narrow."""

INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, slots=True)
class OnHost:
    """Nodes that no kernel computes; the program's text says so."""

    nodes: tuple[Node, ...]

    @property
    def sources(self) -> dict[str, KernelSource]:
        """A remark for each node."""
        return {
            name: KernelSource(name, f"# %{name}: on the host, in Python integers: beyond what int64 holds\n", ())
            for name in (node.output.name for node in self.nodes)
        }


class Program:
    """The kernels of an integer-level graph; call it with codes.

    Results equal the golden model bit for bit. Kernels are printed and compiled at the first call with a layout.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = fuse_maps(sink_reshapes(fuse_maps(fold_constants(sink_views(graph)))))
        producers = self.graph.producer()
        self.constants = {value for value, node in producers.items() if isinstance(node.op, Constant)}
        self._arrays = {value: producers[value].op.evaluate() for value in self.constants}
        self._placed: dict[tuple[Value, torch.device], Held | IntegerArray] = {}
        self._copies: dict[Value, MapKernel] = {}
        self.kernels: list[MapKernel | RowsKernel | PadKernel | Contraction | OnHost] = []
        kept = set(self.graph.outputs)
        users = self.graph.users()
        self._steps = [
            (group, self._step(group, users, kept))
            for group in group_nodes(self.graph)
            if not isinstance(group.nodes[0].op, Constant)
        ]
        self._last: dict[Value, int] = {}
        for position, (group, _) in enumerate(self._steps):
            for node in group.nodes:
                self._last |= dict.fromkeys(node.inputs, position)

    # ---- running ---------------------------------------------------------------------------
    def __call__(self, *codes: Codes) -> list[Codes]:
        """The outputs' codes [batch, ...] for the inputs' codes, batch leading, on the inputs' device.

        Raises GW0502 for tensors that are no integers, GW0503 where there is no GPU (nor Triton's interpreter)
        or the devices differ, GW0505 for other shapes than the graph's.
        """
        where, batch = self._check(codes)
        with device.current(where):
            return self._run(codes, where, batch)

    def _run(self, codes: Sequence[Codes], where: torch.device, batch: int) -> list[Codes]:
        held: dict[Value, Held | IntegerArray] = {}
        for value, given in zip(self.graph.inputs, codes, strict=True):
            held[value] = Held((given,)) if isinstance(given, Tensor) else given
        for value in self.constants:
            held[value] = self._constant(value, where)
        for position, (group, run) in enumerate(self._steps):
            held |= run(held, batch, where)
            for node in group.nodes:
                for value in node.inputs:
                    if self._last[value] == position and value not in self.graph.outputs:
                        held.pop(value, None)
        return [self._result(value, held[value], batch) for value in self.graph.outputs]

    def source(self, batch: int = 1024) -> str:
        """The kernels' text, in the order in which they run for a batch of this size.

        What the library or the host computes instead is named in a remark.
        """
        inputs = [
            torch.empty((batch, *value.shape), dtype=storage_type(value.interval), device="meta")
            for value in self.graph.inputs
        ]
        self(*inputs)
        printed: list[KernelSource] = []
        for each in (*self.kernels, *self._copies.values()):
            printed += each.sources.values()
        return "\n\n".join([HEADER, *dict.fromkeys(each.text for each in printed)])

    def _check(self, codes: Sequence[Codes]) -> tuple[torch.device, int]:
        ports = self.graph.inputs
        if len(codes) != len(ports):
            raise error("GW0505", f"{len(codes)} inputs are given, the graph has {len(ports)}")
        tensors = {value.name: each for value, each in zip(ports, codes, strict=True) if isinstance(each, Tensor)}
        check_devices(**tensors)
        batch = int(codes[0].shape[0]) if len(codes[0].shape) else 1
        where = next((each.device for each in tensors.values()), torch.device("cpu"))
        for value, given in zip(ports, codes, strict=True):
            if not isinstance(given, Tensor):
                continue
            check_dtype(value.name, given, INTEGERS)
            check_shape(value.name, given, [batch, *value.shape], "codes of one batch, which comes first")
            if not (device.uses_kernel(given) or given.is_meta):
                raise error(
                    "GW0503",
                    f"`{value.name}` is on {given.device}, where no Triton kernel runs",
                    help="move it to a CUDA device, or set TRITON_INTERPRET=1 before the first import",
                )
        return where, batch

    def _constant(self, value: Value, where: torch.device) -> Held | IntegerArray:
        key = value, where
        if key not in self._placed:
            array = self._arrays[value]
            if fits_int64(value.interval):
                tensor = torch.from_numpy(np.array(array, dtype=np.int64)).to(storage_type(value.interval))
                self._placed[key] = Held((tensor.to(where)[None],))
            else:
                self._placed[key] = np.asarray(array, dtype=object)[np.newaxis]
        return self._placed[key]

    def _single(self, value: Value, held: Held) -> Tensor:
        """One tensor of a value: a sum of parts is added up by a kernel."""
        if held.is_single:
            return held.first
        if value not in self._copies:
            self._copies[value] = copy_kernel(f"{value.name}_sum", value.interval)
        batch = max(each.shape[0] for each in held.parts)
        return self._copies[value]([held], batch, value.shape)

    def _result(self, value: Value, held: Held | IntegerArray, batch: int) -> Codes:
        shape = (batch, *value.shape)
        if isinstance(held, Held):
            return self._single(value, held).expand(shape)
        return np.broadcast_to(held, shape)

    # ---- steps -----------------------------------------------------------------------------
    def _step(self, group: Group, users: Mapping[Value, list[Node]], kept: set[Value]) -> Step:
        node = group.nodes[0]
        narrow = all(
            fits_int64(each.output.interval, *(value.interval for value in each.inputs)) for each in group.nodes
        )
        if not narrow:
            return self._on_host(group.nodes)
        if group.is_rows:
            members = set(map(id, group.nodes))
            read = [
                each.output
                for each in group.nodes
                if each.output in kept or any(id(user) not in members for user in users[each.output])
            ]
            assert group.shape is not None
            return self._rows(RowsKernel(group.nodes, read, group.shape))
        contract = next((each for each in group.nodes if isinstance(each.op, Contract)), None)
        if contract is not None:
            if not fits_int64(*(decoded_interval(value.format, value.interval) for value in contract.inputs)):
                return self._on_host(group.nodes)
            return self._contract(group.nodes)
        if isinstance(node.op, Map) and is_narrow(node.op.expression):
            return self._map(node, MapKernel(node.output.name, node.op.expression))
        return self._moved(node) if can_move(node) else self._on_host(group.nodes)

    def _map(self, node: Node, kernel: MapKernel) -> Step:
        self.kernels.append(kernel)

        def run(held: Environment, batch: int, where: torch.device) -> Environment:
            operands = [_held(held[value]) for value in node.inputs]
            return {node.output: Held((kernel(operands, batch, node.output.shape),))}

        return run

    def _rows(self, kernel: RowsKernel) -> Step:
        self.kernels.append(kernel)

        def run(held: Environment, batch: int, where: torch.device) -> Environment:
            found = kernel({value: _held(held[value]) for value in kernel.inputs}, batch)
            return {value: Held((tensor,)) for value, tensor in found.items()}

        return run

    def _contract(self, nodes: Sequence[Node]) -> Step:
        contraction = Contraction(nodes, self._arrays)
        self.kernels.append(contraction)
        made = {each.output for each in nodes}
        inputs = [value for each in nodes for value in each.inputs if value not in made]
        whole = [value for value in contraction.node.inputs if value not in made]

        def run(held: Environment, batch: int, where: torch.device) -> Environment:
            known = {value: _held(held[value]) for value in inputs}
            known |= {value: Held((self._single(value, known[value]),)) for value in whole}
            return {contraction.output: contraction(known, batch)}

        return run

    def _moved(self, node: Node) -> Step:
        border = pad_kernel(node)
        if border is not None:
            self.kernels.append(border)

        def run(held: Environment, batch: int, where: torch.device) -> Environment:
            first = _held(held[node.inputs[0]])
            if isinstance(node.op, Permute):
                return {node.output: first.permuted((0, *(axis + 1 for axis in node.op.order)))}
            tensors = [self._single(value, _held(held[value])) for value in node.inputs]
            if border is not None:
                tensors = [border(each) for each in tensors]
            return {node.output: Held((move(node, tensors, batch),))}

        return run

    def _on_host(self, nodes: Sequence[Node]) -> Step:
        """Nodes with values beyond int64, in Python integers; narrow results go back to the device."""
        self.kernels.append(OnHost(tuple(nodes)))

        def run(held: Environment, batch: int, where: torch.device) -> Environment:
            known: dict[Value, IntegerArray] = {}
            found: Environment = {}
            if where.type == "meta":  # a kernel's text needs no values
                return {node.output: _unknown(node.output, batch) for node in nodes}
            for node in nodes:
                device.LAUNCHES[node.op.name, "host"] += 1
                for value in node.inputs:
                    if value not in known:
                        each = held[value]
                        known[value] = _on_cpu(self._single(value, each) if isinstance(each, Held) else each)
                known[node.output] = _evaluated(node, known, self.constants, batch)
                found[node.output] = _placed(node.output, known[node.output], where)
            return found

        return run


Environment = dict[Value, Held | IntegerArray]
Step = Callable[[Environment, int, torch.device], Environment]


def _held(value: Held | IntegerArray) -> Held:
    assert isinstance(value, Held)
    return value


def _on_cpu(codes: Tensor | IntegerArray) -> IntegerArray:
    return codes.cpu().numpy().astype(np.int64) if isinstance(codes, Tensor) else codes


def _unknown(value: Value, batch: int) -> Held | IntegerArray:
    """A value without codes."""
    shape = (batch, *value.shape)
    if not fits_int64(value.interval):
        return np.broadcast_to(np.array(0, dtype=object), shape)
    return Held((torch.empty(shape, dtype=storage_type(value.interval), device="meta"),))


def _evaluated(node: Node, known: Mapping[Value, IntegerArray], constants: set[Value], batch: int) -> IntegerArray:
    """A node's codes [batch, ...] by the golden model."""
    fixed = [value for value in node.inputs if value in constants]
    streams = [value for value in dict.fromkeys(node.inputs) if value not in constants]
    nodes = tuple(Node(Constant(Data(known[value][0]), value.format), (), value) for value in dict.fromkeys(fixed))
    graph = Graph("host", tuple(streams), (node.output,), (*nodes, node))
    return golden.evaluate(graph, [known[value] for value in streams])[0]


def _placed(value: Value, codes: IntegerArray, where: torch.device) -> Held | IntegerArray:
    if not fits_int64(value.interval):
        return np.asarray(codes, dtype=object)
    return Held((torch.from_numpy(np.array(codes, dtype=np.int64)).to(storage_type(value.interval)).to(where),))
