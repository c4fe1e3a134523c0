"""What a tagger's outputs are called, and which family it is of, from the file of tags that lies beside it.

Three families: WD (SmilingWolf: ``selected_tags.csv``), CL (cella110n: ``tag_mapping.json``) and DeepDanbooru (a CSV
with ``real_name``, or the original's ``tags.txt``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from loratools.dataset.tables import table_rows
from loratools.dataset.tags.names import written_name
from loratools.dataset.tags.tag import CATEGORIES, Category
from loratools.errors import FormatError

Family = Literal["wd", "cl", "deepdanbooru"]
FAMILIES: Final = {"wd": "WD", "cl": "CL tagger", "deepdanbooru": "DeepDanbooru"}
_BOORU: Final[dict[str, Category]] = {  # Danbooru's numbers of categories
    "0": "general",
    "1": "artist",
    "3": "copyright",
    "4": "character",
    "5": "meta",
    "9": "rating",
}


@dataclass(frozen=True)
class Labels:
    """The tags of a tagger's outputs, in order.

    Attributes:
        path: the file that they are from.
        names: as captions have them; ratings with ``rating:`` in front.
    """

    path: Path
    family: Family
    names: tuple[str, ...]
    categories: tuple[Category, ...]


def read_labels(path: Path) -> Labels:
    """Read a file of tags.

    Raises:
        FormatError: naming the file, and the line that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FormatError(f"the tagger's tags {path} cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"the tagger's tags {path} are not UTF-8 (byte {error.start}); get the file again") from error
    if path.suffix.lower() == ".json":
        return _labels(path, "cl", _from_json(text, path))
    if path.suffix.lower() == ".csv":
        return _from_csv(text, path)
    names = [line.strip() for line in text.splitlines() if line.strip()]
    return _labels(path, "deepdanbooru", [(name, "general") for name in names])


def _from_csv(text: str, path: Path) -> Labels:
    header, *rows = [row for row in table_rows(text) if row] or [[]]
    if "name" not in header or "category" not in header:
        raise FormatError(
            f"{path} has the columns {', '.join(header) or '(none)'} and no name and category, so it is no tagger's "
            "tags; take the selected_tags.csv of the same model"
        )
    name, category = header.index("name"), header.index("category")
    pairs: list[tuple[str, Category]] = []
    for number, row in enumerate(rows, 2):
        if len(row) <= max(name, category) or row[category] not in _BOORU:
            raise FormatError(f"{path}, line {number} has no tag with a category such as 0, 4 or 9; get the file again")
        pairs.append((row[name], _BOORU[row[category]]))
    return _labels(path, "deepdanbooru" if "real_name" in header else "wd", pairs)


def _from_json(text: str, path: Path) -> list[tuple[str, Category]]:
    """``{"0": {"tag": ..., "category": ...}}``, or ``{"idx_to_tag": {...}, "tag_to_category": {...}}``."""
    try:
        data: Any = json.loads(text)
        if "idx_to_tag" in data:
            names = {int(index): str(tag) for index, tag in data["idx_to_tag"].items()}
            kinds = {index: str(data["tag_to_category"].get(tag, "general")) for index, tag in names.items()}
        else:
            names = {int(index): str(entry["tag"]) for index, entry in data.items()}
            kinds = {int(index): str(entry["category"]) for index, entry in data.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FormatError(
            f"{path} is no list of a tagger's tags ({type(error).__name__}: {error}); take the tag_mapping.json of the "
            "same model"
        ) from error
    if sorted(names) != list(range(len(names))):
        raise FormatError(f"{path} has no tag for some outputs: numbers from 0 to {len(names) - 1} are expected")
    return [(names[index], _category(kinds[index])) for index in range(len(names))]


def _category(word: str) -> Category:
    known: Mapping[str, Category] = {name: name for name in CATEGORIES}
    return known.get(word.lower(), "general")


def _labels(path: Path, family: Family, pairs: Sequence[tuple[str, Category]]) -> Labels:
    if not pairs:
        raise FormatError(f"{path} has no tags; get the file again")
    names, categories = [], list[Category]()
    for raw, category in pairs:
        rating = category == "rating" or raw.lower().startswith("rating:")
        bare = raw.partition(":")[2] if raw.lower().startswith("rating:") else raw
        names.append(f"rating:{bare}" if rating else written_name(raw))
        categories.append("rating" if rating else category)
    return Labels(path, family, tuple(names), tuple(categories))
