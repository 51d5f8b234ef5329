"""Views from anywhere in memory, empty sums, missing axes, wrong devices: taken, or refused by name."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gatewright.diagnostics import GatewrightError
from gatewright.kernels import attention, autotune, convert, cuda_build, device, integer_product, product, rows
from gatewright.kernels.formats import FORMATS, quantize_reference


def shifted(value: torch.Tensor) -> torch.Tensor:
    """The same values, contiguous, one element behind a 16-byte boundary."""
    room = torch.empty(value.numel() + 1, dtype=value.dtype, device=value.device)
    view = room[1:].view(value.shape)
    assert view.is_contiguous() and view.data_ptr() % 16
    return view.copy_(value)


def test_views_that_start_anywhere(where: str) -> None:
    """Slices of a flat buffer: contiguous, and not where a load of several elements may start."""
    x = torch.randn(3, 256, device=where).bfloat16()
    assert device.aligned(x) is x and device.aligned(shifted(x)).data_ptr() % 16 == 0
    for name in FORMATS:
        codes, scales = convert.quantize(shifted(x), name)
        plain = convert.quantize(x, name)
        assert torch.equal(codes, plain[0]) and torch.equal(scales, plain[1])
        found = convert.dequantize(shifted(codes), shifted(scales), name)
        assert torch.equal(found, convert.dequantize(codes, scales, name))
        found = product.block_linear(shifted(x), shifted(codes), shifted(scales), name)
        assert torch.equal(found, product.block_linear(x, codes, scales, name))
    q = torch.randn(1, 2, 128, device=where).bfloat16()
    cache = convert.quantize(torch.randn(1, 2, 70, 128, device=where), "mxint8")
    moved = tuple(shifted(each) for each in cache)
    found = attention.attention_decode(shifted(q), moved, moved, "mxint8")  # type: ignore[arg-type]
    assert torch.equal(found, attention.attention_decode(q, cache, cache, "mxint8"))


def test_only_promised_weights_are_fetched_early() -> None:
    """However often they have been read: a write through ``.data`` is seen by nobody."""
    codes, scales = convert.quantize(torch.randn(4, 64), "mxint8")
    x = torch.randn(1, 64)
    for _ in range(2):
        product.block_linear(x, codes, scales, "mxint8")
        assert not device.frozen(codes, scales)
    product.freeze(codes, scales)
    assert device.frozen(codes, scales)
    assert not device.frozen(codes, scales.clone())
    codes.zero_()
    assert not device.frozen(codes, scales)
    moved = shifted(codes)
    product.freeze(moved, scales)
    assert not device.frozen(moved, scales)
    with torch.inference_mode():
        codes, scales = convert.quantize(torch.randn(4, 64), "mxint8")
        product.freeze(codes, scales)
    assert device.frozen(codes, scales)


@pytest.mark.parametrize("name", ["mxint8", "mxfp6_e3m2", "nvfp4"])
def test_first_axis_with_more_columns_than_a_tile(name: str, where: str) -> None:
    x = torch.randn(2, 64, 700, device=where)
    codes, scales = convert.quantize(x, name, 1)
    expected = quantize_reference(x.cpu(), FORMATS[name], 1)
    assert torch.equal(codes.cpu(), expected[0]) and torch.equal(scales.cpu(), expected[1])
    turned = convert.quantize(x.transpose(1, 2), name)
    back = convert.dequantize(codes, scales, name, axis=1)
    assert torch.equal(back, convert.dequantize(*turned, name).transpose(1, 2))


def test_more_heads_than_a_grid(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from gatewright.kernels import attention_prefill_triton

    q, k, v = torch.randn(3, 5, 2, 9, 32, device=where)
    whole = attention.attention(q, k, v, causal=True)
    monkeypatch.setattr(attention_prefill_triton, "MOST_HEADS", 4)
    assert torch.equal(attention.attention(q, k, v, causal=True), whole)


@pytest.mark.parametrize("count", [0, 3])
def test_empty_sums_are_zero(count: int, where: str) -> None:
    bias = torch.tensor([1.0, -2.0], device=where)
    x = torch.zeros(count, 0, device=where)
    for name in FORMATS:
        found = product.block_linear(x, *convert.quantize(x.new_zeros(2, 0), name), name, bias, "relu")
        assert torch.equal(found, torch.tensor([1.0, 0.0], device=where).expand(count, 2))
    codes = torch.zeros(2, 0, dtype=torch.int8, device=where)
    for bits in (8, 4):
        found = product.group_linear(x, codes, x.new_zeros(2, 0), bits, bias, "relu")
        assert torch.equal(found, torch.tensor([1.0, 0.0], device=where).expand(count, 2))
    found = integer_product.integer_linear(x.to(torch.int8), codes, bias.int(), shift=1, rounding="floor")
    assert torch.equal(found, torch.tensor([0, -1], dtype=torch.int8, device=where).expand(count, 2))


ERRORS: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "scales elsewhere": ("GW0503", "scales", lambda x, c, s: product.group_linear(x, c, x[:2, :1].to("meta"), 8)),
    "flat codes": ("GW0505", "codes", lambda x, c, s: product.group_linear(x, c[0], x[:2, :1], 8)),
    "too long": ("GW0505", "length", lambda x, c, s: convert.dequantize(c, s, "mxint8", length=65)),
    "negative": ("GW0505", "length", lambda x, c, s: convert.dequantize(c, s, "mxint8", length=-1)),
    "another K": (
        "GW0505", "x.0.", lambda x, c, s: product.block_product((c[:, :32], s[:, :1]), (c, s), "mxint8")),
    "no row": ("GW0505", "values", lambda x, c, s: rows.softmax(x[0, 0])),
    "no row to norm": ("GW0505", "values", lambda x, c, s: rows.rms_norm(x[0, 0], x[0])),
    "a list": ("GW0502", "values", lambda x, c, s: convert.quantize([1.0, 2.0], "mxint8")),  # type: ignore[arg-type]
    "an array": ("GW0502", "values", lambda x, c, s: rows.softmax(x.cpu().numpy())),
    "sparse": ("GW0502", "values", lambda x, c, s: convert.quantize(x.to_sparse(), "mxint8")),
    "no axis": ("GW0504", "axis", lambda x, c, s: convert.quantize(x, "mxint8", None)),  # type: ignore[arg-type]
    "half an axis": ("GW0504", "axis", lambda x, c, s: convert.quantize(x, "mxint8", 0.5)),  # type: ignore[arg-type]
    "no format": ("GW0501", r"\[0\]", lambda x, c, s: convert.quantize(x, [0])),  # type: ignore[arg-type]
    "codes in a list": ("GW0502", "codes", lambda x, c, s: convert.dequantize([1], s, "mxint8")),  # type: ignore[arg-type]
    "a type's name": (
        "GW0502", "dtype", lambda x, c, s: convert.dequantize(c, s, "mxint8", "bfloat16")),  # type: ignore[arg-type]
    "half a token": ("GW0505", "length", lambda x, c, s: convert.dequantize(c, s, "mxint8", length=1.5)),  # type: ignore[arg-type]
    "a number for a bias": (
        "GW0502", "bias", lambda x, c, s: product.block_linear(x, c, s, "mxint8", 1.0)),  # type: ignore[arg-type]
    "no pair": ("GW0502", "x", lambda x, c, s: product.block_product(x, (c, s), "mxint8")),
    "a pair of three": ("GW0502", "weights", lambda x, c, s: product.block_product((c, s), (c, s, s), "mxint8")),  # type: ignore[arg-type]
    "a plain cache": (
        "GW0502", "keys", lambda x, c, s: attention.attention_decode(x[:1, None], x, x, "mxint8")),  # type: ignore[arg-type]
    "epsilon as weight": ("GW0502", "weight", lambda x, c, s: rows.rms_norm(x, 1e-6)),  # type: ignore[arg-type]
    "epsilon in words": ("GW0506", "epsilon", lambda x, c, s: rows.rms_norm(x, epsilon="small")),  # type: ignore[arg-type]
    "scale in words": (
        "GW0506", "scale", lambda x, c, s: attention.attention(*3 * [x[None, None, :, :32]], scale="a")),  # type: ignore[arg-type]
    "half a shift": ("GW0506", "shift", lambda x, c, s: integer_product.integer_linear(c, c, shift=0.5)),  # type: ignore[arg-type]
    "a width without a cast": ("GW0506", "shift", lambda x, c, s: integer_product.integer_linear(c, c, width=4)),
    "nested": (
        "GW0502", "values", lambda x, c, s: rows.softmax(torch.nested.nested_tensor([x]))),
    "nested bias": (
        "GW0502", "bias", lambda x, c, s: product.block_linear(x, c, s, "mxint8", torch.nested.nested_tensor([x[0]]))),
    "a truth for a length": ("GW0505", "length", lambda x, c, s: convert.dequantize(c, s, "mxint8", length=True)),
    "bits in words": ("GW0506", "bits", lambda x, c, s: product.group_linear(x, c, x[:2, :1], "8")),  # type: ignore[arg-type]
    "nothing to freeze": ("GW0502", "scales", lambda x, c, s: product.freeze(c, None)),  # type: ignore[arg-type]
    "relu in words": (
        "GW0506", "relu", lambda x, c, s: integer_product.integer_linear(c, c, relu="yes")),  # type: ignore[arg-type]
    "a sign of 1": (
        "GW0506", "signed", lambda x, c, s: integer_product.integer_linear(c, c, shift=1, signed=1)),  # type: ignore[arg-type]
    "exactly what": (
        "GW0506", "exact", lambda x, c, s: product.block_product((c, s), (c, s), "mxint8", exact="a")),  # type: ignore[arg-type]
    "causal in words": (
        "GW0506", "causal", lambda x, c, s: attention.attention(*3 * [x[None, None, :, :32]], causal="a")),  # type: ignore[arg-type]
    "a scale beyond floats": (
        "GW0506", "scale", lambda x, c, s: attention.attention(*3 * [x[None, None, :, :32]], scale=10**400)),
    "outputs in a list": ("GW0506", "output", lambda x, c, s: rows.gelu(x, output=["mxint8"])),  # type: ignore[arg-type]
    "no row to cast": ("GW0505", "gate", lambda x, c, s: rows.silu_gate(x[0, 0], x[0, 0], "mxint8")),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors_come_before_any_launch(case: str, where: str) -> None:
    code, argument, call = ERRORS[case]
    codes, scales = convert.quantize(torch.randn(2, 64, device=where), "mxint8")
    before = device.LAUNCHES.copy()
    with pytest.raises(GatewrightError, match=f"`{argument}`") as caught:
        call(torch.zeros(4, 64, device=where), codes, scales)
    assert caught.value.code == code
    assert before == device.LAUNCHES


def test_a_bias_may_be_a_view(where: str) -> None:
    """Every second element, or one for all, in every kind of product and of epilogue."""
    x = torch.randn(3, 64, device=where).bfloat16()
    wide = torch.randn(48, device=where)
    codes, scales = convert.quantize(torch.randn(24, 64, device=where), "mxfp8")
    eights = torch.randint(-128, 128, (24, 64), dtype=torch.int8, device=where)
    for bias in (wide[::2], wide[:1].expand(24)):
        for kind in device.ACTIVATIONS:
            found = product.block_linear(x, codes, scales, "mxfp8", bias, kind)
            assert torch.equal(found, product.block_linear(x, codes, scales, "mxfp8", bias.clone(), kind))
            found = product.group_linear(x, eights, bias[:, None] * 0.01, 8, bias, kind)
            plain = bias.clone()
            assert torch.equal(found, product.group_linear(x, eights, plain[:, None] * 0.01, 8, plain, kind))


def test_weights_beyond_the_type_of_x(where: str) -> None:
    """They round to x's type: infinities in float16, and their differences NaN."""
    x = torch.ones(3, 64, device=where).half()
    codes, scales = convert.quantize(torch.full((5, 64), 2.0**17, device=where), "mxfp8")
    assert product.block_linear(x, codes, scales, "mxfp8").isposinf().all()
    x[:, 1::2] = -1
    assert product.block_linear(x, codes, scales, "mxfp8").isnan().all()


