"""`gw.format("e4m3")`: a number format to try out, on PyTorch tensors and on numpy arrays.

gw.format("mxfp4").quantize(tensor)              # the nearest representable reals
codes, scales = gw.format("mxfp4").encode(tensor)
gw.format("fixed<8,4> half_up wrap").encode(array)
packed = gw.format("mxfp4").pack(tensor)         # 4.25 bits an element
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.formats import CastSpec, Format, GroupFormat, Overflow, Rounding, ScalarFormat, parse_cast
from gatewright.ir.formats.grouped import Axes
from gatewright.ir.formats.names import GRADIENT_WORDS
from gatewright.packed import PackedTensor, pack_tensor

if TYPE_CHECKING:
    import torch

    from gatewright.backends.torch.codecs import Codec

Values = Any
"""A PyTorch tensor, or anything that numpy takes as an array; results are of the same kind."""


def format(name: str | Format | CastSpec, axis: Axes | None = None) -> Number:
    """The format called `name`, optionally with a rounding and an overflow word.

    `axis` is the blocked axis (axes for a tile; the last by default) or the channel axis (the first).
    Raises GatewrightError (GW02xx) for names that no format has, with the nearest one that exists.
    """
    if isinstance(name, str):
        cast = parse_cast(name)
        given = GRADIENT_WORDS.keys() & name.lower().split()
        if given:
            raise error(
                "GW0207",
                f'"{name}": {min(given)} is for casts in a model',
                help="leave it out, and pass clip=True to fake_quantize where the gradient is to be clipped",
            )
    else:
        cast = name if isinstance(name, CastSpec) else CastSpec(name, overflow=name.default_overflow)
    return Number(cast.format, cast.rounding, cast.overflow, axis)


def is_tensor(values: object) -> TypeGuard[torch.Tensor]:
    """True for a PyTorch tensor; never imports torch."""
    return type(values).__module__.split(".")[0] == "torch" or hasattr(values, "requires_grad")


@dataclass(frozen=True, slots=True)
class Number:
    """A format with a rounding, an overflow and an axis."""

    format: Format
    rounding: Rounding
    overflow: Overflow
    axis: Axes | None = None
    name: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", str(CastSpec(self.format, self.rounding, self.overflow)))

    def __str__(self) -> str:
        return self.name

    def _codec(self) -> Codec:
        from gatewright.backends.torch.codecs import codec_of

        return codec_of(self.name, self.axis)

    def quantize(self, values: Values, generator: Any = None) -> Values:
        """The values that `values` are cast to. A tensor keeps its type; an array gives float64.

        `generator` (torch or numpy) seeds stochastic rounding. No gradient: see `fake_quantize`.
        """
        if is_tensor(values):
            return self._codec().quantize(values.detach(), generator)
        codes = self._encoded(values, generator)
        return self.decode(*codes) if codes is not None else np.asarray(values, dtype=np.float64)

    def fake_quantize(self, values: torch.Tensor, clip: bool = False, generator: Any = None) -> torch.Tensor:
        """`quantize` with the gradient of the identity; with `clip`, zero where a value saturated."""
        return self._codec().fake_quantize(values, clip, generator)

    def encode(self, values: Values, generator: Any = None) -> Values:
        """Codes; for a format with scales the pair (element codes, scale codes)."""
        if is_tensor(values):
            codes, scales = self._codec().encode(values.detach(), generator)
            return codes if scales is None else (codes, scales)
        encoded = self._encoded(values, generator)
        if encoded is None:
            raise error("GW0217", f"{self.format} has no codes", note="it stands for values before any cast")
        return encoded[0] if len(encoded) == 1 else encoded

    def _encoded(self, values: object, generator: Any) -> tuple[Any, ...] | None:
        form = self.format
        if isinstance(form, GroupFormat):
            return form.encode(values, self.axis, self.rounding, self.overflow, generator)
        if isinstance(form, ScalarFormat):
            return (form.encode(values, self.rounding, self.overflow, generator),)
        return None

    def decode(self, codes: Values, scales: Values = None) -> Values:
        """The values of codes: float32 for tensors, float64 for arrays."""
        if is_tensor(codes):
            return self._codec().decode(codes, scales)
        if isinstance(self.format, GroupFormat):
            if scales is None:
                raise error("GW0213", f"{self.format}: its scales are missing", help="pass what encode gave")
            return self.format.decode(codes, scales, self.axis)
        if isinstance(self.format, ScalarFormat):
            return self.format.decode(codes)
        raise error("GW0217", f"{self.format} has no codes", note="it stands for values before any cast")

    def pack(self, values: Values, generator: Any = None) -> PackedTensor:
        """Real `values`, encoded and packed without a spare bit."""
        encoded = self.encode(values, generator)
        parts = cast("tuple[Values, ...]", encoded if isinstance(encoded, tuple) else (encoded,))
        arrays = [part.cpu().numpy() if is_tensor(part) else part for part in parts]
        return pack_tensor(self.format, *arrays, axis=self.axis)

    def unpack(self, packed: PackedTensor) -> Values:
        """The values of a packed tensor, in float64. GW0223 if it is in another format."""
        if packed.form != self.format:
            raise error(
                "GW0223",
                f"this packed tensor is in {packed.form}, not in {self.format}",
                help=f'use gw.format("{packed.form}").unpack',
            )
        return packed.decode()
