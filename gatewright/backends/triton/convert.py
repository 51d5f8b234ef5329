"""Reals to codes and back on the device: a model's ports."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gatewright.backends.torch.cast import cast_values
from gatewright.backends.torch.codecs import make_codec
from gatewright.backends.torch.elements import values_of
from gatewright.backends.triton.access import KernelSource, identifier, triton_type
from gatewright.backends.triton.expressions import storage_type
from gatewright.backends.triton.load import launch
from gatewright.backends.triton.maps import BLOCK
from gatewright.ir.builder import interval_of_codes
from gatewright.ir.formats import CastSpec, Exact, Fixed, Overflow, Rounding, ScalarFormat
from gatewright.ir.intervals import IntegerArray
from gatewright.kernels import device

_KERNEL_WIDTH = 31
_FLOAT64_WIDTH = 53
_SATURATING = (Overflow.SATURATE, Overflow.SATURATE_SYMMETRIC)
_MOST_FRACTION = 200

_UP = {
    Rounding.FLOOR: "below > value",
    Rounding.TOWARD_ZERO: "(value < 0) & (below < value)",
    Rounding.HALF_UP: "value >= middle",
    Rounding.HALF_DOWN: "value > middle",
    Rounding.HALF_ZERO: "(value > middle) | ((value == middle) & (value < 0))",
    Rounding.HALF_AWAY: "(value > middle) | ((value == middle) & (value > 0))",
    Rounding.HALF_EVEN: "(value > middle) | ((value == middle) & (tl.floor(below * 0.5) * 2.0 != below))",
}
"""Whether the whole number above is taken, given the one below and the middle between them."""


class EncodeKernel:
    """The cast at an input port: reals to the codes of a format, with the very bits of the golden model."""

    def __init__(self, name: str, spec: CastSpec) -> None:
        self.name = name
        self.spec = spec
        format = spec.format
        assert isinstance(format, ScalarFormat)
        self.format = format
        self.stored = storage_type(interval_of_codes(format))
        self.source: KernelSource | None = None
        if (
            isinstance(format, Fixed)
            and format.width <= _KERNEL_WIDTH
            and 0 <= format.fraction_bits <= _MOST_FRACTION
            and spec.overflow in _SATURATING
            and spec.rounding in _UP
        ):
            self.source = self.print(format)

    def __call__(self, reals: Tensor) -> Tensor | IntegerArray:
        """Codes in the narrowest type; Python integers on the host for formats beyond int64."""
        if self.source is not None and (device.uses_kernel(reals) or reals.is_meta):
            values = reals.contiguous() if reals.is_floating_point() else reals.double()
            out = torch.empty(reals.shape, dtype=self.stored, device=reals.device)
            if not out.is_meta:
                grid = device.ceil_div(out.numel(), BLOCK)
                launch(self.source, "encode", grid, [values, out, out.numel()], out, BLOCK=BLOCK)
            return out
        spec, format = self.spec, self.format
        if isinstance(format, Fixed):
            if format.width > _FLOAT64_WIDTH or abs(format.fraction_bits) > _MOST_FRACTION:
                codes = format.encode(reals.double().cpu().numpy(), spec.rounding, spec.overflow)
                return codes if codes.dtype == object else torch.from_numpy(codes).to(reals.device)
            rounded = cast_values(reals.double(), spec) * 2.0**format.fraction_bits
            return rounded.nan_to_num(0.0).to(torch.int64).to(self.stored)
        codec = make_codec(format, rounding=spec.rounding, overflow=spec.overflow)
        return codec.encode(reals)[0].to(self.stored)

    def print(self, format: Fixed) -> KernelSource:
        """The kernel: exact in float64, because it scales by a power of two and clips what is far off first."""
        low, high = format.code_interval()
        low = max(low, -high) if self.spec.overflow is Overflow.SATURATE_SYMMETRIC else low
        function = f"encode_{identifier(self.name)}"
        text = "\n    ".join(
            [
                f"def {function}(reals, out, count, BLOCK: tl.constexpr):",
                f'"""%{self.name} as {self.spec}"""',
                "place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)",
                "inside = place < count",
                "real = tl.load(reals + place, mask=inside, other=0.0).to(tl.float64)",
                f"value = real * {2.0**format.fraction_bits!r}",
                "value = tl.where(value == value, value, 0.0)  # NaN has no code and counts as 0",
                f"value = tl.minimum(tl.maximum(value, {float(low - 1)}), {float(high + 1)})",
                "below = tl.floor(value)",
                "middle = below + 0.5",
                f"above = {_UP[self.spec.rounding]}",
                "code = below.to(tl.int32) + above.to(tl.int32)",
                f"code = tl.minimum(tl.maximum(code, {low}), {high})",
                f"tl.store(out + place, code.to({triton_type(self.stored)}), mask=inside)",
            ]
        )
        return KernelSource(function, f"@triton.jit\n{text}\n", ())


def decode(codes: Tensor | IntegerArray, format: ScalarFormat, where: torch.device) -> Tensor:
    """The codes of an output as float64 on a device."""
    if isinstance(codes, Tensor):
        if isinstance(format, Exact | Fixed) and abs(format.fraction_bits) <= _MOST_FRACTION:
            return torch.mul(codes, torch.tensor(2.0**-format.fraction_bits, dtype=torch.float64))
        if not isinstance(format, Exact) and not isinstance(format, Fixed) and format.width <= 16:
            return values_of(codes, format)
    array = codes.cpu().numpy() if isinstance(codes, Tensor) else codes
    return torch.from_numpy(np.ascontiguousarray(format.decode(array))).to(where)
