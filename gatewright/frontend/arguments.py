"""Arguments of an ATen call by schema name, with defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch.fx import Node
from torch.fx.node import map_arg


def is_overload(target: object) -> bool:
    """Whether a node's target is an operator with a schema."""
    return isinstance(target, torch._ops.OpOverload)  # pyright: ignore[reportPrivateUsage]


def target_name(target: Any) -> str:
    """``linear.default`` for an ATen overload, ``gatewright.cast.default`` for another namespace's.

    An in-place overload has the name of its functional form.
    """
    if not is_overload(target):
        return getattr(target, "__name__", str(target))
    name = str(target).removeprefix("aten.")
    base, _, overload = name.rpartition(".")
    return f"{base.removesuffix('_')}.{overload}" if is_mutating(target) else name


def is_mutating(target: Any) -> bool:
    """Whether the overload writes one of its arguments."""
    return is_overload(target) and bool(target._schema.is_mutable)


def named_arguments(node: Node, resolve: Callable[[Node], Any]) -> dict[str, Any]:
    """The node's arguments by schema name; defaults filled in, nodes replaced by ``resolve``."""
    found: dict[str, Any] = {}
    arguments: list[Any] = list(cast(Any, node.target)._schema.arguments)
    given: Any
    for position, argument in enumerate(arguments):
        if position < len(node.args):
            given = node.args[position]
        elif argument.name in node.kwargs:
            given = node.kwargs[argument.name]
        else:
            given = argument.default_value
        found[argument.name] = map_arg(given, resolve)
    return found
