"""The face of Gatewright: ``compile``, ``quantize`` and the :class:`Design` that they give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.formats import Block, Format, ScalarFormat
from gatewright.ir.graph import Graph
from gatewright.ir.targets import Target
from gatewright.ir.transforms.legalise import Legalised, PortCast, legalise
from gatewright.ir.types import Value
from gatewright.ir.verifier import verify

if TYPE_CHECKING:
    from gatewright.backends.synthesis import SynthesisResult
    from gatewright.backends.triton.golden import GoldenProgram
    from gatewright.backends.verilog.emit import Hardware
    from gatewright.frontend.report import LayerQuality
    from gatewright.report import Report
    from gatewright.schedule import Schedule
    from gatewright.sim.harness import Simulator
    from gatewright.verification import CocotbVerification, Simulation, Verification


def quantised_graph(
    model: Any, example_inputs: Any, formats: Any = None, calibration: Iterable[Any] | None = None
) -> tuple[Graph, Graph]:
    """Import a model and put a cast wherever ``formats`` asks for one: the float and the quantised graph."""
    from gatewright.frontend.importer import import_model
    from gatewright.frontend.quantise import quantise
    from gatewright.ir.transforms.prepare import prepare

    imported = verify(import_model(model, example_inputs), "tensor", "import")
    prepared = verify(prepare(imported), "tensor", "prepare")
    return prepared, verify(quantise(prepared, formats, calibration), "tensor", "quantise")


def compile(
    model: Any,
    example_inputs: Any,
    formats: Any = None,
    calibration: Iterable[Any] | None = None,
    target: Target | str | None = None,
    interval: int | None = None,
    fps: float | None = None,
    budget: Mapping[str, int] | None = None,
) -> Design:
    """Compile a PyTorch model to hardware.

    ``model``: an nn.Module, fx.GraphModule or ExportedProgram; ``example_inputs``: a tuple or dict of
    tensors, batch leading. ``formats``: one cast for everything, a dictionary or a TOML file; None where
    the model carries its own casts. ``calibration``: batches of inputs, for ``auto`` fraction bits.
    ``target``: a :class:`Target` or a part's name. At most one of ``interval`` (cycles between samples),
    ``fps`` (samples a second) and ``budget`` (most lut, ff, dsp, bram); by default the smallest design. A budget
    of 0 dsp, and a target with ``use_dsp=False``, multiply in logic.

    Raises ``GatewrightError`` with everything found wrong in one pass.
    """
    from gatewright.goals import check_goals
    from gatewright.schedule import schedule

    check_goals(interval, fps, budget)  # before the import, which may take long
    part = _target(target)
    if budget is not None and budget.get("dsp") == 0:
        part = replace(part, use_dsp=False)
    original, graph = quantised_graph(model, example_inputs, formats, calibration)
    legalised = legalise(graph)
    plan = schedule(legalised.graph, part, interval=interval, fps=fps, budget=budget)
    return Design(original, graph, legalised, plan, part, type(model).__name__)


def _target(target: Any) -> Target:
    if target is None or isinstance(target, Target):
        return target or Target()
    return Target(target)


def quantize(model: Any, example_inputs: Any, formats: Any = None, calibration: Iterable[Any] | None = None) -> Any:
    """The quantised PyTorch module alone: trainable, software-only formats allowed."""
    from gatewright.backends.torch.build import build_module

    return build_module(quantised_graph(model, example_inputs, formats, calibration)[1], type(model).__name__)


class Design:
    """A compiled model: its float, quantised and integer graph, schedule, and everything printed from them."""

    def __init__(
        self,
        float_graph: Graph,
        graph: Graph,
        legalised: Legalised,
        schedule: Schedule,
        target: Target,
        original: str,
    ) -> None:
        self.float_graph = float_graph
        self.graph = graph
        self.legalised = legalised
        self.schedule = schedule
        self.target = target
        self._original = original

    # ---- software --------------------------------------------------------------------------
    @cached_property
    def module(self) -> Any:
        """The quantised nn.Module: trains, and its forward equals the hardware bit for bit.

        In evaluation without gradients on a CUDA device it runs the printed kernels.
        """
        from gatewright.backends.torch.build import build_module
        from gatewright.backends.triton.inference import Inference

        module = build_module(self.graph, self._original)
        module.infer_with(Inference(self.graph))
        return module

    @cached_property
    def program(self) -> GoldenProgram:
        """The golden model as GPU kernels: ``design(x)`` on CUDA tensors runs it."""
        from gatewright.backends.triton.golden import GoldenProgram

        return GoldenProgram(self.graph, self.legalised)

    def kernels(self, batch: int = 1024) -> str:
        """The source of the GPU kernels that run for batches of this size."""
        return self.program.source(batch)

    @property
    def integer_graph(self) -> Graph:
        """The graph of integer primitives: the golden model."""
        return self.legalised.graph

    def encode(self, *inputs: Any) -> list[Any]:
        """Input tensors or arrays (batch leading) as integer codes [samples, ...] in the ports' formats."""
        given = zip(self.graph.inputs, self._arrays(inputs), strict=True)
        return [codes for value, array in given for codes in self._port_casts[value].encode(array)]

    def input_spec(self, value: Value) -> Any:
        """The cast at an input port."""
        return next(cast.spec for port, cast in self._port_casts.items() if port.name == value.name)

    @cached_property
    def _port_casts(self) -> dict[Value, PortCast]:
        from gatewright.diagnostics import Collector
        from gatewright.ir.transforms.legalise import input_casts

        return input_casts(self.graph, Collector())

    def decode(self, codes: Iterable[Any]) -> list[Any]:
        """Output codes as float64 arrays [samples, ...]."""
        reals: list[Any] = []
        for value, array in zip(self.integer_graph.outputs, codes, strict=True):
            format = value.format
            assert isinstance(format, ScalarFormat)
            reals.append(format.decode(np.asarray(array).reshape(-1, *value.shape)))
        return reals

    def __call__(self, *inputs: Any) -> Any:
        """The golden model's outputs as real numbers: a float64 tensor, or a tuple of them.

        On CUDA tensors it runs as kernels there, with the same bits.
        """
        import torch

        from gatewright.sim import golden

        given = self._given(inputs)
        if any(isinstance(each, torch.Tensor) and each.is_cuda for each in given):
            from gatewright.backends.triton.golden import real_tensors

            names = [port.name for port in self.graph.inputs]
            have_nan = [_has_nan(self._port_casts[port].spec.format) for port in self.graph.inputs]
            found = self.program(*real_tensors(names, given, have_nan))
            return found[0] if len(found) == 1 else found
        reals = self.decode(golden.evaluate(self.integer_graph, self.encode(*inputs)))
        tensors = tuple(torch.from_numpy(np.ascontiguousarray(each)) for each in reals)
        return tensors[0] if len(tensors) == 1 else tensors

    def _given(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """One input for each port: given one by one, in one tuple or list, or by name."""
        ports = self.graph.inputs
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            named = cast(Mapping[str, Any], inputs[0])
            missing = [port.name for port in ports if port.name not in named]
            if missing:
                raise error(
                    "GW0901", f"input {missing[0]} is missing", note=f"inputs: {', '.join(p.name for p in ports)}"
                )
            inputs = tuple(named[port.name] for port in ports)
        elif len(inputs) == 1 and isinstance(inputs[0], tuple | list):
            inputs = tuple(cast(Sequence[Any], inputs[0]))
        if len(inputs) != len(ports):
            raise error("GW0901", f"{len(inputs)} inputs are given, the model has {len(ports)}")
        return inputs

    def _arrays(self, inputs: tuple[Any, ...]) -> list[Any]:
        from gatewright.sim.samples import check_samples

        given = zip(self.graph.inputs, self._given(inputs), strict=True)
        arrays = [_to_array(port.name, each, self._port_casts[port].spec.format) for port, each in given]
        check_samples(self.graph.inputs, [array.shape for array in arrays])
        return arrays

    # ---- hardware --------------------------------------------------------------------------
    @cached_property
    def hardware(self) -> Hardware:
        """The SystemVerilog files and memories."""
        from gatewright.backends.verilog.emit import emit, graph_digest

        digest = graph_digest(self.schedule.graph.text())
        return emit(self.schedule.network, digest, self.interval, self.latency)

    @property
    def interval(self) -> int:
        """Declared cycles between samples."""
        return self.schedule.interval

    @property
    def latency(self) -> int:
        """Declared cycles from a sample's first input beat to its last output beat, both included."""
        return self.schedule.latency

    @cached_property
    def simulator(self) -> Simulator:
        """The design compiled with Verilator."""
        from gatewright.sim.verify import build_simulator

        return build_simulator(self.hardware, self.schedule.network)

    def simulate(self, *inputs: Any, stalls: str = "none", seed: int = 0) -> Simulation:
        """Run the hardware in Verilator: ``.outputs`` (real numbers) ``.cycles .interval .latency``.

        ``stalls``: none, input (gaps), output (back-pressure) or both.
        """
        from gatewright.verification import simulate

        return simulate(self, self.encode(*inputs), stalls, seed)

    def verify(self, *inputs: Any, stalls: str = "none", seed: int = 0) -> Verification:
        """Run the hardware against the golden model: ``.samples .interval .latency``.

        Raises ``MismatchError`` that names the first differing layer, sample and element.
        """
        from gatewright.verification import verify

        return verify(self, self.encode(*inputs), stalls, seed)

    def verify_with_cocotb(self, *inputs: Any, stalls: str = "none", seed: int = 0) -> CocotbVerification:
        """The same comparison through cocotb, an independent driver, with a reset in mid-stream first.

        Some 20,000 cycles a second: for a few samples. Raises as :meth:`verify` does.
        """
        from gatewright.verification import verify_with_cocotb

        return verify_with_cocotb(self, self.encode(*inputs), stalls, seed)

    def synth(self, family: str | None = None, **options: Any) -> SynthesisResult:
        """Synthesise with Yosys for ``xcup``, ``ecp5`` or ``ice40``: ``.lut .ff .dsp .bram``.

        ``options`` are those of :func:`gatewright.backends.synthesis.synthesise`; ``no_dsp`` is set where the
        target has no multipliers.
        """
        import tempfile

        from gatewright.backends.synthesis import synthesise

        with tempfile.TemporaryDirectory(prefix="gatewright-") as folder:
            sources = self.hardware.write(Path(folder))
            options.setdefault("no_dsp", not self.target.has_multipliers)
            return synthesise(sources, self.hardware.top, family or self.target.family.name, **options)

    def quality(self, data: Iterable[Any]) -> list[LayerQuality]:
        """Per layer the signal-to-quantisation-noise ratio in dB against the float model, on batches of inputs."""
        from gatewright.frontend.report import quantisation_report

        return quantisation_report(self.float_graph, self.graph, data)

    def report(self) -> Report:
        """Per layer and in total: resources, interval, latency, each with where it comes from."""
        from gatewright.report import report

        return report(self)

    def write(self, folder: str | Path) -> Path:
        """Write SystemVerilog, memories, testbench, synthesis project and report; all or nothing."""
        from gatewright.project import write_project

        return write_project(self, Path(folder))


def _to_array(name: str, value: Any, format: Format) -> Any:
    """A tensor or array of real numbers as float64 numpy; GW0903 for anything else, and for NaN without a code."""
    kind = f"{value.dtype}".removeprefix("torch.") if hasattr(value, "dtype") else type(value).__name__
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu().to_dense()
        if value is None or "complex" in kind:
            raise TypeError
        array = value.double().numpy() if hasattr(value, "double") else np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise error(
            "GW0903",
            f"input {name} is of type {kind}, not real numbers",
            help="pass a tensor, or a numpy array, with the batch leading",
        ) from None
    if np.isnan(array).any() and not _has_nan(format):
        where = [int(each) for each in np.argwhere(np.isnan(array))[0]]
        raise error(
            "GW0903",
            f"input {name} holds NaN",
            note=f"the first is at {where}; {format} has no code for it",
            help="replace or leave out such samples",
        )
    return array


def _has_nan(format: Format) -> bool:
    """Whether a code, or a block's scale, stands for NaN."""
    found = format.scale if isinstance(format, Block) else format
    return isinstance(found, ScalarFormat) and found.has_nan
