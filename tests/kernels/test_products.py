"""Products with block-format, grouped-integer and int8 operands against exact or float32 references."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from gatewright.diagnostics import GatewrightError
from gatewright.kernels import convert, cuda_build, device, half_decode_cuda, integer_product, product
from gatewright.kernels.formats import FORMATS, block_format, dequantize_reference, pack

SHAPES = [(1, 80, 256), (5, 33, 96), (7, 40, 640), (16, 64, 384), (33, 70, 128), (12, 37, 512)]


def error_of(found: torch.Tensor, expected: torch.Tensor) -> float:
    """||found - expected|| / ||expected||."""
    return float((found.float() - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", list(FORMATS))
def test_block_linear(name: str, shape: tuple[int, int, int], where: str) -> None:
    rows, columns, depth = shape
    x = torch.randn(rows, depth, device=where).bfloat16()
    bias = torch.randn(columns, device=where).bfloat16()
    codes, scales = convert.quantize(torch.randn(columns, depth, device=where) * 0.1, name)
    for activation, addend in (("none", None), ("gelu", bias), ("relu", bias), ("silu", None)):
        found = product.block_linear(x, codes, scales, name, addend, activation)
        expected = product.reference_linear(x, codes, scales, block_format(name).name, addend, activation)
        assert error_of(found, expected) < 5e-3


@pytest.mark.parametrize("name", ["mxint8", "mxfp8", "mxfp4", "nvfp4"])
def test_block_linear_deeper_than_a_thread_block(name: str, where: str) -> None:
    """K that the GPU's kernels split over thread blocks, the last of them partly idle."""
    x = torch.randn(3, 2304, device=where).bfloat16()
    codes, scales = convert.quantize(torch.randn(24, 2304, device=where) * 0.1, name)
    expected = product.reference_linear(x, codes, scales, block_format(name).name, None, "none")
    assert error_of(product.block_linear(x, codes, scales, name), expected) < 5e-3


