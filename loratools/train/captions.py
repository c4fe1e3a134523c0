"""What a caption becomes each time its image is seen: prefix and suffix, drop-out, shuffled tags.

Everything random is drawn from the generator that is handed in, so that a caption is a function of (seed, epoch, image,
repeat) and of nothing else.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class CaptionRules:
    """How one folder's captions are treated; see :func:`vary`."""

    shuffle: bool = False
    keep: int = 0
    dropout: float = 0.0
    tag_dropout: float = 0.0
    prefix: str = ""
    suffix: str = ""

    @property
    def fixed(self) -> bool:
        """Whether a caption is the same every time it is used."""
        return not (self.shuffle or self.dropout or self.tag_dropout)


def tags_of(caption: str) -> list[str]:
    """The comma-separated tags, stripped; empty ones are left out."""
    return [tag for tag in (part.strip() for part in caption.split(",")) if tag]


def vary(caption: str, rules: CaptionRules, rng: random.Random) -> str:
    """The caption to train on this time, by sd-scripts' order of steps.

    Prefix and suffix are joined with a space; then the whole caption is dropped with probability ``dropout``; then the
    first ``keep`` tags stay where they are while the others are shuffled and each dropped with probability
    ``tag_dropout``. Tags are joined with ``", "``. Without shuffling and tag drop-out the text is left as written.
    """
    text = " ".join(part for part in (rules.prefix, caption, rules.suffix) if part)
    if rules.dropout and rng.random() < rules.dropout:
        return ""
    if not (rules.shuffle or rules.tag_dropout):
        return text
    tags = tags_of(text)
    kept, free = tags[: rules.keep], tags[rules.keep :]
    if rules.shuffle:
        rng.shuffle(free)
    if rules.tag_dropout:
        free = [tag for tag in free if rng.random() >= rules.tag_dropout]
    return ", ".join([*kept, *free])


def tag_frequency(captions: Iterable[str]) -> dict[str, int]:
    """How many captions hold each tag, in order of first appearance (sd-scripts' ``ss_tag_frequency``)."""
    return dict(Counter(tag for caption in captions for tag in tags_of(caption)))
