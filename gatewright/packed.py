"""Packed tensors: a format's bits and no more, in memory, in safetensors files, as PyTorch's small types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.formats import Block, Format, GroupFormat, ScalarFormat, ScaledSigns, parse_format
from gatewright.ir.formats.fixed import Fixed
from gatewright.ir.formats.grouped import Axes
from gatewright.ir.formats.packing import Bytes, pack_codes, unpack_codes
from gatewright.ir.formats.rounding import Integers, as_integers

if TYPE_CHECKING:
    import torch

_METADATA = "gatewright"


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """A tensor of `shape` in `form`: its element codes, and its scale codes where the format has scales.

    `axis` is the blocked axis (or axes), or the channel axis; None for the format's default.
    """

    form: Format
    shape: tuple[int, ...]
    elements: Bytes
    scales: Bytes | None = None
    axis: Axes | None = None

    @property
    def bits_per_element(self) -> float:
        """Storage per element, scales and padding included."""
        total = self.elements.size + (0 if self.scales is None else self.scales.size)
        return 8 * total / max(1, int(np.prod(self.shape)))

    def codes(self) -> tuple[Integers, Integers | None]:
        """Element codes in the tensor's shape, and scale codes."""
        elements = unpack_codes(self.elements, stored_element(self.form), self.shape)
        if not isinstance(self.form, GroupFormat) or self.scales is None:
            return elements, None
        return elements, unpack_codes(self.scales, self.form.scale, scales_shape(self.form, self.shape, self.axis))

    def decode(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The values, in float64."""
        elements, scales = self.codes()
        if isinstance(self.form, GroupFormat):
            return self.form.decode(elements, scales, self.axis)
        assert isinstance(self.form, ScalarFormat)
        return self.form.decode(elements)


def stored_element(form: Format) -> ScalarFormat:
    """The format in which the element codes of `form` are packed."""
    if isinstance(form, ScaledSigns) and form.levels > 1:
        return Fixed(form.code_bits, 0, signed=False)  # the signs of all levels side by side
    if isinstance(form, GroupFormat):
        return form.element
    if isinstance(form, ScalarFormat):
        return form
    raise error("GW0217", f"{form} has no codes, so it cannot be packed", help="choose a format with a width")


def scales_shape(form: GroupFormat, shape: tuple[int, ...], axis: Axes | None) -> tuple[int, ...]:
    """The shape of the scale codes of a tensor of `shape`."""
    if isinstance(form, Block):
        return form.scales_shape(shape, axis)
    assert isinstance(form, ScaledSigns)
    channel = axis if isinstance(axis, int) else 0
    return (shape[channel] if form.per == "channel" and shape else 1), form.levels


def pack_tensor(form: Format, codes: object, scales: object = None, axis: Axes | None = None) -> PackedTensor:
    """Pack the codes (and scale codes) that encoding gave. GW0213: scales missing; GW0218: not codes."""
    elements = as_integers(codes)
    shape = tuple(int(length) for length in elements.shape)
    data = pack_codes(elements, stored_element(form))
    if not isinstance(form, GroupFormat):
        return PackedTensor(form, shape, data)
    wanted = scales_shape(form, shape, axis)
    given = None if scales is None else as_integers(scales)
    if given is None or tuple(given.shape) != wanted:
        raise error(
            "GW0213",
            f"{form}: elements of shape {shape} need scales of shape {wanted}",
            note="no scales were passed" if given is None else f"their shape is {tuple(given.shape)}",
            help="pass the scales that encode gave, and the same axis",
        )
    return PackedTensor(form, shape, data, pack_codes(given, form.scale), axis)


# PyTorch's own small types --------------------------------------------------------------------------------

_TORCH_TYPES = {
    "e4m3": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
    "e8m0": "float8_e8m0fnu",
    "e2m1": "float4_e2m1fn_x2",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float32": "float32",
}


def torch_type(form: ScalarFormat) -> torch.dtype | None:
    """PyTorch's type with the same codes, or None. Two E2M1 codes share an element of float4_e2m1fn_x2."""
    import torch

    found = getattr(torch, _TORCH_TYPES.get(str(form), ""), None)
    return found if isinstance(found, torch.dtype) else None


def to_torch(packed: PackedTensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Elements and scales as tensors of PyTorch's small types; packed bytes, uint8 [*], where it has none.

    `from_torch` takes both back; bytes need the tensor's shape, which they do not carry.

    Two four-bit elements share one of float4_e2m1fn_x2, so the last axis halves (GW0220 if it is odd).
    """
    elements = _viewed(packed.elements, stored_element(packed.form), packed.shape)
    if packed.scales is None or not isinstance(packed.form, GroupFormat):
        return elements, None
    shape = scales_shape(packed.form, packed.shape, packed.axis)
    return elements, _viewed(packed.scales, packed.form.scale, shape)


def _viewed(data: Bytes, form: ScalarFormat, shape: tuple[int, ...]) -> torch.Tensor:
    import torch

    raw = torch.from_numpy(data.copy())
    dtype = torch_type(form)
    if dtype is None:
        return raw
    if form.width == 4:
        if not shape or shape[-1] % 2:
            raise error(
                "GW0220",
                f"a {form} tensor of shape {shape} has no form in float4_e2m1fn_x2",
                note="that type holds two elements in each of its own along the last axis",
                help="pad the last axis to an even length, or keep the packed bytes",
            )
        shape = (*shape[:-1], shape[-1] // 2)
    return raw.view(dtype).reshape(shape)


def from_torch(
    form: Format,
    elements: torch.Tensor,
    scales: torch.Tensor | None = None,
    axis: Axes | None = None,
    shape: tuple[int, ...] | None = None,
) -> PackedTensor:
    """The inverse of `to_torch`: PyTorch's small types, or packed bytes (uint8 [*]) of a tensor of `shape`.

    GW0221 if the types do not fit the format, or if bytes come without a shape; GW0219 if the sizes do not agree.
    """
    element = stored_element(form)
    data, found = _raw(elements, element, shape)
    if shape is not None and found != tuple(shape):
        raise error(
            "GW0219",
            f"{form}: these elements have shape {found}, not {tuple(shape)}",
            help="leave the shape out: tensors of PyTorch's small types carry their own",
        )
    if not isinstance(form, GroupFormat):
        return PackedTensor(form, found, data)
    wanted = scales_shape(form, found, axis)
    given = None if scales is None else _raw(scales, form.scale, wanted)
    if given is None or given[1] != wanted:
        raise error(
            "GW0213",
            f"{form}: elements of shape {found} need scales of shape {wanted}",
            note="no scales were passed" if given is None else f"their shape is {given[1]}",
            help="pass the scales, and the axis that they belong to",
        )
    return PackedTensor(form, found, data, given[0], axis)


def _raw(tensor: torch.Tensor, form: ScalarFormat, shape: tuple[int, ...] | None) -> tuple[Bytes, tuple[int, ...]]:
    """The bytes of a tensor and the shape of its codes, which is `shape` where it holds bytes."""
    import torch

    dtype = torch_type(form)
    packed = tensor.dtype == torch.uint8 and tensor.ndim == 1 and shape is not None
    if not packed and (dtype is None or tensor.dtype != dtype):
        raise error(
            "GW0221",
            f"a tensor of {tensor.dtype} and shape {tuple(tensor.shape)} does not hold codes of {form}",
            note=f"its type in PyTorch is {dtype}" if dtype else f"PyTorch has no type for {form}",
            help="pass packed bytes (uint8, one axis) with shape=..., the shape of the unpacked tensor, "
            "or use gw.format(...).pack for real numbers",
        )
    data = tensor.detach().cpu().contiguous().view(torch.uint8).reshape(-1).numpy().copy()
    if packed and shape is not None:
        expected = -(-prod(shape) * form.width // 8)
        if data.size != expected:
            raise error(
                "GW0219",
                f"{form}: a tensor of shape {tuple(shape)} takes {expected} bytes, not {data.size}",
                note=f"{prod(shape)} elements of {form.width} bits, without a spare bit between them",
                help="pass the shape that the tensor had before it was packed",
            )
        return data, tuple(shape)
    found = tuple(tensor.shape)
    return data, (*found[:-1], 2 * found[-1]) if form.width == 4 else found


# safetensors ------------------------------------------------------------------------------------------------


def save_packed(path: str | Path, tensors: Mapping[str, PackedTensor]) -> None:
    """Write packed tensors to a safetensors file: bytes, with formats, shapes and axes in its metadata."""
    import safetensors.numpy

    module: Any = safetensors.numpy
    arrays: dict[str, Bytes] = {}
    notes: dict[str, dict[str, object]] = {}
    for name, packed in tensors.items():
        arrays[f"{name}.elements"] = np.ascontiguousarray(packed.elements)
        if packed.scales is not None:
            arrays[f"{name}.scales"] = np.ascontiguousarray(packed.scales)
        notes[name] = {"format": str(packed.form), "shape": packed.shape, "axis": packed.axis}
    module.save_file(arrays, str(path), metadata={_METADATA: json.dumps(notes, sort_keys=True)})


def load_packed(path: str | Path) -> dict[str, PackedTensor]:
    """Read what `save_packed` wrote. GW0222 if the file holds no packed tensors."""
    import safetensors

    opened: Any = safetensors.safe_open(str(path), framework="numpy")
    with opened as file:
        metadata: dict[str, str] = file.metadata() or {}
        if _METADATA not in metadata:
            raise error(
                "GW0222",
                f"{Path(path).name} holds no packed tensors",
                note="its metadata has no entry about their formats",
                help="write it with gatewright.packed.save_packed",
            )
        notes: dict[str, dict[str, Any]] = json.loads(metadata[_METADATA])
        stored: list[str] = list(file.keys())
        result: dict[str, PackedTensor] = {}
        for name, note in notes.items():
            scales: Bytes | None = file.get_tensor(f"{name}.scales") if f"{name}.scales" in stored else None
            axis: Any = note["axis"]
            axis = tuple(cast("list[int]", axis)) if isinstance(axis, list) else axis
            form = parse_format(note["format"])
            result[name] = PackedTensor(form, tuple(note["shape"]), file.get_tensor(f"{name}.elements"), scales, axis)
    return result
