"""Softmax, norms and gates against float32 PyTorch, plain and cast to block formats."""

from __future__ import annotations

import pytest
import torch

from gatewright.diagnostics import GatewrightError
from gatewright.kernels import convert, rows
from gatewright.kernels.formats import FORMATS, scale_values, unpack

WIDTHS = [32, 100, 520, 1024, 2040, 2048, 4000, 4096, 8192, 8200, 16384]
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def close(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> bool:
    """Within a rounding of ``dtype`` and float32's own noise."""
    step = {torch.bfloat16: 2**-8, torch.float16: 2**-11, torch.float32: 2**-20}[dtype]
    return bool(
        torch.allclose(found.float(), expected.float(), rtol=step * 1.05, atol=2e-6 if dtype == torch.float32 else 1e-6)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_rows(width: int, dtype: torch.dtype, where: str) -> None:
    x = (torch.randn(7, width) * 3).to(dtype).to(where)
    gain, shift = torch.randn(2, width, device=where).to(dtype)
    assert close(rows.softmax(x), rows.reference_rows(x, None, None, "softmax", 0), dtype)
    assert close(rows.layer_norm(x, gain, shift), rows.reference_rows(x, gain, shift, "layer_norm", 1e-5), dtype)
    assert close(rows.layer_norm(x), rows.reference_rows(x, None, None, "layer_norm", 1e-5), dtype)
    assert close(rows.rms_norm(x, gain), rows.reference_rows(x, gain, None, "rms_norm", 1e-6), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 96), (1, 4099)])
def test_gates(shape: tuple[int, ...], dtype: torch.dtype, where: str) -> None:
    x, up = (torch.randn(2, *shape) * 3).to(dtype).to(where)
    assert close(rows.gelu(x), rows.reference_gates(x, None, "gelu"), dtype)
    assert close(rows.gelu(x, "tanh"), rows.reference_gates(x, None, "gelu_tanh"), dtype)
    assert close(rows.silu_gate(x, up), rows.reference_gates(x, up, "silu_gate"), dtype)


def test_gates_of_infinities_and_nan(where: str) -> None:
    """As PyTorch's on one element; its vectors on a CPU have gelu(inf) = NaN."""
    x = torch.tensor([torch.inf, torch.nan, 3e38, -3e38, 17.0, -17.0, -torch.inf], device=where)
    expected = torch.tensor([torch.inf, torch.nan, 3e38, 0.0, 17.0, 0.0, torch.nan], device=where)
    for kind in ("none", "tanh"):
        torch.testing.assert_close(rows.gelu(x, kind), expected, equal_nan=True)
    torch.testing.assert_close(rows.silu_gate(x, torch.ones_like(x))[:4], expected[:4], equal_nan=True)


@pytest.mark.parametrize("name", list(FORMATS))
def test_cast_outputs_equal_a_cast_of_the_result(name: str, where: str) -> None:
    x = torch.randn(6, 96, device=where) * 4
    plain = {
        "softmax": rows.softmax(x), "layer_norm": rows.layer_norm(x), "rms_norm": rows.rms_norm(x),
        "gelu": rows.gelu(x), "silu_gate": rows.silu_gate(x, x),
    }  # fmt: skip
    fused = {
        "softmax": rows.softmax(x, name), "layer_norm": rows.layer_norm(x, output=name),
        "rms_norm": rows.rms_norm(x, output=name), "gelu": rows.gelu(x, output=name),
        "silu_gate": rows.silu_gate(x, x, name),
    }  # fmt: skip
    for kind, values in plain.items():
        codes, scales = convert.quantize(values, name)
        assert torch.equal(fused[kind][0], codes), kind
        assert torch.equal(fused[kind][1], scales), kind


