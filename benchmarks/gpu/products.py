"""Products with block-format weights against cuBLAS in bfloat16, and the exact int8 product against ``_int_mm``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.conversions import random_blocks
from benchmarks.gpu.measure import Context, Row, milliseconds, relative_error, rotation, within
from gatewright.kernels import (
    convert,
    decode_product_cuda,
    fp4_decode_cuda,
    fp8_product_cuda,
    group_decode_cuda,
    half_decode_cuda,
    integer_decode_cuda,
    integer_product,
    product,
    shared_decode_cuda,
)
from gatewright.kernels.block_product_triton import launch_block_product
from gatewright.kernels.formats import FORMATS

SIZE = 8192
GROUP = 128  # plain integers that share a scale
DECODE = ("mxint8", "mxfp8_e4m3", "mxfp4", "nvfp4")
SPEEDUPS = {"mxint8": 1.7, "mxfp4": 3.0}


def dense_operands(rows: int) -> tuple[Tensor, Tensor]:
    """Random x [rows, SIZE] and weights [SIZE, SIZE] in bfloat16."""
    return (
        torch.randn(rows, SIZE, device="cuda").bfloat16(),
        torch.randn(SIZE, SIZE, device="cuda").bfloat16(),
    )


def rows(context: Context) -> Iterator[Row]:
    """Few rows, many rows, and the integer product."""
    library: dict[int, float] = {}
    for few in (1, 16):
        dense = rotation(lambda few=few: dense_operands(few), 2 * SIZE * SIZE)
        library[few] = milliseconds(F.linear, dense)
        yield context.read_row("decode", f"M={few} bfloat16", "cublas", library[few], 2 * SIZE * SIZE)
        del dense
    single: dict[str, float] = {}
    for name in DECODE:
        for few in (1, 16):
            yield from decode_rows(context, name, few, library[few], single)
    for few in (1, 16):
        yield from grouped_rows(context, few, library[few])
    yield from prefill_rows(context)
    yield from grouped_prefill_rows(context)
    yield from mx_rows(context)
    yield from integer_rows(context)


def decode_rows(context: Context, name: str, few: int, library: float, single: dict[str, float]) -> Iterator[Row]:
    """One format with ``few`` rows of x, in CUDA C++ and in Triton."""
    form = FORMATS[name]
    size = int(SIZE * SIZE * form.bits_per_element / 8)
    sets = rotation(lambda: (torch.randn(few, SIZE, device="cuda").bfloat16(), *random_blocks(form, SIZE, SIZE)), size)
    x, codes, scales = sets[0]
    expected = x.double() @ convert.dequantize(codes, scales, name).double().T
    # The last of these is the one that `block_linear` takes: the goals are its.
    variants = {"triton": lambda a, c, s: launch_block_product(a, c, s, name, form.size, None, "none")}
    if decode_product_cuda.serves(x, SIZE, name):
        variants["cuda bf16"] = lambda a, c, s: decode_product_cuda.launch_decode_product(a, c, s, name, None, "none")
    if half_decode_cuda.serves(x, SIZE, name):
        variants["cuda fp16"] = lambda a, c, s: half_decode_cuda.launch_half_decode(a, c, s, name, None, "none")
    if shared_decode_cuda.serves(x, SIZE, SIZE, name):
        variants["cuda shared"] = lambda a, c, s: shared_decode_cuda.launch_shared_decode(a, c, s, name, None, "none")
    if integer_decode_cuda.serves(x, SIZE, SIZE, name):
        variants["cuda int8"] = lambda a, c, s: integer_decode_cuda.launch_integer_decode(a, c, s, name, None, "none")
    if fp4_decode_cuda.serves(x, SIZE, name):
        variants["cuda fp4"] = lambda a, c, s: fp4_decode_cuda.launch_fp4_decode(a, c, s, name, None, "none")
    if few == 1:
        taken = milliseconds(torch.sum, [(codes.view(torch.float32),) for _, codes, _ in sets])
        yield context.read_row("decode", f"M={few} {name}: its codes added up", "torch.sum", taken, codes.numel())
    # First as it is for weights that may still be written, then frozen.
    fastest = list(variants)[-1]
    for variant, call in ((f"{fastest}, unfrozen", variants[fastest]), *variants.items()):
        if variant in variants:
            for _, *weights in sets:
                product.freeze(*weights)
        found = call(x, codes, scales)
        correct = within(found, expected, 4e-3)
        taken = milliseconds(call, sets)
        share = size / taken * 1e-6 / context.read
        note = f"{library / taken:.2f}x cuBLAS bfloat16"
        if few == 1:
            single[name] = taken
            goal, met = "85% of read", share >= 0.85
            if name in SPEEDUPS:
                goal += f", {SPEEDUPS[name]}x cuBLAS"
                met = met and library / taken >= SPEEDUPS[name]
        else:
            ratio = taken / single[name]
            goal, met = "at most 1.10x M=1", ratio <= 1.10
            note += f", {ratio:.2f}x M=1"
        row = context.read_row("decode", f"M={few} {name}", variant, taken, size, correct=correct, note=note)
        if variant == list(variants)[-1]:
            row.goal, row.met = goal, met
        yield row


def grouped_weights(bits: int, group: int = GROUP) -> tuple[Tensor, Tensor]:
    """Random integers [SIZE, SIZE] with bfloat16 scales."""
    codes = torch.randint(0, 256, (SIZE, SIZE * bits // 8), dtype=torch.uint8, device="cuda").view(torch.int8)
    return codes, (torch.rand(SIZE, SIZE // group, device="cuda") * 0.01).bfloat16()


def grouped_rows(context: Context, few: int, library: float) -> Iterator[Row]:
    """Plain integer weights with group scales by ``few`` rows of x, in CUDA C++ and in Triton."""
    for bits in (8, 4):
        form = f"int{bits}"
        size = SIZE * SIZE * bits // 8 + SIZE * SIZE // GROUP * 2
        sets = rotation(
            lambda bits=bits: (torch.randn(few, SIZE, device="cuda").bfloat16(), *grouped_weights(bits)), size
        )
        expected = product.reference_linear(*sets[0], form, None, "none")
        variants: dict[str, Callable[..., Tensor]] = {
            "triton": lambda x, c, s, form=form: launch_block_product(x, c, s, form, GROUP, None, "none")
        }
        # The last of these is the one that `group_linear` takes: unfrozen weights first, then frozen ones.
        if group_decode_cuda.serves(sets[0][0], SIZE, SIZE, form, GROUP):
            variants["cuda int8, unfrozen"] = variants["cuda int8"] = lambda x, c, s, form=form: (
                group_decode_cuda.launch_group_decode(x, c, s, form, None, "none")
            )
        for variant, call in variants.items():
            if variant == "cuda int8":
                for _, *weights in sets:
                    product.freeze(*weights)
            correct = within(call(*sets[0]), expected, 4e-3)
            taken = milliseconds(call, sets)
            yield context.read_row("decode", f"M={few} {form} groups of {GROUP}", variant, taken, size, correct=correct,
                                   note=f"{library / taken:.2f}x cuBLAS bfloat16")  # fmt: skip


def prefill_rows(context: Context, many: int = 4096) -> Iterator[Row]:
    """Many rows of x: decoded weights and the library's product."""
    operations = 2.0 * many * SIZE * SIZE
    dense = [(torch.randn(many, SIZE, device="cuda").bfloat16(), torch.randn(SIZE, SIZE, device="cuda").bfloat16())
             for _ in range(3)]  # fmt: skip
    library = milliseconds(F.linear, dense, 20.0)
    yield context.compute_row("prefill", f"M={many} bfloat16", "cublas", library, operations)
    for name in ("mxint8", "mxfp8_e4m3", "mxfp4", "nvfp4"):
        sets = [(dense[index][0], *convert.quantize(dense[index][1], name)) for index in range(3)]
        x, codes, scales = sets[0]
        expected = x.double() @ convert.dequantize(codes, scales, name).double().T
        found = product.block_linear(x, codes, scales, name)
        taken = milliseconds(lambda a, c, s, name=name: product.block_linear(a, c, s, name), sets, 20.0)
        yield context.compute_row("prefill", f"M={many} {name} weights", "decode + cublas", taken, operations,
                                  goal="90% of bfloat16", met=library / taken >= 0.9,
                                  correct=within(found, expected, 4e-3),
                                  note=f"{library / taken:.2f}x cuBLAS bfloat16")  # fmt: skip


