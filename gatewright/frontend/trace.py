"""Traces a model with torch.export: one static graph of ATen calls with eval semantics."""

from __future__ import annotations

import inspect
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import Any, cast

import torch
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from gatewright.diagnostics import Collector, GatewrightError, Location, diagnostic, error
from gatewright.frontend.locations import node_location, shown_path, source_line, traceback_location

ExampleInputs = Any
"""A tensor, a tuple or list of tensors, or a dict of tensors by name; the batch leads."""


def export_program(model: torch.nn.Module | ExportedProgram, example_inputs: ExampleInputs) -> ExportedProgram:
    """The exported program of a model (or the given program, checked) with static shapes.

    The model is traced in evaluation mode; its training flags are restored afterwards. Raises
    ``GatewrightError``: GW0101 where the model fails on the example, GW0102 for a branch or shape
    that depends on data, GW0103 for malformed examples, GW0106 for NaN or infinite parameters,
    GW0108 for dynamic shapes.
    """
    args, kwargs = split_example(model, example_inputs)
    check_example(args, kwargs)
    if isinstance(model, ExportedProgram):
        program = model
        _check_matches(program, args, kwargs)
    else:
        _check_module(model)
        with _evaluation_mode(model):
            _run_once(model, args, kwargs)
            program = _export(model, args, kwargs)
    _check_static(program)
    _check_finite(program)
    return program


