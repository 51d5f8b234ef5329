"""Checks of the kernels' arguments: every error names the argument and the expectation, before any launch."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor

from gatewright.diagnostics import error
from gatewright.kernels.formats import FLOATS, BlockFormat


def check_tensor(name: str, value: object) -> None:
    """GW0502 unless ``value`` is an ordinary tensor: not a number, an array, a list, a sparse or a nested tensor."""
    if not isinstance(value, Tensor):
        raise error("GW0502", f"`{name}` is a {type(value).__name__}, expected a tensor")
    if value.layout != torch.strided:
        found = str(value.layout).removeprefix("torch.")
        raise error("GW0502", f"`{name}` is {found}, expected a dense tensor", help=f"pass `{name}.to_dense()`")
    if value.is_nested:
        raise error("GW0502", f"`{name}` is nested, expected a dense tensor", help="pass its tensors one by one")


def check_pair(name: str, pair: object) -> tuple[Tensor, Tensor]:
    """GW0502 unless ``pair`` is (codes, scales), as ``quantize`` gives them; the two."""
    if not _is_sequence(pair) or len(pair) != 2:
        raise error("GW0502", f"`{name}` is a {type(pair).__name__}, expected the pair (codes, scales)",
                    help="pass what `convert.quantize` gives")  # fmt: skip
    for index, each in enumerate(pair):
        check_tensor(f"{name}[{index}]", each)
    return pair[0], pair[1]


def _is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, tuple | list)


def check_whole(name: str, value: object, code: str) -> int:
    """``value`` as a whole number; the error ``code`` if it is none."""
    if isinstance(value, torch.SymInt):
        return value  # pyright: ignore[reportReturnType] - stands for an int while a graph is traced
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)  # pyright: ignore[reportArgumentType] - this is the question
    except TypeError:
        raise error(code, f"`{name}` is `{value}`, expected a whole number") from None


def check_flag(name: str, value: object) -> None:
    """GW0506 unless ``value`` is True or False."""
    if not isinstance(value, bool | torch.SymBool):
        raise error("GW0506", f"`{name}` is `{value}`, expected True or False")


def check_number(name: str, value: object) -> None:
    """GW0506 unless ``value`` is a real number that a float holds."""
    if isinstance(value, int) and abs(value) >> 1023:
        raise error("GW0506", f"`{name}` has {value.bit_length()} bits, expected a number below 2^1023")
    if not isinstance(value, int | float | torch.SymInt | torch.SymFloat):
        raise error("GW0506", f"`{name}` is `{value}`, expected a number")


def check_dtype(name: str, value: Tensor, allowed: Sequence[torch.dtype]) -> None:
    """GW0502 unless ``value`` is a tensor of one of the ``allowed`` types."""
    check_tensor(name, value)
    if value.dtype not in allowed:
        wanted = " or ".join(str(each).removeprefix("torch.") for each in allowed)
        found = str(value.dtype).removeprefix("torch.")
        raise error("GW0502", f"`{name}` is {found}", help=f"pass {wanted}: `{name}.to(...)`")


def check_float(name: str, value: Tensor) -> None:
    """GW0502 unless ``value`` is bfloat16, float16 or float32."""
    check_dtype(name, value, FLOATS)


def check_devices(**values: Tensor | None) -> None:
    """GW0503 unless all tensors are on one device."""
    first: tuple[str, Tensor] | None = None
    for name, value in values.items():
        if value is None:
            continue
        check_tensor(name, value)
        first = first or (name, value)
        if value.device != first[1].device:
            raise error(
                "GW0503",
                f"`{name}` is on {value.device}, `{first[0]}` on {first[1].device}",
                help=f"move them to one device: `{name}.to({str(first[1].device)!r})`",
            )


def check_axis(axis: int, dimensions: int) -> int:
    """The axis counted from the front; GW0504 if the tensor has no such axis."""
    axis = check_whole("axis", axis, "GW0504")
    if not -dimensions <= axis < dimensions:
        raise error("GW0504", f"`axis` is {axis}, the tensor has {dimensions} dimensions")
    return axis % dimensions


def check_shape(name: str, value: Tensor, expected: Sequence[int | None], why: str) -> None:
    """GW0505 unless ``value`` has the ``expected`` shape (None: any size); GW0502 if it is no tensor."""
    check_tensor(name, value)
    fits = value.ndim == len(expected) and all(
        want is None or want == size for want, size in zip(expected, value.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("?" if each is None else str(each) for each in expected)
        raise error("GW0505", f"`{name}` has shape {tuple(value.shape)}, expected ({wanted})", note=why)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """GW0506 unless ``value`` is one of the ``choices``."""
    if value not in choices:
        raise error("GW0506", f"`{name}` is `{value}`", help="use one of: " + ", ".join(choices))


def check_blocks(codes: Tensor, scales: Tensor, form: BlockFormat, axis: int, names: tuple[str, str]) -> int:
    """Elements along ``axis`` of a block-format tensor; GW0502, GW0503 or GW0505 if the parts do not fit."""
    check_dtype(names[0], codes, (form.code_dtype,))
    check_dtype(names[1], scales, (torch.uint8,))
    check_devices(**{names[0]: codes, names[1]: scales})
    length = form.unpacked(codes.shape[axis])
    if length % form.size:
        raise error(
            "GW0505",
            f"`{names[0]}` holds {length} elements along axis {axis}, no multiple of the block of {form.size}",
            note=f"{form.name} packs {form.size} elements into {form.packed(form.size)} bytes",
        )
    expected = list(codes.shape)
    expected[axis] = length // form.size
    check_shape(names[1], scales, expected, f"{form.name} has one scale for {form.size} elements")
    return length
