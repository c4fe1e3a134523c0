"""Captions from one file for many images: sd-scripts' metadata JSON, or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from loratools.dataset.encodings import AUTO, TextReader
from loratools.dataset.folder import IMAGE_EXTENSIONS
from loratools.errors import DatasetError
from loratools.file_names import composed, spellings
from loratools.files import find_beside, json_lines

_SHOWN = 10


@dataclass(frozen=True)
class Captions:
    """``by_name``: caption by an image's path, its name, or its name without the extension, as the file has it."""

    by_name: Mapping[str, str]

    def of(self, path: Path) -> str:
        """The caption of an image; empty where the file lists none."""
        names = (str(path), path.as_posix(), str(path.with_suffix("")), path.name, path.stem)
        exact = next((self.by_name[name] for name in names if name in self.by_name), "")
        if exact or names[0].isascii():
            return exact
        return next((self._composed[name] for name in map(composed, names) if name in self._composed), "")

    @cached_property
    def _composed(self) -> Mapping[str, str]:
        """By names whose letters with marks are one character each."""
        return {composed(name): caption for name, caption in self.by_name.items()}


def read_captions(path: Path, separator: str = ",", encoding: str = AUTO) -> Captions:
    """Read ``{image: {"caption": text, "tags": text}}``, or a line ``{"image_path": ..., "caption": ...}`` an image.

    Lines may have the names of Hugging Face's folders instead, ``file_name`` and ``text``. Caption and tags are joined
    with ``separator``, the caption first.

    Raises:
        DatasetError: naming the file and the entry that cannot be read.
    """
    return Captions(_named(_read(path, separator, encoding)))


def read_caption_entry(text: str, path: Path, separator: str) -> str:
    """The caption that a JSON file of one image holds: ``{"caption": text, "tags": text, list, or tag: score}``.

    Raises:
        DatasetError: naming the file, if it is no JSON or has neither.
    """
    entry = _json(text, f"the caption {path}")
    if not isinstance(entry, dict) or not {"caption", "text", "tags"} & entry.keys():
        raise DatasetError(f"the caption {path} has neither 'caption' nor 'tags'; write one of them, or a .txt beside")
    return _caption(entry, f"the caption {path}", separator)


def find_listed(path: Path, separator: str, encoding: str = AUTO) -> dict[Path, str]:
    """The images that a metadata file names by their paths, sorted, with their captions.

    A path may lack the extension, and is looked for beside the file, then in the current folder.

    Raises:
        DatasetError: naming the file and the entry that cannot be read, or up to ten images that are not there.
    """
    captions, missing = dict[Path, str](), list[str]()
    for name, caption in _read(path, separator, encoding).items():
        endings = ("", *sorted(IMAGE_EXTENSIONS))
        named = (find_beside(f"{own}{ending}", [path.parent]) for own in spellings(name) for ending in endings)
        files = (file for file in named if file is not None and file.is_file())
        image = next((file for file in files if file.suffix.lower() in IMAGE_EXTENSIONS), None)
        if image is None:
            missing.append(name)
        else:
            captions[image] = caption
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise DatasetError(
            f"{len(missing)} images that {path} lists are not there: {', '.join(missing[:_SHOWN])}{more}; "
            "take them out, or name the folder that they lie in as well"
        )
    if not captions:
        raise DatasetError(f"{path} lists no images; write {{'01.png': {{'tags': ...}}}}, or name a folder as well")
    return dict(sorted(captions.items()))


def _read(path: Path, separator: str, encoding: str) -> dict[str, str]:
    """Captions by the names that the file has."""
    text = TextReader(encoding).read(path)
    return _lines(text, path, separator) if path.suffix.lower() == ".jsonl" else _whole(text, path, separator)


def _whole(text: str, path: Path, separator: str) -> dict[str, str]:
    data = _json(text, f"the metadata_file {path}")
    if not isinstance(data, dict):
        raise DatasetError(f"the metadata_file {path} is no object of image names; write {{'01.png': {{'tags': ...}}}}")
    return {name: _caption(entry, f"{path}: '{name}'", separator) for name, entry in data.items()}


def _lines(text: str, path: Path, separator: str) -> dict[str, str]:
    captions = {}
    for number, line in enumerate(json_lines(text), 1):
        if not line.strip():
            continue
        entry = _json(line, f"{path}, line {number}")
        name = entry.get("image_path", entry.get("file_name")) if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise DatasetError(f"{path}, line {number} names no image; give it an 'image_path'")
        captions[name] = _caption(entry, f"{path}, line {number}", separator)
    return captions


def _named(captions: Mapping[str, str]) -> dict[str, str]:
    """Also under the names alone, where these are not taken; paths of another machine still find their images."""
    known = dict(captions)
    for name, caption in captions.items():
        known.setdefault(PurePath(name.replace("\\", "/")).name, caption)
    return known


def _caption(entry: Any, place: str, separator: str) -> str:
    if not isinstance(entry, dict):
        raise DatasetError(f"{place} is no object; write {{'caption': ..., 'tags': ...}}")
    parts = [entry.get("caption", entry.get("text")), entry.get("tags")]
    parts = [separator.join(map(str, part)) if isinstance(part, (list, dict)) else part for part in parts]
    if any(part is not None and not isinstance(part, str) for part in parts):
        raise DatasetError(f"{place}: caption and tags must be text")
    return f"{separator} ".join(part.strip() for part in parts if part)


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{place} is not JSON (line {error.lineno}: {error.msg})") from error
