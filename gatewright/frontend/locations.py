"""Where in the user's model something comes from: exported nodes, tracebacks, module paths."""

from __future__ import annotations

import linecache
import re
import traceback
from pathlib import Path
from types import TracebackType

import torch
from torch.fx import Node

from gatewright.diagnostics import Location

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_LIBRARY = str(Path(torch.__file__).parent)


def is_library(file: str) -> bool:
    """Whether a source file belongs to PyTorch or to Python itself, or is generated."""
    return file.startswith((_LIBRARY, "<")) or file == __file__


def shown_path(file: str) -> str:
    """``file`` relative to the working directory where it lies below it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def node_location(node: Node) -> Location:
    """The innermost line of the user's own code, and the module path, of an exported node.

    A model made of PyTorch's own modules alone has no such line; its module path says where.
    """
    trace = node.meta.get("stack_trace") or ""
    frames = [(found["file"], int(found["line"])) for found in _FRAME.finditer(trace)]
    own = [frame for frame in frames if not is_library(frame[0])]
    file, line = own[-1] if own else ("", 0)
    return Location(module_path(node), shown_path(file) if file else "", line, source_line(file, line))


def module_path(node: Node) -> str:
    """The dotted path of the innermost module that the node was called in; empty for the model itself."""
    path = _innermost(node)[0]
    # A module that is called twice gets a path such as "fc@1".
    return re.sub(r"@\d+", "", str(path)).removeprefix("L['self'].").removeprefix("L__self__.")


def module_class(node: Node) -> str:
    """The qualified class name of that innermost module."""
    found = _innermost(node)[1]
    return found if isinstance(found, str) else f"{found.__module__}.{found.__qualname__}"


def _innermost(node: Node) -> tuple[str, str | type]:
    """Path and class of the innermost module that the node was called in."""
    stack: dict[str, tuple[str, str | type]] = node.meta.get("nn_module_stack") or {}
    return list(stack.values())[-1] if stack else ("", "")


def traceback_location(trace: TracebackType | None) -> Location:
    """The innermost line of the user's own code below the compiler in a traceback.

    The module path comes from the innermost ``nn.Module`` frame of the user's.
    """
    package = str(Path(__file__).parents[1])
    found = Location()
    root: torch.nn.Module | None = None
    module = ""
    for frame, line in traceback.walk_tb(trace):
        file = frame.f_code.co_filename
        owner = frame.f_locals.get("self")
        if isinstance(owner, torch.nn.Module) and type(owner).__module__ != "torch.export._trace":
            root = root if root is not None else owner
            module = _path_below(root, owner) or module
        if not is_library(file) and not file.startswith(package):
            found = Location(module, shown_path(file), line, source_line(file, line))
    return found


def _path_below(root: torch.nn.Module, module: torch.nn.Module) -> str:
    modules: list[tuple[str, torch.nn.Module]] = list(root.named_modules())  # pyright: ignore[reportUnknownArgumentType]
    return next((name for name, each in modules if each is module), "")


def source_line(file: str, line: int) -> str:
    """The text of one line of a file; empty where it cannot be read."""
    return linecache.getline(file, line).strip() if file else ""
