"""Files that list many pictures: sd-scripts' metadata JSON (dataset-tag-editor writes it too), and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from loratools.dataset.encodings import TextReader
from loratools.dataset.sidecars.beside import read_caption_json
from loratools.dataset.sidecars.booru import read_booru
from loratools.dataset.sidecars.sidecar import Sidecar
from loratools.errors import DatasetError
from loratools.file_names import composed
from loratools.files import json_lines

_NAMES = ("file_name", "image_path", "image", "file", "filename", "path")


@dataclass(frozen=True)
class Listed:
    """What the lists of a folder say: by each picture's path, and a sentence for each list or line left out."""

    by_picture: Mapping[Path, list[Sidecar]]
    files: tuple[Path, ...]
    problems: tuple[str, ...]


def read_lists(files: Sequence[Path], pictures: Sequence[Path], texts: TextReader) -> Listed:
    """Read those of ``files`` that list pictures; a file that lists none is passed over in silence if it is no JSON of
    that kind, as other programs' JSON lies about too."""
    names = _Names(pictures)
    by_picture: dict[Path, list[Sidecar]] = {}
    read, problems = [], []
    for file in files:
        if file.suffix.lower() not in (".json", ".jsonl"):
            continue
        try:
            entries = _entries(file, texts)
        except DatasetError as error:
            problems.append(str(error))
            continue
        missing = []
        for name, entry in entries:
            sidecar = read_booru(entry) or read_caption_json(entry)
            picture = names.find(file, name)
            if sidecar is None or picture is None:
                missing.append(name)
                continue
            by_picture.setdefault(picture, []).append(sidecar)
        if entries and len(missing) < len(entries):
            read.append(file)
            if missing:
                problems.append(f"{file} lists {len(missing)} pictures that are not there (such as {missing[0]})")
    return Listed(by_picture, tuple(read), tuple(problems))


class _Names:
    """Finds the picture that a list names: by path beside the list, else by a name that only one picture has."""

    def __init__(self, pictures: Sequence[Path]) -> None:
        self._paths = set(pictures)
        self._composed = {composed(str(path)): path for path in pictures}
        self._by_name: dict[str, list[Path]] = {}
        for path in pictures:
            for name in {composed(path.name), composed(path.stem)}:
                self._by_name.setdefault(name, []).append(path)

    def find(self, file: Path, name: str) -> Path | None:
        """The picture that ``file`` calls ``name``."""
        beside = file.parent / name
        if beside in self._paths:
            return beside
        if (spelled := self._composed.get(composed(str(beside)))) is not None:
            return spelled
        same = self._by_name.get(composed(PurePath(name.replace("\\", "/")).name), [])
        here = [path for path in same if path.is_relative_to(file.parent)]
        return here[0] if len(here) == 1 else None


def _entries(file: Path, texts: TextReader) -> list[tuple[str, Any]]:
    """(name, entry) of every picture that a file lists; none if it is of another kind."""
    text = texts.read(file)
    if file.suffix.lower() == ".jsonl":
        return [entry for number, line in enumerate(json_lines(text), 1) if (entry := _line(line, file, number))]
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{file} is not JSON (line {error.lineno}: {error.msg}); it is left out") from error
    if isinstance(data, list):
        return [(_name(one), one) for one in data if _name(one)]
    if not isinstance(data, dict):
        return []
    return [(name, {"caption": one} if isinstance(one, str) else one) for name, one in data.items()]


def _line(line: str, file: Path, number: int) -> tuple[str, Any] | None:
    if not line.strip():
        return None
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{file}, line {number} is not JSON ({error.msg}); the file is left out") from error
    return (_name(entry), entry) if _name(entry) else None


def _name(entry: Any) -> str:
    if not isinstance(entry, dict):
        return ""
    return next((value for key in _NAMES if isinstance(value := entry.get(key), str) and value), "")
