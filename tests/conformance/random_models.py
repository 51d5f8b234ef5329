"""Random dense models: branches, joins, odd shapes, one-element axes, several inputs and outputs, mixed formats.

A model is a program of steps on numbered values, run by one nn.Module, so that ``torch.export`` sees plain
PyTorch. Everything follows from the seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, ...]
Step = Callable[[nn.Module, list[Tensor]], Tensor | tuple[Tensor, ...]]

SIZES = (1, 1, 2, 3, 4, 5, 6, 7, 8, 9)
FUNCTIONS = ("sigmoid", "tanh", "silu", "gelu", "hardsigmoid", "hardswish", "softplus", "exp")
EXACT = ("relu", "abs", "neg", "relu6", "hardtanh", "leaky_relu", "square")
ROUNDINGS = ("floor", "half_up", "half_even", "toward_zero", "half_zero", "half_down", "half_away")
OVERFLOWS = ("saturate", "saturate_symmetric", "saturate_zero", "wrap")
MOST_ELEMENTS = 48


class Program(nn.Module):
    """Runs the steps; parameters are registered while the program is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.outputs: list[int] = []

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        values = list(inputs)
        for step in self.steps:
            result = step(self, values)
            values += result if isinstance(result, tuple) else [result]
        chosen = tuple(values[index] for index in self.outputs)
        return chosen[0] if len(chosen) == 1 else chosen


@dataclass(slots=True)
class Drawing:
    """A program in the making: the values' shapes, and which inputs each depends on."""

    generator: np.random.Generator
    program: Program
    shapes: list[Shape]
    ancestors: list[frozenset[int]]
    read: set[int] = field(default_factory=set)
    text: list[str] = field(default_factory=list)

    def integer(self, low: int, high: int) -> int:
        """A number from low to high, both included."""
        return int(self.generator.integers(low, high + 1))

    def choose(self, options: Any) -> Any:
        """One of the options."""
        return options[int(self.generator.integers(len(options)))]

    def value(self) -> int:
        """A value to read; recent and unread ones more often."""
        unread = [index for index in range(len(self.shapes)) if index not in self.read]
        if unread and self.generator.random() < 0.6:
            return self.choose(unread)
        return self.choose(range(len(self.shapes)))

    def add(self, text: str, sources: list[int], shapes: list[Shape], step: Step) -> None:
        """Record a step and the shapes of its results."""
        self.program.steps.append(step)
        self.text.append(f"{text}({', '.join(f'v{each}' for each in sources)}) -> {shapes}")
        self.read.update(sources)
        self.shapes += shapes
        union = frozenset[int]().union(*(self.ancestors[each] for each in sources))
        self.ancestors += [union] * len(shapes)

    def parameter(self, shape: Shape, spread: float = 0.7) -> str:
        """A trained parameter; its name."""
        name = f"p{len(list(self.program.parameters()))}"
        data = torch.from_numpy(self.generator.normal(0.0, spread, size=shape)).float().clamp(-1.9, 1.9)
        self.program.register_parameter(name, nn.Parameter(data))
        return name


def _linear(d: Drawing) -> None:
    a = d.value()
    shape = d.shapes[a]
    if not shape:
        return
    width = d.choose(SIZES[1:])
    layer = nn.Linear(shape[-1], width, bias=d.generator.random() < 0.7)
    with torch.no_grad():
        for each in layer.parameters():
            each.copy_(torch.from_numpy(d.generator.normal(0.0, 0.6, size=tuple(each.shape))).clamp(-1.9, 1.9))
    name = f"layer{len(d.program.steps)}"
    d.program.add_module(name, layer)
    d.add(name, [a], [(*shape[:-1], width)], lambda m, v: getattr(m, name)(v[a]))


def _exact(d: Drawing) -> None:
    a, name = d.value(), d.choose(EXACT)
    function = getattr(F, name, None) or getattr(torch, name)
    d.add(name, [a], [d.shapes[a]], lambda m, v: function(v[a]))


def _function(d: Drawing) -> None:
    a, name = d.value(), d.choose(FUNCTIONS)
    function = getattr(torch, name, None) or getattr(F, name)
    d.add(name, [a], [d.shapes[a]], lambda m, v: function(v[a]))


def _binary(d: Drawing) -> None:
    a = d.value()
    fitting = [
        k for k, shape in enumerate(d.shapes) if _broadcast(shape, d.shapes[a]) and len(shape) == len(d.shapes[a])
    ]
    if not fitting:
        return
    b = d.choose(fitting)
    function = d.choose((torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum))
    shape = np.broadcast_shapes(d.shapes[a], d.shapes[b])
    d.add(function.__name__, [a, b], [tuple(shape)], lambda m, v: function(v[a], v[b]))


