"""``epochs.md``: who chose which epoch, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

_HEAD = """\
# Which epoch: the verdict against the truth, and against the folk rules

Written by `python -m benchmarks.epochs`. {count} runs on the pocket base, of different styles, sizes, rates and
lengths (fixed in `benchmarks/epochs/cases.py`), a fifth of the drawings held out. `loratools epochs RUN --base pocket`
recommends an epoch of each, with the judge as its measure and without any judge. The truth is the judge's view of other
prompts and seeds, 25 x 8 = 200 pictures an epoch: the probability of the style x the share of tags obeyed x (1 - mean
grade of defects / 3), the mean over all pictures. "Within noise" is behind the best epoch by no more than two standard
errors of the difference, picture by picture; "as good" is within one. Where a run has a plateau, the best epoch is a
matter of luck, and the verdict takes the earliest of it on purpose.

"""


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page."""
    names = list(dict.fromkeys(name for case in results.values() for name in case["choices"]))
    lines = [_HEAD.format(count=len(results))]
    heads = (
        "rule",
        "within one epoch of the best",
        "of an epoch as good",
        "within noise",
        "worth less, mean",
        "at most",
    )
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in names:
        own = [case["choices"][name] for case in results.values() if name in case["choices"]]
        near = sum(abs(choice["from_best"]) <= 1 for choice in own)
        good = sum(choice["from_as_good"] <= 1 for choice in own)
        noise = sum(choice["within_noise"] for choice in own)
        lost = [choice["behind"][0] for choice in own]
        counts = " | ".join(f"{count} of {len(own)}" for count in (near, good, noise))
        lines.append(f"| {name} | {counts} | {fmean(lost):.3f} | {max(lost):.3f} |")
    lines += [
        "",
        "## Run by run",
        "",
        "Style, drawings, rate, epochs; each rule's epoch with what it is worth less than the best.",
        "",
    ]
    lines += [f"| run | best | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for key, case in results.items():
        best = case["epochs"].index(case["best"]) + 1
        worth = case["truth"]["value"][best]
        cells = [_cell(case["choices"].get(name)) for name in names]
        lines.append(f"| {key} | {case['best']}: {worth[0]:.3f} ± {worth[1]:.3f} | {' | '.join(cells)} |")
    lines += ["", "## What the verdict said", ""]
    for key, case in results.items():
        lines.append(f"- {key}: {case['sentence']}")
        lines.append(f"  - without a judge: {case['sentence_without_judge']}")
    lines += ["", "## The truth, epoch by epoch", "", "Value (style / tags / defects); the base is epoch 0.", ""]
    for key, case in results.items():
        truth = case["truth"]
        rows = zip([0, *case["epochs"]], truth["value"], truth["style"], truth["tags"], truth["defects"], strict=True)
        cells = [f"{n}: {v[0]:.3f} ({s[0]:.2f} / {t[0]:.2f} / {d[0]:.2f})" for n, v, s, t, d in rows]
        lines.append(f"- {key}: {', '.join(cells)}")
    seconds = [sum(case["seconds"].values()) for case in results.values()]
    if seconds:
        lines += ["", f"Seconds a run: {min(seconds):.0f} to {max(seconds):.0f}, training and truth included."]
    return "\n".join(lines) + "\n"


def _cell(choice: Mapping[str, Any] | None) -> str:
    if choice is None:
        return ""
    behind, error = choice["behind"]
    return f"{choice['epoch']}: -{behind:.3f} ± {error:.3f}" if behind > 0 else f"{choice['epoch']}: the best"
