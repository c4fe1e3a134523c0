"""``include``: recipes that are made of several files, each value still known by its own file and line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from loratools.errors import RecipeError
from loratools.recipe.schema.fields import listed
from loratools.yamlio import Document, Place, SourceSpan, read_yaml

_MERGED = ("vars", "blocks", "steps")  # mappings that are united name by name
_DEEPEST = 10


def combined(document: Document, above: tuple[Path, ...] = ()) -> Document:
    """The document with everything that it includes, its own entries over those of the included files.

    Raises:
        RecipeError: for a file that is missing, no recipe, or that includes itself.
    """
    given = document.data.get("include")
    names = given if isinstance(given, list) else [] if given is None else [given]
    here = Path(document.source)
    result: Document | None = None
    for index, name in enumerate(names):
        place: Place = ("include", index) if isinstance(given, list) else ("include",)
        part = _read(document, place, name, here, above)
        result = part if result is None else _over(part, result)
    if result is None:
        return document
    whole = _over(document, result)
    return replace(whole, data={key: value for key, value in whole.data.items() if key != "include"})


def _read(document: Document, place: Place, name: Any, here: Path, above: tuple[Path, ...]) -> Document:
    if not isinstance(name, str):
        raise document.error(place, f"{name!r} is no file; name another recipe")
    path = next((p for p in (here.parent / name, Path(name)) if p.is_file()), None)
    if path is None:
        raise document.error(place, f"there is no file '{name}' in {here.parent} or the current folder", name)
    chain = (*above, here.resolve())
    if path.resolve() in chain or len(chain) > _DEEPEST:
        raise document.error(place, f"'{name}' includes itself; take one of the two away", name)
    part = read_yaml(path)
    if not isinstance(part.data, dict):
        raise RecipeError(f"{path}: no recipe; it is included by {here} and must hold keys such as `blocks:`")
    return combined(part, chain)


def _over(top: Document, under: Document) -> Document:
    """Two documents as one: ``top``'s entries replace those of ``under``, of which what is left keeps its source."""
    data = dict(under.data)
    replaced: set[Place] = set()  # places of `under` that `top` has too
    for key, value in top.data.items():
        mine = data.get(key)
        if key in _MERGED and isinstance(value, dict) and isinstance(mine, dict):
            replaced |= {(key, name) for name in value if name in mine}
            data[key] = {**mine, **value}
        elif key == "lora_dirs":
            data[key] = [*listed(value), *(item for item in listed(mine) if item is not None)]
        else:
            replaced.add((key,))
            data[key] = value
    spans = {**_kept(under.spans, replaced, under.source), **top.spans}
    keys = {**_kept(under.keys, replaced, under.source), **top.keys}
    return Document(data, top.source, top.text, spans, keys, {**under.others, under.source: under.text, **top.others})


def _kept(spans: Mapping[Place, SourceSpan], replaced: set[Place], source: str) -> dict[Place, SourceSpan]:
    """The spans at places that are not ``replaced``, marked as ``source``'s."""
    return {
        path: span if span.source else replace(span, source=source)
        for path, span in spans.items()
        if path and path[:1] not in replaced and path[:2] not in replaced
    }