def grouped_prefill_rows(context: Context, many: int = 4096) -> Iterator[Row]:
    """Many rows of x by plain integer weights with group scales."""
    operations = 2.0 * many * SIZE * SIZE
    x, weights = dense_operands(many)
    library = milliseconds(F.linear, [(x, weights)] * 2, 20.0)
    for bits in (8, 4):
        codes, scales = grouped_weights(bits)
        expected = product.reference_linear(x, codes, scales, f"int{bits}", None, "none")
        found = product.group_linear(x, codes, scales, bits)
        sets = [(x, codes, scales)] * 2
        taken = milliseconds(lambda x, c, s, bits=bits: product.group_linear(x, c, s, bits), sets, 20.0)
        yield context.compute_row("prefill", f"M={many} int{bits} groups of {GROUP}", "decode + cublas", taken,
                                  operations, correct=within(found, expected, 4e-3),
                                  note=f"{library / taken:.2f}x cuBLAS bfloat16")  # fmt: skip


def mx_rows(context: Context, many: int = 4096) -> Iterator[Row]:
    """Both operands in an 8-bit MX format; in MXFP8 also through the fp8 tensor cores."""
    operations = 2.0 * many * SIZE * SIZE
    dense = [torch.randn(rows, SIZE, device="cuda").bfloat16() for rows in (many, SIZE)]
    library = milliseconds(F.linear, [tuple(dense)] * 2, 20.0)
    for name in ("mxfp8_e4m3", "mxfp8_e5m2", "mxint8"):
        x, w = (convert.quantize(each, name) for each in dense)
        expected = convert.dequantize(*x, name).double() @ convert.dequantize(*w, name).double().T
        for exact in (True, False) if name in fp8_product_cuda.FORMATS else (True,):

            def call(a: Tensor, b: Tensor, c: Tensor, d: Tensor, name: str = name, exact: bool = exact) -> Tensor:
                return product.block_product((a, b), (c, d), name, exact)

            # The library's rate drifts with the chip's temperature: it is timed on both sides.
            before = milliseconds(F.linear, [tuple(dense)] * 2, 20.0)
            found = call(*x, *w)
            taken = milliseconds(call, [(*x, *w)] * 2, 20.0)
            library = min(before, milliseconds(F.linear, [tuple(dense)] * 2, 20.0))
            yield context.compute_row(
                "prefill",
                f"M={many} {name} x {name}",
                "decode + cublas" if exact else "fp8 tensor cores",
                taken,
                operations,
                goal="faster than bfloat16",
                met=taken < library,
                correct=within(found, expected, 4e-3),
                note=f"{library / taken:.2f}x cuBLAS bfloat16, error {relative_error(found, expected):.2e}",
            )


