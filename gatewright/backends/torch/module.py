"""The base of printed modules, and how one is made from a graph."""

from __future__ import annotations

import functools
import hashlib
import linecache
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from gatewright.backends.torch.cast import cast
from gatewright.backends.torch.exporting import exporting
from gatewright.backends.torch.wide import Region, register_regions

_Forward = TypeVar("_Forward", bound=Callable[..., Any])


class Inference(Protocol):
    """Another way to compute a module's forward, with the same values."""

    def serves(self, module: nn.Module, inputs: tuple[Any, ...]) -> bool:
        """Whether it can compute this call."""
        ...

    def __call__(self, forward: Callable[..., Any], module: nn.Module, inputs: tuple[Any, ...]) -> Any:
        """What ``forward(module, *inputs)`` returns, or None where it cannot compute the model."""
        ...


class Container(nn.Module):
    """Holds the parameters of one of the original model's submodules; ``module[0]`` is its child "0"."""

    def __getitem__(self, index: int) -> Any:
        return getattr(self, str(index))


class Module(Container):
    """A printed module: ordinary PyTorch that trains, and equals the hardware bit for bit.

    In evaluation without gradients the quantised weights are kept; they are made anew when a parameter
    changes in place (as optimisers and ``load_state_dict`` do), is replaced or moved, and by ``train()``.
    A write through ``parameter.data`` is invisible to PyTorch too: call ``train()`` or ``eval()`` after one.
    """

    code: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__()
        self._quantised: dict[tuple[int, str, int], tuple[Tensor, int, int, Tensor]] = {}
        self._regions: tuple[Region, ...] = ()
        self.inference: Inference | None = None

    def declare(self, path: str, shape: Sequence[int], trainable: bool = True, saved: bool = True) -> None:
        """Add a parameter (or buffer) under its dotted ``path``, with containers on the way."""
        *parents, name = path.split(".")
        owner: nn.Module = self
        for part in parents:
            if part not in owner._modules:
                owner.add_module(part, Container())
            owner = owner.get_submodule(part)
        if trainable:
            owner.register_parameter(name, nn.Parameter(torch.zeros(tuple(shape))))
        else:
            owner.register_buffer(name, torch.zeros(tuple(shape)), persistent=saved)

    def quantised(self, parameter: Tensor, spec: str, axis: int = -1) -> Tensor:
        """``parameter`` cast as ``spec`` says (blocks along ``axis``).

        It is kept while the parameter does not change and no gradient is wanted.
        """
        if torch.compiler.is_compiling() or self.training or torch.is_grad_enabled():
            return cast(parameter, spec, axis)
        key = (id(parameter), spec, axis)
        version = 0 if parameter.is_inference() else parameter._version
        kept = self._quantised.get(key)
        if kept is not None and kept[0] is parameter and kept[1:3] == (version, parameter.data_ptr()):
            return kept[3]
        result = cast(parameter, spec, axis)
        self._quantised[key] = (parameter, version, parameter.data_ptr(), result)
        return result

    def attach(self, regions: Sequence[Region]) -> None:
        """Give the module the regions that its source computes with ``gw.wide``."""
        self._regions = tuple(regions)
        register_regions(self._regions)

    def infer_with(self, inference: Inference | None) -> None:
        """Let ``inference`` compute the calls that it serves, with the same values; copies and pickles go without."""
        self.inference = inference

    def train(self, mode: bool = True) -> Module:
        """As in PyTorch; also forgets the kept weights."""
        self._quantised.clear()
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_quantised": {}, "inference": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        register_regions(self._regions)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.code, type(self).__name__), self.__getstate__()


def exact_arithmetic(forward: _Forward) -> _Forward:
    """Decorator of ``forward``: no automatic mixed precision and no TF32, which would round products."""

    @functools.wraps(forward)
    def wrapped(self: Module, *arguments: Any, **named: Any) -> Any:
        if exporting():
            return forward(self, *arguments, **named)
        if torch.compiler.is_compiling():
            with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
                return forward(self, *arguments, **named)
        inference = self.inference
        if inference is not None and not named and inference.serves(self, arguments):
            found = inference(forward, self, arguments)
            if found is not None:
                return found
        if not _is_mixed():
            return forward(self, *arguments, **named)
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            allowed = torch.backends.cuda.matmul.allow_tf32
            torch.backends.cuda.matmul.allow_tf32 = False
            try:
                return forward(self, *arguments, **named)
            finally:
                torch.backends.cuda.matmul.allow_tf32 = allowed

    return wrapped  # pyright: ignore[reportReturnType]


def _is_mixed() -> bool:
    autocast = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
    return autocast or bool(torch.backends.cuda.matmul.allow_tf32)


@functools.lru_cache(maxsize=256)
def load_class(source: str, name: str) -> type[Module]:
    """The class that printed ``source`` defines; tracebacks show its lines."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    file = f"<gatewright {name} {digest}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    # torch.compile looks modules up by name.
    module = ModuleType(f"gatewright_printed_{digest}")
    sys.modules[module.__name__] = module
    exec(compile(source, file, "exec"), module.__dict__)  # noqa: S102 (our own printer's source)
    found: type[Module] = getattr(module, name)
    found.code = source
    return found


def _restore(source: str, name: str) -> Module:
    found = load_class(source, name)
    return found.__new__(found)
