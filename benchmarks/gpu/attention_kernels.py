"""Attention: decode over a block-format cache, and prefill, against PyTorch's cuDNN and flash kernels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu.measure import Context, Row, milliseconds, rotation, within
from gatewright.kernels import attention, attention_decode_cuda, convert
from gatewright.kernels.attention_decode_triton import launch_attention_decode as triton
from gatewright.kernels.formats import block_format

BATCH, HEADS, TOKENS, DEPTH = 4, 32, 4096, 128
LIBRARIES = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def rows(context: Context) -> Iterator[Row]:
    """Decode, then prefill."""
    yield from decode_rows(context)
    for causal in (False, True):
        yield from prefill_rows(context, causal)
    yield from prefill_rows(context, True, 256, ("flash",))


def decode_rows(context: Context) -> Iterator[Row]:
    """One query token over the whole cache."""
    elements = 2 * BATCH * HEADS * TOKENS * DEPTH
    shape = (BATCH, HEADS, TOKENS, DEPTH)

    def make() -> tuple[torch.Tensor, ...]:
        return tuple(
            torch.randn(BATCH, HEADS, length, DEPTH, device="cuda").bfloat16() for length in (1, TOKENS, TOKENS)
        )

    sets = [make() for _ in range(2)]
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        library = milliseconds(F.scaled_dot_product_attention, sets)
    what = f"decode B{BATCH} H{HEADS} S{TOKENS} D{DEPTH}"
    yield context.read_row("attention", f"{what} bfloat16 cache", "cudnn", library, 2 * elements)
    for form in ("mxint8", "mxfp8"):
        caches = rotation(
            lambda form=form: (
                torch.randn(BATCH, HEADS, DEPTH, device="cuda").bfloat16(),
                convert.quantize(torch.randn(shape, device="cuda"), form),
                convert.quantize(torch.randn(shape, device="cuda"), form),
            ),
            elements,
        )
        query, keys, values = caches[0]
        plain = [convert.dequantize(*each, form, torch.float32) for each in (keys, values)]
        expected = attention.reference_attention(query.unsqueeze(2), *plain, False, DEPTH**-0.5).squeeze(2)
        name = full_name(form)
        variants = {"triton": lambda q, k, v, name=name: triton(q, k, v, name, TOKENS, DEPTH**-0.5)}
        if attention_decode_cuda.serves(query, keys[0], values[0], name):
            variants["cuda"] = lambda q, k, v, name=name: attention_decode_cuda.launch_attention_decode(
                q, k, v, name, TOKENS, DEPTH**-0.5
            )
        work = elements * (1 + 1 / 32)
        if form == "mxint8":
            bytes_read = [
                (torch.empty(int(work) // 4, dtype=torch.float32, device="cuda").uniform_(),) for _ in range(4)
            ]
            yield context.read_row(
                "attention", f"read of {what}'s bytes", "sum", milliseconds(torch.sum, bytes_read), work
            )
            del bytes_read
        for variant, call in variants.items():
            found = call(query, keys, values)
            taken = milliseconds(call, caches)
            share = work / taken * 1e-6 / context.read
            row = context.read_row(
                "attention",
                f"{what} {form} cache",
                variant,
                taken,
                work,
                correct=within(found, expected, 5e-3),
                note=f"{library / taken:.2f}x cuDNN bfloat16",
            )
            row.goal, row.met = "80% of read, 1.6x cuDNN", share >= 0.8 and library / taken >= 1.6
            yield row


def full_name(form: str) -> str:
    """The format's own name."""
    return block_format(form).name


def prefill_rows(
    context: Context, causal: bool, depth: int = DEPTH, libraries: tuple[str, ...] = ("cudnn", "flash")
) -> Iterator[Row]:
    """All queries at once, beside the ``libraries``."""
    operations = 4.0 * BATCH * HEADS * TOKENS * TOKENS * depth * (0.5 if causal else 1.0)
    sets = [tuple(torch.randn(3, BATCH, HEADS, TOKENS, depth, device="cuda").bfloat16().unbind(0)) for _ in range(2)]
    what = f"prefill B{BATCH} H{HEADS} S{TOKENS} D{depth} {'causal' if causal else 'full'}"
    library = float("inf")
    for name in libraries:
        with sdpa_kernel(LIBRARIES[name]):
            taken = milliseconds(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal), sets, 20.0)
        library = min(library, taken)
        yield context.compute_row("attention", what, name, taken, operations)
    found = attention.attention(*sets[0], causal=causal)
    correct = True
    for index, (q, k, v) in enumerate(zip(*sets[0], strict=True)):
        expected = attention.reference_attention(q[None], k[None], v[None], causal, depth**-0.5)
        correct = correct and within(found[[index]], expected, 6e-3, by_row=True)
    taken = milliseconds(lambda q, k, v: attention.attention(q, k, v, causal), sets, 20.0)
    measured = libraries[0] == "cudnn"  # the goal is held against it
    yield context.compute_row("attention", what, "triton", taken, operations, goal="70% of cuDNN" if measured else "",
                              met=library / taken >= 0.7 if measured else None, correct=correct,
                              note=f"{library / taken:.2f}x {' or '.join(libraries)}")  # fmt: skip
