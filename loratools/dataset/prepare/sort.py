"""Which originals are used at all: readable ones, no copies, none beyond the longest ratio, none too small."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loratools.dataset.facts.facts import PictureFacts
from loratools.dataset.look.seen import group_pictures
from loratools.dataset.prepare.crops import needed_factor
from loratools.dataset.prepare.manifest import Entry
from loratools.dataset.prepare.options import PrepareOptions
from loratools.dataset.tags.picture import Picture

LOOKS = "look"  # begins the id of a group that prints show, and no site names


@dataclass(frozen=True)
class Sorted:
    """What becomes of originals, by file.

    Attributes:
        used: those that pieces are made of, in order.
        entries: those that are not used, with the reason.
        groups: id of the variants' group that a used original is in.
        tags_of: of a used original without tags, the copy that has some.
    """

    used: tuple[str, ...]
    entries: Mapping[str, Entry]
    groups: Mapping[str, str]
    tags_of: Mapping[str, Picture]

    def tagged(self, picture: Picture) -> Picture:
        """An original with the tags that its pieces get: its own, or a copy's."""
        other = self.tags_of.get(picture.file, picture)
        return replace(picture, tags=other.tags, set_aside=other.set_aside, sentence=other.sentence)

    def caption_digest(self, picture: Picture) -> str:
        """:func:`caption_digest` of these tags."""
        return caption_digest(self.tagged(picture))


def caption_digest(picture: Picture) -> str:
    """What an entry keeps of an original's caption, to see whether it is another one now."""
    return hashlib.sha256(picture.caption().encode("utf-8", "replace")).hexdigest()[:16]


def sort_originals(
    pictures: Sequence[tuple[Picture, PictureFacts]], known: Mapping[str, Entry], options: PrepareOptions
) -> Sorted:
    """Sort originals.

    Args:
        known: entries of an earlier run that still hold; of copies, one that is used already stays the one.
    """
    ordered = sorted(pictures, key=lambda one: not _is_used(known.get(one[0].file)))
    entries: dict[str, Entry] = {}
    fit = []
    for picture, facts in ordered:
        reason = _unfit(facts, options)
        if reason:
            entries[picture.file] = Entry(picture.file, facts.digest, "unused", reason, size=facts.size)
        else:
            fit.append((picture, facts))
    since = sum(_is_used(known.get(picture.file)) for picture, _ in fit)
    order = sorted(range(len(fit)), key=lambda index: (index >= since, -fit[index][1].pixels, index))
    rank = {index: place for place, index in enumerate(order)}
    groups = group_pictures(fit, since)
    tags_of: dict[str, Picture] = {}
    if not options.keep_copies:
        for group in groups.duplicates:
            best = min(group, key=lambda index: rank[index])
            tagged = next((fit[index][0] for index in group if fit[index][0].tags), None)
            if tagged is not None and not fit[best][0].tags:
                tags_of[fit[best][0].file] = tagged
            for index in group:
                if index != best and index >= since:
                    picture, facts = fit[index]
                    reason = f"the same picture as {fit[best][0].file}"
                    entries[picture.file] = Entry(picture.file, facts.digest, "unused", reason, size=facts.size)
    names = {}
    for group, said_by in zip(groups.variants, groups.said_by, strict=True):
        first = fit[group[0]][0].file
        names.update({fit[index][0].file: f"{LOOKS}:{first}" if said_by == LOOKS else said_by for index in group})
    used = tuple(picture.file for picture, _ in fit if picture.file not in entries)
    return Sorted(used, entries, names, tags_of)


def refused_entry(file: str, path: Path, reason: str) -> Entry:
    """The entry of a picture that cannot be read."""
    return Entry(file, "", "refused", reason.replace(str(path), path.name))


def unread_entry(file: str) -> Entry:
    """The entry of a picture of a kind that Pillow alone does not read."""
    return Entry(file, "", "refused", f"{file.rpartition('.')[2].upper()} is not read; save it as PNG or JPEG")


def _is_used(entry: Entry | None) -> bool:
    return entry is not None and entry.outcome == "used"


def _unfit(facts: PictureFacts, options: PrepareOptions) -> str:
    width, height = facts.size
    if max(width, height) > options.most_ratio * min(width, height):
        return f"{width}x{height} is beyond {options.most_ratio:g}:1"
    factor = needed_factor(facts.size, options.resolution)
    if factor > options.most_enlarged:
        return f"{width}x{height} would be blown up {factor:.1f} x for {options.resolution} px"
    return ""
