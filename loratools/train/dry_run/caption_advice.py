"""What captions hold that is learnt as text and that no prompt will have: brackets, other commas, weights, entities."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from loratools.dataset.captions import written_tags
from loratools.train.config.config import TrainConfig
from loratools.train.data.dataset import Dataset

_SPACED = re.compile(r"(\w+ ){2,}\w+")  # words apart by spaces alone


class _Habit(NamedTuple):
    """A way of writing captions that a run does not understand."""

    what: str
    pattern: re.Pattern[str]
    effect: str
    remedy: str


_COMMAS = _Habit(
    "full-width commas",
    re.compile("[，、；]"),
    "what stands between them is one tag, which is never shuffled, kept or dropped apart",
    "write ',' instead",
)
_PLAIN = (
    _COMMAS,
    _Habit(
        "HTML entities",
        re.compile(r"&(?:#\d+|amp|quot|lt|gt);"),
        "they are learnt letter by letter",
        "write the letter that they stand for",
    ),
    _Habit(
        "<lora:...> tags", re.compile(r"<(?:lora|lyco|hypernet):[^>]*>"), "they are learnt as words", "take them out"
    ),
)
_WEIGHTED = (
    _Habit(
        "escaped brackets",
        re.compile(r"\\[()\[\]]"),
        "the backslashes are learnt, and no prompt has them, for there \\( is a bracket alone",
        "take the backslashes out, or set weighted_captions: true",
    ),
    _Habit(
        "weights",
        re.compile(r"\([^()]+:\d*\.?\d+\)"),
        "brackets and numbers are learnt as words",
        "take them out, or set weighted_captions: true",
    ),
)


def caption_advice(config: TrainConfig, dataset: Dataset) -> Iterator[str]:
    """A sentence for each habit that some captions have, with their number and one of them."""
    for habit in (*_PLAIN, *(() if config.weighted_captions else _WEIGHTED)):
        cases: dict[str, str] = {}  # the file -> the first tag in it
        for item in dataset.items:
            rules = dataset.folders[item.folder].rules
            if habit.pattern.search(item.caption) and not (habit is _COMMAS and rules.separator in "，、；"):
                tags = written_tags(item.caption, rules)
                cases[str(item.path)] = next((tag for tag in tags if habit.pattern.search(tag)), item.caption)
        if cases:
            captions = f"{len(cases)} captions hold" if len(cases) > 1 else "1 caption holds"
            yield f"{captions} {habit.what}{_example(cases)}: {habit.effect}; {habit.remedy}"
    spaced = {
        str(item.path): item.caption
        for item in dataset.items
        if _SPACED.fullmatch(item.caption) and item.caption.count("_") > 1
    }
    if spaced:
        captions = f"{len(spaced)} captions have" if len(spaced) > 1 else "1 caption has"
        yield (
            f"{captions} tags apart by spaces and no commas{_example(spaced)}: all of it is one tag, "
            "which is never shuffled, kept or dropped apart; put commas between the tags, or set caption_separator: ' '"
        )


def _example(cases: dict[str, str]) -> str:
    path, text = next(iter(cases.items()))
    return f" ('{text if len(text) <= 60 else f'{text[:57]}...'}' of {path})"
