"""The report on a folder of pictures, as JSON and for a person."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loratools.dataset.look.seen import SeenFolder, SeenPicture
from loratools.dataset.tags.vocabulary import CLASSES, TEXT_TAGS, is_junk

_SHOWN = 12
_RATIOS = ((1 / 3, "taller than 1:3"), (0.6, "tall"), (0.9, "2:3 to 9:10"), (1.12, "square"), (1.7, "wide"))
_SIDES = (256, 512, 768, 1024, 1536)


@dataclass(frozen=True)
class LookReport:
    """What :func:`loratools.dataset.look.look.look` found.

    Attributes:
        seen: the pictures.
        warnings: what the guides would say, with the numbers that mend it, a sentence each.
    """

    seen: SeenFolder
    warnings: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        seen = self.seen
        return {
            "folder": str(seen.folder.folder),
            "pictures": len(seen.pictures),
            "classes": class_counts(seen),
            "duplicates": [seen.files(group) for group in seen.groups.duplicates],
            "variants": [seen.files(group) for group in seen.groups.variants],
            "text": text_found(seen),
            "sizes": sizes(seen),
            "ratios": ratios(seen),
            "transparent": [one.file for one in seen.pictures if one.facts.transparent],
            "grey": [one.file for one in seen.pictures if one.facts.grey],
            "animated": [one.file for one in seen.pictures if one.facts.animated],
            "tags": tag_counts(seen),
            "sidecars": dict(seen.tags.formats),
            "refused": dict(seen.refused),
            "unread": [path.name for path in seen.below.unread],
            "problems": [*seen.tags.problems, *unlisted(seen), *seen.notes],
            "detectors": list(seen.detectors),
            "warnings": list(self.warnings),
        }

    def text(self) -> str:
        """For a person."""
        seen, value = self.seen, self.json()
        if not seen.pictures:
            return "\n".join([f"no picture in {seen.folder.folder} can be read", *self._wrong()])
        middle = value["sizes"]["median"]
        classes = ", ".join(f"{count} {name}" for name, count in value["classes"].items() if count)
        witnesses = Counter(one.framing.witness for one in seen.pictures)
        by = " and ".join(f"{count} by {name}" for name, count in witnesses.most_common())
        lines = [
            f"{len(seen.pictures)} pictures in {seen.folder.folder}, in the middle {middle[0]}x{middle[1]}",
            f"  classes     {classes} ({by})",
            f"  short side  {_counts(value['sizes']['short_side'])}",
            f"  ratio       {_counts(value['ratios'])}",
            f"  copies      {_groups(value['duplicates'], 'the same picture')}",
            f"  variants    {_groups(value['variants'], 'one scene')}",
            f"  alpha       {len(value['transparent'])}   grey {len(value['grey'])}   animated "
            f"{len(value['animated'])}",
            f"  text        {value['text']['pictures']} pictures, by {value['text']['by']}",
            f"  tags        {_tag_line(value['tags'])}",
        ]
        lines += [f"  problem     {problem}" for problem in value["problems"][:_SHOWN]]
        return "\n".join([*lines, *self._wrong(), *(f"! {warning}" for warning in self.warnings)])

    def _wrong(self) -> list[str]:
        refused = list(self.seen.refused.values())
        more = [f"  ... and {len(refused) - _SHOWN} more" for _ in refused[_SHOWN : _SHOWN + 1]]
        return [*(f"  cannot be read: {reason}" for reason in refused[:_SHOWN]), *more]


def class_counts(seen: SeenFolder) -> dict[str, int]:
    """How many pictures are of each class, in the guide's order."""
    counts = Counter(one.framing.name for one in seen.pictures)
    return {name: counts[name] for name in CLASSES}


