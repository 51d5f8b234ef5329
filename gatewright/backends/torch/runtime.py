"""The namespace ``gw`` of printed modules: everything that their source uses beside PyTorch itself."""

from gatewright.backends.torch.cast import cast
from gatewright.backends.torch.functions import function
from gatewright.backends.torch.helpers import block_linear, exact, literal, permute, repeat, reshape, slice
from gatewright.backends.torch.module import Module, exact_arithmetic
from gatewright.backends.torch.wide import wide

__all__ = [
    "Module",
    "block_linear",
    "cast",
    "exact",
    "exact_arithmetic",
    "function",
    "literal",
    "permute",
    "repeat",
    "reshape",
    "slice",
    "wide",
]
