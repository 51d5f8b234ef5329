"""Whether torch.export is reading a module."""

from __future__ import annotations

import torch


@torch.compiler.assume_constant_result
def exporting() -> bool:
    """True while a model is exported.

    Under torch.compile, PyTorch 2.11 takes ``torch.compiler.is_exporting()`` for True; here it is asked, not traced.
    """
    return torch.compiler.is_exporting()
