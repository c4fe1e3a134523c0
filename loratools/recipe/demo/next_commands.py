"""What to try after the demo: commands that work as they stand, each with a sentence why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loratools.recipe.observer import StepResult
from loratools.recipe.plan.planner import Planner
from loratools.recipe.run.work_folder import short_path
from loratools.recipe.steps.lora.merge import Merge
from loratools.recipe.steps.pictures.grid_options import Grid

_WORTH = 0.2  # grades beyond the base's own, of 3: less than this is within the noise of so few pictures

_TIME = "about 8 minutes on two idle CPU cores"


@dataclass(frozen=True)
class NextCommand:
    """``command`` for a shell, and why to try it."""

    command: str
    why: str


@dataclass(frozen=True)
class WorstDefect:
    """The defect that a row of the demo's grid shows most of beyond the base: mean grades, 0 none to 3 bad."""

    name: str
    grade: float
    base: float

    @staticmethod
    def of(scores: Mapping[str, Any]) -> WorstDefect | None:
        """That of the last row, which is the merged file; None where nothing was scored."""
        if not scores:
            return None
        row, base = scores["rows"][-1]["faults"], scores["base"]["faults"]
        name = max(row, key=lambda own: row[own] - base.get(own, 0.0))
        return WorstDefect(name, row[name], base.get(name, 0.0))

    @property
    def why(self) -> str:
        """Why to search for a vector, or why the demo itself does not."""
        grades = f"{self.name} {self.grade:.2f} of 3, the base's own {self.base:.2f}"
        if self.grade - self.base < _WORTH:
            return (
                f"a search for the vector, {_TIME}; this LoRA has next to nothing to mend ({grades}), so the demo "
                "leaves it to you:"
            )
        return f"what this LoRA has most of is {grades}: a search for the vector that mends it, {_TIME}:"


def next_commands(
    planner: Planner, ran: Sequence[StepResult], out: Path, own_recipe: Path, scores: Mapping[str, Any]
) -> tuple[NextCommand, ...]:
    """Three commands with this very demo's files; a search for the vector needs the judge, which knows the pocket."""
    base = "" if planner.paths.base == planner.recipe.base else f" --base {_quoted(planner.paths.base)}"
    again = f"loratools run {_quoted(short_path(own_recipe))} -o {_quoted(short_path(out))}{base}"
    run = NextCommand(again, f"a number of {short_path(own_recipe)} edited; only what depends on it is made anew:")
    merges = [done for done in ran if done.planned.kind == "merge"]
    if not merges:
        return (run,)
    merged = merges[-1].planned
    terms = _with_places(planner.recipe.steps[merged.name].options(Merge).terms, planner)
    file = _quoted(short_path(merged.out))
    grid = (
        f"loratools grid {_quoted(terms)} {file} --base {_quoted(planner.paths.base)} --prompt "
        f"{_quoted(_prompt(planner))} --seed 7 -o {_quoted(short_path(out / 'try'))}"
    )
    look = NextCommand(grid, "the sum before it is written beside the file, which is the same picture:")
    worst = WorstDefect.of(scores)
    if planner.paths.base == "pocket" and worst is not None:
        tune = f"--base pocket --symptom {worst.name} --quick -o {_quoted(short_path(out / 'tuned'))}"
        return (NextCommand(f"loratools blocks tune {_quoted(terms)} {tune}", worst.why), run, look)
    verify = f"loratools verify {file} {_quoted(terms)}"
    return (run, NextCommand(verify, "the merge computed again in float64, and its error by block:"), look)


def _with_places(text: str, planner: Planner) -> str:
    """A merge string of step names as one of paths."""
    from loratools.ops.merging.merge_string import parse_merge_string

    steps = planner.recipe.steps
    specs = parse_merge_string(text)
    placed = [replace(s, ref=short_path(planner.step(s.ref).out)) if s.ref in steps else s for s in specs]
    return re.sub(r":(-?\d+)\.0\b", r":\1", ",".join(spec.text() for spec in placed))  # 1, as a person writes it


def _prompt(planner: Planner) -> str:
    grids = [step.options(Grid) for step in planner.recipe.steps.values() if step.kind == "grid"]
    return grids[-1].prompts[0] if grids else "1girl"


def _quoted(text: str) -> str:
    """For a shell of any system; what needs no quotes gets none."""
    plain = text and all(letter.isalnum() or letter in "/\\._-+@:" for letter in text)
    return text if plain else '"' + text.replace('"', '\\"') + '"'
