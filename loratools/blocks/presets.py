"""Named block vectors: the shipped ones, a user's YAML, ``lbwpresets.txt`` or ``elempresets.txt``, a recipe's own.

Later ones win. Entries of text files, and elemental presets, stay text until they are used: their letters wait for a
seed and their block names for a family.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from loratools.blocks.elements import elemental_presets, is_rule, looks_elemental
from loratools.blocks.parse import parse_vector
from loratools.blocks.placeholders import is_placeholder
from loratools.blocks.tokens import is_number
from loratools.blocks.vector import BlockVector, Presets, vector_from
from loratools.errors import BlockError, FileError
from loratools.yamlio import load_yaml

_SHIPPED = Path(__file__).with_name("presets.yaml")


class Deferred(str):
    """A preset's text that is read when it is used."""


def load_presets(
    *extra: Mapping[str, Any] | str | os.PathLike[str] | None,
) -> dict[str, tuple[BlockVector, ...] | str]:
    """The shipped presets and, over them, ``extra`` ones.

    Args:
        extra: mappings from a name to numbers (and after them rules as text), to a vector's text, or to a list of
            number lists (one a family); or paths of YAML files with such a mapping, or of LoRA Block Weight's
            ``lbwpresets.txt`` or ``elempresets.txt``, as they are. None adds nothing.
    Raises:
        FileError: if a file is missing or unreadable.
        RecipeError: if a file is no YAML.
        BlockError: if an entry is no block vector; the message names it.
    """
    presets: dict[str, tuple[BlockVector, ...] | str] = dict(_shipped())
    for source in extra:
        if source is None:
            continue
        entries = source if isinstance(source, Mapping) else _read(Path(source))
        for name, value in entries.items():
            for same in [known for known in presets if known.lower() == str(name).lower()]:
                del presets[same]
            presets[str(name)] = _variants(str(name), value, presets)
    return presets


@lru_cache(maxsize=1)
def _shipped() -> Mapping[str, tuple[BlockVector, ...] | str]:
    entries = load_yaml(_SHIPPED.read_text(encoding="utf-8"), str(_SHIPPED)).data
    rules = {name: Deferred(text) for name, text in entries.pop("elemental").items()}
    return {name: _variants(name, value, {}) for name, value in (entries | rules).items()}


def _variants(name: str, value: object, presets: Presets) -> tuple[BlockVector, ...] | str:
    what = f"the preset '{name}'"
    if isinstance(value, Deferred):
        return str(value)
    if isinstance(value, str):
        return (parse_vector(value, presets),)
    if not isinstance(value, Sequence) or not value:
        raise BlockError(f"{what} should be a list of numbers, such as seventeen for an SD1 LoRA")
    lists = value if isinstance(value[0], Sequence) and not isinstance(value[0], str) else [value]
    return tuple(_listed(what, items) for items in lists)


def _listed(what: str, items: object) -> BlockVector:
    """A vector of a list: numbers, and after them rules for parts of blocks as text, ``OUT05/attn1=0.3``."""
    if not isinstance(items, Sequence):
        raise BlockError(f"{what} should hold numbers only, and holds {items!r:.80}")
    numbers = [float(item) for item in items if isinstance(item, int | float) and not isinstance(item, bool)]
    rules = [item for item in items[len(numbers) :] if isinstance(item, str) and is_rule(item)]
    if len(numbers) + len(rules) != len(items):
        raise BlockError(
            f"{what} should hold numbers, and after them only rules such as OUT05/attn1=0.3; it holds {items!r:.80}"
        )
    vector = vector_from(numbers, None, what)
    return parse_vector(",".join([*map(repr, numbers), *rules]), {}) if rules else vector


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise FileError(f"there is no presets file '{path}'; give a .yaml, or LoRA Block Weight's .txt") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"presets file {path} cannot be read: {error}") from error
    if path.suffix.lower() == ".txt":
        texts = elemental_presets(text) if looks_elemental(text) else _lbw(text)
        if not texts:
            raise BlockError(f"presets file {path} holds no vector; write NAME:1,0.5,... in a line of its own")
        return {name: Deferred(value) for name, value in texts.items()}
    entries = load_yaml(text, str(path)).data
    if not isinstance(entries, dict):
        raise BlockError(f"presets file {path} should map names to lists of numbers, such as 'SOFT: [1, 0.5, ...]'")
    return entries


def _lbw(text: str) -> dict[str, str]:
    """``NAME:w,w,...`` lines; as in LoRA Block Weight, a line with '#' or ':' missing is a comment, and so is one
    that holds anything but numbers and letters. A wrong count is kept, and is an error when the preset is used."""
    lines = (line.strip() for line in text.splitlines() if ":" in line and "#" not in line)
    pairs = ((name.strip(), values.strip()) for name, _, values in (line.partition(":") for line in lines))
    return {name: values for name, values in pairs if _is_list(values)}


def _is_list(values: str) -> bool:
    items = [item.strip() for item in values.split(",")]
    return len(items) > 1 and all(is_number(item) or is_placeholder(item) for item in items)
