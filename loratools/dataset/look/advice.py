"""What the guides would say of a folder of pictures, with the numbers that mend it.

Guide 003: 50 to 300 pictures, clean, no junk tags, nothing beyond 3:1, transparent backgrounds on white. Guide 004: the
main visual to faces as 4 to 1, the sum of pictures x repeats x 4 from 1000 to 2000 (as `dataset balance` counts without
mirrored copies), grey no more than colour, a group of variants as one picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from loratools.dataset.balance.plan import PLAIN
from loratools.dataset.balance.repeats import RepeatClass, best_plans
from loratools.dataset.caption_files import FilesBeside
from loratools.dataset.folder import CAPTION_EXTENSIONS
from loratools.dataset.look.report import class_counts, has_text, tag_counts
from loratools.dataset.look.seen import SeenFolder, SeenPicture
from loratools.dataset.tags.vocabulary import ASYMMETRIC, FACE, FULL, MAIN, OTHER

MOST_RATIO: Final = 3.0
MOST_ENLARGED: Final = 4.0
_FEWEST: Final = 15
_POOR_JPEG: Final = 75


def advice(seen: SeenFolder, resolution: int) -> Iterator[str]:
    """A sentence for each thing to mend."""
    pictures = seen.pictures
    if seen.refused:
        count = len(seen.refused)
        yield f"{_pictures(count)} cannot be read and would stop a training; `dataset prepare` leaves them out"
    if seen.below.unread:
        kinds = sorted({path.suffix.lower() for path in seen.below.unread})
        count = len(seen.below.unread)
        yield f"{_pictures(count)} of a kind that is not read ({', '.join(kinds)}); save them as PNG or JPEG"
    if not pictures:
        return
    yield from _count(seen)
    yield from _copies(seen)
    yield from _shapes(pictures, resolution)
    yield from _surface(seen)
    yield from _tags(seen)
    yield from _shared_captions(seen)
    yield from _classes(seen)


def _count(seen: SeenFolder) -> Iterator[str]:
    extra = sum(len(group) - 1 for group in (*seen.groups.duplicates, *seen.groups.variants))
    scenes = len(seen.pictures) - extra
    if scenes < _FEWEST:
        yield f"{scenes} different scenes are few: 15 to 20 are enough for a character, about 100 for a style"
    elif scenes > 300:
        yield f"{scenes} scenes: beyond 300 more pictures help little; keep the best"


def _shared_captions(seen: SeenFolder) -> Iterator[str]:
    beside, shared = FilesBeside(), defaultdict[Path, list[str]](list)
    for one in seen.pictures:
        if (caption := beside.first(one.path, CAPTION_EXTENSIONS)) is not None:
            shared[caption].append(one.path.name)
    several = {caption: names for caption, names in shared.items() if len(names) > 1}
    if several:
        caption, names = next(iter(several.items()))
        yield (
            f"{_pictures(sum(map(len, several.values())))} share a caption with another ({' and '.join(names)} have "
            f"{caption.name}); rename one of each, or let `dataset prepare` do it"
        )


def _copies(seen: SeenFolder) -> Iterator[str]:
    if copies := sum(len(group) - 1 for group in seen.groups.duplicates):
        are = "are copies of others and count" if copies > 1 else "is a copy of another and counts"
        yield f"{_pictures(copies)} {are} twice; `dataset prepare` keeps the largest of each"
    if seen.groups.variants:
        sizes = sorted({len(group) for group in seen.groups.variants})
        most = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else str(sizes[0])
        yield (
            f"{_count_of(len(seen.groups.variants), 'group')} of {most} variants: a group counts as one picture, so "
            f"give its pictures the class's repeats divided by {sizes[-1]}"
        )


def _shapes(pictures: tuple[SeenPicture, ...], resolution: int) -> Iterator[str]:
    if long := [one for one in pictures if not 1 / MOST_RATIO <= one.facts.ratio <= MOST_RATIO]:
        yield f"{_named(long)} beyond 3:1; crop them, or let `dataset prepare` take them out"
    factors = [(resolution**2 / one.facts.pixels) ** 0.5 for one in pictures]
    refused = [one for one, factor in zip(pictures, factors, strict=True) if factor > MOST_ENLARGED]
    small = [one for one, factor in zip(pictures, factors, strict=True) if 1.02 < factor <= MOST_ENLARGED]
    if refused:
        yield f"{_named(refused)} so small that {resolution} px would blow it up more than {MOST_ENLARGED:g} x"
    if small:
        most = max(factor for factor in factors if factor <= MOST_ENLARGED)
        yield (
            f"{_pictures(len(small))} smaller than {resolution}x{resolution} would be enlarged up to {most:.1f} "
            "x; `dataset prepare --upscaler FILE` does it with a model"
        )


def _surface(seen: SeenFolder) -> Iterator[str]:
    pictures = seen.pictures
    if clear := [one for one in pictures if one.facts.transparent]:
        yield (
            f"{_named(clear)} transparent; put them on white, and tag them `white background, simple background` in "
            "place of `transparent background`, as `dataset prepare` does"
        )
    grey = sum(one.facts.grey for one in pictures)
    if grey and grey * 2 >= len(pictures):
        yield f"{grey} of {len(pictures)} pictures are grey; black and white must not outnumber colour"
    if moving := [one for one in pictures if one.facts.animated]:
        yield f"{_named(moving)} animated, or of several pages; the first is used"
    poor = [one for one in pictures if one.facts.quality is not None and one.facts.quality < _POOR_JPEG]
    if poor:
        worst = min(one.facts.quality or 0 for one in poor)
        yield f"{_count_of(len(poor), 'JPEG')} of quality {worst} to {_POOR_JPEG - 1}: its blocks are learnt"
    by_detector = any(name.startswith("text=") for name in seen.detectors)
    if text := [one for one in pictures if has_text(one, by_detector)]:
        yield (
            f"{_named(text)} marked with text or a watermark, which is learnt; `dataset prepare --detector rapidocr "
            "--text mask` keeps it out of the loss"
        )
    flat = sum(one.facts.flat_border for one in pictures)
    if flat > len(pictures) * 0.7:
        yield f"{flat} of {len(pictures)} pictures have a flat background, which is learnt as well; add others"


def _tags(seen: SeenFolder) -> Iterator[str]:
    tags = tag_counts(seen)
    if tags["untagged"]:
        yield f"{_pictures(len(tags['untagged']))} without tags; `dataset tag` writes some"
    if tags["junk"]:
        shown, count = ", ".join(list(tags["junk"])[:5]), sum(tags["junk"].values())
        yield f"{_count_of(count, 'tag')} of junk ({shown}); `dataset import` or `dataset edit` takes them out"
    if tags["escaped"]:
        yield f"{_count_of(tags['escaped'], 'tag')} with a prompt's backslashes; `dataset import` takes them out"
    uneven = [one for one in seen.pictures if one.picture.names() & ASYMMETRIC]
    if uneven:
        names = sorted({name for one in uneven for name in one.picture.names() & ASYMMETRIC})[:4]
        yield f"{_pictures(len(uneven))} of what a mirror makes wrong ({', '.join(names)}); train without flip_aug"


def _classes(seen: SeenFolder) -> Iterator[str]:
    counts = class_counts(seen)
    if not counts[MAIN] or not counts[FACE]:
        missing = " and ".join(name for name in (MAIN, FACE) if not counts[name])
        yield f"no picture is of class {missing}; `dataset prepare` with a detector crops some"
        return
    classes = [RepeatClass(MAIN, "main", counts[MAIN]), RepeatClass(FACE, "face", counts[FACE])]
    classes += [RepeatClass(name, "other", counts[name]) for name in (FULL, OTHER) if counts[name]]
    plan = best_plans(classes, PLAIN, 1)[0]
    listed = ", ".join(f"{one.name} {repeats}" for one, repeats in zip(classes, plan.repeats, strict=True))
    broken = f" (though {'; '.join(plan.broken)})" if plan.broken else ""
    yield (
        f"{counts[MAIN]} main to {counts[FACE]} faces: repeats {listed} make it {plan.ratio or 0:.1f} to 1 and the "
        f"guide's sum {plan.total:.0f}{broken}; `dataset balance` sets them"
    )


def _pictures(count: int) -> str:
    return _count_of(count, "picture")


def _count_of(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _named(pictures: list[SeenPicture]) -> str:
    """``3 pictures (a.png, b.png ...) are``"""
    shown = ", ".join(one.path.name for one in pictures[:2])
    more = " ..." if len(pictures) > 2 else ""
    return f"{len(pictures)} picture{'s' if len(pictures) > 1 else ''} ({shown}{more}) {_verb(pictures)}"


def _verb(pictures: list[SeenPicture]) -> str:
    return "are" if len(pictures) > 1 else "is"
