"""A verdict as JSON, with every figure and its spread, and as a table for a person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from loratools.measures.estimate import Estimate
from loratools.train.output.recorded_verdict import FORMAT
from loratools.tune.epochs.reasons import counted
from loratools.version import __version__

if TYPE_CHECKING:
    from loratools.tune.epochs.result import EpochVerdict


def verdict_json(verdict: EpochVerdict) -> dict[str, Any]:
    """What ``NAME.verdict.json`` holds, as JSON values; a number that nobody can tell is null."""
    decision, grid = verdict.decision, verdict.drawn.grid
    chosen = [epoch.number for epoch in verdict.files.epochs].index(decision.epoch)
    return {
        "format": FORMAT,
        "version": __version__,
        "run": verdict.files.name,
        "epoch": decision.epoch,
        "sentence": decision.sentence,
        "warnings": list(map(str, decision.warnings)),
        "warning_kinds": [asdict(warning) for warning in decision.warnings],
        "notes": list(map(str, decision.notes)),
        "base_defects": [
            {"figure": own.figure, "epoch": own.epoch, "base": _estimate(own.base), "own": _estimate(own.own)}
            for own in decision.notes
        ],
        "base": {"name": verdict.base[0], "digest": verdict.base[1]},
        "weight": verdict.weight,
        "prompts": list(grid.prompts),
        "prompts_from": verdict.material.source,
        "seeds": list(verdict.seeds),
        "settings": {**grid.settings.facts(), "compute": grid.compute},
        "pictures": verdict.files.pictures.name,
        "figures": {
            figure.name: {"better": figure.better, "base": _estimate(figure.of_base())} for figure in verdict.figures
        },
        "epochs": [_epoch(verdict, index, chosen) for index in range(len(verdict.files.epochs))],
        "missing": list(verdict.measured.missing),
    }


def _epoch(verdict: EpochVerdict, index: int, chosen: int) -> dict[str, Any]:
    epoch, measured = verdict.files.epochs[index], verdict.measured
    reason = verdict.decision.reasons[epoch.number]
    tested = verdict.drawn.tested[index]
    return {
        "epoch": epoch.number,
        "file": epoch.path.name,
        "digest": verdict.digests[index],
        "why": reason.why,
        "reason": reason.text,
        "decided_by": reason.figure,
        "figures": {
            figure.name: {
                **(_estimate(figure.own(index)) or {}),
                "from_base": _estimate(figure.from_base(index)),
                "from_recommended": None if index == chosen else _estimate(figure.difference(index, chosen)),
            }
            for figure in verdict.figures
        },
        "test": {"breaks": tested.breaks, "text": tested.text},
        "copies": [asdict(copied) for copied in measured.copied[index]] if measured.copied else None,
        "votes": None if verdict.votes is None else _estimate(verdict.votes.own(index)),
    }


def _estimate(value: Estimate | None) -> dict[str, Any] | None:
    if value is None:
        return None
    error = value.standard_error
    return {"mean": value.mean, "standard_error": None if math.isnan(error) else error, "n": value.n}


def verdict_text(verdict: EpochVerdict) -> str:
    """A line for the base and for each epoch, the sentence, and what there is not."""
    rows = [["epoch", *_heads(verdict)], ["base", *_of_base(verdict)]]
    for index, epoch in enumerate(verdict.files.epochs):
        mark = "*" if epoch.number == verdict.decision.epoch else " "
        rows.append([f"{epoch.number}{mark}", *_cells(verdict, index)])
    count, prompts = len(verdict.drawn.base), len(verdict.drawn.grid.prompts)
    lines = [
        *_table(rows),
        "",
        f"means over {count} pictures an epoch ({counted(prompts, 'prompt')}, {verdict.material.source}; "
        f"{counted(len(verdict.seeds), 'seed')}), ± the standard error",
        "",
        verdict.decision.sentence,
        *map(str, verdict.decision.notes),
        *(
            ["", *(f"not measured, or with care: {text}" for text in verdict.measured.missing)]
            if verdict.measured.missing
            else []
        ),
        "",
        f"pictures: {verdict.drawn.folder / 'grid.html'}, to vote in; all figures: {verdict.path}, which "
        f"{verdict.path.with_name(verdict.files.name)}@best reads",
    ]
    return "\n".join(lines)


def _heads(verdict: EpochVerdict) -> list[str]:
    votes = ["votes"] if verdict.votes is not None else []
    copies = ["copies"] if verdict.measured.copied else []
    return [*(figure.name for figure in verdict.figures), *copies, *votes, "0.9 test"]


def _of_base(verdict: EpochVerdict) -> list[str]:
    return [_shown(figure.of_base()) for figure in verdict.figures]


def _cells(verdict: EpochVerdict, index: int) -> list[str]:
    tested = verdict.drawn.tested[index]
    copied = [str(len(verdict.measured.copied[index]))] if verdict.measured.copied else []
    votes = [verdict.votes.own(index).text(0)] if verdict.votes is not None else []
    outcome = "holds" if tested.breaks is None else f"breaks: {tested.text}"
    return [*(_shown(figure.own(index)) for figure in verdict.figures), *copied, *votes, outcome]


def _shown(value: Estimate | None) -> str:
    return "-" if value is None else value.text(3 if abs(value.mean) < 0.1 else 2)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in rows if n < len(row)) for n in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]