def split_example(model: object, example_inputs: ExampleInputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs as positional and keyword arguments, those in the order of the model's own arguments."""
    if isinstance(example_inputs, Mapping):
        given = {str(name): value for name, value in cast(Mapping[Any, Any], example_inputs).items()}
        names = _argument_names(model)
        order = sorted(given, key=lambda name: names.index(name) if name in names else len(names))
        return (), {name: given[name] for name in order}
    if isinstance(example_inputs, Sequence):
        return tuple(cast(Sequence[Any], example_inputs)), {}
    return (example_inputs,), {}


def _argument_names(model: object) -> list[str]:
    if isinstance(model, ExportedProgram):
        return [str(name) for name in model.graph_signature.user_inputs]
    forward = getattr(model, "forward", None)
    return list(inspect.signature(forward).parameters) if callable(forward) else []


def check_example(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """The batch size of the example; raises GW0103 unless all are tensors with one batch size."""
    named = {**{f"argument {position}": each for position, each in enumerate(args)}, **kwargs}
    problems = Collector()
    for name, value in named.items():
        if not isinstance(value, torch.Tensor):
            problems.add(_bad_example(f"example input {name} is a {type(value).__name__}, not a tensor"))
        elif value.ndim == 0:
            problems.add(_bad_example(f"example input {name} has no axes, so no batch axis"))
        elif value.shape[0] == 0:
            problems.add(_bad_example(f"example input {name} has an empty batch"))
        elif value.numel() == 0:
            problems.add(_bad_example(f"example input {name} has no elements: its shape is {list(value.shape)}"))
        elif value.is_complex():
            problems.add(_bad_example(f"example input {name} is complex"))
        elif value.layout != torch.strided:
            problems.add(_bad_example(f"example input {name} is sparse"))
    if not named:
        problems.add(_bad_example("there are no example inputs"))
    problems.raise_if_any()
    sizes = {name: int(value.shape[0]) for name, value in named.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise GatewrightError(_bad_example(f"the example inputs differ in their batch size: {listed}"))
    return next(iter(sizes.values()))


def _bad_example(message: str) -> Any:
    return diagnostic(
        "GW0103",
        message,
        note="example inputs are a tuple, or a dict by name, of tensors whose first axis is the batch",
        help="pass for example (torch.randn(4, 16),) for a model that takes 16 features",
    )


def _check_module(model: object) -> None:
    if not isinstance(model, torch.nn.Module):
        raise error(
            "GW0103",
            f"the model is a {type(model).__name__}, not a PyTorch module",
            help="pass an nn.Module, an fx.GraphModule or an ExportedProgram",
        )


@contextmanager
def _evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _copies(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Fresh tensors: torch.export takes one tensor given twice for one input."""
    named = {name: each.detach().clone() for name, each in kwargs.items()}
    return tuple(each.detach().clone() for each in args), named


def _run_once(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Run the model eagerly, so that its own errors are told apart from those of the export."""
    args, kwargs = _copies(args, kwargs)
    try:
        with torch.no_grad():
            model(*args, **kwargs)
    except GatewrightError:
        raise
    except Exception as problem:
        shapes = [f"{list(each.shape)} {each.dtype}" for each in (*args, *kwargs.values())]
        raise error(
            "GW0101",
            f"the model fails on the example inputs: {type(problem).__name__}: {_first_line(problem)}",
            location=traceback_location(problem.__traceback__),
            note=f"the example inputs are {', '.join(shapes).replace('torch.', '')}",
            help="make model(*example_inputs) work in PyTorch first",
        ) from problem


def _export(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ExportedProgram:
    args, kwargs = _copies(args, kwargs)
    try:
        with warnings.catch_warnings(), _quiet(), redirect_stderr(StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.export.export(model, args, kwargs)
    except GatewrightError:
        raise
    except Exception as problem:
        raise _export_error(problem) from problem


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence PyTorch's own reports of a failed export: the error says it all."""
    parts = ("fx.experimental.symbolic_shapes", "_subclasses.fake_tensor", "export", "_dynamo")
    loggers = [logging.getLogger(f"torch.{part}") for part in parts]
    saved = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for each, level in zip(loggers, saved, strict=True):
            each.setLevel(level)


def _export_error(problem: Exception) -> GatewrightError:
    text = str(problem)
    location = traceback_location(problem.__traceback__)
    told = re.findall(r'File "([^"]+)", line (\d+), in', text)
    if told and not location.file:
        file, line = told[-1]
        location = Location(location.module, shown_path(file), int(line), source_line(file, int(line)))
    if isinstance(problem, GuardOnDataDependentSymNode) or "data-dependent" in text.lower():
        return error(
            "GW0102",
            "the model's Python code branches on, or reads, a tensor's value",
            location=location,
            note="hardware runs one fixed graph for every sample, so the path cannot depend on the data",
            help="compute both sides and choose with torch.where, or decide by a constant",
        )
    return error(
        "GW0100",
        f"torch.export cannot trace the model: {type(problem).__name__}: {_first_line(problem)}",
        location=location,
        help="the model runs eagerly, so try torch.export.export(model.eval(), example_inputs) alone",
    )


def _first_line(problem: Exception) -> str:
    return next((line.strip() for line in str(problem).splitlines() if line.strip()), "")


def _check_matches(program: ExportedProgram, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Whether example inputs fit the inputs that a given program was exported with."""
    given = [*args, *kwargs.values()]
    names = list(program.graph_signature.user_inputs)
    expected = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(expected) != len(given):
        raise error(
            "GW0103",
            f"the exported program takes {len(expected)} inputs, the example has {len(given)}",
            note=f"its inputs are {', '.join(map(str, names))}",
            help="pass the example inputs that the program was exported with",
        )
    for name, one, other in zip(names, expected, given, strict=True):
        if tuple(one.shape[1:]) != tuple(other.shape[1:]) or one.dtype != other.dtype:
            raise error(
                "GW0103",
                f"example input {name} is {list(other.shape)} {other.dtype}, "
                f"but the program was exported with {list(one.shape)} {one.dtype}".replace("torch.", ""),
                help="pass the example inputs that the program was exported with",
            )


def _check_static(program: ExportedProgram) -> None:
    problems = Collector()
    for node in program.graph.nodes:
        for value in _tensors(node.meta.get("val")):
            moving = [axis for axis, size in enumerate(value.shape) if type(size) is not int]
            if moving:
                problems.add(
                    diagnostic(
                        "GW0108",
                        f"{node.name} has a dynamic shape: {list(map(str, value.shape))}".replace("'", ""),
                        location=node_location(node),
                        note=f"axis {moving[0]} has its extent only at run time; hardware has static shapes",
                        help="export without dynamic_shapes and without operators whose size depends on data",
                    )
                )
                problems.raise_if_any()  # what follows is dynamic because of this one


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [each for each in cast(Sequence[Any], value) if isinstance(each, torch.Tensor)]
    return []


def _check_finite(program: ExportedProgram) -> None:
    problems = Collector()
    parameters = set(program.graph_signature.parameters)
    constants = {name: value for name, value in program.constants.items() if isinstance(value, torch.Tensor)}
    for name, tensor in {**program.state_dict, **constants}.items():
        if not torch.is_floating_point(tensor):
            continue
        tensor = tensor.detach()
        # A mask may hold minus infinity, as a buffer.
        bad = ~torch.isfinite(tensor) if name in parameters else tensor.isnan() | tensor.isposinf()
        if bool(bad.any()):
            index = [int(each) for each in bad.nonzero()[0]]
            value = float(tensor[tuple(index)]) if index else float(tensor)
            problems.add(
                diagnostic(
                    "GW0106",
                    f"{name} holds NaN or infinite values",
                    location=Location(module=name.rpartition(".")[0]),
                    note=f"{int(bad.sum())} of {tensor.numel()}; the first is {name}{index} = {value}",
                    help="check the checkpoint, or the training that made it",
                )
            )
    problems.raise_if_any()
