"""What is wrong with a format is said precisely: the name, the number, the axis, and what to write."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import gatewright as gw

NAMES = [
    ("fixed<0,0>", "GW0201", "width is 0", "from 1 to 4096"),
    ("ufixed<-3,1>", "GW0201", "width is -3", "from 1 to 4096"),
    ("log<1>", "GW0201", "width is 1", "from 2 to"),
    ("mxint1", "GW0201", "width is 1", "from 2 to 24"),
    ("e0m3", "GW0201", "exponent width is 0", "from 1 to 11"),
    ("e4m99", "GW0201", "mantissa width is 99", "from 1 to 50"),
    ("residual<0>", "GW0201", "number of levels is 0", "from 1 to 8"),
    ("mxfp4<0>", "GW0201", "block size is 0", "from 1 to"),
    ("fxied<8,4>", "GW0202", 'no number format "fxied<8,4>"', 'did you mean "fixed<8,4>"?'),
    ("mxfb8", "GW0202", "mxfb8", 'did you mean "mxfp8"?'),
    ("nvpf4", "GW0202", "nvpf4", 'did you mean "nvfp4"?'),
    ("bf16", "GW0202", "bf16", 'did you mean "bfloat16"?'),
    ("fp16", "GW0202", "fp16", 'did you mean "float16"?'),
    ("float8_e4m3fn", "GW0202", "float8_e4m3fn", 'did you mean "e4m3"?'),
    ("int8", "GW0202", "int8", 'did you mean "fixed<8,0>", whole numbers, or "fixed<8,auto>"?'),
    ("uint4", "GW0202", "uint4", 'did you mean "ufixed<4,0>"'),
    ("block<e4m3,ternary,4>", "GW0212", "ternary cannot be a scale", "e8m0"),
    ("block<fixed<8,auto>,e8m0,4>", "GW0212", "cannot be auto", "block<fixed<8,6>,e8m0,32>"),
]


@pytest.mark.parametrize(("name", "code", "what", "how"), NAMES)
def test_names(name: str, code: str, what: str, how: str) -> None:
    with pytest.raises(gw.GatewrightError) as caught:
        gw.format(name)
    assert caught.value.code == code
    assert what in str(caught.value)
    assert how in str(caught.value)
    with pytest.raises(gw.GatewrightError) as caught:
        gw.compile(nn.Linear(4, 2), (torch.randn(1, 4),), {"default": {"weight": name}})
    assert "formats [default] weight: " in str(caught.value)


class Padded(nn.Module):
    """Zeros around numbers that an operator without a padding of its own reads."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool1d(nn.functional.pad(x, (1, 0)), 2)


LAYERS = [
    (nn.Sequential(nn.Linear(12, 4)), (12,), "mxint8<8>", "GW0380", 'such as "mxint8<6>"'),
    (nn.Sequential(nn.Linear(37, 4)), (37,), "mxint8", "GW0380", "pad the axis to 64, or use a scalar format"),
    (nn.Sequential(nn.Conv2d(4, 4, 3, groups=4)), (4, 3, 3), "mxint8", "GW0380", '[name."0"] input = "fixed<8,4>"'),
    (nn.Sequential(nn.ConvTranspose1d(4, 4, 3)), (4, 3), "mxint8", "GW0386", '[name."0"] input = "fixed<8,4>"'),
    (nn.Sequential(nn.Linear(4, 4), nn.Tanh()), (4,), "mxint8", "GW0341", '[name."1"] (or [type.tanh]) input = '),
    (Padded(), (2, 3), "binary", "GW0309", "binary does not hold 0.0"),
]


@pytest.mark.parametrize(("model", "shape", "formats", "code", "words"), LAYERS)
def test_layers(model: nn.Module, shape: tuple[int, ...], formats: str, code: str, words: str) -> None:
    with pytest.raises(gw.GatewrightError) as caught:
        gw.compile(model.eval(), (torch.randn(1, *shape),), formats)
    assert code in {each.code for each in caught.value.diagnostics}
    assert words in str(caught.value)