def _with_constant(d: Drawing) -> None:
    a = d.value()
    shape = d.shapes[a]
    kind = d.integer(0, 3)
    function = d.choose((torch.add, torch.sub, torch.mul, torch.maximum))
    if kind == 0 and function is not torch.maximum:
        number = d.choose((0.5, -1.25, 2.0, 3.0, -0.75))
        d.add(f"{function.__name__} {number}", [a], [shape], lambda m, v: function(v[a], number))
        return
    extent = [size if d.generator.random() < 0.7 else 1 for size in shape[d.integer(0, len(shape)) :]]
    name = d.parameter(tuple(extent))
    d.add(f"{function.__name__} {name}{extent}", [a], [shape], lambda m, v: function(v[a], getattr(m, name)))


def _cat(d: Drawing) -> None:
    a = d.value()
    shape = d.shapes[a]
    if not shape:
        return
    axis = d.integer(0, len(shape) - 1)
    fitting = [
        k
        for k, other in enumerate(d.shapes)
        if len(other) == len(shape) and all(other[n] == shape[n] for n in range(len(shape)) if n != axis)
    ]
    parts = [a, *(d.choose(fitting) for _ in range(d.integer(1, 2)))]
    total = sum(d.shapes[each][axis] for each in parts)
    result = (*shape[:axis], total, *shape[axis + 1 :])
    d.add(f"cat{axis}", parts, [result], lambda m, v: torch.cat([v[each] for each in parts], axis + 1))


def _slice(d: Drawing) -> None:
    a = d.value()
    shape = d.shapes[a]
    axes = [axis for axis, size in enumerate(shape) if size > 1]
    if not axes:
        return
    axis = d.choose(axes)
    start, step = d.integer(0, shape[axis] - 1), d.integer(1, 2)
    stop = d.integer(start + 1, shape[axis])
    result = (*shape[:axis], len(range(start, stop, step)), *shape[axis + 1 :])
    index = (*(slice(None),) * (axis + 1), slice(start, stop, step))
    d.add(f"slice{index}", [a], [result], lambda m, v: v[a][index])


def _split(d: Drawing) -> None:
    a = d.value()
    shape = d.shapes[a]
    axes = [axis for axis, size in enumerate(shape) if size > 1]
    if not axes:
        return
    axis = d.choose(axes)
    first = d.integer(1, shape[axis] - 1)
    sizes = [first, shape[axis] - first]
    results = [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]
    d.add(f"split{axis}{sizes}", [a], results, lambda m, v: torch.split(v[a], sizes, axis + 1))


def _permute(d: Drawing) -> None:
    a = d.value()
    shape = d.shapes[a]
    if len(shape) < 2:
        return
    order = [int(each) for each in d.generator.permutation(len(shape))]
    result = tuple(shape[each] for each in order)
    d.add(f"permute{order}", [a], [result], lambda m, v: v[a].permute(0, *(each + 1 for each in order)))


