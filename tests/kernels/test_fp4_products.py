"""One row of x by MXFP4 and NVFP4 weights: every instance of the kernel that the copy engine feeds."""

from __future__ import annotations

import pytest
import torch

from gatewright.kernels import convert, device, fp4_decode_cuda, product
from gatewright.kernels.formats import block_format

SIZES = [(1, 512), (33, 1024), (333, 2560), (4113, 4608), (70, 14336)]  # rows of the weights, K


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["mxfp4", "nvfp4"])
def test_every_instance(name: str, size: tuple[int, int], where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles that end inside a box, warps without work, weights that are promised and that are not."""
    columns, depth = size if where == "cuda" else (min(size[0], 33), 512)  # the interpreter takes a while
    codes, scales = convert.quantize(torch.randn(columns, depth, device=where) * 0.1, name)
    x, bias = torch.randn(1, depth, device=where).bfloat16(), torch.randn(columns, device=where).bfloat16()
    weights = convert.dequantize(codes, scales, name).double()
    expected = torch.nn.functional.silu(x.double() @ weights.T + bias.double())
    options = fp4_decode_cuda.candidates(depth, block_format(name).name)
    assert [each["tiles"] for each in options] == [2, 1]
    for config in options if where == "cuda" else options[:1]:
        monkeypatch.setattr(fp4_decode_cuda, "usual_of", lambda *_, config=config: config)
        for frozen in (False, True):
            if frozen:
                product.freeze(codes, scales)
            found = product.block_linear(x, codes, scales, name, bias, "silu")
            assert (found.double() - expected).norm() / expected.norm() < 4e-3
            assert torch.equal(found, product.block_linear(x, codes, scales, name, bias, "silu"))


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4"])
def test_weights_without_rows_give_no_results(name: str, where: str) -> None:
    """The copy engine takes no empty matrix, so such a call launches nothing."""
    codes, scales = convert.quantize(torch.zeros(0, 512, device=where), name)
    x, bias = torch.ones(1, 512, device=where).bfloat16(), torch.zeros(0, device=where).bfloat16()
    for found in (
        fp4_decode_cuda.launch_fp4_decode(x, codes, scales, block_format(name).name, bias, "silu"),
        product.block_linear(x, codes, scales, name, bias, "silu"),
    ):
        assert found.shape == (1, 0) and found.dtype == torch.bfloat16


def test_instances_fit_and_share_the_rows_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks to a multiprocessor of 228 KB; 32 rows at a time where no block then has more than the others."""
    for form in fp4_decode_cuda.FORMATS:
        for depth in (512, 8192, 16384, 32768, 65536):
            for config in fp4_decode_cuda.candidates(depth, form):
                assert 2 * (fp4_decode_cuda.shared_bytes(depth, form, **config) + 1024) <= 228 * 1024
        assert not fp4_decode_cuda.candidates(65536, form)
    monkeypatch.setattr(device, "count_processors", lambda _: 132)
    wanted = {8192: (2, 256), 4096: (1, 256), 14336: (2, 264), 28672: (1, 264), 1024: (1, 64)}
    for columns, usual in wanted.items():
        tiles = fp4_decode_cuda.usual_of(fp4_decode_cuda.candidates(8192, "mxfp4"), columns, torch.empty(0))["tiles"]
        assert (tiles, fp4_decode_cuda.blocks_for(columns, tiles, torch.empty(0))) == usual
