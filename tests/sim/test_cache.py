"""The cache: whole entries or none, one builder among many processes, old entries removed."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from gatewright.sim import cache


def _fetch(root: Path) -> str:
    def fill(folder: Path) -> None:
        with (root / "builders").open("a") as log:
            log.write(f"{os.getpid()}\n")
        (folder / "result").write_text("whole")

    return (cache.cached_folder(root / "cache", "kind", "key", fill) / "result").read_text()


def test_many_processes_build_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        assert set(pool.map(_fetch, [tmp_path] * 12)) == {"whole"}
    assert len((tmp_path / "builders").read_text().splitlines()) == 1


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.cached_folder(tmp_path, "kind", "key", fail)
    assert [path.name for path in tmp_path.rglob("*") if path.is_dir()] == ["kind", "aside"]
    assert not list(tmp_path.rglob("half"))


def test_the_oldest_entries_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_ENTRIES", 3)
    for k in range(5):
        entry = cache.cached_folder(tmp_path, "kind", str(k), lambda folder: None)
        os.utime(entry, (k, k))
    assert sorted(path.name for path in (tmp_path / "kind").iterdir()) == ["2", "3", "4", "aside"]


def test_digests_keep_parts_apart() -> None:
    assert cache.digest("ab", "c") != cache.digest("a", "bc")
    assert cache.digest("ab") == cache.digest(b"ab")
