"""Facts of pictures kept between runs, so that only new and changed files are read again."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from loratools.dataset.facts.facts import PRINT_SIDE, PictureFacts
from loratools.dataset.facts.measure import Measured, measure
from loratools.errors import DatasetError
from loratools.files import replacing
from loratools.progress import OnProgress

_VERSION = 1
_DAMAGED = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, BadZipFile, zlib.error)
_EMPTY = np.zeros((0, PRINT_SIDE, PRINT_SIDE, 3), dtype=np.uint8)


class KeptFacts:
    """The facts of files by name, each as long as the file's size and times stay the same."""

    def __init__(self, path: Path) -> None:
        """Read what is kept in ``path``; a file that is missing, damaged or of another version is as an empty one,
        since all of it can be measured again."""
        self.path = path
        self._facts: dict[str, tuple[list[int], PictureFacts]] = _load(path)

    def of(self, name: str, path: Path) -> PictureFacts | None:
        """What is known of the file ``path``, called ``name``; None if it is new or has changed."""
        stamp, facts = self._facts.get(name, ([], None))
        return facts if facts is not None and stamp == _stamp(path) else None

    def measure(self, paths: Mapping[str, Path], on_progress: OnProgress | None = None) -> Measured:
        """The facts of all ``paths`` (by name), of which only those are read that are not known."""
        known = {path: facts for name, path in paths.items() if (facts := self.of(name, path)) is not None}
        new = [path for path in paths.values() if path not in known]
        stamps = {path: _stamp(path) for path in new}  # before they are read: one may change while others are
        fresh = measure(new, on_progress)
        names = {path: name for name, path in paths.items()}
        for path, facts in fresh.facts.items():
            self._facts[names[path]] = (stamps[path], facts)
        ordered = {path: found for path in paths.values() if (found := known.get(path) or fresh.facts.get(path))}
        return Measured(ordered, fresh.refused)

    def save(self, names: Sequence[str]) -> None:
        """Write the facts of these files, whole or not at all; others are forgotten.

        Raises:
            FileError, OSError: if it cannot be written.
        """
        kept = {name: self._facts[name] for name in names if name in self._facts}
        prints = np.stack([facts.small_print for _, facts in kept.values()]) if kept else _EMPTY
        lines = [{"name": name, "stamp": stamp, **_values(facts)} for name, (stamp, facts) in kept.items()]
        text = json.dumps({"version": _VERSION, "facts": lines}, ensure_ascii=False)
        with replacing(self.path) as part, part.open("wb") as stream:
            np.savez(stream, prints=prints, text=np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8))


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror or error})") from error
    # the entry's own time too, which nothing sets back: programs that write into a picture may keep that of its content
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _values(facts: PictureFacts) -> dict[str, Any]:
    names = ("size", "kind", "digest", "transparent", "animated", "grey", "quality", "flat_border")
    return {name: getattr(facts, name) for name in names}


def _load(path: Path) -> dict[str, tuple[list[int], PictureFacts]]:
    try:
        with np.load(path, allow_pickle=False) as data:
            prints, text = data["prints"], bytes(data["text"]).decode("utf-8")
        value = json.loads(text)
        if value["version"] != _VERSION or len(value["facts"]) != len(prints):
            return {}
        return {
            one.pop("name"): (
                one.pop("stamp"),
                replace(PictureFacts(**one, small_print=small), size=tuple(one["size"])),
            )
            for one, small in zip(value["facts"], prints, strict=True)
        }
    except _DAMAGED:
        return {}
