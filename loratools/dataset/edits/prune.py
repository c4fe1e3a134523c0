"""Tags that say nothing, or nothing new, or what cannot be: junk, overlaps, a character's core tags, contradictions.

Overlaps go by whole words at the end (``white shirt`` says ``shirt``; ``glasses`` does not say ``ass``) and by a table
of implications that a person gives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from loratools.dataset.edits.subject import TagCounts, normal
from loratools.dataset.encodings import TextReader
from loratools.dataset.tables import table_rows
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.tag import Tag
from loratools.dataset.tags.vocabulary import COUNTS, FACE, FRAMING, LEGS, MONOCHROME, is_junk
from loratools.errors import DatasetError, OptionError

CORE_SHARE: Final = 0.4  # of a character's pictures: a tag in more of them is its own (anime_screenshot_pipeline)
_NEGATIONS = ("no ", "without ", "imminent ", "fake ", "alternate ")
# what ends the name of a tag that says how a character looks, and what it is not
_FEATURES = re.compile(
    r"(?:.* )?(?:hair|eyes|ears?|horns?|tails?|wings?|ahoge|bangs|twintails|ponytail|braids?|skin|fangs?|halo|"
    r"freckles|mole under (?:eye|mouth)|heterochromia|eyelashes|eyebrows|pupils|sidelocks|hair between eyes|"
    r"hair bun|drill locks|muscular|elf|scar.*)"
)
_NO_FEATURE = re.compile(r"(?:closed|holding|covering|hand|hands|wet|messy|floating|own|another's|half-closed) .*")
_COLOURED = re.compile(
    r"(?:aqua|black|blonde|blue|brown|green|grey|orange|pink|purple|red|silver|white|yellow) (?:hair|eyes)"
)
_SEVERAL = re.compile(r"multiple (?:girls|boys|others)|(?:[2-9]|\d\d+)\+?(?:girls|boys|others)|group|couple")
_COUNT = re.compile(r"(\d+)\+?(girl|boy|other)s?")


@dataclass(frozen=True)
class PruneRules:
    """What is pruned.

    Attributes:
        implications: (tag, what it implies) in :func:`normal` spelling.
        core: tags that belong to the character, in normal spelling: they go, so that its name or the trigger learns
            them. ``character`` is the tag of the pictures that are meant; empty: of all.
        keep: tags that stay whatever the rules say.
    """

    junk: bool = False
    overlaps: bool = False
    contradictions: bool = False
    implications: tuple[tuple[str, str], ...] = ()
    core: tuple[str, ...] = ()
    character: str = ""
    keep: tuple[str, ...] = ()

    @cached_property
    def implied_by(self) -> dict[str, list[str]]:
        """What each tag implies directly."""
        table: dict[str, list[str]] = {}
        for tag, implied in self.implications:
            table.setdefault(tag, []).append(implied)
        return table

    @classmethod
    def from_json(cls, value: Any) -> PruneRules:
        """The rules from JSON values; OptionError if they are none."""
        try:
            rules = cls(**value)
        except TypeError:
            raise OptionError(f"{value!r} are no rules of pruning; write {{junk: true, overlaps: true}}") from None
        lists = {
            name: tuple(normal(item) if isinstance(item, str) else tuple(item) for item in getattr(rules, name))
            for name in ("implications", "core", "keep")
        }
        return cls(**{**asdict(rules), **lists})


def redundant(picture: Picture, rules: PruneRules) -> dict[str, str]:
    """The tags of a picture that the rules take out, in normal spelling, each with the reason."""
    gone: dict[str, str] = {}
    if rules.junk:
        gone |= {
            normal(tag.name): "junk" for tag in picture.tags if tag.category == "meta" or is_junk(normal(tag.name))
        }
    names = [name for tag in picture.tags if (name := normal(tag.name)) not in gone]
    if rules.core and (not rules.character or normal(rules.character) in names):
        gone |= dict.fromkeys(set(names) & set(rules.core), "core")
    if rules.overlaps:
        gone |= _overlaps(names)
    if rules.implications:
        gone |= _implied(names, rules.implied_by)
    if rules.contradictions:
        gone |= _contradictions(picture)
    return {name: reason for name, reason in gone.items() if name not in rules.keep}


def _overlaps(names: Iterable[str]) -> dict[str, str]:
    """Tags that another one ends with as whole words."""
    said: dict[str, str] = {}
    names = list(names)
    for name in names:
        if name.startswith(_NEGATIONS):
            continue
        words = name.split(" ")
        said |= {" ".join(words[start:]): name for start in range(1, len(words))}
    return {name: f"said by {said[name]}" for name in names if name in said}


def _implied(names: Iterable[str], table: Mapping[str, list[str]]) -> dict[str, str]:
    """Tags that another one implies, directly or by a tag between them that need not be there."""
    names = list(names)
    present, gone = set(names), dict[str, str]()
    for name in names:
        if name in gone:  # whatever it implies, the one that implies it does too; and of a circle one tag stays
            continue
        waiting, seen = list(table.get(name, ())), {name}
        while waiting:
            implied = waiting.pop()
            if implied in seen:
                continue
            seen.add(implied)
            waiting += table.get(implied, ())
            if implied in present:
                gone[implied] = f"implied by {name}"
    return gone


def _contradictions(picture: Picture) -> dict[str, str]:
    """Tags that cannot be true beside others: the surer one stays, or the one that says more."""
    tags = {normal(tag.name): tag for tag in picture.tags}
    gone: dict[str, str] = {}
    counts: dict[str, list[str]] = {}
    for name in tags:
        if match := _COUNT.fullmatch(name):
            counts.setdefault(match[2], []).append(name)
    for same in counts.values():
        surest = max(same, key=lambda name: (tags[name].score or 0.0, int(re.findall(r"\d+", name)[0])))
        gone |= {name: f"contradicts {surest}" for name in same if name != surest}
    people = [name for name in tags if name not in gone and (COUNTS.fullmatch(name) or _SEVERAL.fullmatch(name))]
    several = len(people) > 1 or any(_SEVERAL.fullmatch(name) for name in people)
    if several and "solo" in tags:
        gone["solo"] = f"contradicts {people[0]}"
    if several:
        gone |= _of_several(tags)
    if (grey := next((name for name in tags if name in MONOCHROME), "")) and "spot color" not in tags:
        gone |= {name: f"contradicts {grey}" for name in tags if _COLOURED.fullmatch(name)}
    if picture.framing_class == FACE:
        wrong = [name for name in tags if FRAMING.get(name, FACE) != FACE or name in LEGS]
        gone |= dict.fromkeys(wrong, "contradicts a close-up of a face")
    return gone


def _of_several(tags: Mapping[str, Tag]) -> dict[str, str]:
    """Colours of hair or eyes, where there are several of several people: nothing says whose they are."""
    gone: dict[str, str] = {}
    for part in (" hair", " eyes"):
        colours = [name for name in tags if _COLOURED.fullmatch(name) and name.endswith(part)]
        if len(colours) > 1:
            gone |= dict.fromkeys(colours, "of one of several people")
    return gone


def core_tags(
    pictures: Iterable[Picture], share: float = CORE_SHARE, character: str = "", *, features: bool = True
) -> dict[str, float]:
    """The tags in more than ``share`` of a character's pictures, with their shares, most common first.

    Args:
        character: its tag; empty: every picture is of it.
        features: only tags that say how a character looks: hair, eyes, ears, horns ...; else all but how many people
            there are and how the picture is framed.
    Raises:
        OptionError: if no picture has the character's tag.
    """
    pictures, wanted = list(pictures), normal(character)
    own = [picture for picture in pictures if not wanted or wanted in {normal(tag.name) for tag in picture.tags}]
    if not own and pictures:
        raise OptionError(f"no picture has the tag '{character}'; write the character's tag as the captions have it")
    counts = TagCounts.of(own)
    shares = {name: counts.share(name) for name in counts.counts if name != wanted}
    core = {
        name: value
        for name, value in shares.items()
        if value > share and (is_feature(name) if features else not _of_the_picture(name))
    }
    return dict(sorted(core.items(), key=lambda item: (-item[1], item[0])))


def is_feature(name: str) -> bool:
    """Whether a tag says how a character looks, by its last words."""
    return _FEATURES.fullmatch(name) is not None and _NO_FEATURE.fullmatch(name) is None


def _of_the_picture(name: str) -> bool:
    return name == "solo" or COUNTS.fullmatch(name) is not None or name in FRAMING or name in MONOCHROME


def read_implications(path: Path) -> tuple[tuple[str, str], ...]:
    """A table of implications: a CSV whose first two columns are a tag and what it implies (Danbooru's
    ``antecedent_name,consequent_name``), or a JSON of tag -> tags that make it redundant.

    Raises:
        DatasetError: naming the file and the line that cannot be read.
    """
    text = TextReader().read(path)
    if path.suffix.lower() == ".json":
        return _from_json(text, path)
    pairs = []
    for number, row in enumerate(table_rows(text), 1):
        if not row or (number == 1 and "name" in row[0]):
            continue
        if len(row) < 2 or not row[0].strip() or not row[1].strip():
            raise DatasetError(
                f"{path}, line {number} is no implication; write a tag and what it implies: bob_cut,short_hair"
            )
        pairs.append((normal(row[0]), normal(row[1])))
    return tuple(pairs)


def _from_json(text: str, path: Path) -> tuple[tuple[str, str], ...]:
    try:
        table = json.loads(text)
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"the table of implications {path} is not JSON (line {error.lineno}: {error.msg})"
        ) from error
    if not isinstance(table, dict) or not all(isinstance(each, list) for each in table.values()):
        raise DatasetError(f"the table of implications {path} is no object of tag -> list of tags")
    return tuple((normal(str(by)), normal(tag)) for tag, implied_by in table.items() for by in implied_by)
