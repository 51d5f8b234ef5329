"""How products of blocks are summed: the accumulator's window, an attribute of the operators that make them."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.formats import CastSpec, Fixed


@dataclass(frozen=True, slots=True)
class Accumulation:
    """How products of blocks are summed: the exact product of each ``size`` elements is rounded by ``spec``.

    ``wide``: such a product may take more than 53 bits.
    """

    spec: CastSpec
    size: int
    wide: bool = False

    @property
    def window(self) -> Fixed:
        """The fixed-point format into which the products are rounded."""
        assert isinstance(self.spec.format, Fixed)
        return self.spec.format

    def arguments(self) -> str:
        """As arguments of the torch backend's helpers; ``wide`` comes last, by name."""
        return f'{self.size}, "{self.spec}"' + (", wide=True" if self.wide else "")

    def text(self) -> str:
        """As a node's attributes."""
        return f"blocks of {self.size} into {self.spec}"
