"""The table of what was repaired, and why where it was not."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.repair.case_run import KEEP, REPAIRED
from benchmarks.repair.cases import BY_MARKS, BY_MARKS_GRADIENT, BY_PICTURES, DEFECTS, NARROW, Case, cases
from loratools.tune.problem.weight_range import NARROW as NARROW_RANGE
from loratools.tune.report.columns import BASE, BEFORE, GUIDE, STRENGTH, TUNED

_RISE = 0.1  # of the other defects' mean grade
_SEARCHES = {
    "search-5": "down its gradient: one number for each kind of layers in each block, by twenty-four prompts",
    "search-4": "without a gradient: one number a block, other defects a condition of their own",
}

Done = Mapping[str, Mapping[str, Any]]


def line(one: Mapping[str, Any]) -> str:
    """A case in a line."""
    columns, defect = one["columns"], one["defect"]
    return (
        f"{defect} {columns[BEFORE][defect]['mean']:.2f} -> {columns['answer'][defect]['mean']:.2f} "
        f"(base {columns[BASE][defect]['mean']:.2f}, strength {columns[STRENGTH][defect]['mean']:.2f}), "
        f"{100 * one['gone']:.0f} % gone, style {100 * one['style_kept']:.0f} %, {outcome(one)}, "
        f"{sum(one['seconds'].values()):.0f} s"
    )


def outcome(one: Mapping[str, Any]) -> str:
    """Whether a case is repaired, and what is missing where it is not."""
    if one["repaired"]:
        return "yes"
    lacking = []
    if one["gone"] < REPAIRED:
        lacking.append("too little is gone" if one["answer"] == TUNED else "nothing better than strength was found")
    if one["style_kept"] < KEEP:
        near = one["style_kept"] >= KEEP - 2 * one["style_error"]
        lacking.append("style, within its error" if near else "style")
    if not one["tags_kept"]:
        lacking.append("tags")
    return f"no: {' and '.join(lacking)}"


def report(done: Done, earlier: Mapping[str, Done] | None = None) -> str:
    """The results as Markdown: by the judge, with a narrower range, by marks, and of searches as they were before."""
    older = {name: own for name, own in (earlier or {}).items() if own}
    if not (done or older):
        return "# Repair by a searched vector\n\nNothing has been measured yet.\n"
    parts = _parts(done)
    for name, before in older.items():
        parts += _parts(before, f", {_SEARCHES.get(name, 'as the search was before')} ({name})")
    every = [one for own in (done, *older.values()) for one in own.values()]
    pictures = max(own["pictures"] for own in every)
    head = [
        "# Repair by a searched vector, measured on the pocket base",
        "",
        "LoRAs that are overfit to one defect each (12 drawings of grade 2 or 3, 10 epochs), tuned by `loratools "
        f"blocks tune` and measured by the judge on {pictures} pictures of prompts and seeds that no search saw, "
        "sampled as the base likes it. Figures are means ± standard errors over prompts and seeds. Grades go from 0 "
        "(none) to 3 (bad); *others* is the mean grade of the defects that were not to be repaired, before and after.",
        "",
        f"A case is *repaired* where at least {100 * REPAIRED:.0f} % of the excess over the base is gone, "
        f"{100 * KEEP:.0f} % of the style is kept and the tags lose no more than two standard errors.",
        "",
    ]
    return "\n".join([*head, *[text for part in parts for text in part]])


def _parts(done: Done, before: str = "") -> list[list[str]]:
    """A section for each way in which cases were led."""
    goal, only = (
        "20 of 30 by the vector alone",
        f"weights from {NARROW_RANGE.lowest:g} to {NARROW_RANGE.highest:g} only",
    )
    ways = {
        "": ("by the judge", goal, "2 of 6"),
        BY_PICTURES: ("by the judge, without its gradient", goal, "2 of 6"),
        NARROW: (f"by the judge, {only}", goal, "2 of 6"),
        BY_MARKS: ("by marks", "12 of 30", ""),
        BY_MARKS_GRADIENT: ("by marks, down the gradient of what they taught", "12 of 30", ""),
    }
    parts = []
    for end, (title, own_goal, hands) in ways.items():
        own = [one for name, one in done.items() if name == f"{Case.of(name).name}{end}"]
        parts += [_part(f"{title}{before}", own, own_goal, hands=hands)] if own else []
    return parts


def _part(title: str, done: Sequence[Mapping[str, Any]], goal: str, hands: str = "") -> list[str]:
    repaired = sum(one["repaired"] for one in done)
    own = [one for one in done if one["defect"] == "hands"]
    worse = [one["case"] for one in done if _is_worse(one)]
    gone, style = ([one[key] for one in done] for key in ("gone", "style_kept"))
    return [
        f"## Led {title}",
        "",
        f"- **Repaired: {repaired} of {len(done)}** measured (of {len(cases())}; goal {goal}).",
        *([f"- Hands: {sum(one['repaired'] for one in own)} of {len(own)} (goal {hands})."] if hands else []),
        f"- The style kept to {100 * KEEP:.0f} %: {sum(value >= KEEP for value in style)} of {len(done)}; "
        f"{100 * REPAIRED:.0f} % of the excess gone: {sum(value >= REPAIRED for value in gone)}.",
        f"- Other defects (their mean grade) rise by more than {_RISE:g} in "
        f"{sum(_others(one, 'answer') > _others(one, BEFORE) + _RISE for one in done)}.",
        f"- Worse than plain strength (more of the defect, no more style): {', '.join(worse) or 'none'}. The answer "
        f"was plain strength itself in {sum(one['answer'] == STRENGTH for one in done)}.",
        f"- Median: {100 * statistics.median(gone):.0f} % gone, {100 * statistics.median(style):.0f} % of the style "
        f"kept, {statistics.median(one['moved'] for one in done):.0f} numbers moved, "
        f"{statistics.median(one['search_pictures'] for one in done):.0f} pictures to search by and "
        f"{statistics.median(one['seconds']['tune'] for one in done):.0f} s a tune ({done[0]['device']}, many at "
        "once).",
        "",
        "| LoRA | base | whole | guide's rule | strength | **answer** | gone | style kept | tags | others | repaired |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *map(_row, done),
        "",
    ]


def _is_worse(one: Mapping[str, Any]) -> bool:
    more, style = one["from_strength"], one["style_from_strength"]["mean"]
    return bool(one["answer"] == TUNED and more["mean"] > 2 * (more["standard_error"] or 0) and style <= 0)


def _row(one: Mapping[str, Any]) -> str:
    columns, defect = one["columns"], one["defect"]

    def cell(name: str) -> str:
        if name not in columns:
            return "-"
        own = columns[name][defect]
        error = "" if own["standard_error"] is None else f" ± {own['standard_error']:.2f}"
        return f"{own['mean']:.2f}{error}"

    cells = [one["case"], cell(BASE), cell(BEFORE), cell(GUIDE), f"{one['strength']:g}: {cell(STRENGTH)}"]
    answer = f"**{cell('answer')}**" + (" (strength)" if one["answer"] == STRENGTH else "")
    whole = columns[BEFORE]["style"]["mean"]
    style = f"{100 * one['style_kept']:.0f} ± {100 * one['style_error'] / max(1e-9, whole):.0f} %"
    tags = f"{one['tags_change']['mean']:+.2f}"
    gone = f"{100 * one['gone']:.0f} ± {100 * one['gone_error']:.0f} %"
    others = f"{_others(one, BEFORE):.2f} -> {_others(one, 'answer'):.2f}"
    return f"| {' | '.join([*cells, answer, gone, style, tags, others, outcome(one)])} |"


def _others(one: Mapping[str, Any], column: str) -> float:
    """The mean grade of the defects that were not to be repaired."""
    own = one["columns"][column]
    return float((len(DEFECTS) * own["defects"]["mean"] - own[one["defect"]]["mean"]) / (len(DEFECTS) - 1))
