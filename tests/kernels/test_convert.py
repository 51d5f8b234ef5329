"""Quantise and dequantise: every code and scale, against the reference definitions and independent oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gatewright.diagnostics import GatewrightError
from gatewright.kernels import convert, dequantize_cuda, device
from gatewright.kernels.formats import (
    FLOATS,
    FORMATS,
    BlockFormat,
    dequantize_reference,
    element_values,
    encode_elements,
    encode_scales,
    pack,
    quantize_reference,
    scale_values,
    unpack,
)

NAMES = list(FORMATS)


def equal(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Bit equality in which all NaNs are one."""
    found, expected = found.cpu(), expected.cpu()
    integer = {1: torch.int8, 2: torch.int16, 4: torch.int32}[found.element_size()]
    same = found.view(integer) == expected.view(integer)
    return bool((same | (found.isnan() & expected.isnan())).all())


def all_codes(form: BlockFormat) -> tuple[torch.Tensor, torch.Tensor]:
    """Every element code under every scale code: [256, codes] packed, and [256, blocks]."""
    count = max(1 << form.bits, form.size)
    codes = (torch.arange(count) % (1 << form.bits)).expand(256, count)
    scales = torch.arange(256, dtype=torch.uint8)[:, None].expand(256, count // form.size).contiguous()
    return pack(codes, form), scales


def inputs(dtype: torch.dtype, rows: int = 48, columns: int = 96) -> torch.Tensor:
    """Ties, powers of two, subnormals, zeros of both signs, infinities and NaNs, over the whole exponent range."""
    low, high = (-20, 12) if dtype == torch.float16 else (-145, 122)
    x = torch.randn(rows, columns) * torch.pow(2.0, torch.randint(low, high, (rows, 1)).float())
    x[0] = 0.0
    x[1] = -0.0
    x[2, 3] = torch.nan
    x[3, 40] = -torch.inf
    x[4:16] = torch.randint(-96, 97, (12, columns)) / 32
    x[16:20] = torch.pow(2.0, torch.randint(-10, 10, (4, columns)).float())
    x[20] = torch.finfo(dtype).max
    x[21] = torch.finfo(dtype).smallest_normal / 4
    return x.to(dtype)


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NAMES)
def test_dequantizes_every_code_and_scale(name: str, dtype: torch.dtype, axis: int, where: str) -> None:
    form = FORMATS[name]
    codes, scales = all_codes(form)
    if axis == 0:
        codes, scales = codes.t().contiguous(), scales.t().contiguous()
    found = convert.dequantize(codes.to(where), scales.to(where), name, dtype, axis)
    assert found.dtype == dtype
    assert equal(found, dequantize_reference(codes, scales, form, dtype, axis))


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NAMES)
def test_quantizes_like_the_reference(name: str, dtype: torch.dtype, axis: int, where: str) -> None:
    form = FORMATS[name]
    x = inputs(dtype)
    if axis == 0:
        x = x.t().contiguous()
    codes, scales = (each.cpu() for each in convert.quantize(x.to(where), name, axis))
    expected, expected_scales = quantize_reference(x, form, axis)
    assert torch.equal(scales, expected_scales)
    found = unpack(codes.movedim(axis, -1).contiguous(), form)
    wanted = unpack(expected.movedim(axis, -1).contiguous(), form)
    valid = scale_values(form.scale)[scales.movedim(axis, -1).long()].isfinite().repeat_interleave(form.size, -1)
    assert torch.equal(found[valid], wanted[valid])
    assert valid.float().mean() > 0.8


def differences(x: torch.Tensor, form: BlockFormat) -> int:
    """Codes and scales of ``x`` that are not the reference's; those under NaN are unspecified."""
    codes, scales = convert.quantize(x, form.name)
    expected, expected_scales = quantize_reference(x, form)
    valid = scale_values(form.scale).to(x.device)[scales.long()].isfinite().repeat_interleave(form.size, -1)
    wrong = (unpack(codes, form) != unpack(expected, form)) & valid
    return int(wrong.sum()) + int((scales != expected_scales).sum())


