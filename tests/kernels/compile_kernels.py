"""Compile, for an NVIDIA H200 and without one, the Triton kernels that calls of every operator launch; run by a test.

Prints one line for each kernel that fails and a summary; exits 1 if any failed. Values are not computed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from gatewright.kernels import attention, convert, device, integer_product, product, rows
from gatewright.kernels.formats import FLOATS, FORMATS

TARGET = GPUTarget("cuda", 90, 32)
TYPES = {
    torch.int8: "*i8", torch.uint8: "*u8", torch.int16: "*i16", torch.int32: "*i32", torch.int64: "*i64",
    torch.float32: "*fp32", torch.float64: "*fp64", torch.bfloat16: "*bf16", torch.float16: "*fp16",
    int: "i32", float: "fp32",
}  # fmt: skip
OPTIONS = ("num_warps", "num_stages", "maxnreg", "launch_pdl")
done: dict[str, bool] = {}


def compile_only(kernel: JITFunction[Any], *arguments: Any, grid: Any, warmup: bool, **named: Any) -> None:
    """Stands in for a launch."""
    options = {name: named.pop(name) for name in OPTIONS if name in named}
    given = dict(zip(kernel.arg_names, arguments, strict=False)) | named
    constants = {each.name: given[each.name] for each in kernel.params if each.is_constexpr}
    kinds = {name: value.dtype if isinstance(value, torch.Tensor) else type(value) for name, value in given.items()}
    signature = {name: "constexpr" if name in constants else TYPES[kinds[name]] for name in kernel.arg_names}
    key = f"{kernel.__name__} {signature} {constants} {options}"
    if key in done:
        return
    try:
        triton.compile(ASTSource(kernel, signature, constants), target=TARGET, options=options)
        done[key] = True
    except Exception as failure:  # each kind of failure is this check's result
        done[key] = False
        print(f"FAILED {key}: {failure}")


def calls() -> Iterator[Callable[[], Any]]:
    """Calls of every operator: formats, types, axes, outputs."""
    wide, tokens = torch.zeros(64, 4096), torch.zeros(1, 4, 200, 128, dtype=torch.bfloat16)
    codes8 = torch.zeros(256, 512, dtype=torch.int8)
    for name in FORMATS:
        codes, scales = convert.quantize_reference(torch.zeros(256, 512), FORMATS[name])
        flat, across = (codes, scales), convert.quantize_reference(torch.zeros(256, 512), FORMATS[name], 0)
        for dtype in FLOATS:
            yield lambda name=name, dtype=dtype: convert.quantize(wide.to(dtype), name)
            yield lambda name=name, dtype=dtype: convert.quantize(wide.to(dtype), name, 0)
            yield lambda name=name, dtype=dtype, flat=flat: convert.dequantize(*flat, name, dtype)
            yield lambda name=name, dtype=dtype, across=across: convert.dequantize(*across, name, dtype, 0)
        for count in (1, 16, 64):
            x, bias = torch.zeros(count, 512, dtype=torch.bfloat16), torch.zeros(256)
            yield lambda name=name, x=x, bias=bias, flat=flat: product.block_linear(x, *flat, name, bias, "gelu")
            yield lambda name=name, x=x, flat=flat: product.block_linear(x.half(), *flat, name, None, "relu")
        yield lambda name=name: rows.rms_norm(wide, output=name)
        yield lambda name=name: rows.silu_gate(wide, wide, name)
    for count in (1, 300):
        x = torch.zeros(count, 512, dtype=torch.bfloat16)
        yield lambda x=x: product.group_linear(x, codes8, torch.zeros(256, 4), 8, None, "silu")
        yield lambda x=x: product.group_linear(x, codes8[:, :256], torch.zeros(256, 8), 4)
        for dtype in FLOATS:  # decoded by a kernel: many rows, groups of no kernel's, float32 x
            scales = torch.zeros(256, 4).to(dtype)
            yield lambda x=x, dtype=dtype, scales=scales: product.group_linear(x.to(dtype), codes8, scales, 8)
            yield lambda x=x, dtype=dtype, scales=scales: product.group_linear(
                x[:, :12].to(dtype), codes8[:, :6], scales[:, :2], 4
            )
        yield lambda x=x: integer_product.integer_linear(x.to(torch.int8), codes8)
        for rounding in integer_product.ROUNDINGS[:: 1 if count == 1 else 3]:
            for overflow in integer_product.OVERFLOWS:
                yield lambda x=x, rounding=rounding, overflow=overflow: integer_product.integer_linear(
                    x.to(torch.int8), codes8, shift=3, rounding=rounding, overflow=overflow
                )
    for output in ("", "fixed<8,7>", "ufixed<8,8> half_up saturate_zero", "e4m3", "e3m2", "log<6>"):
        for width in (100, 4096):
            for x in (wide[:, :width], wide[:, :width].to(torch.bfloat16)):
                yield lambda x=x, output=output: rows.softmax(x, output)
                yield lambda x=x, output=output: rows.layer_norm(x, x[0], x[0], output=output)
                yield lambda x=x, output=output: rows.gelu(x[0, : x.shape[1] - 1], output=output)
                yield lambda x=x, output=output: rows.gelu(x, "tanh", output=output)
    for depth in attention.DEPTHS:
        for dtype in FLOATS:
            q = torch.zeros(1, 4, 200, depth, dtype=dtype)
            for causal in (False, True):
                yield lambda q=q, causal=causal: attention.attention(q, q[:, :2], q[:, :2], causal)
    for name in attention.CACHE_FORMATS:
        cache = convert.quantize_reference(tokens[:, :2], FORMATS[name])
        for length in (200, 100):
            yield lambda name=name, cache=cache, length=length: attention.attention_decode(
                tokens[:, :, 0], cache, cache, name, length
            )


def main() -> int:
    """1 if a kernel does not compile."""
    JITFunction.run = compile_only
    device.uses_kernel = device.overlaps = lambda value: True
    step = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    for call in list(calls())[::step]:
        call()
    failed = sum(not each for each in done.values())
    print(f"{len(done)} kernels, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
