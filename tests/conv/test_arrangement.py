"""Channels-first models stream channels last: no transpose remains in hardware."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gatewright.ir.ops.permute import Permute
from gatewright.ir.streams.cells import Reorder
from gatewright.ir.streams.units import RewireUnit
from gatewright.ir.views import View
from tests.conv.checks import check, compiled


class Branched(nn.Module):
    """Residual, concatenation, pooling, squeeze and excitation, and a flattened classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.left = nn.Conv2d(4, 4, 3, padding=1)
        self.gate = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(8 * 3 * 2, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores of [batch, 3, 6, 4]."""
        x = torch.relu(self.stem(x))
        y = torch.relu(self.left(x) + x)
        z = y * torch.nn.functional.hardsigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        return self.head(torch.nn.functional.max_pool2d(torch.cat([y, z], 1), 2).flatten(1))


@pytest.mark.parametrize("interval", [None, 200])
def test_no_transpose_remains(interval: int | None) -> None:
    torch.manual_seed(0)
    model, x = Branched().eval(), torch.randn(4, 3, 6, 4)
    design = compiled(model, x, interval)
    assert not any(isinstance(node.op, Permute) for node in design.schedule.graph.nodes)
    assert not any(isinstance(each, (Reorder, RewireUnit)) for each in design.schedule.network.components)
    assert design.schedule.graph.inputs[0].shape == (6, 4, 3)
    check(design, x)


def test_a_transpose_that_is_needed_stays() -> None:
    class Transposed(nn.Module):
        """A matrix product along the width of a convolution's result."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)
            self.mix = nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """[batch, 3, height, 5]."""
            return self.mix(self.conv(x))

    torch.manual_seed(0)
    x = torch.randn(3, 2, 5, 6)
    check(compiled(Transposed().eval(), x), x)


class Shuffled(nn.Module):
    """ShuffleNet's unit: grouped, shuffled, depthwise, grouped."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(6, 12, 1, groups=3)
        self.shuffle = nn.ChannelShuffle(3)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.last = nn.Conv2d(12, 6, 1, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of [batch, 6, 5, 4]."""
        return self.last(self.depthwise(self.shuffle(torch.relu(self.first(x)))))


@pytest.mark.parametrize("interval", [None, 150])
def test_a_channel_shuffle_keeps_one_position(interval: int | None) -> None:
    torch.manual_seed(0)
    model, x = Shuffled().eval(), torch.randn(4, 6, 5, 4)
    design = compiled(model, x, interval)
    moving = [each for each in design.schedule.network.components if isinstance(each, (Reorder, RewireUnit))]
    assert len(moving) == 1
    assert isinstance(moving[0], Reorder) == (interval is None)
    (layout,) = {each.layout for each in moving[0].inputs}
    assert (layout.rows, layout.elements) == (20, 12)
    if isinstance(moving[0], Reorder):
        assert moving[0].count == 12
    check(design, x)


def test_an_image_that_is_pooled_first_streams_channels_last() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 2, 3)).eval(), torch.randn(3, 3, 8, 6)
    design = compiled(model, x)
    assert design.schedule.graph.inputs[0].shape == (8, 6, 3)
    assert not any(isinstance(each, Reorder) for each in design.schedule.network.components)
    check(design, x)


@given(st.data())
def test_a_view_sees_what_numpy_moves(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    array = np.arange(int(np.prod(shape))).reshape(1, *shape)
    seen, view = array, View.plain(shape)
    for _ in range(3):
        if data.draw(st.booleans()):
            order = tuple(data.draw(st.permutations(range(seen.ndim - 1))))
            seen, view = seen.transpose(0, *(axis + 1 for axis in order)), view.permuted(order)
            continue
        sizes = list(seen.shape[1:])
        if len(sizes) > 1 and data.draw(st.booleans()):
            at = data.draw(st.integers(0, len(sizes) - 2))
            sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
        else:
            sizes.insert(data.draw(st.integers(0, len(sizes))), 1)
        reshaped = view.reshaped(tuple(sizes))
        if reshaped is None:
            continue
        seen, view = seen.reshape(1, *sizes), reshaped
    assert view.shape == seen.shape[1:]
    assert np.array_equal(view.seen(array), seen)
    assert np.array_equal(view.carried(seen).ravel(), array.ravel())