def _reshape(d: Drawing) -> None:
    a = d.value()
    size = math.prod(d.shapes[a])
    divisors = [each for each in range(1, size + 1) if size % each == 0]
    first = d.choose(divisors)
    result: Shape = d.choose(((size,), (first, size // first), (size, 1), (1, size)))
    d.add(f"reshape{result}", [a], [result], lambda m, v: v[a].reshape(v[a].shape[0], *result))


def _reduce(d: Drawing) -> None:
    a = d.value()
    shape = d.shapes[a]
    if not shape:
        return
    count = d.integer(1, len(shape))
    axes = sorted(int(each) for each in d.generator.permutation(len(shape))[:count])
    keep = bool(d.generator.random() < 0.5) or count == len(shape)
    function = d.choose((torch.sum, torch.mean, torch.amax, torch.amin))
    result = tuple(1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes)
    dims = [axis + 1 for axis in axes]
    d.add(f"{function.__name__}{axes}{keep}", [a], [result], lambda m, v: function(v[a], dims, keepdim=keep))


def _pad(d: Drawing) -> None:
    a = d.value()
    shape = d.shapes[a]
    if not shape:
        return
    before, after = d.integer(0, 2), d.integer(0, 2)
    result = (*shape[:-1], shape[-1] + before + after)
    d.add(f"pad{before},{after}", [a], [result], lambda m, v: F.pad(v[a], (before, after)))


def _batch_norm(d: Drawing) -> None:
    fitting = [k for k, shape in enumerate(d.shapes) if 1 <= len(shape) <= 2]
    if not fitting:
        return
    a = d.choose(fitting)
    channels = d.shapes[a][0]
    layer = nn.BatchNorm1d(channels).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(d.generator.uniform(0.3, 1.5, channels)))
        layer.bias.copy_(torch.from_numpy(d.generator.normal(0, 0.5, channels)))
        layer.running_mean.copy_(torch.from_numpy(d.generator.normal(0, 0.5, channels)))
        layer.running_var.copy_(torch.from_numpy(d.generator.uniform(0.5, 2.0, channels)))
    name = f"layer{len(d.program.steps)}"
    d.program.add_module(name, layer)
    d.add(name, [a], [d.shapes[a]], lambda m, v: getattr(m, name)(v[a]))


STEPS = (
    *(_linear,) * 4,
    *(_exact,) * 3,
    *(_function,) * 2,
    *(_binary,) * 4,
    *(_with_constant,) * 2,
    *(_cat,) * 2,
    _slice,
    _split,
    _permute,
    _reshape,
    _reduce,
    _pad,
    _batch_norm,
)


def _broadcast(first: Shape, second: Shape) -> bool:
    try:
        return math.prod(np.broadcast_shapes(first, second)) <= MOST_ELEMENTS
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class RandomModel:
    """A model, the shapes of its inputs per sample, its seed, and its steps as text."""

    module: Program
    shapes: tuple[Shape, ...]
    seed: int
    text: str


def draw_model(seed: int) -> RandomModel:
    """The model of a seed."""
    generator = np.random.default_rng(seed)
    count = int(generator.choice([1, 1, 2, 3]))
    shapes: list[Shape] = []
    for _ in range(count):
        rank = int(generator.choice([1, 1, 2, 2, 3]))
        shapes.append(tuple(int(generator.choice(SIZES if rank < 3 else SIZES[:5])) for _ in range(rank)))
    if generator.random() < 0.4:
        shapes = [shapes[0]] * count
    drawing = Drawing(generator, Program(), list(shapes), [frozenset([index]) for index in range(count)])
    wanted = int(generator.integers(2, 11))
    while len(drawing.program.steps) < wanted:
        before = len(drawing.program.steps)
        drawing.choose(STEPS)(drawing)
        if len(drawing.program.steps) > before and math.prod(drawing.shapes[-1]) > 4 * MOST_ELEMENTS:
            break
    unread = [index for index in range(count, len(drawing.shapes)) if index not in drawing.read]
    outputs = unread[-3:] or [len(drawing.shapes) - 1]
    reached = frozenset[int]().union(*(drawing.ancestors[each] for each in outputs))
    for missing in sorted(set(range(count)) - reached):
        name = missing
        drawing.add("relu", [missing], [drawing.shapes[missing]], lambda m, v, k=name: F.relu(v[k]))
        outputs.append(len(drawing.shapes) - 1)
    drawing.program.outputs = outputs
    drawing.text.append(f"return {outputs}")
    text = "\n".join([f"inputs {shapes}", *drawing.text])
    return RandomModel(drawing.program.eval(), tuple(shapes), seed, text)


def draw_formats(seed: int, operators: list[str]) -> dict[str, Any]:
    """Mixed widths, roundings and overflows by operator type; results are cast now and then."""
    generator = np.random.default_rng([seed, 1])

    def cast(lowest: int, highest: int, signed: bool = True) -> str:
        width = int(generator.integers(lowest, highest + 1))
        fraction = int(generator.integers(0, width + 2)) - 1
        kind = "fixed" if signed or generator.random() < 0.7 else "ufixed"
        return f"{kind}<{width},{fraction}> {generator.choice(ROUNDINGS)} {generator.choice(OVERFLOWS)}"

    def parameter(width: int) -> str:
        # Folding a batch norm makes weights larger.
        return f"fixed<{width},{width - 4}> {generator.choice(ROUNDINGS)} saturate"

    formats: dict[str, Any] = {
        "default": {
            "input": cast(2, 9, signed=False),
            "weight": parameter(int(generator.integers(2, 9))),
            "bias": parameter(int(generator.integers(4, 13))),
        }
    }
    kinds: dict[str, Any] = {}
    for name in operators:
        if generator.random() < 0.3:
            kinds[name] = {"input": cast(3, 10)}
        if generator.random() < 0.3:
            kinds.setdefault(name, {})["output"] = cast(3, 10, signed=False)
    return {**formats, "type": kinds}


def draw_inputs(model: RandomModel, samples: int, seed: int) -> list[Tensor]:
    """Batches of reals: small, large, and on the grid where roundings tie."""
    generator = np.random.default_rng(seed)
    batches: list[Tensor] = []
    for shape in model.shapes:
        size = (samples, *shape)
        values = generator.normal(0.0, float(generator.choice([0.5, 2.0, 8.0])), size=size)
        grid = generator.integers(-64, 65, size=size) / 2.0 ** generator.integers(0, 6, size=size)
        chosen = np.where(generator.random(size) < 0.5, grid, values)
        batches.append(torch.from_numpy(chosen).float())
    return batches
