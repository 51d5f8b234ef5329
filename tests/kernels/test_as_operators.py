"""The kernels as PyTorch operators: on a plain CPU, without values, under opcheck, torch.compile and torch.export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gatewright.kernels import attention, convert, device, integer_product, product, rows

Result = Tensor | tuple[Tensor, Tensor]


WEIGHTS = {
    name: convert.quantize_reference(
        torch.randn(24, 64, generator=torch.Generator().manual_seed(3)), convert.block_format(name)
    )
    for name in ("mxint8", "mxfp8", "mxfp4")
}


def weights(name: str, where: str) -> tuple[Tensor, Tensor]:
    """Codes and scales of [24, 64]."""
    codes, scales = WEIGHTS[name]
    return codes.to(where), scales.to(where)


def cache(where: str) -> tuple[Tensor, Tensor]:
    """Keys or values of 2 heads and 9 tokens."""
    codes, scales = weights("mxint8", where)
    return codes[:18].reshape(1, 2, 9, 64), scales[:18].reshape(1, 2, 9, 2)


def integers(x: Tensor) -> Tensor:
    return (x * 30).to(torch.int8)


EXACT: dict[str, Callable[[Tensor], Result]] = {
    "quantize": lambda x: convert.quantize(x, "nvfp4"),
    "quantize first axis": lambda x: convert.quantize(x, "mxfp6", 0),
    "there and back": lambda x: convert.dequantize(*convert.quantize(x, "mxfp4"), "mxfp4", torch.float16),
    "fake_quantize": lambda x: convert.fake_quantize(x, "mxint8", 0),
    "integer_linear": lambda x: integer_product.integer_linear(
        integers(x), weights("mxint8", str(x.device))[0], shift=5, relu=True
    ),
    "exact sums": lambda x: integer_product.integer_linear(integers(x), weights("mxint8", str(x.device))[0]),
}
CLOSE: dict[str, Callable[[Tensor], Result]] = {
    "block_linear": lambda x: product.block_linear(
        x, *weights("mxfp8", str(x.device)), "mxfp8", x.new_ones(24), "silu"
    ),
    "group_linear": lambda x: product.group_linear(x, weights("mxint8", str(x.device))[0], x.new_ones(24, 2), 8),
    "block_product": lambda x: product.block_product(
        convert.quantize(x, "mxint8"), weights("mxint8", str(x.device)), "mxint8"
    ),
    "softmax": rows.softmax,
    "layer_norm": lambda x: rows.layer_norm(x, x.new_ones(64), x.new_ones(64)),
    "rms_norm": rows.rms_norm,
    "rms_norm in blocks": lambda x: rows.rms_norm(x, output="mxint8"),
    "gelu": rows.gelu,
    "silu_gate": lambda x: rows.silu_gate(x, x),
    "softmax in fixed point": lambda x: rows.softmax(x, "ufixed<8,8>"),
    "gelu in logarithms": lambda x: rows.gelu(x, output="log<6>"),
    "attention": lambda x: attention.attention(*3 * [x.reshape(1, 2, -1, 32)], causal=True),
    "attention_decode": lambda x: attention.attention_decode(
        x[:4].reshape(1, 4, 64), cache(str(x.device)), cache(str(x.device)), "mxint8", 7
    ),
}
CALLS = EXACT | CLOSE


def parts(result: Result) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else result


def strided(dtype: torch.dtype = torch.float32) -> Tensor:
    """[6, 64] with its columns in neighbouring places."""
    return torch.randn(64, 6).to(dtype).t()


def close(one: Tensor, other: Tensor) -> bool:
    """Equality to a few roundings; codes may differ by one."""
    assert one.shape == other.shape and one.dtype == other.dtype
    step = 1.0 if not one.is_floating_point() else 1e-5 if one.dtype == torch.float32 else 2**-7
    return torch.allclose(one.float(), other.float(), rtol=step if step < 1 else 0, atol=step)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CALLS)
def test_the_reference_path_is_the_kernel(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    x = strided(dtype)
    where = "cuda" if torch.cuda.is_available() else "cpu"
    kernels = parts(CALLS[name](x.to(where)))
    monkeypatch.setattr(device, "INTERPRET", False)
    before = device.LAUNCHES.copy()
    plain = parts(CALLS[name](x))
    assert {place for _, place in device.LAUNCHES - before} == {"reference"}
    for one, other in zip(kernels, plain, strict=True):
        assert torch.equal(one.cpu(), other) if name in EXACT else close(one.cpu(), other)
        assert one.is_contiguous() == other.is_contiguous()


@pytest.mark.parametrize("name", CALLS)
def test_shapes_without_values(name: str) -> None:
    plain = parts(CALLS[name](strided()))
    meta = parts(CALLS[name](strided().to("meta")))
    assert [(each.shape, each.dtype) for each in meta] == [(each.shape, each.dtype) for each in plain]
    assert all(each.is_meta for each in meta)


@pytest.mark.parametrize("name", CALLS)
def test_compiled_and_exported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "INTERPRET", False)
    call = CALLS[name]

    class Model(nn.Module):
        def forward(self, x: Tensor) -> Result:
            return call(x)

    x = strided()
    expected = parts(call(x))
    torch._dynamo.reset()
    compiled: Any = torch.compile(call, fullgraph=True, backend="aot_eager")
    for found in (compiled(x), torch.export.export(Model(), (x,)).module()(x)):
        assert all(torch.equal(one, other) for one, other in zip(parts(found), expected, strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        found = parts(call(x))
    assert [each.shape for each in found] == [each.shape for each in expected]


def operators() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Every operator with arguments, those of reals with gradients."""
    ops = torch.ops.gatewright
    x, q = torch.randn(6, 64, requires_grad=True), torch.randn(1, 4, 8, 32, requires_grad=True)
    codes, scales = weights("mxfp4", "cpu")
    bias = torch.randn(24, requires_grad=True)
    kept = cache("cpu")
    return {
        "quantize": (ops.quantize.default, (x.detach()[:, :41], "mxfp6_e2m3", 1)),
        "dequantize": (ops.dequantize.default, (codes.t(), scales.t(), "mxfp4", torch.float32, 0)),
        "fake_quantize": (ops.fake_quantize.default, (x, "nvfp4", 0)),
        "linear": (ops.linear.default, (x, codes, scales, "mxfp4", bias, "gelu")),
        "linear of groups": (
            ops.linear.default,
            (x, weights("mxint8", "cpu")[0], torch.rand(24, 2, requires_grad=True), "int8", None, "none"),
        ),
        "integer_linear": (
            ops.integer_linear.default,
            (integers(x.detach()), weights("mxint8", "cpu")[0], None, True, 3, "half_up", "wrap", 6, True),
        ),
        "rows": (ops.rows.default, (x, bias.new_ones(64), x[0], "layer_norm", 1e-5, "")),
        "gates": (ops.gates.default, (x, x, "silu_gate", "")),
        "attention": (ops.attention.default, (q, q[:, :2], q[:, 1:3], True, 0.2)),
        "attention_decode": (
            ops.attention_decode.default, (torch.randn(1, 4, 64), *kept, *kept, "mxint8", 7, 0.2)
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", operators())
def test_opcheck(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "INTERPRET", False)
    operator, arguments = operators()[name]
    torch.library.opcheck(operator, arguments)
