"""What an operator is, and the registry of all operators.

An operator is a frozen dataclass of its attributes in a file of its own under ``ir/ops``. It either
is one of the few primitives (it then has ``evaluate`` and ``infer`` on integers) or it decomposes
into them (``decompose``); everything else about it is derived. See docs/adding-an-op.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from numpy.typing import NDArray

from gatewright.diagnostics import error
from gatewright.ir.formats import Format, Real
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.types import Shape, Type, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder

RealArray = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """One configuration of an operator for the conformance suite.

    ``op`` with operands of these shapes; ``formats`` are cast names (None: the suite's default) and
    ``constants`` tells which operands are parameters rather than streams.
    """

    op: Operator
    shapes: tuple[Shape, ...]
    formats: tuple[str | None, ...] = ()
    constants: tuple[int, ...] = ()


class Operator:
    """The base of all operators; subclasses are frozen dataclasses of the attributes.

    ``name`` is the operator's name in the text form; ``aten`` the ATen overloads that it imports.
    ``roles`` gives, per operand, which role of
    the user's ``formats`` it is cast to (``input``, ``weight``, ``bias``) or None where an exact
    value flows through unchanged; the last entry repeats. ``result_role`` is set where the result
    is not exact and must be cast at once (a nonlinear function). ``is_primitive`` marks the operators
    of the integer level, ``on_parameters`` those whose import also accepts a parameter as the only tensor
    (a view of it, which stays tied to its name). ``takes_codes`` marks those that decode operands
    themselves, or only move them; the others get the exact integers of floating-point and other codes.
    ``ignores_values`` marks imports that read only their first operand's shape and give a constant.
    """

    __slots__ = ()

    name: ClassVar[str] = ""
    aten: ClassVar[tuple[str, ...]] = ()
    roles: ClassVar[tuple[str | None, ...]] = (None,)
    result_role: ClassVar[str | None] = None
    is_primitive: ClassVar[bool] = False
    on_parameters: ClassVar[bool] = False
    ignores_values: ClassVar[bool] = False
    takes_codes: ClassVar[bool] = False

    # ---- import ----------------------------------------------------------------------------
    @classmethod
    def from_aten(cls, call: AtenCall) -> Value | tuple[Value | None, ...]:
        """Add this operator for one of its ``aten`` overloads; the result, or a tuple of results.

        None stands for a result that has no hardware; a model that uses it is refused.
        """
        raise error("GW0105", f"{cls.name} cannot be imported from aten.{call.target}", location=call.location)

    # ---- types -----------------------------------------------------------------------------
    def infer_shape(self, *shapes: Shape) -> Shape:
        """The result's shape per sample; raises ``GatewrightError`` where the operands do not fit."""
        raise error("GW0301", f"{self.name}: shape inference is missing")

    def infer(self, *operands: Value) -> Type:
        """The result's type. Real operands give a real result; integers, the decomposition's type."""
        shape = self.infer_shape(*(value.shape for value in operands))
        if any(value.type.is_real for value in operands):
            return Type(shape)
        from gatewright.ir.builder import Builder

        scratch = Builder("scratch")
        return self.decompose(scratch, *(scratch.adopt(value) for value in operands)).type

    def block_axis(self, operand: int) -> int:
        """The axis, from the end, along which an operand in a block format has its blocks; of the result for -1."""
        return -1

    def block_length(self, operand: int, shape: Shape) -> int:
        """The longest block that an operand of this shape can have along its :meth:`block_axis`."""
        return shape[self.block_axis(operand)]

    def takes_blocks(self, operand: int) -> bool:
        """Whether an operand in a block format comes as it is; the others come as numbers in an accumulator window."""
        return False

    # ---- meaning ---------------------------------------------------------------------------
    def decompose(self, builder: Builder, *operands: Value) -> Value:
        """Emit primitives for integer operands and return the result; a primitive emits itself."""
        return builder.add(self, *operands)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        """Primitives: the exact result on codes, batch leading; others: on real constants (float64)."""
        raise error("GW0303", f"{self.name} cannot be computed on constants")

    # ---- text ------------------------------------------------------------------------------
    def torch(self, *arguments: str) -> str:
        """A Python expression that computes the operator in PyTorch on batched real tensors.

        ``torch``, ``F`` (torch.nn.functional) and ``gw`` (the run-time helpers of the torch backend)
        are in scope.
        """
        raise error("GW0304", f"{self.name} cannot be printed as PyTorch")

    def text(self) -> str:
        """The attributes as they stand in the graph's text form."""
        shown = (f"{each.name}={getattr(self, each.name)}" for each in fields(self))  # pyright: ignore[reportArgumentType]
        return " ".join(shown)

    # ---- conformance -----------------------------------------------------------------------
    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Configurations that the conformance suite runs through every printer."""
        return ()


_REGISTRY: dict[str, type[Operator]] = {}


_Class = TypeVar("_Class", bound=type[Operator])


def register(cls: _Class) -> _Class:
    """Class decorator: make the operator known by its name."""
    if cls.name in _REGISTRY and _REGISTRY[cls.name] is not cls:
        raise ValueError(f"operator {cls.name} is defined twice")
    _REGISTRY[cls.name] = cls
    return cls


def operators() -> dict[str, type[Operator]]:
    """All operators by name; importing ``gatewright.ir.ops`` has registered them."""
    import gatewright.ir.ops  # noqa: F401  # pyright: ignore[reportUnusedImport]

    return dict(_REGISTRY)


def broadcast_shape(operator: str, shapes: Sequence[Shape]) -> Shape:
    """numpy's broadcasting of per-sample shapes, with an error that names the operator."""
    import numpy as np

    try:
        return tuple(int(each) for each in np.broadcast_shapes(*shapes))
    except ValueError:
        listed = " and ".join(str(list(shape)) for shape in shapes)
        raise error(
            "GW0305",
            f"{operator}: shapes {listed} do not broadcast together",
            note="aligned at the last axis, two sizes must be equal or one of them 1",
            help="insert the missing axis with unsqueeze, or reshape an operand",
        ) from None


def is_real_format(format: Format) -> bool:
    """Whether a format has no integer code."""
    return isinstance(format, Real)
