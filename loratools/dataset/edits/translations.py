"""Tags in a person's language, from a CSV that the person gives: ``tag,translation`` a line. Nothing is looked up
anywhere else.

The lists that tag autocompletion for the WebUI uses are read as they are: the first column is the tag, the last one
that is neither a number nor a list of English aliases its translation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loratools.dataset.edits.subject import normal
from loratools.dataset.tables import read_table
from loratools.errors import DatasetError

_OTHER_LETTERS = re.compile(r"[^\x00-\u024f\u2000-\u206f]")  # neither Latin nor punctuation
_SEVERAL = re.compile(r"[|,，、;]")  # translations of one tag stand between these


@dataclass(frozen=True)
class Translations:
    """Translations by tag, and tags by translation, both in :func:`normal` spelling."""

    of_tag: Mapping[str, str] = field(default_factory=dict)
    tag_of: Mapping[str, str] = field(default_factory=dict)

    def shown(self, tag: str) -> str:
        """A tag with its translation: ``blue hair (蓝发)``."""
        word = self.of_tag.get(normal(tag))
        return tag if word is None else f"{tag} ({word})"

    def meant(self, word: str) -> str:
        """The tag that a word stands for: itself, unless it is a translation."""
        return self.tag_of.get(normal(word), word)


def read_translations(path: Path) -> Translations:
    """Read a CSV of translations.

    Raises:
        DatasetError: naming the file if it cannot be read, or has not one translation.
    """
    of_tag, tag_of = dict[str, str](), dict[str, str]()
    for row in read_table(path):
        words = [cell.strip() for cell in row[1:]]
        chosen = next((word for word in reversed(words) if _OTHER_LETTERS.search(word)), "")
        if not chosen and len(row) == 2 and not words[0].replace(".", "").isdigit():
            chosen = words[0]  # of a language in Latin letters
        if not row or not row[0].strip() or not chosen:
            continue
        several = [word.strip() for word in _SEVERAL.split(chosen) if word.strip()]
        of_tag.setdefault(normal(row[0]), several[0])
        for word in several:
            tag_of.setdefault(normal(word), normal(row[0]))
    if not of_tag:
        raise DatasetError(f"{path} has no translations; write a tag and its translation in each line: smile,微笑")
    return Translations(of_tag, tag_of)