# Few rows and more take different kernels; one row of MXFP4 or NVFP4 has its own where 512 divides K.
@pytest.mark.parametrize(("rows", "depth"), [(1, 256), (1, 512), (2, 256), (9, 256)])
@pytest.mark.parametrize("name", ["mxint8", "mxfp8", "mxfp8_e5m2", "mxfp4", "nvfp4"])
def test_every_weight_code_and_scale_reaches_the_product_exactly(name: str, rows: int, depth: int, where: str) -> None:
    """Rows of x are unit vectors, so each output is one weight: all codes under all scales, NaN included."""
    form = block_format(name)
    codes = torch.arange(depth).repeat(256, 1) % (1 << form.bits)
    if form.element.special != "none":  # one NaN hides its whole row: they are in every eighth
        special = codes & 0x7F > form.element.largest_code
        special[5::8] = False
        codes[special] = 0
    packed = pack(codes, form).to(where)
    scales = torch.arange(256, dtype=torch.uint8)[:, None].expand(256, depth // form.size).contiguous().to(where)
    # On a GPU, enough columns for the kernels that have work for every multiprocessor.
    repeats = device.ceil_div(32 * device.count_processors(scales), 256)
    packed, scales = packed.repeat(repeats, 1), scales.repeat(repeats, 1)
    weights = dequantize_reference(packed.cpu(), scales.cpu(), form, torch.bfloat16)
    row_is_nan = weights.isnan().any(1)
    number = weights.isfinite().all(1)  # an infinite weight times zero is NaN
    assert row_is_nan.any() and number.sum() > 200
    step = rows if where == "cuda" else 17 * rows  # the interpreter takes a while for every place
    for first in range(0, depth, step):
        places = [(first + row) % depth for row in range(rows)]
        x = torch.zeros(rows, depth, dtype=torch.bfloat16, device=where)
        x[range(rows), places] = 1.0
        for found, place in zip(product.block_linear(x, packed, scales, name).cpu(), places, strict=True):
            wanted = weights[:, place]
            # The tensor cores may flush subnormal products.
            check = number & ((wanted.float().abs() >= 2.0**-126) | (wanted == 0))
            assert torch.equal(found[check].float(), wanted[check].float())
            assert found[row_is_nan].isnan().all()


@pytest.mark.parametrize("name", ["mxint8", "mxfp8", "mxfp4", "nvfp4"])
def test_rows_are_shared_by_every_multiprocessor(name: str, where: str) -> None:
    """Columns that fill no whole number of tiles on each multiprocessor; every count of rows that has a kernel."""
    columns = 32 * device.count_processors(torch.empty(0, device=where)) + 23
    codes, scales = convert.quantize(torch.randn(columns, 512, device=where) * 0.1, name)
    for rows in (1, 2, 3, 16):
        x = torch.randn(rows, 512, device=where).bfloat16()
        expected = product.reference_linear(x, codes, scales, block_format(name).name, None, "none")
        found = product.block_linear(x, codes, scales, name)
        assert error_of(found, expected) < 5e-3
        assert error_of(found[:, -40:], expected[:, -40:]) < 1e-2


@pytest.mark.parametrize("name", ["mxint8", "mxfp8", "mxfp4", "nvfp4"])
def test_every_count_of_rows_that_a_kernel_takes(name: str, where: str) -> None:
    """Odd columns, K that is no power of two, x and weights that are views, written weights and frozen ones."""
    columns, depth = (333, 2304) if where == "cuda" else (33, 256)  # the interpreter takes a while
    codes, scales = convert.quantize(torch.randn(columns, depth, device=where) * 0.1, name)
    for rows in range(1, 18) if where == "cuda" else (3, 17):
        x = torch.randn(rows, 2 * depth, device=where).bfloat16()[:, ::2]
        expected = product.reference_linear(x, codes, scales, block_format(name).name, None, "silu")
        for frozen in (False, True):
            if frozen:
                product.freeze(codes, scales)
            for _ in range(3 if where == "cuda" else 1):  # sums that blocks exchange leave nothing behind
                found = product.block_linear(x, codes, scales, name, None, "silu")
                assert error_of(found, expected) < 5e-3
                assert torch.equal(found, product.block_linear(x, codes, scales, name, None, "silu"))


def test_shapes_of_the_kernel_of_few_rows() -> None:
    """Blocks of 16 warps where they have k for more than 8, and an instance; at first all blocks stand at once."""
    for form, rows, depth, sixteen in (
        ("mxfp4", 9, 2304, True),
        ("nvfp4", 16, 8192, True),
        ("nvfp4", 16, 2048, False),
        ("mxfp4", 8, 8192, False),
        ("mxint8", 16, 8192, False),
    ):
        options = half_decode_cuda.candidates(rows, 4096, depth, form, 132)
        assert {each["shape"] for each in options} == ({0, 1, 2} if sixteen else {0, 1})
        usual = half_decode_cuda.usual_of(options, rows, depth)["shape"]
        assert usual == (2 if sixteen and depth <= 4096 else 1 if rows <= 8 else 0)
        for each in options[::3]:
            warps = half_decode_cuda.WARPS[each["shape"]]
            blocks = device.ceil_div(256, each["tiles"]) * device.ceil_div(depth, 256 * warps)
            assert blocks * warps <= 132 * 16


@pytest.mark.parametrize("rows", [8, 13])
@pytest.mark.parametrize("name", ["mxint8", "mxfp8", "mxfp4", "nvfp4"])
def test_every_shape_of_the_kernel_of_few_rows(
    name: str, rows: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a K that is split, the last part has k for one warp."""
    columns, depth = (333, 4352) if where == "cuda" else (33, 256)  # the interpreter takes a while
    form = block_format(name).name
    codes, scales = convert.quantize(torch.randn(columns, depth, device=where) * 0.1, name)
    x = torch.randn(rows, depth, device=where).bfloat16()
    expected = product.reference_linear(x, codes, scales, form, None, "none")
    for each in half_decode_cuda.candidates(rows, columns, depth, form, 132) if where == "cuda" else [{}]:
        monkeypatch.setattr(half_decode_cuda, "tuned", lambda *arguments, each=each: arguments[-1](each))
        found = product.block_linear(x, codes, scales, name)
        assert error_of(found, expected) < 5e-3
        assert torch.equal(found, product.block_linear(x, codes, scales, name))


@pytest.mark.parametrize("rows", [3, 9])
@pytest.mark.parametrize("name", ["mxint8", "mxfp8", "mxfp4"])
def test_scales_from_end_to_end_in_one_row(name: str, rows: int, where: str) -> None:
    """Each row's scales are of one size, from 2^-127 to 2^80, but for blocks of zeros, whose scale is the least."""
    columns, depth = 200, 1024 if where == "cuda" else 128
    codes, scales = convert.quantize(torch.randn(columns, depth, device=where), name)
    x = torch.randn(rows, depth, device=where).bfloat16()
    scales.copy_(torch.randint(0, 4, scales.shape) + torch.arange(columns)[:, None])
    codes[:, : codes.shape[1] // 4] = 0
    scales[:, : scales.shape[1] // 4] = 0
    weights = convert.dequantize(codes, scales, name).double()
    expected = x.double() @ weights.T
    found = product.block_linear(x, codes, scales, name).double()
    high = torch.arange(columns) >= 24  # below, sums of the least floats remain
    error = (found - expected).norm(dim=0) / expected.norm(dim=0)
    assert (error[high.to(where)] < 5e-3).all()


@pytest.mark.parametrize("rows", [1, 2, 3, 16])
@pytest.mark.parametrize("name", ["mxint8", "mxfp8", "mxfp4", "nvfp4"])
def test_specials_in_x_stay_in_their_row(name: str, rows: int, where: str) -> None:
    columns, depth = (80, 512) if where == "cuda" else (16, 128)
    codes, scales = convert.quantize(torch.randn(columns, depth, device=where) + 3.0, name)
    for special in (torch.nan, torch.inf):
        x = torch.randn(rows, depth, device=where).bfloat16()
        x[rows // 2, 77] = special
        found = product.block_linear(x, codes, scales, name)
        assert not found[rows // 2].isfinite().any()
        assert found[torch.arange(rows) != rows // 2].isfinite().all()


@pytest.mark.parametrize(("name", "most"), [("mxint8", 1.9), ("mxfp4", 6.0)])
def test_results_beyond_float32_are_infinite_and_only_nan_scales_give_nan(name: str, most: float, where: str) -> None:
    """The kernels for one row look for a NaN scale in rows of results that are not finite, and there alone."""
    codes, scales = convert.quantize(torch.full((64, 512), most, device=where), name)
    scales.fill_(254)
    scales[1::2, 13] = 255
    found = product.block_linear(torch.ones(1, 512, device=where).bfloat16(), codes, scales, name)[0]
    assert (found[::2] == torch.inf).all()
    assert found[1::2].isnan().all()


def test_blocks_that_share_columns() -> None:
    """All of them where each has almost a full turn, else as few as keep their turns full."""
    assert device.share_tiles(8192, 2, 264) == 264
    assert device.share_tiles(4096, 2, 264) == 128
    assert device.share_tiles(8192, 4, 132) == 132
    assert device.share_tiles(100000, 4, 132) == 132
    assert device.share_tiles(16, 1, 132) == 1


def test_a_library_depends_on_the_files_that_it_includes(tmp_path: Path) -> None:
    (tmp_path / "kernel.cu").write_text('#include <cstdint>\n#include "first.h"\n')
    (tmp_path / "first.h").write_text('#include "second.h"\n')
    (tmp_path / "second.h").write_text("int before;\n")
    before = cuda_build.text_with_includes(tmp_path / "kernel.cu")
    (tmp_path / "second.h").write_text("int after;\n")
    assert cuda_build.text_with_includes(tmp_path / "kernel.cu") != before
    sources = Path(product.__file__).parent.glob("*decode*_cuda.cu")
    every = [cuda_build.text_with_includes(path) for path in sources]
    assert len(every) == 7
    assert all("struct Queue" in each for each in every)


@pytest.mark.parametrize("activation", device.ACTIVATIONS)
@pytest.mark.parametrize("rows", [1, 20, 70])
def test_a_nan_passes_every_activation(rows: int, activation: str, where: str) -> None:
    codes, scales = convert.quantize(torch.randn(40, 64, device=where), "mxint8")
    scales[3, 1] = 255  # NaN
    bias = torch.zeros(40, device=where)
    bias[5] = torch.nan
    x = torch.randn(rows, 64, device=where).bfloat16()
    nan = product.block_linear(x, codes, scales, "mxint8", bias, activation).isnan()
    assert nan.any(0).nonzero().flatten().tolist() == [3, 5]
    assert nan.all(0).nonzero().flatten().tolist() == [3, 5]


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("rows", [1, 70])
@pytest.mark.parametrize("group", [16, 24, 64, 128, 384])
def test_group_linear(bits: int, rows: int, group: int, where: str) -> None:
    columns, depth = 48, 384
    if bits == 8:
        codes = torch.randint(-128, 128, (columns, depth)).to(torch.int8).to(where)
    else:
        codes = torch.randint(0, 256, (columns, depth // 2)).to(torch.uint8).to(where)
    scales = torch.rand(columns, depth // group, device=where) * 0.01
    x = torch.randn(rows, depth, device=where).bfloat16()
    found = product.group_linear(x, codes, scales, bits, activation="silu")
    assert error_of(found, product.reference_linear(x, codes, scales, f"int{bits}", None, "silu")) < 3e-3


@pytest.mark.parametrize("name", ["mxint8", "mxfp8", "mxfp4"])
def test_block_product(name: str, where: str) -> None:
    x = convert.quantize(torch.randn(37, 96, device=where), name)
    weights = convert.quantize(torch.randn(50, 96, device=where), name)
    plain = [convert.dequantize(*each, name, torch.float32) for each in (x, weights)]
    assert error_of(product.block_product(x, weights, name), plain[0] @ plain[1].T) < 5e-3


def test_linear_gradients(where: str) -> None:
    codes, scales = convert.quantize(torch.randn(24, 64, device=where), "mxint8")
    weights = convert.dequantize(codes, scales, "mxint8", torch.float32)
    x = torch.randn(2, 3, 64, device=where, requires_grad=True)
    bias = torch.randn(24, device=where, requires_grad=True)
    found = torch.autograd.grad(product.block_linear(x, codes, scales, "mxint8", bias, "gelu").sum(), (x, bias))
    plain = torch.nn.functional.gelu(torch.nn.functional.linear(x, weights, bias))
    expected = torch.autograd.grad(plain.sum(), (x, bias))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_rounding_reference_equals_rational_arithmetic() -> None:
    half = Fraction(1, 2)

    def sign(value: Fraction) -> int:
        return 1 if value >= 0 else -1

    exact = {
        "half_even": round,
        "floor": math.floor,
        "toward_zero": math.trunc,
        "half_up": lambda q: math.floor(q + half),
        "half_down": lambda q: math.ceil(q - half),
        "half_away": lambda q: sign(q) * math.floor(abs(q) + half),
        "half_zero": lambda q: sign(q) * math.ceil(abs(q) - half),
    }
    assert set(exact) == set(integer_product.ROUNDINGS)
    values = torch.arange(-40, 41)
    for name, rule in exact.items():
        for shift in (0, 1, 2, 3):
            expected = [rule(Fraction(each, 1 << shift)) for each in values.tolist()]
            assert integer_product.reference_round(values, shift, name).tolist() == expected


@pytest.mark.parametrize("overflow", integer_product.OVERFLOWS)
@pytest.mark.parametrize("rounding", integer_product.ROUNDINGS)
def test_integer_linear_casts(rounding: str, overflow: str, where: str) -> None:
    x = torch.randint(-128, 128, (37, 200)).to(torch.int8).to(where)
    weights = torch.randint(-128, 128, (50, 200)).to(torch.int8).to(where)
    bias = torch.randint(-(2**20), 2**20, (50,)).to(torch.int32).to(where)
    for width, signed, shift in ((8, True, 9), (5, False, 1), (16, True, 0)):
        found = integer_product.integer_linear(
            x, weights, bias, relu=not signed, shift=shift, rounding=rounding, overflow=overflow, width=width,
            signed=signed,
        )  # fmt: skip
        expected = integer_product.reference_integer_linear(
            x, weights, bias, not signed, shift, rounding, overflow, width, signed
        )
        assert torch.equal(found.long(), expected)


def test_integer_linear_is_exact_on_extreme_values(where: str) -> None:
    depth = 65536 if where == "cuda" else 4096  # the interpreter takes minutes at 65,536; the sum's bound is the same
    x = torch.full((64, depth), -128, dtype=torch.int8, device=where)
    weights = torch.full((64, depth), -128, dtype=torch.int8, device=where)
    weights[1::2] = 127
    bias = torch.full((64,), 2**31 - 1, dtype=torch.int32, device=where)
    found = integer_product.integer_linear(x, weights, bias, shift=0, width=32)
    expected = integer_product.reference_integer_linear(x, weights, bias, False, 0, "floor", "saturate", 32, True)
    assert torch.equal(found.long(), expected)
    assert (integer_product.integer_linear(x, weights)[:, 0] == 128 * 128 * depth).all()


def test_reference_integer_linear_at_65536_is_exact() -> None:
    x = torch.full((2, 65536), -128, dtype=torch.int8)
    total = integer_product.reference_integer_linear(x, x, None, False, 0, "floor", "", 32, True)
    assert (total == 2**30).all()


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("GW0505", lambda x, c, s: product.block_linear(x[:, :32], c, s, "mxint8")),
        ("GW0506", lambda x, c, s: product.block_linear(x, c, s, "mxint8", activation="swish")),
        ("GW0502", lambda x, c, s: product.block_linear(x, c.to(torch.uint8), s, "mxint8")),
        ("GW0505", lambda x, c, s: product.block_linear(x, c, s, "mxint8", x[0, :5])),
        ("GW0505", lambda x, c, s: product.group_linear(x, c, x[:, :3].repeat(6, 1), 8)),
        ("GW0506", lambda x, c, s: integer_product.integer_linear(c, c, shift=50)),
        ("GW0502", lambda x, c, s: integer_product.integer_linear(x, c)),
    ],
)
def test_errors(code: str, call: object, where: str) -> None:
    codes, scales = convert.quantize(torch.randn(24, 64, device=where), "mxint8")
    with pytest.raises(GatewrightError) as caught:
        call(torch.zeros(4, 64, device=where), codes, scales)  # type: ignore[operator]
    assert caught.value.code == code


@pytest.mark.parametrize("height", [1, 2, 16] if torch.cuda.is_available() else [2])
@pytest.mark.parametrize("name", ["mxint8", "mxfp8", "mxfp4", "nvfp4"])
def test_frozen_weights_in_a_row_of_launches(name: str, height: int, where: str) -> None:
    """A launch that begins early still waits for its x, which the launch before it makes."""
    size, layers = (4096, 40) if where == "cuda" else (64, 2)
    codes, scales = convert.quantize(torch.randn(size, size, device=where) / size**0.5, name)
    expected = [torch.randn(height, size, device=where).bfloat16()]
    for _ in range(layers):
        expected.append(product.block_linear(expected[-1], codes, scales, name))
        if where == "cuda":
            torch.cuda.synchronize()
    product.freeze(codes, scales)
    found = expected[:1]
    for _ in range(layers):
        found.append(product.block_linear(found[-1], codes, scales, name))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
