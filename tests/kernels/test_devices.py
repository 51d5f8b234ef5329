"""Every operator on every GPU of the machine, while the first one is the current one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

import gatewright as gw
from gatewright.kernels import attention, convert, integer_product, product, rows


def results(place: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """What each operator gives there for the same operands."""
    generator = torch.Generator().manual_seed(4)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).bfloat16().to(place)

    x, few, one = draw(70, 512), draw(16, 512), draw(1, 512)
    weights = draw(32, 512)
    for name in ("mxint8", "mxfp8", "mxfp4", "nvfp4"):
        codes, scales = convert.quantize(weights, name)
        yield f"quantize {name}", codes
        yield f"dequantize {name}", convert.dequantize(codes, scales, name)
        product.freeze(codes, scales)
        for values in (x, few, one):
            yield f"{len(values)} rows by {name}", product.block_linear(values, codes, scales, name, activation="silu")
        yield f"{name} by {name}", product.block_product((codes, scales), (codes, scales), name)
    digits = (weights.float() * 30).to(torch.int8)
    scales = draw(32, 4).abs()
    for values in (x, few, one):
        yield f"{len(values)} rows by groups", product.group_linear(values, digits, scales, 8)
    yield "integers", integer_product.integer_linear(digits, digits, shift=9)
    for output in ("", "mxint8", "fixed<8,7>"):
        for kind in (rows.softmax(x, output), rows.layer_norm(x, output=output), rows.gelu(x, output=output)):
            yield f"rows, {output or 'plain'}", kind if isinstance(kind, torch.Tensor) else kind[0]
    q = draw(1, 4, 40, 64)
    yield "attention", attention.attention(q, q, q, causal=True)
    cache = convert.quantize(q, "mxint8")
    yield "decode", attention.attention_decode(q[:, :, 0], cache, cache, "mxint8")
    design = gw.compile(nn.Sequential(nn.Linear(16, 8), nn.ReLU()), torch.zeros(1, 16), formats="fixed<8,4>")
    values = draw(300, 16).float()
    yield "design", design(values)
    with torch.no_grad():
        yield "module", design.module.to(place).eval()(values)


def test_every_gpu_of_the_machine() -> None:
    """Needs two GPUs to find a launch on the wrong one; with fewer it says so, and runs on what there is."""
    count = torch.cuda.device_count()
    places = [torch.device("cuda", index) for index in range(count)] or [torch.device("cpu")]
    print(f"{count} GPUs; ran on {', '.join(map(str, places))}" + ("" if count > 1 else ": no launch can go astray"))
    expected: list[tuple[str, torch.Tensor]] = []
    for place in places:
        torch.manual_seed(4)  # the design's weights
        found = [(what, value) for what, value in results(place)]
        assert all(value.device == place for _, value in found)
        assert not count or torch.cuda.current_device() == 0
        expected = expected or found
        for (what, one), (_, other) in zip(expected, found, strict=True):
            assert torch.equal(one.cpu(), other.cpu()), f"{what} on {place}"
