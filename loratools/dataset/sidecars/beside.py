"""The sidecars of one picture: files named after it, read whichever program wrote them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from loratools.dataset.caption_files import FilesBeside
from loratools.dataset.encodings import TextReader
from loratools.dataset.sidecars.booru import read_booru
from loratools.dataset.sidecars.sidecar import Sidecar, escaped_count, tag_of, tags_of_words
from loratools.dataset.tags.names import split_tags
from loratools.dataset.tags.tag import CAPTION
from loratools.errors import DatasetError
from loratools.file_names import spelled_on_disk

TEXT_EXTENSIONS: Final = (".txt", ".caption", ".tags", ".tag", ".cap", ".captions")
_JSON: Final = (".json",)
_LONGEST_TAG = 60  # a part between commas that is longer, or has a full stop, is language and no tag


class Beside:
    """Finds and reads what lies beside pictures; every folder is listed once."""

    def __init__(self, texts: TextReader) -> None:
        self._files = FilesBeside()
        self._texts = texts

    def files(self, image: Path) -> list[Path]:
        """The files of a picture: first those that know categories."""
        hidden = image.with_name(f".{image.stem}_meta.json")  # waifuc's
        meta = spelled_on_disk(hidden)
        return [*([meta] if meta else []), *self._files.find(image, _JSON), *self._files.find(image, TEXT_EXTENSIONS)]

    def read(self, image: Path) -> Iterator[tuple[Path, Sidecar | DatasetError]]:
        """What each file of a picture says, or why it cannot be read."""
        for file in self.files(image):
            try:
                yield file, read_sidecar(file, self._texts)
            except DatasetError as error:
                yield file, error


def read_sidecar(file: Path, texts: TextReader) -> Sidecar:
    """Read one file.

    Raises:
        DatasetError: if it cannot be read, or is JSON that says nothing of a picture.
    """
    text = texts.read(file)
    if file.suffix.lower() != ".json":
        return read_text_tags(text)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{file} is not JSON (line {error.lineno}: {error.msg}); it is left out") from error
    sidecar = read_booru(data) or read_caption_json(data)
    if sidecar is None:
        raise DatasetError(f"{file} says nothing of a picture that is understood (no tags, no caption); it is left out")
    return sidecar


def read_text_tags(text: str, kind: str = "text") -> Sidecar:
    """Tags of a text file (see :func:`split_tags`), with or without namespaces; language after them is a sentence."""
    words = split_tags(text)
    first = _language_begins(words)
    words, language = words[:first], words[first:]
    sentence = (" " if "\n" in text.strip() else ", ").join(language)
    return Sidecar(kind, tags_of_words(words, CAPTION), sentence, unescaped=escaped_count(words))


def read_caption_json(data: Any) -> Sidecar | None:
    """``{"caption": text, "tags": text, list, or {tag: score}}`` of one picture, as several tools write it."""
    if not isinstance(data, dict):
        return None
    caption, tags = data.get("caption", data.get("text")), data.get("tags")
    if not isinstance(caption, str) and not isinstance(tags, str | list | dict):
        return None
    parts = [read_text_tags(caption, "json")] if isinstance(caption, str) and caption.strip() else []
    if isinstance(tags, str):
        parts.append(read_text_tags(tags, "json"))
    elif isinstance(tags, list):
        words = [str(word) for word in tags]
        parts.append(Sidecar("json", tags_of_words(words, CAPTION), unescaped=escaped_count(words)))
    elif isinstance(tags, dict):
        scores = {str(name): float(score) if isinstance(score, int | float) else None for name, score in tags.items()}
        parts.append(Sidecar("json", tuple(tag_of(name, "json", score=score) for name, score in scores.items())))
    sentence = " ".join(part.sentence for part in parts if part.sentence)
    found = tuple(tag for part in parts for tag in part.tags)
    return Sidecar("json", found, sentence, unescaped=sum(part.unescaped for part in parts))


def _language_begins(words: list[str]) -> int:
    """The index of the first part of the language that ends a list of tags; the list's length where none does."""
    if not words or not _is_language(words[-1]):
        return len(words)
    first = len(words) - 1
    while first > 0 and (_is_language(words[first - 1]) or _goes_on(words[first - 1], words[first])):
        first -= 1
    return first


def _goes_on(before: str, part: str) -> bool:
    """Whether ``part`` is the rest of a sentence that a comma divided."""
    return not part[0].isupper() and len(before.split()) > 2


def _is_language(part: str) -> bool:
    return len(part.split()) > 2 and (len(part) > _LONGEST_TAG or part.rstrip().endswith((".", "!", "?")))