@pytest.mark.parametrize("height", [1, 16, 40, 70])
def test_a_bias_counts_in_the_type_of_x(height: int, where: str) -> None:
    """However many rows there are, and whatever kernel serves them."""
    x = torch.randn(height, 256, device=where).bfloat16()
    codes, scales = convert.quantize(torch.randn(24, 256, device=where), "mxfp4")
    bias = torch.randn(24, device=where) * 100
    found = product.block_linear(x, codes, scales, "mxfp4", bias, "silu")
    assert torch.equal(found, product.block_linear(x, codes, scales, "mxfp4", bias.bfloat16(), "silu"))


def test_reference_results_lie_as_the_fakes_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "INTERPRET", False)
    x = torch.randn(64, 3).t()
    checks = ("test_schema", "test_faketensor")
    for kind in ("gelu", "silu_gate"):
        torch.library.opcheck(torch.ops.gatewright.gates.default, (x, x, kind, ""), test_utils=checks)
    for kind in rows.ROW_KINDS:
        torch.library.opcheck(torch.ops.gatewright.rows.default, (x, None, None, kind, 1e-6, ""), test_utils=checks)


def test_attention_compiles_with_dynamic_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "INTERPRET", False)
    q, k, v = (torch.randn(1, 2, 8, 32, requires_grad=True) for _ in range(3))
    torch.library.opcheck(
        torch.ops.gatewright.attention.default, (q, k, v, True, 0.2), test_utils="test_aot_dispatch_dynamic"
    )


