"""The printed kernels run on the GPU where there is one, else through Triton's interpreter."""

from __future__ import annotations

import os
import sys

import pytest
import torch

if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    os.environ["TRITON_INTERPRET"] = "1"
    # Triton decides on its first import whether its own library is interpreted. Another test may have
    # imported it before; its compiled part must stay.
    for _name in [name for name in sys.modules if name.split(".")[0] == "triton"]:
        if not _name.startswith("triton._C"):
            del sys.modules[_name]


@pytest.fixture(scope="session")
def where() -> torch.device:
    """The device that the kernels' tensors are on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
