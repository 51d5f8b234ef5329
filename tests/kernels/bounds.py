"""What a product may be off by, element by element."""

from __future__ import annotations

from torch import Tensor


def of_sums(x: Tensor, plain: Tensor, wanted: Tensor, span: int | None) -> Tensor:
    """For x [M, K] by ``plain`` [N, K] (float64): the result's rounding to bfloat16, float32 sums, and x's digits.

    ``span`` is the k that share the digits' unit, or None where x is as it is and the weights are rounded instead.
    """
    sizes, weights = x.double().abs(), plain.abs()
    magnitudes = sizes @ weights.T
    bound = wanted.abs() * 2**-8 + magnitudes * 2**-20
    if span is None:
        return bound + magnitudes * 2**-8
    largest = sizes.reshape(len(x), -1, span).amax(-1).repeat_interleave(span, 1)
    return bound + largest @ weights.T * 2**-14