def test_without_a_compiler_triton_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch.utils import cpp_extension

    monkeypatch.setenv("GATEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", None)
    with pytest.warns(UserWarning, match="dequantize_cuda.cu was not built .*Triton serves"):
        assert cuda_build.library.__wrapped__("dequantize_cuda") is None


def test_a_compiler_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch.utils import cpp_extension

    compiler = tmp_path / "bin" / "nvcc"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\necho 'nvcc fatal : the disk is full' >&2; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("GATEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    told = r"dequantize_cuda.cu was not built \(nvcc fatal : the disk is full\); Triton serves"
    with pytest.warns(UserWarning, match=told):
        assert cuda_build.library.__wrapped__("dequantize_cuda") is None
    assert "TORCH_CUDA_ARCH_LIST" not in os.environ


class OnAGpu:
    """What the autotuner asks of a tensor."""

    is_cuda = True
    device = "cuda:0"


def test_tuning_is_kept_by_device_and_shape(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GATEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(device, "INTERPRET", False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: names[-1])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    times = {1: 3.0, 2: 1.0, 3: 2.0}
    ran: list[int] = []

    def milliseconds(call: Callable[[], None]) -> float:
        call()
        return times[ran[-1]]

    monkeypatch.setattr(autotune, "_milliseconds", milliseconds)
    names = ["one GPU"]
    options = [{"tile": each} for each in (1, 2, 3)]

    def choose(key: int) -> int:
        run = lambda config: ran.append(config["tile"])  # noqa: E731
        return autotune.choose("kernel", (key,), OnAGpu(), options[0], options, run)["tile"]  # type: ignore[arg-type]

    assert choose(64) == 1 and not ran  # no search in a plain call
    with autotune.autotuning():
        assert choose(64) == 2 and ran == [1, 2, 3]
    monkeypatch.setattr(autotune, "_loaded", [])  # as another process
    assert choose(64) == 2 and choose(128) == 1
    names.append("another GPU")
    assert choose(64) == 1
    for damaged in ("no JSON", "null", "[1, 2]", '{"one GPU|kernel|64": 3}', ""):
        autotune.cache_file().write_text(damaged)
        monkeypatch.setattr(autotune, "_loaded", [])
        assert choose(64) == 1
    with autotune.autotuning():
        assert choose(64) == 2  # a damaged cache is written anew
    assert list(json.loads(autotune.cache_file().read_text()).values()) == [{"tile": 2}]


def tune_forty(process: int) -> None:
    """What one of several processes does: entries of its own, kept one by one."""
    for index in range(40):
        autotune._entries()[f"{process}|{index}"] = {"tile": index}
        autotune._save()
        autotune._found.clear()  # what it tuned before is on the disk alone


def test_processes_that_tune_at_once_keep_each_others_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GATEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(autotune, "_loaded", [])
    started = [multiprocessing.get_context("fork").Process(target=tune_forty, args=(each,)) for each in range(3)]
    for each in started:
        each.start()
    for each in started:
        each.join()
    assert [each.exitcode for each in started] == [0, 0, 0]
    kept = json.loads((tmp_path / "kernels.json").read_text())
    assert kept == {f"{each}|{index}": {"tile": index} for each in range(3) for index in range(40)}
    assert {each.name for each in tmp_path.iterdir()} == {"kernels.json", "kernels.lock"}


def test_a_cache_that_cannot_be_written_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    monkeypatch.setenv("GATEWRIGHT_CACHE", str(in_the_way))
    monkeypatch.setattr(autotune, "_unwritable", set())
    with pytest.warns(UserWarning, match=r"GW0508: .*kernels\.json.*set GATEWRIGHT_CACHE") as told:
        autotune._save()
        autotune._save()
    assert len(told) == 1
