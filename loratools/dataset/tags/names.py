"""How tags are spelled: underscores, kaomoji, escaped brackets, namespaces, and the lists that files have them in."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from loratools.dataset.tags.tag import CATEGORIES, Category
from loratools.file_names import composed

# faces made of characters, whose underscores are no spaces (the list that taggers share)
KAOMOJI: Final = frozenset(
    r"0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||".split()  # noqa: SIM905
)
_ESCAPED = re.compile(r"\\([()\[\]{}\\])")
_NUMBER = re.compile(r"(?:(?<=/)|^)\d+_(?=[^/]*/)")
_SPACES = re.compile(r"\s+")
_ALIASES: dict[str, Category] = {"series": "copyright", "creator": "artist", "medium": "meta", "lore": "general"}


class Named(NamedTuple):
    """A tag's name, and the category that its spelling gives (``artist:someone``); None where it gives none."""

    name: str
    category: Category | None


def written_name(raw: str) -> str:
    """A tag as captions have it: ``long_hair`` is ``long hair``, ``fate_\\(series\\)`` is ``fate (series)``; ``>_<``
    stays as it is."""
    name = _SPACES.sub(" ", unescaped(raw).strip())
    if name in KAOMOJI:
        return name
    spaced = _SPACES.sub(" ", name.replace("_", " ")).strip()
    return spaced or name


def unescaped(text: str) -> str:
    """``text`` without the backslashes that prompts need before brackets and that caption files should not have."""
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def booru_name(name: str) -> str:
    """The tag as boorus and taggers' tables spell it: ``long hair`` is ``long_hair``."""
    return name.strip().replace(" ", "_")


def stable_name(file: str) -> str:
    """A picture's path without the numbers of numbered folders, which a balance changes: ``10_main/a.png`` is
    ``main/a.png``; and with letters and their marks as one character, which copying from one system to another
    changes."""
    return _NUMBER.sub("", composed(file))


def with_category(raw: str) -> Named:
    """The name and the category of a tag that may have a namespace in front (``character:hatsune_miku``)."""
    head, colon, rest = raw.strip().partition(":")
    kind = head.strip().lower()
    if colon and rest.strip() and (kind in CATEGORIES or kind in _ALIASES):
        category: Category = _ALIASES.get(kind, kind)  # type: ignore[arg-type]
        name = f"rating:{rest.strip()}" if category == "rating" else rest
        return Named(written_name(name), category)
    return Named(written_name(raw), None)


def split_tags(text: str) -> list[str]:
    """The tags of a text file as they are spelled there, whichever way they are listed.

    Between commas; or one a line; or, where there is no comma and words have underscores, between spaces, as boorus
    write them.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any("," in line for line in lines):
        parts = [part for line in lines for part in line.split(",")]
    elif len(lines) > 1:
        parts = lines
    else:
        words = " ".join(lines).split()
        parts = words if len(words) > 1 and any(_has_underscore(word) for word in words) else lines
    return [part.strip() for part in parts if part.strip()]


def _has_underscore(word: str) -> bool:
    return "_" in word and word not in KAOMOJI