@pytest.mark.parametrize("name", NAMES)
def test_quantizes_every_bfloat16(name: str, where: str) -> None:
    """Every magnitude as its block's largest, and under every scale every value; samples of both in the interpreter."""
    form = FORMATS[name]
    bits = torch.arange(-(2**15), 2**15, 1 if where == "cuda" else 41, device=where)
    every = bits.to(torch.int16).view(torch.bfloat16)
    assert differences(torch.nn.functional.pad(every[:, None], (3, form.size - 4)), form) == 0
    numbers = every[every.isfinite()]
    positive = numbers[numbers > 0]
    codes = encode_scales(positive.double(), form)
    room = form.size - 1
    for code in codes.unique()[:: 1 if where == "cuda" else 50]:
        largest = positive[codes == code]
        for amax in (largest.min(), largest.max()):
            below = numbers[numbers.abs() <= amax]
            rest = torch.nn.functional.pad(below, (0, -len(below) % room)).view(-1, room)
            assert differences(torch.cat([amax.expand(len(rest), 1), rest], 1), form) == 0, (code, amax)


@pytest.mark.parametrize("name", NAMES)
def test_quantizes_any_number_of_blocks(name: str, where: str) -> None:
    form = FORMATS[name]
    for rows, blocks in ((1, 1), (1, 2), (3, 5), (1, 31), (1, 33), (7, 37), (1, 515)):
        x = torch.randn(rows, blocks * form.size, device=where) * 2.0 ** torch.randint(-9, 9, (rows, 1), device=where)
        assert differences(x.bfloat16(), form) == 0, (rows, blocks)
        skewed = torch.cat((x.new_zeros(3), x.flatten())).bfloat16()[3:]  # no 16-byte boundary
        assert differences(skewed.view(rows, -1), form) == 0, (rows, blocks)


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4"])
def test_reference_elements_equal_ml_dtypes(name: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="the oracle is in the development extra")
    other = {
        "mxfp8_e4m3": ml_dtypes.float8_e4m3fn,
        "mxfp8_e5m2": ml_dtypes.float8_e5m2,
        "mxfp6_e3m2": ml_dtypes.float6_e3m2fn,
        "mxfp6_e2m3": ml_dtypes.float6_e2m3fn,
        "mxfp4": ml_dtypes.float4_e2m1fn,
    }[name]
    element = FORMATS[name].element
    codes = np.arange(1 << element.bits, dtype=np.uint8)
    np.testing.assert_array_equal(element_values(name).numpy(), codes.view(other).astype(np.float64))
    # Every value, every tie, and the neighbours of both.
    finite = element_values(name)[element_values(name).isfinite()].unique().numpy()
    middle = (finite[:-1] + finite[1:]) / 2
    points = np.concatenate([finite, middle, middle * (1 + 2**-20), middle * (1 - 2**-20)])
    expected = points.clip(-element.maximum, element.maximum).astype(other).view(np.uint8)
    found = encode_elements(torch.from_numpy(points), element).numpy().astype(np.uint8)
    zero = points == 0  # a zero's sign is the input's here
    np.testing.assert_array_equal(found[~zero], expected[~zero])


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp4", "mxint8"])
def test_reference_blocks_equal_gfloat(name: str) -> None:
    gfloat = pytest.importorskip("gfloat", reason="the oracle is in the development extra")
    from gfloat import formats as known

    info = {
        "mxfp8_e4m3": known.format_info_mxfp8_e4m3,
        "mxfp4": known.format_info_mxfp4_e2m1,
        "mxint8": known.format_info_mxint8,
    }[name]
    x = torch.randn(50, 32).double() * 3
    form = FORMATS[name]
    codes, scales = quantize_reference(x, form)
    found = dequantize_reference(codes, scales, form, torch.float32).double().numpy()
    expected = np.stack([gfloat.quantize_block(info, row, gfloat.compute_scale_amax) for row in x.numpy()])
    # gfloat encodes MXINT8 down to -128; ours is symmetric.
    differs = found != expected
    assert name == "mxint8" or not differs.any()
    assert (differs.mean() < 0.01) and (found[differs] < 0).all()


@pytest.mark.parametrize("name", ["mxint8", "mxfp6_e3m2", "nvfp4"])
def test_odd_lengths_are_padded_with_zeros(name: str, where: str) -> None:
    x = torch.randn(3, 5, 41, device=where)
    for axis in (2, 1, 0):
        codes, scales = convert.quantize(x, name, axis)
        back = convert.dequantize(codes, scales, name, torch.float32, axis, length=x.shape[axis])
        assert back.shape == x.shape
        assert (back - x).abs().max() < 0.6


