"""A content-addressed folder cache that several processes may share.

An entry is a folder that appears whole or not at all: it is built aside under a lock and then renamed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from gatewright.diagnostics import error

MOST_ENTRIES = 400
"""Entries kept per kind; the least recently used ones are removed beyond that."""


def cache_folder() -> Path:
    """``$GATEWRIGHT_CACHE``, else ``gatewright`` in the user's cache folder, else in the system's temporary folder."""
    chosen = os.environ.get("GATEWRIGHT_CACHE")
    if chosen:
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "gatewright"
    except RuntimeError:  # a user without a home, as some containers have
        return Path(tempfile.gettempdir()) / "gatewright"


def digest(*parts: str | bytes) -> str:
    """A content hash of the parts in order, 32 hexadecimal digits; no two lists of parts run together."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()[:32]


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold an exclusive lock between processes on the file ``path``."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cached_folder(root: Path | None, kind: str, key: str, fill: Callable[[Path], None]) -> Path:
    """The entry ``key`` of ``kind`` under ``root`` (the default cache when None), made by ``fill`` if absent.

    ``fill`` gets an empty folder; when it raises, nothing is kept. Raises GatewrightError (GW0401)
    where the cache cannot be written.
    """
    folder = (root or cache_folder()) / kind
    entry = folder / key
    if entry.is_dir():
        with suppress(OSError):  # only the pruning cares, and another's cache may be read-only
            os.utime(entry)
        return entry
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / "aside"
        aside.mkdir(exist_ok=True)
    except OSError as problem:
        raise error(
            "GW0401",
            f"the build cache {folder} cannot be written: {problem.strerror}",
            help="set GATEWRIGHT_CACHE to a folder that can be written",
        ) from problem
    with locked(aside / f"{key}.lock"):
        if entry.is_dir():
            return entry
        work = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=aside))
        try:
            fill(work)
            work.rename(entry)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    _prune(folder)
    return entry


def _prune(folder: Path) -> None:
    entries = [each for each in folder.iterdir() if each.name != "aside"]
    if len(entries) <= MOST_ENTRIES:
        return
    entries.sort(key=_last_used)
    for entry in entries[: len(entries) - MOST_ENTRIES]:
        shutil.rmtree(entry, ignore_errors=True)


def _last_used(entry: Path) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return 0.0
