"""Every operator says where it ran; on a machine without a GPU that is the interpreter, never silence."""

from __future__ import annotations

import torch

from gatewright.kernels import attention, convert, device, integer_product, product, rows


def test_every_operator_reports_where_it_ran(where: str) -> None:
    before = device.LAUNCHES.copy()
    x = torch.randn(4, 64, device=where)
    codes, scales = convert.quantize(x, "mxint8")
    convert.dequantize(codes, scales, "mxint8")
    product.block_linear(x.bfloat16(), codes, scales, "mxint8")
    integer_product.integer_linear(codes, codes, shift=4)
    rows.softmax(x)
    rows.layer_norm(x)
    rows.rms_norm(x)
    rows.gelu(x)
    rows.silu_gate(x, x)
    q = torch.randn(1, 2, 8, 32, device=where)
    attention.attention(q, q, q, causal=True)
    cache = convert.quantize(q, "mxint8")
    attention.attention_decode(q[:, :, 0], cache, cache, "mxint8")
    here = device.LAUNCHES - before
    for (kernel, place), count in sorted(here.items()):
        print(f"{kernel} ran on the {place} ({count})")
    expected = "gpu" if where == "cuda" else "interpreter"
    assert {place for _, place in here} == {expected}
    assert len(here) == 11
