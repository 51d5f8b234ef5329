"""Results cast to any format: in the kernel or by the codec, the codes are those of the format's definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gatewright as gw
from gatewright.diagnostics import GatewrightError
from gatewright.ir.formats import DETERMINISTIC_ROUNDINGS, ScalarFormat, parse_cast
from gatewright.kernels import device, outputs, rows

FLOATS = [
    "e4m3", "e5m2", "e3m2", "e2m3", "e2m1", "e4m3<ieee,bias=8>", "e5m3<bias=20>", "e3m4<bias=-90>", "e2m1<bias=126>",
    "e6m20", "e4m3<none>", "e1m2",
]  # fmt: skip
FIXED = ["fixed<8,4>", "ufixed<8,8>", "fixed<22,10>", "fixed<5,0>", "ufixed<1,0>", "fixed<8,90>", "fixed<16,12>"]
FUSED = [
    *FLOATS,
    *(f"{name} {word}" for name in FIXED for word in ("saturate", "saturate_symmetric", "saturate_zero")),
    *(f"fixed<8,4> {word}" for word in DETERMINISTIC_ROUNDINGS),
    "ufixed<6,3> floor saturate_zero",
]
BY_CODEC = [
    "log<6>", "e8m0", "ternary", "fixed<8,4> wrap", "fixed<30,20>", "fixed<8,-2>", "e5m2 floor", "e4m3 infinite",
    "e4m3<unsigned>", "e4m3<flush>",
]  # fmt: skip
GROUPED = [
    "block<e2m1,e8m0,16>",
    "mxint4",
    "mxint8 floor",
    "block<fixed<6,5>,e8m0,8>",
    "binary<channel>",
    "residual<2>",
]


def reals() -> torch.Tensor:
    """float32 of every exponent, steps and ties of the formats and their neighbours, and what is no number."""
    steps = torch.arange(-700, 700) / 32
    ties = torch.arange(-300, 300) * 2.0**-91
    spread = torch.randn(2000) * torch.pow(2.0, torch.randint(-149, 127, (2000,)).float())
    special = torch.tensor([torch.nan, -torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 3.4e38, -3.4e38, 1e-45, -1e-45])
    exact = torch.cat([steps, ties, spread, special])
    up = exact.nextafter(torch.tensor(torch.inf))
    return torch.cat([exact, up, exact.nextafter(torch.tensor(-torch.inf))])


def as_results(values: torch.Tensor, output: str) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """``values`` through an operator that is the identity on them: silu(64) is 64 in float32."""
    return rows.silu_gate(torch.full_like(values, 64.0), values / 64, output)


@pytest.mark.parametrize("output", FUSED)
def test_codes_made_in_the_kernel(output: str, where: str) -> None:
    cast = parse_cast(output)
    assert isinstance(cast.format, ScalarFormat)
    assert outputs.encoded_in_kernel(cast)
    values = reals()
    values = values[(values / 64 * 64 == values) | values.isnan()]
    assert len(values) % 8 and len(values) > 5000  # the tail's kernel too
    expected = cast.format.encode(values.double().numpy(), cast.rounding, cast.overflow)
    found = as_results(values.to(where), output)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == gw.format(output).encode(torch.zeros(1)).dtype
    wrong = found.cpu().numpy() != expected
    assert not wrong.any(), (values[wrong][:5], found.cpu()[wrong][:5], expected[wrong][:5])


@pytest.mark.parametrize("output", [*FUSED[::4], *BY_CODEC, *GROUPED])
@pytest.mark.parametrize("kind", ["softmax", "layer_norm", "rms_norm", "gelu", "silu_gate"])
def test_any_format(kind: str, output: str, where: str) -> None:
    x = torch.randn(5, 96, device=where) * 4

    def call(output: str) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        return rows.silu_gate(x, x, output) if kind == "silu_gate" else getattr(rows, kind)(x, output=output)

    plain = call("")
    assert isinstance(plain, torch.Tensor)
    found, expected = call(output), gw.format(output).encode(plain)
    if isinstance(found, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float32"])
def test_types_of_pytorch(name: str, where: str) -> None:
    x = torch.randn(3, 40, device=where) * 1e5
    for given in (x, x.to(torch.bfloat16)):
        found = rows.silu_gate(given, given, name)
        assert isinstance(found, torch.Tensor)
        assert found.dtype == getattr(torch, name)
        wide = rows.silu_gate(given.float(), given.float())
        assert isinstance(wide, torch.Tensor)
        np.testing.assert_array_equal(found.double().cpu(), gw.format(name).quantize(wide.double().cpu()))


def test_reference_path_gives_the_same_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "INTERPRET", False)
    x = torch.randn(5, 96)
    for output in (*FUSED, *BY_CODEC):
        assert torch.equal(rows.softmax(x, output), gw.format(output).encode(rows.softmax(x)))  # type: ignore[arg-type]
    for output in (*FUSED[::3], *BY_CODEC, *GROUPED, "mxfp4", "bfloat16"):
        checks = ("test_schema", "test_faketensor", "test_autograd_registration")
        torch.library.opcheck(
            torch.ops.gatewright.rows.default, (x, None, None, "softmax", 0.0, output), test_utils=checks
        )
        torch.library.opcheck(torch.ops.gatewright.gates.default, (x, None, "gelu", output), test_utils=checks)


@pytest.mark.parametrize(
    ("code", "output"),
    [("GW0202", "fp3"), ("GW0506", "fixed<8,4> stochastic"), ("GW0506", "real"), ("GW0203", "fixed<8,auto>"),
     ("GW0205", "e4m3 wrap"), ("GW0216", "exact 2^-8"), ("GW0209", "fixed<8>"), ("GW0506", None)],
)  # fmt: skip
def test_outputs_that_are_refused(code: str, output: str, where: str) -> None:
    before = device.LAUNCHES.copy()
    for call in (rows.softmax, rows.layer_norm, rows.rms_norm, rows.gelu):
        with pytest.raises(GatewrightError) as caught:
            call(torch.zeros(4, 40, device=where), output=output)
        assert caught.value.code == code
    assert before == device.LAUNCHES
