"""The namespace ``gw`` of printed modules: everything that their source uses beside PyTorch itself."""

from gatewright.backends.torch.block_products import block_conv, block_linear, block_matmul
from gatewright.backends.torch.cast import cast
from gatewright.backends.torch.functions import function
from gatewright.backends.torch.helpers import adaptive_sum, exact, literal, permute, repeat, reshape, slice
from gatewright.backends.torch.module import Module, exact_arithmetic
from gatewright.backends.torch.special import counted, without_negative_zero
from gatewright.backends.torch.wide import wide

__all__ = [
    "Module",
    "adaptive_sum",
    "block_conv",
    "block_linear",
    "block_matmul",
    "cast",
    "counted",
    "exact",
    "exact_arithmetic",
    "function",
    "literal",
    "permute",
    "repeat",
    "reshape",
    "slice",
    "wide",
    "without_negative_zero",
]
