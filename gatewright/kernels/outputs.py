"""What the result of a row or gate operator is cast to: nothing, a block format of the kernels, or any other cast.

Block formats come packed, as :func:`gatewright.kernels.convert.quantize` gives them. Any other cast that
``gatewright.format`` reads (``"fixed<8,7> half_up"``, ``"e4m3"``, ``"log<6>"``, ``"block<e2m1,e8m0,16>"``) gives the
codes of ``gatewright.format(output).encode``, or a tensor of PyTorch's type for ``bfloat16``, ``float16`` and
``float32``. Fixed point to 22 bits and floats within float32's range are encoded in the kernel; for the others the
kernel leaves float32, which the codec encodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gatewright.backends.torch.codecs import Codec, make_codec
from gatewright.backends.torch.elements import code_type
from gatewright.diagnostics import error
from gatewright.ir.formats import (
    DETERMINISTIC_ROUNDINGS,
    CastSpec,
    Fixed,
    Float,
    GroupFormat,
    Overflow,
    Real,
    Rounding,
    ScalarFormat,
    Underflow,
    cast_to,
    parse_cast,
)
from gatewright.kernels.formats import FORMATS, BlockFormat, quantize_reference

_WIDEST_FIXED = 22  # a sum with one half is exact in float32
_MOST_FRACTION = 100
_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_LIMITING = (Overflow.SATURATE, Overflow.SATURATE_SYMMETRIC, Overflow.SATURATE_ZERO)


@dataclass(frozen=True, slots=True)
class Output:
    """An operator's output: ``form`` packed by the kernels, else ``cast``, else the input's own type."""

    form: BlockFormat | None = None
    cast: CastSpec | None = None

    @property
    def kernel(self) -> str:
        """The cast's name in the kernels; empty where they leave reals."""
        if self.form is not None:
            return self.form.name
        return str(self.cast) if self.cast is not None and encoded_in_kernel(self.cast) else ""

    @property
    def codec(self) -> Codec:
        """What encodes a float32 result."""
        assert self.cast is not None
        return make_codec(self.cast.format, None, self.cast.rounding, self.cast.overflow)

    @property
    def scaled(self) -> bool:
        """Whether the result has scales."""
        return self.form is not None or (self.cast is not None and isinstance(self.cast.format, GroupFormat))

    def empty(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """What a kernel fills for ``values``: reals or codes, and scales (empty where there are none)."""
        none = values.new_empty(0, dtype=torch.uint8)
        if self.form is not None:
            lead, width = values.shape[:-1], values.shape[-1]
            codes = values.new_empty((*lead, self.form.packed(width)), dtype=self.form.code_dtype)
            return codes, values.new_empty((*lead, width // self.form.size), dtype=torch.uint8)
        dtype = values.dtype
        if self.cast is not None:
            form = self.cast.format
            dtype = code_type(form) if self.kernel and isinstance(form, ScalarFormat) else torch.float32
        return torch.empty(values.shape, dtype=dtype, device=values.device), none

    def finish(self, filled: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The result, from what a kernel filled."""
        return filled if self.cast is None or self.kernel else self._encoded(filled[0])

    def of(self, result: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The result on a reference path, from float32; ``dtype`` is the input's."""
        if self.form is not None:
            return quantize_reference(result, self.form)
        if self.cast is not None:
            return self._encoded(result)
        return result.to(dtype).contiguous(), result.new_empty(0, dtype=torch.uint8)

    def _encoded(self, result: Tensor) -> tuple[Tensor, Tensor]:
        assert self.cast is not None
        dtype = _TYPES.get(str(self.cast.format))
        if dtype is not None:
            return self.codec.quantize(result).to(dtype).contiguous(), result.new_empty(0, dtype=torch.uint8)
        codes, scales = self.codec.encode(result)
        return codes.contiguous(), codes.new_empty(0, dtype=torch.uint8) if scales is None else scales.contiguous()


def encoded_in_kernel(cast: CastSpec) -> bool:
    """Whether ``device_code.encode_scalar`` is this cast of float32 values."""
    form = cast.format
    if isinstance(form, Fixed):
        fits = form.width <= _WIDEST_FIXED and 0 <= form.fraction_bits <= _MOST_FRACTION
        return fits and cast.rounding in DETERMINISTIC_ROUNDINGS and cast.overflow in _LIMITING
    if str(form) in _TYPES or not isinstance(form, Float) or not form.signed or form.underflow is not Underflow.GRADUAL:
        return False
    # A power of two 23 - mantissa above any value, and the smallest normal, are normal in float32.
    fits = form.mantissa <= 20 and form.exponent_bias <= 126 and form.largest_exponent + 23 - form.mantissa <= 127
    return fits and cast.rounding is Rounding.HALF_EVEN and cast.overflow in _LIMITING[:2]


@cache
def read_output(text: str) -> Output:
    """The output called ``text``. GW02xx for what no cast is called, GW0506 for one that draws random numbers."""
    if not text:
        return Output()
    cast = parse_cast(text)
    name = str(cast.format)
    if name in FORMATS and cast == cast_to(cast.format):
        return Output(form=FORMATS[name])
    if cast.rounding is Rounding.STOCHASTIC:
        raise error("GW0506", f"`output` is `{text}`, and these operators are deterministic",
                    help="leave `output` out and encode the result with a generator")  # fmt: skip
    if isinstance(cast.format, Real):
        raise error("GW0506", f"`output` is `{text}`, which is no cast", help="leave `output` out")
    found = Output(cast=cast)
    found.codec.encode(torch.zeros(1))  # what the format does not know is refused here, before any launch
    return found


@torch.compiler.assume_constant_result
def shape_of_output(text: str) -> tuple[str, int, bool]:
    """The packed block format's name and size (empty and 1 without one), and whether there are scales.

    Errors as ``read_output``, and GW0506 for what is no text. A constant to torch.compile, which would else trace the
    reading of names.
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - a caller's None
        raise error("GW0506", f"`output` is `{text}`", help="pass a format's name, or leave `output` out")
    found = read_output(text)
    return ("", 1, found.scaled) if found.form is None else (found.form.name, found.form.size, True)
