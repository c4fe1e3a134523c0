"""Prompts of a tune: those of the search, and those that only the report sees."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from loratools.errors import PromptError
from loratools.tune.problem.effort import Effort

_MADE = 232  # prompts that are made of a header's tags
_MOST_SEEDS = 12  # of one prompt
_REPORTED, _MOST_REPORTED = 24, 4  # pictures of the report, where no seeds are given; its seeds at most
_FEW_REPORTED = 8  # prompts of the report where there are few; of many a tenth
_APART = 32  # prompts from which on fresh pictures have prompts of their own, a quarter of them
_LEAST_SEARCHED = 24  # prompts of a search by several seeds, where there are so many
_FRAMINGS = ("full_body", "cowboy_shot", "upper_body", "portrait", "close-up", "face_focus")
_COLOURS = (
    *("black", "brown", "blonde", "red", "blue", "green", "pink", "purple", "white"),
    *("grey", "gray", "silver", "orange", "yellow", "aqua", "multicolored"),
)


@dataclass(frozen=True)
class Shot:
    """What a picture is beside the vector that it is drawn with."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class Split:
    """The shots of a tune: every prompt of each part with every seed of that part.

    Attributes:
        search: the pool, which means are of.
        fresh: other prompts, or where there are few the search's own, under other seeds, by which one of the best
            answers is chosen.
        held_out: the report's, of other prompts and other seeds than all of these.
    """

    search: tuple[Shot, ...]
    fresh: tuple[Shot, ...]
    held_out: tuple[Shot, ...]


def split_prompts(prompts: Sequence[str], seeds: Sequence[int], effort: Effort, seed: int) -> Split:
    """Part the prompts at random; the report has seeds that the search has not.

    Args:
        prompts: at least two.
        seeds: of the search; none for as many as ``effort`` wants, from 1. All others follow the greatest. With several
            there are fewer prompts, but as many as the pool needs, and 24 at least.
        effort: how many prompts and pictures, at most.
        seed: of the parting.
    Raises:
        PromptError: for fewer than two different prompts.
    """
    known = list(dict.fromkeys(prompt.strip() for prompt in prompts))
    if len(known) < 2:
        raise PromptError(
            f"a tune needs two different prompts or more, one to search with and one for the report, and has "
            f"{len(known)}; eight or more are better"
        )
    random.Random(f"prompts {seed}").shuffle(known)
    held = min(effort.held_out, max(min(_FEW_REPORTED, len(known) // 2), len(known) // 10))
    held_out, rest = known[:held], known[held:]
    apart = min(effort.fresh, len(rest) // 4) if len(rest) >= _APART else 0
    own = list(dict.fromkeys(seeds))
    most = max(_LEAST_SEARCHED, math.ceil(effort.pool / len(own))) if len(own) > 1 else effort.prompts
    search = rest[apart:][: min(most, effort.prompts)]
    reported = min(_MOST_REPORTED, len(own) or math.ceil(_REPORTED / held))
    own = own or list(range(1, 1 + _seeds(effort.pool, search)))
    others = range(max(own) + 1, max(own) + 1 + reported)
    again = rest[:apart] or search
    more = range(max(others) + 1, max(others) + 1 + _seeds(effort.fresh, again))
    fresh = [Shot(prompt, seed) for seed in more for prompt in again][: effort.fresh]
    return Split(_shots(search, own), tuple(fresh), _shots(held_out, others))


def _seeds(pictures: int, prompts: Sequence[str]) -> int:
    """Seeds that make so many pictures of these prompts; not without end where the prompts are few."""
    return max(1, min(_MOST_SEEDS, math.ceil(pictures / len(prompts))))


def _shots(prompts: Iterable[str], seeds: Iterable[int]) -> tuple[Shot, ...]:
    return tuple(Shot(prompt, seed) for prompt, seed in product(prompts, seeds))


def prompts_from_header(
    metadata: Mapping[str, str], seed: int, *, apart: Sequence[Sequence[str]] = (), count: int = _MADE
) -> list[str]:
    """Prompts like the captions that a LoRA was trained on, made of the tags that its header counts.

    A caption's own tags are in no header. Each prompt has every tag with the chance that a caption had it, and only one
    of those that exclude each other: of ``apart``, of framings, of colours of one thing (``red_hair``, ``blue_hair``).

    Raises:
        PromptError: if the header counts no tags.
    """
    folders = [tags for tags in _folders(metadata) if tags]
    if not folders:
        raise PromptError(
            "the LoRA's header does not say which tags it was trained on, so there is nothing to make prompts of; give "
            "some with `prompts=FILE`, one a line"
        )
    rng = random.Random(f"tags {seed}")
    sizes = [max(tags.values()) for tags in folders]
    prompts = dict.fromkeys(_prompt(rng.choices(folders, sizes)[0], rng, apart) for _ in range(4 * count))
    return list(prompts)[:count]


def exclusive_tags(base_name: str) -> list[Sequence[str]]:
    """Groups of tags that exclude each other, for :func:`prompts_from_header`: those of the pocket base's drawings."""
    if base_name != "pocket":
        return []
    from loratools.pocket.draw import ATTRIBUTES

    return list(ATTRIBUTES.values())


def _prompt(tags: Mapping[str, int], rng: random.Random, apart: Sequence[Sequence[str]]) -> str:
    pictures = max(tags.values())
    groups: dict[str, list[str]] = {}
    for tag in tags:
        groups.setdefault(_group(tag, apart), []).append(tag)
    kept = set()
    for own in groups.values():
        chances = [tags[tag] / pictures for tag in own]
        if rng.random() < sum(chances):  # at least one of the group, as in so many captions
            kept.add(rng.choices(own, chances)[0])
    return ", ".join(tag for tag in tags if tag in kept)


def _group(tag: str, apart: Sequence[Sequence[str]]) -> str:
    """What tags that exclude each other share; a tag's own name where nothing excludes it."""
    word = tag.strip().lower().replace(" ", "_")
    for number, names in enumerate((*apart, _FRAMINGS)):
        if word in names:
            return f"group {number}"
    colour, _, thing = word.partition("_")
    return f"colour of {thing}" if thing and colour in _COLOURS else word


def _folders(metadata: Mapping[str, str]) -> list[dict[str, int]]:
    """The counts of each training folder's tags, of ``ss_tag_frequency``."""
    try:
        content: Any = json.loads(metadata.get("ss_tag_frequency", "{}"))
    except (ValueError, RecursionError):
        return []
    folders = content.values() if isinstance(content, dict) else []
    return [
        {str(tag): count for tag, count in own.items() if isinstance(count, int) and count > 0 and str(tag).strip()}
        for own in folders
        if isinstance(own, dict)
    ]
