"""Quantise and dequantise 4096 x 4096 float32 on one CPU thread, beside other libraries in the same process.

Every figure of ours is checked against the exact reference on a part of the tensor. torchao and brevitas come with
the extra ``bench``; the microxcaling style is its algorithm, written here: a floor of a logarithm for the
shared exponent, one for each element's exponent, and a rounding with ordinary operations.
Times are of this process's processor, the median of seven calls: other work on the machine counts for less.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.common import Row, at_least
from gatewright.backends.torch.codecs import make_codec
from gatewright.ir.formats import Block, parse_format

SIZE = 4096
NAMES = (
    "mxint8",
    "mxfp8_e4m3",
    "mxfp8_e5m2",
    "mxfp6_e3m2",
    "mxfp6_e2m3",
    "mxfp4",
    "nvfp4",
    "e4m3",
    "fixed<8,4>",
)
GOALS = {"mxint8": 200.0, "mxfp8_e4m3": 200.0, "mxfp4": 200.0}
Function = Callable[[torch.Tensor], torch.Tensor]


def microxcaling_style(exponent_bits: int, mantissa_bits: int, largest: float, emax: int) -> Function:
    """Blocks of 32 with a shared exponent, as microxcaling's pure PyTorch path does it."""

    def quantise(values: torch.Tensor) -> torch.Tensor:
        blocks = values.reshape(-1, 32)
        shared = torch.floor(torch.log2(blocks.abs().amax(-1, keepdim=True) + 2.0**-126)) - emax
        scaled = blocks / 2.0**shared
        if exponent_bits:
            smallest = 2 - 2 ** (exponent_bits - 1)
            exponents = torch.floor(torch.log2(scaled.abs() + (scaled == 0))).clamp(min=smallest)
            scaled = scaled / 2.0**exponents * 2.0**mantissa_bits
            scaled = torch.sign(scaled) * torch.floor(scaled.abs() + 0.5)
            scaled = scaled / 2.0**mantissa_bits * 2.0**exponents
        else:
            scaled = scaled * 2.0**mantissa_bits
            scaled = torch.sign(scaled) * torch.floor(scaled.abs() + 0.5) / 2.0**mantissa_bits
        return (scaled.clamp(-largest, largest) * 2.0**shared).reshape(values.shape)

    return quantise


def installed(name: str) -> Any:
    """A module of another library; RuntimeError with how to get it where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        package = name.split(".")[0]
        command = "python -m pip install -c constraints.txt -e '.[bench]'"
        raise RuntimeError(f"{package} is measured beside ours and is not installed: {command}") from problem


def torchao(element: str) -> Function:
    """torchao's MX quantiser and dequantiser."""
    library = installed("torchao.prototype.mx_formats.mx_tensor")
    dtype = getattr(torch, element, element)

    def quantise(values: torch.Tensor) -> torch.Tensor:
        scales, codes = library.to_mx(values, dtype, 32)
        return library.to_dtype(codes, scales, dtype, 32, torch.float32)

    return quantise


def brevitas(exponent_bits: int, mantissa_bits: int) -> Function:
    """brevitas' MX activation quantiser."""
    layers = installed("brevitas.nn")
    formats = installed("brevitas.quant.experimental.mx_quant_ocp")
    return layers.QuantIdentity(
        formats.MXFloat8e4m3Act,
        exponent_bit_width=exponent_bits,
        mantissa_bit_width=mantissa_bits,
        bit_width=1 + exponent_bits + mantissa_bits,
        group_dim=1,
        return_quant_tensor=False,
    ).eval()


def peers(name: str) -> dict[str, Function]:
    """What else quantises to the format `name`."""
    found: dict[str, dict[str, Function]] = {
        "mxint8": {"microxcaling style": microxcaling_style(0, 6, 127 / 64, 0)},
        "mxfp8_e4m3": {
            "torchao": torchao("float8_e4m3fn"),
            "brevitas": brevitas(4, 3),
            "microxcaling style": microxcaling_style(4, 3, 448.0, 8),
        },
        "mxfp8_e5m2": {"torchao": torchao("float8_e5m2"), "brevitas": brevitas(5, 2)},
        "mxfp6_e3m2": {"torchao": torchao("fp6_e3m2"), "brevitas": brevitas(3, 2)},
        "mxfp6_e2m3": {"torchao": torchao("fp6_e2m3"), "brevitas": brevitas(2, 3)},
        "mxfp4": {
            "torchao": torchao("float4_e2m1fn_x2"),
            "brevitas": brevitas(2, 1),
            "microxcaling style": microxcaling_style(2, 1, 6.0, 2),
        },
    }
    return found.get(name, {})


def rate(function: Function, values: torch.Tensor) -> float:
    """Millions of elements per second of processor time."""
    times: list[float] = []
    with torch.no_grad():
        function(values)
        for _ in range(7):
            began = time.process_time()
            function(values)
            times.append(time.process_time() - began)
    return values.numel() / statistics.median(times) / 1e6


def is_exact(name: str, values: torch.Tensor, got: torch.Tensor) -> bool:
    """Whether `got` has the reference's bits."""
    form = parse_format(name)
    array = values.numpy()
    if isinstance(form, Block):
        wanted = form.quantize(array)
    else:
        scalar: Any = form
        wanted = scalar.decode(scalar.encode(array))
    return bool(np.array_equal(wanted.astype(np.float32).view(np.int32), got.numpy().view(np.int32)))


def rows() -> Iterator[Row]:
    """One row per format, and the memory's own limit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(SIZE, SIZE, generator=generator)
        values *= torch.exp2(torch.randint(-12, 12, (SIZE, 1), generator=generator).float())
        yield Row(
            "copy into fresh memory, one thread",
            rate(lambda given: given.clone(), values),
            "Melem/s",
            "measured",
            note="what any function that returns a new tensor is bound by",
        )
        for name in NAMES:
            codec = make_codec(parse_format(name))
            if not is_exact(name, values[:256], codec.quantize(values)[:256]):
                raise AssertionError(f"{name} differs from the reference")
            others = {peer: round(rate(function, values), 1) for peer, function in peers(name).items()}
            goal = GOALS.get(name)
            yield Row(
                f"quantise and dequantise {name}, one thread",
                rate(codec.quantize, values),
                "Melem/s",
                "measured",
                goal=at_least(goal) if goal else None,
                peers=others,
            )
    finally:
        torch.set_num_threads(threads)