def test_strided_inputs_and_empty_tensors(where: str) -> None:
    x = torch.randn(64, 96, device=where)
    codes, scales = convert.quantize(x.t(), "mxint8")
    again, again_scales = convert.quantize(x.t().contiguous(), "mxint8")
    assert torch.equal(codes, again) and torch.equal(scales, again_scales)
    strided = convert.dequantize(codes[::2], scales[::2], "mxint8")
    assert equal(strided, convert.dequantize(codes, scales, "mxint8")[::2])
    empty_codes, empty_scales = convert.quantize(torch.zeros(0, 64, device=where), "mxfp4")
    assert convert.dequantize(empty_codes, empty_scales, "mxfp4").shape == (0, 64)


def test_fake_quantize_is_straight_through_and_representable(where: str) -> None:
    x = torch.randn(4, 64, device=where, requires_grad=True)
    y = convert.fake_quantize(x, "mxfp8")
    y.backward(torch.full_like(y, 3.0))
    assert x.grad is not None and (x.grad == 3.0).all()
    assert torch.equal(convert.fake_quantize(y.detach(), "mxfp8"), y)


def test_triton_serves_large_conversions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CUDA kernel of MXINT8 to bfloat16 takes up to 2^24 codes, and nothing where it cannot be built."""
    codes = torch.empty(2**12, 2**12, dtype=torch.int8, device="meta")
    form = FORMATS["mxint8"]
    assert not dequantize_cuda.serves(codes, form, torch.bfloat16, 1)
    monkeypatch.setattr(dequantize_cuda, "exists", lambda *_: True)
    assert dequantize_cuda.serves(codes, form, torch.bfloat16, 1)
    assert not dequantize_cuda.serves(torch.empty(2**12 + 1, 2**12, device="meta"), form, torch.bfloat16, 1)


def test_reference_path_needs_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "INTERPRET", False)
    x = inputs(torch.float32)
    before = device.LAUNCHES["quantize", "reference"]
    found = convert.quantize(x, "mxfp4")
    assert device.LAUNCHES["quantize", "reference"] == before + 1
    for one, other in zip(found, quantize_reference(x, FORMATS["mxfp4"]), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_reference_equals_the_format_algebra(name: str) -> None:
    """The kernels' definitions and the compiler's are two programs; they agree on every code."""
    from gatewright.ir.formats import Block, parse_format

    algebra = parse_format(name)
    assert isinstance(algebra, Block)
    x = inputs(torch.float32)
    codes, scales = quantize_reference(x, FORMATS[name])
    expected, expected_scales = algebra.encode(x.double().numpy())
    np.testing.assert_array_equal(scales.numpy(), expected_scales)
    valid = scale_values(FORMATS[name].scale)[scales.long()].isfinite().repeat_interleave(FORMATS[name].size, -1)
    found = unpack(codes, FORMATS[name])[valid].numpy()
    np.testing.assert_array_equal(found, (expected % (1 << FORMATS[name].bits))[valid.numpy()])
    values = dequantize_reference(codes, scales, FORMATS[name], torch.float32)[valid].double().numpy()
    np.testing.assert_array_equal(values, algebra.decode(expected, expected_scales)[valid.numpy()])


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("GW0501", lambda x: convert.quantize(x, "mxfp5")),
        ("GW0502", lambda x: convert.quantize(x.double(), "mxfp4")),
        ("GW0504", lambda x: convert.quantize(x, "mxfp4", axis=2)),
        ("GW0505", lambda x: convert.dequantize(x.to(torch.int8), x.to(torch.uint8), "mxint8")),
        ("GW0502", lambda x: convert.dequantize(x, x, "mxint8")),
    ],
)
def test_errors_name_the_argument(code: str, call: object, where: str) -> None:
    with pytest.raises(GatewrightError) as caught:
        call(torch.zeros(4, 64, device=where))  # type: ignore[operator]
    assert caught.value.code == code


def test_beyond_two_to_the_31_elements(where: str) -> None:
    """Only where the memory is; the summary says whether it was."""
    place = "gpu" if where == "cuda" else "no machine: it takes 20 GB of a GPU's memory"
    device.LAUNCHES["a tensor beyond 2^31 elements", place] += 1
    if where != "cuda":
        return
    rows = 2**31 // 4096 + 3
    x = torch.zeros(rows, 4096, dtype=torch.bfloat16, device=where)
    x[-1] = torch.randn(4096, device=where)
    codes, scales = convert.quantize(x, "mxint8")
    last = convert.quantize(x[-1:], "mxint8")
    assert torch.equal(codes[-1:], last[0]) and torch.equal(scales[-1:], last[1])
    back = convert.dequantize(codes, scales, "mxint8")
    assert torch.equal(back[-1:], convert.dequantize(*last, "mxint8")) and not back[:-1].any()
