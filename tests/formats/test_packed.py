"""Packed storage and the `gw.format` handle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import gatewright as gw
from gatewright.diagnostics import GatewrightError
from gatewright.ir.formats import Fixed, ScalarFormat, parse_format
from gatewright.ir.formats.packing import pack_codes, rom_words, unpack_codes
from gatewright.packed import from_torch, load_packed, pack_tensor, save_packed, to_torch

SCALARS = [
    "fixed<8,4>",
    "fixed<3,1>",
    "ufixed<5,2>",
    "fixed<11,4>",
    "fixed<70,4>",
    "e4m3",
    "e2m1",
    "e3m2",
    "bfloat16",
    "ternary",
    "binary",
    "log<5>",
]
GROUPS = [
    "mxfp4",
    "mxint8",
    "mxfp6",
    "mxint6",
    "nvfp4",
    "mxfp8_e5m2",
    "ternary<mean>",
    "residual<3,channel>",
    "binary<channel>",
    "mxfp4<4x8>",
]


@pytest.mark.parametrize("name", SCALARS)
def test_every_code_survives_packing(name: str) -> None:
    form = parse_format(name)
    assert isinstance(form, ScalarFormat)
    low, high = form.code_interval()
    codes = np.arange(low, high + 1) if form.width <= 16 else np.asarray([low, high, 0, -1, 1 << 60], dtype=object)
    for length in (codes.size, min(3, codes.size), 0):
        data = pack_codes(codes[:length], form)
        assert data.dtype == np.uint8 and data.size == -(-length * form.width // 8)
        assert (unpack_codes(data, form, (length,)) == codes[:length]).all()


def test_bit_order() -> None:
    form = parse_format("e2m1")
    assert isinstance(form, ScalarFormat)
    assert pack_codes([1, 2, 15], form).tolist() == [0x21, 0x0F]
    six = parse_format("e3m2")
    assert isinstance(six, ScalarFormat)
    word = 1 | 2 << 6 | 3 << 12 | 4 << 18
    assert pack_codes([1, 2, 3, 4], six).tolist() == [word & 255, word >> 8 & 255, word >> 16]
    assert rom_words([[1, -1], [-8, 7]], Fixed(4, 0)) == ["f1", "78"]
    assert rom_words([3, 5], Fixed(5, 0, signed=False)) == ["03", "05"]
    assert rom_words([[1, 2, 3]], Fixed(3, 0)) == ["0d1"]


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_groups_pack_and_save(name: str, kind: str, tmp_path: Path) -> None:
    values = np.random.default_rng(1).standard_normal((6, 40)).astype(np.float32)
    axis = (0, 1) if "x" in name and "<" in name else 1
    handle = gw.format(name, axis=axis)
    packed = handle.pack(torch.from_numpy(values) if kind == "torch" else values)
    assert np.array_equal(handle.unpack(packed), handle.quantize(values))
    save_packed(tmp_path / "x.safetensors", {"a.weight": packed, "b": gw.format("e4m3").pack(values)})
    loaded = load_packed(tmp_path / "x.safetensors")
    assert loaded["a.weight"].form == packed.form and loaded["a.weight"].axis == axis
    assert np.array_equal(loaded["a.weight"].decode(), packed.decode())
    assert np.array_equal(loaded["b"].decode(), gw.format("e4m3").quantize(values))


def test_storage_is_as_small_as_it_says() -> None:
    values = np.random.default_rng(1).standard_normal((64, 320))
    for name, bits in (
        ("mxfp4", 4.25),
        ("mxint8", 8.25),
        ("nvfp4", 4.5),
        ("mxfp6", 6.25),
        ("ternary", 2),
        ("binary", 1),
    ):
        assert gw.format(name).pack(values).bits_per_element == bits


@pytest.mark.parametrize(
    "name", ["e4m3", "e5m2", "e2m1", "e8m0", "float16", "bfloat16", "mxfp8", "mxfp8_e5m2", "mxfp4", "nvfp4"]
)
def test_pytorch_types_hold_the_same_bits(name: str) -> None:
    values = torch.randn(4, 64).abs() + 0.1
    handle = gw.format(name)
    packed = handle.pack(values)
    elements, scales = to_torch(packed)
    again = from_torch(handle.format, elements, scales)
    assert np.array_equal(again.elements, packed.elements)
    assert np.array_equal(again.decode(), packed.decode())
    if elements.dtype not in (torch.float4_e2m1fn_x2,):
        real = elements.float()
        if scales is not None:
            real = real * scales.float().repeat_interleave(values.shape[1] // scales.shape[1], 1)
        assert torch.equal(real, handle.quantize(values))
    if name == "e4m3":
        assert torch.equal(values.to(torch.float8_e4m3fn).view(torch.uint8), elements.view(torch.uint8))


@pytest.mark.parametrize("name", [*SCALARS, *GROUPS, "mxint4", "block<log<5>,e8m0,16>"])
def test_every_format_comes_back_from_pytorch(name: str) -> None:
    values = np.random.default_rng(2).standard_normal((6, 40)).astype(np.float32)
    axis = (0, 1) if name == "mxfp4<4x8>" else 1
    packed = gw.format(name, axis=axis).pack(values)
    elements, scales = to_torch(packed)
    again = from_torch(packed.form, elements, scales, packed.axis, packed.shape)
    assert again.shape == packed.shape and np.array_equal(again.elements, packed.elements)
    assert np.array_equal(again.decode(), packed.decode())
    with pytest.raises(GatewrightError, match="GW0219"):
        from_torch(packed.form, elements, scales, packed.axis, (*packed.shape, 2))


def test_bytes_come_back_where_a_pytorch_type_exists() -> None:
    packed = gw.format("e2m1").pack(np.asarray([1.0, -0.5, 6.0]))  # odd: no form in float4_e2m1fn_x2
    again = from_torch(packed.form, torch.from_numpy(packed.elements), shape=(3,))
    assert again.decode().tolist() == [1.0, -0.5, 6.0]


def test_handles_take_tensors_and_arrays() -> None:
    values = torch.randn(3, 33)
    for name in ("e4m3", "fixed<8,4> half_up wrap", "mxint8", "ternary<mean>", "binary01", "residual<2>"):
        handle = gw.format(name)
        assert np.array_equal(handle.quantize(values).double().numpy(), np.float32(handle.quantize(values.numpy())))
        encoded, reference = handle.encode(values), handle.encode(values.numpy())
        pairs = zip(encoded, reference, strict=True) if isinstance(encoded, tuple) else [(encoded, reference)]
        assert all((one.numpy() == other).all() for one, other in pairs)
        decoded = handle.decode(*encoded) if isinstance(encoded, tuple) else handle.decode(encoded)
        assert torch.equal(decoded, handle.quantize(values))
    assert str(gw.format("fixed<8,4> half_up wrap")) == "fixed<8,4> half_up wrap"
    assert torch.equal(gw.format("real").quantize(values), values)
    grown = values.clone().requires_grad_()
    assert not gw.format("e4m3").quantize(grown).requires_grad
    gw.format("e4m3").fake_quantize(grown).sum().backward()
    assert grown.grad is not None
    assert gw.format(parse_format("mxint8")).overflow == "saturate_symmetric"
    assert gw.format("e4m3").quantize([1.03, 500.0]).tolist() == [1.0, 448.0]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(GatewrightError, match="GW0218"):
        pack_codes([8], Fixed(4, 0))
    with pytest.raises(GatewrightError, match="GW0219"):
        unpack_codes(np.zeros(3, np.uint8), Fixed(4, 0), (7,))
    with pytest.raises(GatewrightError, match="GW0213"):
        pack_tensor(parse_format("mxfp4"), np.zeros((2, 32), np.int64))
    with pytest.raises(GatewrightError, match="GW0220"):
        to_torch(gw.format("e2m1").pack(np.zeros(3)))
    with pytest.raises(GatewrightError, match="GW0221"):
        from_torch(parse_format("e4m3"), torch.zeros(3))
    with pytest.raises(GatewrightError, match=r"(?s)GW0221.*shape="):
        from_torch(parse_format("e3m2"), torch.zeros(3, dtype=torch.uint8))
    with pytest.raises(GatewrightError, match="GW0223"):
        gw.format("e4m3").unpack(gw.format("e5m2").pack(np.zeros(3)))
    with pytest.raises(GatewrightError, match="GW0217"):
        gw.format("real").encode(np.zeros(3))
    with pytest.raises(GatewrightError, match='did you mean "e4m3"'):
        gw.format("e4m4x")
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3)}, str(tmp_path / "plain.safetensors"))
    with pytest.raises(GatewrightError, match="GW0222"):
        load_packed(tmp_path / "plain.safetensors")