def integer_rows(context: Context, many: int = 4096) -> Iterator[Row]:
    """The exact int8 product: ``_int_mm`` with its fast layout, and ours with the cast fused."""
    operations = 2.0 * many * SIZE * SIZE
    sets = [tuple(torch.randint(-128, 128, (rows, SIZE), device="cuda").to(torch.int8) for rows in (many, SIZE))
            for _ in range(3)]  # fmt: skip
    library = milliseconds(lambda x, w: torch._int_mm(x, w.T), sets, 20.0)
    yield context.compute_row("integer", f"M={many} int8 -> int32", "_int_mm", library, operations)
    for variant, shift in (("fused cast", 12), ("exact sums", None)):
        x, w = sets[0]
        found = integer_product.integer_linear(x, w, shift=shift)
        keep = (
            x,
            w,
            None,
            False,
            shift or 0,
            "half_even",
            "saturate" if shift else "",
            8 if shift else 32,
            True,
        )
        correct = torch.equal(found.long(), integer_product.reference_integer_linear(*keep))
        taken = milliseconds(lambda x, w, shift=shift: integer_product.integer_linear(x, w, shift=shift), sets, 20.0)
        yield context.compute_row("integer", f"M={many} int8 -> {'int8' if shift else 'int32'}", variant, taken,
                                  operations, goal="80% of _int_mm", met=library / taken >= 0.8, correct=correct,
                                  note=f"{library / taken:.2f}x _int_mm")  # fmt: skip
