"""Named block vectors: the shipped ones, a user's YAML or ``lbwpresets.txt``, a recipe's own; later ones win."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from loratools.blocks.vector import BlockVector, Presets, parse_vector, vector_from
from loratools.errors import BlockError, FileError
from loratools.yamlio import load_yaml

_SHIPPED = Path(__file__).with_name("presets.yaml")


def load_presets(*extra: Mapping[str, Any] | str | os.PathLike[str] | None) -> dict[str, tuple[BlockVector, ...]]:
    """The shipped presets and, over them, ``extra`` ones.

    Args:
        extra: mappings from a name to numbers, to a vector's text, or to a list of number lists (one a family); or
            paths of YAML files with such a mapping, or of LoRA Block Weight's ``lbwpresets.txt``. None adds nothing.
    Raises:
        FileError: if a file is missing or unreadable.
        RecipeError: if a file is no YAML.
        BlockError: if an entry is no block vector; the message names it.
    """
    presets: dict[str, tuple[BlockVector, ...]] = dict(_shipped())
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
def _shipped() -> Mapping[str, tuple[BlockVector, ...]]:
    entries = load_yaml(_SHIPPED.read_text(encoding="utf-8"), str(_SHIPPED)).data
    return {name: _variants(name, value, {}) for name, value in entries.items()}


def _variants(name: str, value: object, presets: Presets) -> tuple[BlockVector, ...]:
    what = f"the preset '{name}'"
    if isinstance(value, str):
        return (parse_vector(value, presets),)
    if not isinstance(value, Sequence) or not value:
        raise BlockError(f"{what} should be a list of numbers, such as seventeen for an SD1 LoRA")
    lists = value if isinstance(value[0], Sequence) and not isinstance(value[0], str) else [value]
    return tuple(vector_from(_numbers(what, numbers), None, what) for numbers in lists)


def _numbers(what: str, values: object) -> list[float]:
    if not isinstance(values, Sequence) or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise BlockError(f"{what} should hold numbers only, and holds {values!r:.80}")
    return [float(value) for value in values]


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"presets file {path} cannot be read: {error}") from error
    if path.suffix.lower() == ".txt":
        return _lbw(text)
    entries = load_yaml(text, str(path)).data
    if not isinstance(entries, dict):
        raise BlockError(f"presets file {path} should map names to lists of numbers, such as 'SOFT: [1, 0.5, ...]'")
    return entries


def _lbw(text: str) -> dict[str, str]:
    """``NAME:w,w,...`` lines; as in LoRA Block Weight, a line with '#' or without ':' is a comment."""
    lines = (line.strip() for line in text.splitlines() if ":" in line and "#" not in line)
    return {name.strip(): values for name, _, values in (line.partition(":") for line in lines)}
