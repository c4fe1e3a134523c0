"""Facts are kept between runs: only new and changed files are read, and a damaged file of facts costs time alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loratools.dataset.facts import kept as module
from loratools.dataset.facts.facts import picture_facts
from loratools.dataset.facts.kept import KeptFacts


def _paths(folder: Path, *names: str) -> dict[str, Path]:
    for name in names:
        if not (folder / name).exists():
            Image.new("RGB", (20, 30), "teal").save(folder / name)
    return {name: folder / name for name in names}


def test_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = module.measure

    def counting(paths: list[Path], on_progress: object = None) -> object:
        read.extend(path.name for path in paths)
        return real(paths)

    monkeypatch.setattr(module, "measure", counting)
    paths = _paths(tmp_path, "a.png", "b.png")
    first = KeptFacts(tmp_path / ".dataset/facts.npz")
    facts = first.measure(paths).facts
    first.save(list(paths))
    paths = _paths(tmp_path, "a.png", "b.png", "c.png")
    Image.new("RGB", (7, 7), "red").save(paths["b.png"])
    os.utime(paths["b.png"], ns=(1, 1))
    again = KeptFacts(tmp_path / ".dataset/facts.npz").measure(paths).facts
    assert read == ["a.png", "b.png", "b.png", "c.png"] and [path.name for path in again] == ["a.png", "b.png", "c.png"]
    one, same = facts[paths["a.png"]], again[paths["a.png"]]
    assert np.array_equal(one.small_print, same.small_print) and one.size == same.size == (20, 30)
    assert one.digest == same.digest and again[paths["b.png"]].size == (7, 7)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", None])
def test_a_damaged_file_is_as_an_empty_one(tmp_path: Path, damage: bytes | None) -> None:
    paths = _paths(tmp_path, "a.png")
    file = tmp_path / "facts.npz"
    kept = KeptFacts(file)
    kept.measure(paths)
    kept.save(list(paths))
    file.write_bytes(file.read_bytes()[:200] if damage is None else damage)
    assert KeptFacts(file).measure(paths).facts[paths["a.png"]].digest == picture_facts(paths["a.png"]).digest


def test_what_is_not_asked_for_is_forgotten(tmp_path: Path) -> None:
    paths = _paths(tmp_path, "a.png", "b.png")
    kept = KeptFacts(tmp_path / "facts.npz")
    kept.measure(paths)
    kept.save(["b.png"])
    again = KeptFacts(tmp_path / "facts.npz")
    assert again.of("a.png", paths["a.png"]) is None and again.of("b.png", paths["b.png"]) is not None
    again.save([])
    assert KeptFacts(tmp_path / "facts.npz").of("b.png", paths["b.png"]) is None


def test_a_picture_that_changes_and_keeps_its_size_and_its_contents_time_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {name: tmp_path / name for name in ("a.bmp", "b.bmp")}
    for path in paths.values():
        Image.new("RGB", (8, 8), "teal").save(path)
    times = {path: path.stat().st_mtime_ns for path in paths.values()}

    def repaint(path: Path) -> None:
        time.sleep(0.02)  # clocks of file systems tick every few milliseconds
        Image.new("RGB", (8, 8), "red").save(path)
        os.utime(path, ns=(times[path], times[path]))

    real = module.measure

    def while_reading(some: list[Path], on_progress: object = None) -> object:
        found = real(some)
        repaint(paths["b.bmp"])
        return found

    monkeypatch.setattr(module, "measure", while_reading)
    kept = KeptFacts(tmp_path / "facts.npz")
    kept.measure(paths)
    monkeypatch.undo()
    repaint(paths["a.bmp"])
    facts = kept.measure(paths).facts
    assert all(facts[path].digest == picture_facts(path).digest for path in paths.values())
