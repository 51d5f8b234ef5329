"""Autotuning with a cache on disk, by device, kernel and shape.

A call uses the configuration found earlier for its device and key; without one, the seed of
:mod:`gatewright.kernels.seeds` or the built-in default, so that a first call never waits. ``with autotuning():``
(or ``GATEWRIGHT_AUTOTUNE=1``) times the alternatives of every kernel called inside, keeps the fastest and
writes it to ``$GATEWRIGHT_CACHE/kernels.json`` (default ``~/.cache/gatewright``).
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from gatewright.kernels import device
from gatewright.kernels.seeds import SEEDS
from gatewright.sim.cache import cache_folder, locked

Config = dict[str, Any]
_state = {"tuning": os.environ.get("GATEWRIGHT_AUTOTUNE", "0") == "1"}
_found: dict[str, Config] = {}
_loaded: list[Path] = []
_unwritable: set[Path] = set()


def cache_file() -> Path:
    """Where configurations are kept."""
    return cache_folder() / "kernels.json"


@contextlib.contextmanager
def autotuning(enabled: bool = True) -> Iterator[None]:
    """Time the alternatives of kernels called inside, and remember the fastest."""
    before = _state["tuning"]
    _state["tuning"] = enabled
    try:
        yield
    finally:
        _state["tuning"] = before


def _entries() -> dict[str, Config]:
    """The cache, read once for each file."""
    path = cache_file()
    if _loaded != [path]:
        _loaded[:] = [path]
        _found.clear()
        _found.update(_read(path))
    return _found


def _read(path: Path) -> dict[str, Config]:
    """What a file holds; a file that cannot be read, or holds no table, counts as empty."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return cast(dict[str, Config], found) if isinstance(found, dict) else {}


def _save() -> None:
    """Write the cache atomically, keeping what other processes add; a warning, once, where that fails."""
    path = cache_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")), tempfile.TemporaryDirectory(dir=path.parent) as aside:
            written = Path(aside) / path.name
            written.write_text(json.dumps({**_read(path), **_found}, indent=1, sort_keys=True))
            written.replace(path)
    except OSError as failure:
        if path not in _unwritable:
            _unwritable.add(path)
            warnings.warn(
                f"GW0508: tuned configurations cannot be kept in {path} ({failure.strerror or failure}): this process "
                "uses them, and the next tunes again; set GATEWRIGHT_CACHE to a folder that can be written",
                stacklevel=2,
            )


def _milliseconds(call: Callable[[], None], repeat: int = 9) -> float:
    """The median time of ``call`` with the L2 cache flushed before each."""
    call()
    flush = torch.empty(256 * 2**20, dtype=torch.int8, device="cuda")
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeat)]
    for begin, end in pairs:
        flush.zero_()
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return sorted(begin.elapsed_time(end) for begin, end in pairs)[repeat // 2]


def choose(
    kernel: str,
    key: Sequence[Any],
    where: Tensor,
    default: Config,
    options: Sequence[Config],
    run: Callable[[Config], None],
) -> Config:
    """The configuration for this call: the cached one, one found now, or the default."""
    if not where.is_cuda or device.INTERPRET:
        return default
    place = "|".join([kernel, *map(str, key)])
    name = f"{torch.cuda.get_device_name(where.device)}|{place}"
    entries = _entries()
    seed = SEEDS.get(place) if torch.cuda.get_device_capability(where.device)[0] == 9 else None
    if seed in options:
        default = seed or default
    if name in entries and (not options or entries[name] in [default, *options]):
        return entries[name]
    if not _state["tuning"] or torch.cuda.is_current_stream_capturing():
        return default
    best, shortest = default, float("inf")
    for config in [default, *(each for each in options if each != default)]:
        try:
            taken = _milliseconds(lambda config=config: run(config))
        except Exception as failure:  # a configuration that exceeds the device's resources is no candidate
            if "out of resource" not in str(failure).lower():
                raise
            continue
        if taken < shortest:
            best, shortest = config, taken
    entries[name] = best
    _save()
    return best


def tuned(
    kernel: str,
    key: Sequence[Any],
    where: Tensor,
    default: Config,
    options: Sequence[Config],
    run: Callable[[Config], None],
) -> None:
    """Run with the configuration that :func:`choose` finds."""
    run(choose(kernel, key, where, default, options, run))