@pytest.mark.parametrize("width", [64, 768, 1024, 1536, 4096, 6144, 16384])
@pytest.mark.parametrize("name", list(FORMATS))
def test_cast_outputs_of_exact_rows(name: str, width: int, where: str) -> None:
    """Rows of +-1 have mean 0 and deviation 1: the float32 result is +-gain + shift, and known."""
    x = torch.ones(3, width, device=where, dtype=torch.bfloat16)
    x[0, 1::2], x[1, : width // 2], x[2, ::4], x[2, 1::4] = -1, -1, -1, -1
    gain = (torch.randint(-96, 97, (width,)) / 32 * torch.pow(2.0, torch.randint(-8, 8, (width,)))).bfloat16()
    gain[:32] *= 2.0**-128
    gain[32:64] = 3.0e38
    if width > 64:
        gain[64:96] = 0
        gain[200] = 510.0  # 127.5 units of MXINT8
        gain[100], gain[130], gain[161:164] = torch.nan, torch.inf, torch.tensor([2.0**-127, -(2.0**-133), 0.75])
    gain = gain.to(where)
    shift = torch.where(gain.abs() < 1e30, torch.randn(width, device=where), 0).bfloat16()
    plain = x.float() * gain.float()
    for found, expected in (
        (rows.rms_norm(x, gain, 0.0, name), plain),
        (rows.layer_norm(x, gain, None, 0.0, name), plain),
        (rows.layer_norm(x, gain, shift, 0.0, name), plain + shift.float()),
    ):
        codes, scales = convert.quantize(expected, name)
        assert torch.equal(found[1], scales)
        finite = scale_values(FORMATS[name].scale)[scales.cpu().long()].isfinite()
        assert finite.any()
        same = unpack(found[0], FORMATS[name]) == unpack(codes, FORMATS[name])
        assert same.cpu()[finite.repeat_interleave(FORMATS[name].size, -1)].all()


@pytest.mark.parametrize("width", [512, 2048, 3072, 4064, 8192, 12288])
@pytest.mark.parametrize("name", ["mxint8", "mxfp8_e4m3"])
def test_cast_outputs_of_random_rows(name: str, width: int, where: str) -> None:
    """Codes differ from those of the reference only where float32's noise meets a rounding's edge."""
    x = (torch.randn(5, width, device=where) * 3).bfloat16()
    gain, shift = torch.randn(2, width, device=where).bfloat16()
    for kind, found in (
        ("softmax", rows.softmax(x, name)),
        ("layer_norm", rows.layer_norm(x, gain, shift, 1e-5, name)),
        ("rms_norm", rows.rms_norm(x, gain, 1e-5, name)),
    ):
        weights = (None, None) if kind == "softmax" else (gain, shift)
        wide = rows.reference_rows(x, *weights, kind, 1e-5)
        codes, scales = convert.quantize(wide, name)
        assert (found[0] != codes).float().mean() < 2e-3, kind
        assert (found[1] != scales).float().mean() < 2e-3, kind


@pytest.mark.parametrize("width", [64, 1024, 2048, 4096, 4104, 16384])
def test_softmax_of_special_rows(width: int, where: str) -> None:
    """As PyTorch's: NaN for a row that is all -inf or has a NaN or +inf; the largest values do not overflow."""
    x = torch.randn(6, width, device=where).bfloat16()
    x[0] = -torch.inf
    x[1, width // 2 :] = -torch.inf
    x[2, 5], x[3, 7] = torch.nan, torch.inf
    x[4] = -3.3e38
    x[4, 9], x[5, width - 1] = 3.3e38, 3.3e38
    found, expected = rows.softmax(x), torch.softmax(x.float(), -1)
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.allclose(found.float().nan_to_num(), expected.nan_to_num(), rtol=2**-8 * 1.05, atol=1e-6)


def test_norms_keep_a_small_spread_on_a_large_mean(where: str) -> None:
    x = (1000 + 8 * torch.randint(-4, 5, (5, 4096), device=where)).bfloat16()
    gain = torch.randn(4096, device=where).bfloat16()
    found = rows.layer_norm(x, gain, -gain)
    expected = torch.nn.functional.layer_norm(x.double(), (4096,), gain.double(), -gain.double())
    assert torch.allclose(found.double(), expected, rtol=2**-8 * 1.05, atol=1e-3)


def test_softmax_of_masked_rows_and_empty_tensors(where: str) -> None:
    x = torch.randn(3, 64, device=where)
    x[0, 10:] = -torch.inf
    assert close(rows.softmax(x), torch.softmax(x, -1), torch.float32)
    assert rows.softmax(x[:0]).shape == (0, 64)
    assert rows.gelu(x[:0]).shape == (0, 64)


def test_gradients_equal_pytorchs(where: str) -> None:
    x = torch.randn(4, 96, device=where, dtype=torch.float32, requires_grad=True)
    gain = torch.randn(96, device=where, requires_grad=True)
    ours = rows.silu_gate(rows.rms_norm(x, gain), rows.softmax(x))
    found = torch.autograd.grad(ours.square().sum(), (x, gain))
    plain = torch.nn.functional.silu(torch.nn.functional.rms_norm(x, (96,), gain, 1e-6)) * torch.softmax(x, -1)
    expected = torch.autograd.grad(plain.square().sum(), (x, gain))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("GW0502", lambda x: rows.softmax(x.long())),
        ("GW0505", lambda x: rows.softmax(x, "mxint8")),
        ("GW0505", lambda x: rows.rms_norm(x, x[0, :3])),
        ("GW0505", lambda x: rows.silu_gate(x, x[:1])),
        ("GW0506", lambda x: rows.gelu(x, "fast")),
    ],
)
def test_errors(code: str, call: object, where: str) -> None:
    with pytest.raises(GatewrightError) as caught:
        call(torch.zeros(4, 40, device=where))  # type: ignore[operator]
    assert caught.value.code == code
