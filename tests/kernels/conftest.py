"""The kernels run on the GPU where there is one, else in Triton's interpreter; the summary says which ran where."""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import Any

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
    # Triton decides on its first import whether its own library is interpreted. Another test may have
    # imported it before; its compiled part must stay.
    for _name in [name for name in sys.modules if name.split(".")[0] == "triton"]:
        if not _name.startswith("triton._C"):
            del sys.modules[_name]

_seen: Counter[str] = Counter()


@pytest.fixture(scope="session")
def where() -> str:
    """The device that the kernels' tensors are on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(20)


def _launches() -> dict[str, int]:
    device = sys.modules.get("gatewright.kernels.device")
    return {} if device is None else {"{} on {}".format(*key): count for key, count in device.LAUNCHES.items()}


def pytest_sessionfinish(session: pytest.Session) -> None:
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is None:
        _seen.update(_launches())
    else:  # a worker of xdist
        output["kernel_launches"] = _launches()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _seen:
        terminalreporter.section("kernels, and where they ran")
        for name, count in sorted(_seen.items()):
            terminalreporter.write_line(f"{name}: {count} calls")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker of xdist has ended; its counts join the summary."""
    _seen.update(getattr(node, "workeroutput", {}).get("kernel_launches", {}))
