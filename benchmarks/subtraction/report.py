"""``subtraction.md``: each way to subtract against the whole LoRA, paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.subtraction.case_run import worth
from benchmarks.subtraction.columns import BASE, SAYS, WHOLE
from loratools.measures.estimate import Estimate, Values, estimate, paired_difference

_SHOWN = ("style", "tags", "defects", "hands")
_KINDS = {"sound": "of 24 sound drawings, 8 epochs", "overfit": "overfit: 8 drawings with every defect, 14 epochs"}
_HEAD = """\
# Subtracting the base's own style: what it does to pictures

Written by `python -m benchmarks.subtraction`. {count} of 12 style LoRAs on the pocket base, in styles that it does not
know (ink, neon, watercolor; two seeds), half of them trained on sound drawings and half overfit to broken ones, and for
each seed the LoRA of the base's own style, made as the shipped recipe makes it. Every column is drawn with the same
{pictures} prompts and seeds a LoRA, which nothing else used, at weight 1. Style is the judge's probability, tags the
share of the asked ones that it finds, grades go from 0 (none) to 3 (bad). "Worth" is style x tags x (1 - mean grade /
3), picture by picture. Differences are to the whole LoRA, paired picture by picture; ± is the standard error over the
LoRAs, so that it tells what to expect of the next one. A column is worth more, or less, in a LoRA where the difference
is beyond two standard errors over its own pictures.

"""


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page."""
    if not results:
        return "# Subtracting the base's own style: what it does to pictures\n\nNothing has been measured yet.\n"
    own = list(results.values())
    lines = [_HEAD.format(count=len(own), pictures=len(own[0]["prompts"]) * len(own[0]["seeds"]))]
    columns = list(own[0]["values"])
    lines += [f"- **{name}**: {SAYS[name]}" for name in columns]
    for kind, words in _KINDS.items():
        some = [case for case in own if case["kind"] == kind]
        if some:
            lines += ["", f"## {len(some)} LoRAs {words}", "", *_changes(some, columns)]
    lines += ["", "## All of them", "", *_changes(own, columns)]
    lines += ["", "## The tuned amounts", "", "Times GP2; 0 is no subtraction.", ""]
    for name, case in results.items():
        tried = ", ".join(f"{amount}: {value:.3f}" for amount, value in case["amounts"].items())
        lines.append(f"- {name}: {case['amount']:g} ({tried})")
    lines += ["", "## LoRA by LoRA", "", "Worth ± the standard error over its pictures.", ""]
    lines += [f"| LoRA | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for name, case in results.items():
        lines.append(f"| {name} | {' | '.join(_estimate(case, column).text() for column in columns)} |")
    seconds = [sum(case["seconds"].values()) for case in own]
    return "\n".join(
        [*lines, "", f"Seconds a LoRA: {min(seconds):.0f} to {max(seconds):.0f} ({own[0]['device']}).", ""]
    )


def _changes(cases: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """A row for each column: the figures of base and whole LoRA as they are, of the others as differences."""
    heads = ["", *_SHOWN, "worth", "worth more in", "worth less in"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for column in columns:
        absolute = column in (BASE, WHOLE)
        cells = [
            _over([_mean(case, column, what, absolute) for case in cases], absolute) for what in (*_SHOWN, "worth")
        ]
        changes = [_difference(case, column) for case in cases]
        clear = [sum(sign * own.mean > 2 * own.standard_error for own in changes) for sign in (1, -1)]
        counts = ["", ""] if absolute else [f"{count} of {len(cases)}" for count in clear]
        lines.append(f"| {column} | {' | '.join([*cells, *counts])} |")
    return lines


def _values(case: Mapping[str, Any], column: str, what: str) -> Values:
    rows = {name: np.array(own) for name, own in case["values"][column].items()}
    return worth(rows) if what == "worth" else rows[what]


def _mean(case: Mapping[str, Any], column: str, what: str, absolute: bool) -> float:
    own = float(_values(case, column, what).mean())
    return own if absolute else own - float(_values(case, WHOLE, what).mean())


def _over(means: Sequence[float], absolute: bool) -> str:
    """Over LoRAs, which are what differs."""
    whole = estimate(means)
    text = whole.text()
    return text if absolute or whole.mean < 0 else f"+{text}"


def _labels(case: Mapping[str, Any]) -> tuple[list[str], list[int]]:
    prompts, seeds = case["prompts"], case["seeds"]
    return [prompt for prompt in prompts for _ in seeds], [seed for _ in prompts for seed in seeds]


def _difference(case: Mapping[str, Any], column: str) -> Estimate:
    return paired_difference(_values(case, column, "worth"), _values(case, WHOLE, "worth"), *_labels(case))


def _estimate(case: Mapping[str, Any], column: str) -> Estimate:
    return estimate(_values(case, column, "worth"), *_labels(case))
