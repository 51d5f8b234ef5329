"""One row of x by MXINT8 weights and by groups of integers: every instance of the kernel that takes them."""

from __future__ import annotations

import pytest
import torch

from gatewright.kernels import convert, device, group_decode_cuda, integer_decode_cuda, product
from tests.kernels import bounds

# Rows of the weights, K, group, scales' type: scales that come 2, 4, 8, 16 and 32 bytes a chunk, and that lanes load
# themselves, because groups and chunks do not fit or rows begin at odd places.
GROUPS = {
    "int8": [
        (16, 256, 32, torch.float32),
        (33, 1024, 64, torch.float16),
        (4113, 2560, 128, torch.bfloat16),
        (333, 4608, 96, torch.bfloat16),
        (100, 1152, 128, torch.bfloat16),
        (70, 14336, 1024, torch.float32),
    ],
    "int4": [
        (16, 256, 32, torch.float32),
        (33, 1024, 64, torch.float16),
        (4113, 2560, 128, torch.bfloat16),
        (333, 4608, 96, torch.bfloat16),
        (100, 768, 256, torch.bfloat16),
        (45, 2048, 256, torch.bfloat16),
        (70, 14336, 128, torch.float32),
    ],
    "mxint8": [
        (16, 128, 32, torch.uint8),
        (33, 1024, 32, torch.uint8),
        (333, 2560, 32, torch.uint8),
        (4113, 4608, 32, torch.uint8),
        (70, 14336, 32, torch.uint8),
    ],
}
CASES = [(form, *case) for form, cases in GROUPS.items() for case in cases]


@pytest.mark.parametrize(("form", "columns", "depth", "group", "stored"), CASES)
def test_every_instance(
    form: str,
    columns: int,
    depth: int,
    group: int,
    stored: torch.dtype,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every element within its bound: tiles that end early, warps without work, promised weights and others."""
    if where != "cuda":  # the interpreter takes a while
        columns, depth, group = min(columns, 33), 256, min(group, 128) if group % 96 else 64
    x = torch.randn(1, depth, device=where).bfloat16()
    x *= torch.exp2(torch.randint(-9, 3, (1, depth), device=where))
    if form == "mxint8":
        codes, scales = convert.quantize(torch.randn(columns, depth, device=where) * 0.1, form)
        plain = convert.dequantize(codes, scales, form, torch.float32).double()
    else:
        bits = int(form[3:])
        codes = torch.randint(0, 256, (columns, depth * bits // 8), dtype=torch.uint8, device=where).view(torch.int8)
        scales = ((torch.rand(columns, depth // group, device=where) - 0.3) * 0.01).to(stored)
        plain = product.decode_groups(codes, torch.ones_like(scales), bits, torch.float32).double()
        plain *= scales.double().repeat_interleave(group, 1)
    wanted = x.double() @ plain.T
    bound = bounds.of_sums(x, plain, wanted, 32 if where == "cuda" else None)
    module = integer_decode_cuda if form == "mxint8" else group_decode_cuda
    together = integer_decode_cuda.scale_bytes(depth, form, group, scales.element_size())
    options = integer_decode_cuda.candidates(depth, form, together)
    assert {each["tiles"] for each in options} == {1, 2}
    for config in options if where == "cuda" else options[:1]:
        monkeypatch.setattr(module, "usual_of", lambda *_, config=config: config)
        weights = codes.clone(), scales.clone()
        for frozen in (False, True):
            if frozen:
                product.freeze(*weights)
            if form == "mxint8":
                found = product.block_linear(x, *weights, form)
            else:
                found = product.group_linear(x, *weights, int(form[3:]))
            assert ((found.double() - wanted).abs() <= bound).all(), config


def test_which_scales_come_with_their_chunks() -> None:
    found = {
        (form, depth, group, size): integer_decode_cuda.scale_bytes(depth, form, group, size)
        for form, depth, group, size in (
            ("mxint8", 384, 32, 1), ("int8", 8192, 128, 2), ("int8", 384, 128, 2), ("int8", 384, 128, 4),
            ("int8", 384, 64, 2), ("int8", 512, 256, 4), ("int8", 384, 96, 4), ("int4", 768, 32, 4),
            ("int4", 768, 128, 2), ("int4", 768, 256, 2), ("int4", 1024, 256, 2), ("int4", 1024, 512, 2),
        )
    }  # fmt: skip
    assert list(found.values()) == [4, 2, 0, 4, 4, 0, 0, 32, 4, 0, 2, 0]
    assert max(found.values()) == group_decode_cuda.MOST_SCALES


def test_instances_fit_and_narrow_layers_share_k(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks to a multiprocessor of 228 KB, as long as there are such instances."""
    for form in ("mxint8", "int8", "int4"):
        for depth in (256, 8192, 28672, 65536):
            for scales in (0, 4, 32):
                options = integer_decode_cuda.candidates(depth, form, scales)
                assert options
                for config in options:
                    taken = integer_decode_cuda.shared_bytes(depth, form, scales, **config)
                    assert 2 * (taken + 1024) <= 228 * 1024
        assert not integer_decode_cuda.candidates(2**24, form)
    monkeypatch.setattr(device, "count_processors", lambda _: 132)
    usual = {
        (8192, 8192): (2, 2, 1, 264), (4096, 4096): (2, 3, 1, 128), (14336, 4096): (2, 2, 1, 264),
        (1024, 8192): (2, 3, 4, 32), (4096, 14336): (2, 2, 2, 128), (8192, 28672): (1, 3, 1, 264),
    }  # fmt: skip
    for (columns, depth), wanted in usual.items():
        options, x = integer_decode_cuda.candidates(depth, "int8"), torch.empty(0)
        config = integer_decode_cuda.usual_of(options, columns, depth // 128, x)
        blocks = integer_decode_cuda.blocks_for(columns, config["tiles"], x)
        assert (config["tiles"], config["stages"], config["splits"], blocks) == wanted
