"""What a caption becomes each time its image is seen: prefix and suffix, drop-out, shuffled tags.

Everything random is drawn from the generator that is handed in, so that a caption is a function of (seed, epoch, image,
repeat) and of nothing else.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

_OPEN, _CLOSE = "\x01", "\x02"  # stand for braces, and occur in no caption
_CHOICE = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class CaptionRules:
    """How one folder's captions are treated; see :func:`vary`."""

    shuffle: bool = False
    keep: int = 0
    dropout: float = 0.0
    tag_dropout: float = 0.0
    prefix: str = ""
    suffix: str = ""
    separator: str = ","
    keep_separator: str = ""  # such as ``|||``: the tags before it (and after a second one) are kept in place
    secondary_separator: str = ""  # joins tags that are shuffled and dropped as one; becomes ``separator`` at the end
    wildcards: bool = False
    dropout_every: int = 0  # epochs; 0: never
    warmup_min: int = 1
    warmup: float = 0.0  # batches, or a fraction of the run below 1; 0: all tags from the start

    @property
    def plain(self) -> CaptionRules:
        """The same without anything that is left out or moved at random: the whole caption, to judge by."""
        return replace(self, shuffle=False, dropout=0.0, tag_dropout=0.0, dropout_every=0, warmup=0.0)


@dataclass(frozen=True)
class Moment:
    """When a caption is used: its epoch (from 1), the batches before it, and those of the whole run."""

    epoch: int = 1
    batch: int = 0
    batches: int = 1


def tags_of(caption: str, separator: str = ",") -> list[str]:
    """The tags between separators, stripped; empty ones are left out."""
    return [tag for tag in (part.strip() for part in caption.split(separator)) if tag]


def written_tags(caption: str, rules: CaptionRules) -> list[str]:
    """The tags of a caption as written, whatever separators bind or part them."""
    for mark in (rules.keep_separator, rules.secondary_separator):
        caption = caption.replace(mark, rules.separator) if mark else caption
    return [tag for line in caption.splitlines() for tag in tags_of(line, rules.separator)]


def vary(caption: str, rules: CaptionRules, rng: random.Random, moment: Moment = Moment()) -> str:
    """The caption to train on this time, by sd-scripts' order of steps.

    Prefix and suffix are joined with a space; the whole caption is dropped with probability ``dropout``, or in every
    ``dropout_every``-th epoch; wildcards are drawn; then the first ``keep`` tags (or what ``keep_separator`` sets
    apart) stay where they are, while of the others the first few are taken (warm-up), shuffled, and each dropped with
    probability ``tag_dropout``. Tags are joined with ``", "``. With none of that the text is left as written.
    """
    lines = caption.splitlines() if rules.wildcards else [caption]
    texts = [" ".join(part for part in (rules.prefix, line, rules.suffix) if part) for line in lines or [""]]
    if rules.dropout and rng.random() < rules.dropout:
        return ""
    if rules.dropout_every and moment.epoch % rules.dropout_every == 0:
        return ""
    text = _drawn(rng.choice(texts), rng) if rules.wildcards else texts[0]
    if rules.shuffle or rules.tag_dropout or rules.warmup or (rules.keep_separator and rules.keep_separator in text):
        text = _moved(text, rules, rng, moment)
    return text.replace(rules.secondary_separator, rules.separator) if rules.secondary_separator else text


def _moved(text: str, rules: CaptionRules, rng: random.Random, moment: Moment) -> str:
    kept, free, last = _parts(text, rules)
    free = free[: _warm(len(free), rules, moment)]
    if rules.shuffle:
        rng.shuffle(free)
    if rules.tag_dropout:
        free = [tag for tag in free if rng.random() >= rules.tag_dropout]
    return ", ".join([*kept, *free, *last])


def _parts(text: str, rules: CaptionRules) -> tuple[list[str], list[str], list[str]]:
    """Tags kept at the front, tags that may move, tags kept at the end."""
    if rules.keep_separator and rules.keep_separator in text:
        first, middle, *rest = text.split(rules.keep_separator)
        kept, free, last = (tags_of(part, rules.separator) for part in (first, middle, ", ".join(rest)))
        return kept, free, last
    tags = tags_of(text, rules.separator)
    return tags[: rules.keep], tags[rules.keep :], []


def _warm(count: int, rules: CaptionRules, moment: Moment) -> int:
    """How many of ``count`` tags that may move are used at this moment; it grows in a line from ``warmup_min``."""
    until = math.floor(rules.warmup * moment.batches) if rules.warmup < 1 else rules.warmup
    if moment.batch >= until or count <= rules.warmup_min:
        return count
    return math.floor(moment.batch * (count - rules.warmup_min) / until) + rules.warmup_min


def _drawn(text: str, rng: random.Random) -> str:
    """One of each ``{a|b|c}``; ``{{`` and ``}}`` stand for braces."""
    text = text.replace("{{", _OPEN).replace("}}", _CLOSE)
    text = _CHOICE.sub(lambda match: rng.choice(match[1].split("|")), text)
    return text.replace(_OPEN, "{").replace(_CLOSE, "}")


def tag_frequency(captions: Iterable[str], rules: CaptionRules = CaptionRules()) -> dict[str, int]:
    """How many captions hold each tag, in order of first appearance (sd-scripts' ``ss_tag_frequency``)."""
    return dict(Counter(tag for caption in captions for tag in written_tags(caption, rules)))
