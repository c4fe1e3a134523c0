"""The JSON that gallery-dl, waifuc and the sites' own interfaces write, by the keys that it has.

gallery-dl writes ``a.jpg.json`` with the whole of what a site says: Danbooru has ``tag_string_CATEGORY`` or
``tags_CATEGORY``; Gelbooru and its kin one string ``tags`` and, if asked for, ``tags_CATEGORY``; Moebooru the same;
e621 an object of lists by category; pixiv a list. waifuc writes ``.a_meta.json`` with ``{tag: score}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loratools.dataset.sidecars.sidecar import Sidecar, rating, tag_of, tags_of_words
from loratools.dataset.tags.tag import Category, Tag, unique

# what sites call their categories, in the order in which captions have them
_CATEGORIES: Mapping[str, Category] = {
    "character": "character",
    "copyright": "copyright",
    "general": "general",
    "species": "species",
    "lore": "general",
    "style": "general",
    "artist": "artist",
    "circle": "artist",
    "contributor": "artist",
    "model": "model",
    "meta": "meta",
    "metadata": "meta",
    "faults": "meta",
    "invalid": "meta",
    "deprecated": "meta",
}
_SIZES = (("width", "height"), ("image_width", "image_height"))


def read_booru(data: Any) -> Sidecar | None:
    """What a JSON value says of its picture; None if it is of no site that is known."""
    if not isinstance(data, dict):
        return None
    if isinstance(data.get("danbooru"), dict):  # waifuc keeps the site's own answer under its name
        inner = read_booru(data["danbooru"])
        return _merged(inner, _scored(data)) if inner is not None else _scored(data)
    site = str(data.get("category") or data.get("site") or "")
    tags = _by_key(data, site) or _by_object(data, site) or _listed(data, site)
    if tags is None:
        return _scored(data)
    if isinstance(data.get("rating"), str) and data["rating"].strip():
        tags = (*tags, rating(data["rating"], site or "booru"))
    kind = f"gallery-dl {site}" if site else "booru"
    return Sidecar(kind, unique(tags), "", _group(data, site), _origin(data, site), _md5(data), _size(data))


def _by_key(data: Mapping[str, Any], site: str) -> tuple[Tag, ...] | None:
    """Of ``tag_string_general`` and ``tags_general``: text or a list; with what only ``tags`` has after them."""
    tags: list[Tag] = []
    for name, category in _CATEGORIES.items():
        value = data.get(f"tags_{name}", data.get(f"tag_string_{name}"))
        tags += tags_of_words(_words(value), site or "booru", category)
    if not tags:
        return None
    known = {tag.name.lower() for tag in tags}
    rest = tags_of_words(_words(data.get("tags", data.get("tag_string"))), site or "booru", "general")
    return (*tags, *(tag for tag in rest if tag.name.lower() not in known))


def _by_object(data: Mapping[str, Any], site: str) -> tuple[Tag, ...] | None:
    """Of e621's ``{"general": [...], "artist": [...]}``."""
    value = data.get("tags")
    if not isinstance(value, dict) or not value or not all(isinstance(one, list) for one in value.values()):
        return None
    order = [*(name for name in _CATEGORIES if name in value), *(name for name in value if name not in _CATEGORIES)]
    return tuple(
        tag for name in order for tag in tags_of_words(_words(value[name]), site, _CATEGORIES.get(name, "general"))
    )


def _listed(data: Mapping[str, Any], site: str) -> tuple[Tag, ...] | None:
    """Of one text or list ``tags`` without categories."""
    value = data.get("tags", data.get("tag_string"))
    if not site and not {"id", "md5", "rating", "file_url"} & data.keys():
        return None  # such as a caption's own JSON, which has 'tags' too
    if not isinstance(value, str | list):
        return None
    words = _words(value)
    ratings = [tag_of(f"rating:{word}", site) for word in words if word.upper() in ("R-18", "R-18G")]
    return (*tags_of_words((word for word in words if word.upper() not in ("R-18", "R-18G")), site), *ratings)


def _scored(data: Mapping[str, Any]) -> Sidecar | None:
    """Of waifuc's ``{"tags": {tag: score}}``."""
    tags = data.get("tags")
    if not isinstance(tags, dict) or not tags or not all(isinstance(score, int | float) for score in tags.values()):
        return None
    ordered = sorted(tags.items(), key=lambda item: -item[1])
    found = tuple(tag_of(name, "waifuc", score=float(score)) for name, score in ordered)
    return Sidecar("waifuc", unique(found), "", "", _origin(data, ""))


def _merged(one: Sidecar, other: Sidecar | None) -> Sidecar:
    if other is None:
        return one
    return Sidecar(
        "waifuc", unique((*one.tags, *other.tags)), "", one.group, {**other.origin, **one.origin}, one.md5, one.size
    )


def _words(value: Any) -> list[str]:
    """Text between spaces (with commas: between these), or a list of texts or of pixiv's objects."""
    if isinstance(value, str):
        return value.split(",") if "," in value and ", " in value else value.split()
    if not isinstance(value, list):
        return []
    words = [item.get("translated_name") or item.get("name") if isinstance(item, dict) else item for item in value]
    return [word for word in words if isinstance(word, str) and word.strip()]


def _group(data: Mapping[str, Any], site: str) -> str:
    number, parent = data.get("id"), data.get("parent_id")
    if isinstance(data.get("relationships"), dict):  # e621
        parent = data["relationships"].get("parent_id")
    children = data.get("has_children") or (data.get("relationships") or {}).get("has_children")
    name = site or "booru"
    if parent and str(parent) != "0":
        return f"{name}:{parent}"
    if number and (children is True or str(children).lower() == "true"):
        return f"{name}:{number}"
    pages = data.get("page_count", data.get("count"))
    return f"{name}:{number}" if site == "pixiv" and number and isinstance(pages, int) and pages > 1 else ""


def _origin(data: Mapping[str, Any], site: str) -> dict[str, Any]:
    parents = {"parent": data.get("parent_id")}
    values = {"site": site, "id": data.get("id"), **parents, "source": data.get("source"), "url": data.get("url")}
    return {name: value for name, value in values.items() if isinstance(value, str | int) and value not in ("", 0)}


def _md5(data: Mapping[str, Any]) -> str:
    value = data.get("md5") or (data.get("file") or {} if isinstance(data.get("file"), dict) else {}).get("md5")
    return value.lower() if isinstance(value, str) else ""


def _size(data: Mapping[str, Any]) -> tuple[int, int] | None:
    holder = data["file"] if isinstance(data.get("file"), dict) else data
    for across, down in _SIZES:
        width, height = holder.get(across), holder.get(down)
        if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
            return width, height
    return None
