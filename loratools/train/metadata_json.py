"""Captions from one file for many images: sd-scripts' metadata JSON, or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from loratools.errors import DatasetError


@dataclass(frozen=True)
class Captions:
    """``by_name``: caption by an image's path, its name, or its name without the extension, as the file has it."""

    by_name: Mapping[str, str]

    def of(self, path: Path) -> str:
        """The caption of an image; empty where the file lists none."""
        names = (str(path), path.as_posix(), str(path.with_suffix("")), path.name, path.stem)
        return next((self.by_name[name] for name in names if name in self.by_name), "")


def read_captions(path: Path, separator: str = ",") -> Captions:
    """Read ``{image: {"caption": text, "tags": text}}``, or a line ``{"image_path": ..., "caption": ...}`` an image.

    Caption and tags are joined with ``separator``, the caption first.

    Raises:
        DatasetError: naming the file and the entry that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"the metadata_file {path} cannot be read ({error})") from error
    return Captions(_lines(text, path, separator) if path.suffix.lower() == ".jsonl" else _whole(text, path, separator))


def _whole(text: str, path: Path, separator: str) -> dict[str, str]:
    data = _json(text, f"the metadata_file {path}")
    if not isinstance(data, dict):
        raise DatasetError(f"the metadata_file {path} is no object of image names; write {{'01.png': {{'tags': ...}}}}")
    return _named({name: _caption(entry, f"{path}: '{name}'", separator) for name, entry in data.items()})


def _lines(text: str, path: Path, separator: str) -> dict[str, str]:
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        entry = _json(line, f"{path}, line {number}")
        if not isinstance(entry, dict) or not isinstance(entry.get("image_path"), str):
            raise DatasetError(f"{path}, line {number} names no image; give it an 'image_path'")
        found[entry["image_path"]] = _caption(entry, f"{path}, line {number}", separator)
    return _named(found)


def _named(found: Mapping[str, str]) -> dict[str, str]:
    """Also under the names alone, where these are not taken; paths of another machine still find their images."""
    known = dict(found)
    for name, caption in found.items():
        known.setdefault(PurePath(name.replace("\\", "/")).name, caption)
    return known


def _caption(entry: Any, place: str, separator: str) -> str:
    if not isinstance(entry, dict):
        raise DatasetError(f"{place} is no object; write {{'caption': ..., 'tags': ...}}")
    parts = [entry.get("caption"), entry.get("tags")]
    parts = [separator.join(map(str, part)) if isinstance(part, list) else part for part in parts]
    if any(part is not None and not isinstance(part, str) for part in parts):
        raise DatasetError(f"{place}: caption and tags must be text")
    return f"{separator} ".join(part.strip() for part in parts if part)


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{place} is not JSON (line {error.lineno}: {error.msg})") from error