def text_found(seen: SeenFolder) -> dict[str, Any]:
    """Which pictures have text: by a detector's boxes where one looked, else by tags."""
    by_detector = any(name.startswith("text=") for name in seen.detectors)
    files = {
        one.file: [box.json() for box in one.boxes.text] if by_detector and one.boxes is not None else []
        for one in seen.pictures
        if has_text(one, by_detector)
    }
    tagged = Counter(tag.name.lower() for one in seen.pictures for tag in text_tags(one))
    by = "a detector" if by_detector else "tags"
    return {"pictures": len(files), "by": by, "files": files, "tags": dict(tagged.most_common())}


def has_text(one: SeenPicture, by_detector: bool) -> bool:
    """Whether a picture has text."""
    return bool(one.boxes.text) if by_detector and one.boxes is not None else bool(text_tags(one))


def text_tags(one: SeenPicture) -> list[Any]:
    """Its tags that speak of text, those that are set aside too."""
    tags = (*one.picture.tags, *one.picture.set_aside)
    return [tag for tag in tags if tag.name.lower() in TEXT_TAGS]


def sizes(seen: SeenFolder) -> dict[str, Any]:
    """The median size, and how many short sides are below each of some lengths."""
    if not seen.pictures:
        return {"median": [0, 0], "short_side": {}}
    shorts = [min(one.facts.size) for one in seen.pictures]
    counts: dict[str, int] = {}
    for short in shorts:
        name = next((f"below {side}" for side in _SIDES if short < side), f"{_SIDES[-1]} and more")
        counts[name] = counts.get(name, 0) + 1
    names = [*(f"below {side}" for side in _SIDES), f"{_SIDES[-1]} and more"]
    middle = [round(statistics.median(one.facts.size[axis] for one in seen.pictures)) for axis in (0, 1)]
    return {"median": middle, "short_side": {name: counts[name] for name in names if name in counts}}


def ratios(seen: SeenFolder) -> dict[str, int]:
    """How many pictures have which shape."""
    names = [*(name for _, name in _RATIOS), "very wide", "wider than 3:1"]
    counts: Counter[str] = Counter()
    for one in seen.pictures:
        ratio = one.facts.ratio
        above = "wider than 3:1" if ratio > 3 else "very wide"
        counts[next((name for most, name in _RATIOS if ratio < most), above)] += 1
    return {name: counts[name] for name in names if counts[name]}


def tag_counts(seen: SeenFolder) -> dict[str, Any]:
    """How many tags there are, the most frequent ones, junk in captions, and pictures without any."""
    frequent = Counter(tag.name for one in seen.pictures for tag in one.picture.tags)
    junk = Counter(
        {name: count for name, count in frequent.items() if is_junk(name)}
        | Counter(tag.name for one in seen.pictures for tag in one.picture.set_aside if is_junk(tag.name))
    )
    count = [len(one.picture.tags) for one in seen.pictures]
    return {
        "different": len(frequent),
        "each": round(statistics.mean(count), 1) if count else 0,
        "untagged": [one.file for one in seen.pictures if not one.picture.tags and not one.picture.sentence],
        "frequent": dict(frequent.most_common(20)),
        "junk": dict(junk.most_common()),
        "escaped": seen.tags.unescaped,
    }


def unlisted(seen: SeenFolder) -> list[str]:
    """Folders that could not be opened, a sentence each."""
    return [f"the folder {path} cannot be opened ({reason})" for path, reason in seen.below.unlisted]


def _counts(values: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in values.items())


def _groups(groups: list[list[str]], what: str) -> str:
    if not groups:
        return "none"
    files = sum(map(len, groups))
    first = ", ".join(groups[0][:4])
    several = "s" if len(groups) > 1 else ""
    return f"{len(groups)} group{several} of {what}, {files} pictures ({first}{' ...' if len(groups) > 1 else ''})"


def _tag_line(tags: Mapping[str, Any]) -> str:
    parts = [f"{tags['different']} different, {tags['each']} a picture"]
    if tags["untagged"]:
        parts.append(f"{len(tags['untagged'])} pictures have none")
    if tags["junk"]:
        parts.append(f"{sum(tags['junk'].values())} are junk ({', '.join(list(tags['junk'])[:4])})")
    return "; ".join(parts)
