"""A compiled model on the GPU, from real inputs to real outputs: equal to the golden model bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gatewright.backends.torch.cast import block_codec
from gatewright.backends.triton.convert import EncodeKernel, decode
from gatewright.backends.triton.load import HEADER
from gatewright.backends.triton.program import Codes, Program
from gatewright.diagnostics import Collector, error
from gatewright.ir.block_values import block_shape
from gatewright.ir.formats import Block, ScalarFormat
from gatewright.ir.graph import Graph
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.reshape import Reshape
from gatewright.ir.transforms.legalise import Legalised, PortCast, input_casts
from gatewright.ir.types import Value
from gatewright.kernels import device
from gatewright.kernels.arguments import check_devices, check_whole
from gatewright.sim.samples import check_samples


class GoldenProgram:
    """The golden model of a quantised graph as kernels; ``legalised`` is its integer level."""

    def __init__(self, graph: Graph, legalised: Legalised) -> None:
        self.ports = graph.inputs
        self.program = Program(legalised.graph)
        self.outputs = legalised.graph.outputs
        self._ports_in_blocks: dict[Value, PortCast] = {}
        self._encoders: dict[Value, EncodeKernel] = {}
        for value, port in input_casts(graph, Collector()).items():
            if isinstance(port.spec.format, Block):
                self._ports_in_blocks[value] = port
            else:
                self._encoders[value] = EncodeKernel(value.name, port.spec)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs as float64 tensors [batch, ...] on the inputs' device, for real inputs, batch leading.

        Raises GW0503 where devices differ or no kernel runs there, and GW0902 for wrong shapes.
        """
        names = [value.name for value in self.ports]
        check_devices(**dict(zip(names, inputs, strict=True)))
        check_samples(self.ports, [given.shape for given in inputs])
        where = inputs[0].device
        with device.current(where):
            found = self.program(*self.encode(inputs))
        return tuple(decode(codes, _scalar(value), where) for value, codes in zip(self.outputs, found, strict=True))

    def encode(self, inputs: Sequence[Tensor]) -> list[Codes]:
        """The codes of the integer graph's inputs; a block format's are its elements and its scales."""
        codes: list[Codes] = []
        for value, reals in zip(self.ports, inputs, strict=True):
            if value in self._encoders:
                codes.append(self._encoders[value](reals))
            else:
                codes += _blocks(self._ports_in_blocks[value], reals)
        return codes

    def source(self, batch: int = 1024) -> str:
        """The kernels' text for batches of this size, the ports' casts first. GW0505 for no number of samples."""
        if check_whole("batch", batch, "GW0505") < 0:
            raise error("GW0505", f"`batch` is {batch}", help="pass how many samples a call has")
        ports = [each.source.text for each in self._encoders.values() if each.source is not None]
        text = self.program.source(batch)
        return "\n\n".join([HEADER, *ports, text.removeprefix(HEADER).lstrip()])


def _blocks(port: PortCast, reals: Tensor) -> list[Codes]:
    """Elements and scales of an input in a block format."""
    format = port.spec.format
    assert isinstance(format, Block)
    for op in port.moves:
        reals = reals.reshape(reals.shape[0], *op.shape) if isinstance(op, Reshape) else _permuted(reals, op)
    elements, scales = block_codec(port.spec, port.axis).encode(reals)
    assert scales is not None
    split = block_shape(format, port.shape, "input", port.axis)
    elements, scales = (each.movedim(port.axis, -1) for each in (elements, scales))
    return [elements.reshape(-1, *split), scales.reshape(-1, *split[:-1], 1)]


def _permuted(reals: Tensor, op: object) -> Tensor:
    assert isinstance(op, Permute)
    return reals.permute(0, *(axis + 1 for axis in op.order))


def _scalar(value: Value) -> ScalarFormat:
    assert isinstance(value.format, ScalarFormat)
    return value.format


def real_tensors(names: Sequence[str], inputs: Sequence[object], have_nan: Sequence[bool]) -> list[Tensor]:
    """Inputs as tensors: arrays and numbers go to the GPU of the tensors beside them, tensors stay where they are.

    Raises GW0903, as the golden model on the host does, for what is not real, and for NaN where the port's
    format has no code for it (``have_nan`` False); a CUDA graph that is being captured cannot ask for the latter.
    """
    where = next((each.device for each in inputs if isinstance(each, Tensor) and each.is_cuda), None)
    found: list[Tensor] = []
    for name, given, has_nan in zip(names, inputs, have_nan, strict=True):
        try:
            value = given if isinstance(given, Tensor) else torch.from_numpy(np.asarray(given)).to(where)
        except TypeError:
            value = None
        if value is None or value.is_complex() or value.layout is not torch.strided:
            kind = type(given).__name__ if value is None else "tensor of another layout or of complex numbers"
            raise error(
                "GW0903",
                f"input {name} is a {kind}",
                help="pass a dense tensor of real numbers, with the batch leading",
            )
        checked = value.is_floating_point() and not has_nan and value.numel()
        captured = value.is_cuda and torch.cuda.is_current_stream_capturing()
        if checked and not captured and bool(value.amax().isnan()):
            raise error(
                "GW0903", f"input {name} holds NaN", note="its format has no code for it",
                help="replace or leave out such samples",
            )  # fmt: skip
        found.append(value)
    return found
