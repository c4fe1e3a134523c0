"""The demo: the shipped recipe on the pocket base, with a line on each step; a second run resumes the first."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.errors import RecipeError
from loratools.file_names import check_writable_name
from loratools.files import write_text
from loratools.launch.launcher import Launcher
from loratools.recipe.demo.next_commands import NextCommand, next_commands
from loratools.recipe.observer import RunObserver, StepFailure, StepResult
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Planned
from loratools.recipe.report import FinishedRun, report_paths, try_report
from loratools.recipe.report.printer import Print
from loratools.recipe.run.launched import StepLauncher
from loratools.recipe.run.runner import make_planner, run_steps
from loratools.recipe.run.work_folder import short_path
from loratools.recipe.shipped import RECIPES
from loratools.yamlio import read_yaml

_STORY = Path(__file__).with_name("demo.yaml")
_LEARNT = 0.5  # the judge's probability of the style, from which on nobody asks whether something went wrong


@dataclass(frozen=True)
class DemoResult:
    """What the demo made. ``scores`` is what the judge read, as in the grid's ``scores.json``; ``next`` is what to try
    with it."""

    out: Path
    recipe: Path
    ran: tuple[StepResult, ...]
    scores: Mapping[str, Any]
    files: Mapping[str, str]
    next: tuple[NextCommand, ...]
    seconds: float


def run_demo(
    out: Path,
    context: RunContext,
    echo: Print,
    *,
    quick: bool = False,
    base: str | None = None,
    recipe: Path | None = None,
    launcher: Launcher | None = None,
) -> DemoResult:
    """Run the demo's recipe into ``out`` and write ``demo.json`` there.

    The recipe is copied into ``out``, where it can be edited; a copy that is there already is used as it is.

    Args:
        echo: prints a line.
        quick: fewer pictures, epochs and cells.
        base, recipe: instead of the pocket and the shipped recipe.
        launcher: of the processes that steps run in.
    Raises:
        LoratoolsError: of the step that fails; what is finished stays.
    """
    begun = time.perf_counter()
    story = read_yaml(_STORY).data
    own_recipe = _copied(recipe or _shipped(quick), out, echo)
    planner = make_planner(own_recipe, out, base)
    planned = planner.plan()
    observer = _DemoPrinter(planner, planned, context, story["captions"], echo, begun)
    echo(
        f"The base is {planner.paths.base}. Everything goes to {short_path(out)}; "
        f"the recipe is {short_path(own_recipe)}."
    )
    launch = None if launcher is None else StepLauncher(launcher, planner)
    ran = run_steps(planned, out, context, launch=launch, observer=observer)
    result = _result(out, own_recipe, planner, ran, time.perf_counter() - begun)
    write_text(out / "demo.json", json.dumps(_facts(result), indent=1, ensure_ascii=False) + "\n")
    _print_scores(result, story["scores"], echo)
    if quick and not is_learnt(result.scores):
        echo(f"\n{story['unfinished']}")
    _print_end(result, echo)
    return result


def is_learnt(scores: Mapping[str, Any]) -> bool:
    """Whether the judge sees the style in the last row, which is the merged file; True where nothing was scored."""
    return not scores or scores["rows"][-1]["style"] >= _LEARNT


@dataclass
class _DemoPrinter(RunObserver):
    """Prints a chapter for each step of the demo, and writes the report at its end.

    Args:
        captions: kind of step -> what it is for.
        begun: when the demo began, in ``time.perf_counter``'s seconds.
    """

    planner: Planner
    steps: Sequence[Planned]
    context: RunContext
    captions: Mapping[str, str]
    echo: Print
    begun: float
    chapter: int = 0

    def on_start(self, planned: Planned) -> None:
        self.chapter += 1
        self.echo(f"\n{self.chapter}/{len(self.steps)}  {self.captions.get(planned.kind, planned.kind)}")

    def on_done(self, result: StepResult) -> None:
        if result.cached:
            self.on_start(result.planned)
        state = "already there" if result.cached else f"{result.record.seconds:.1f} s"
        self.echo(f"     {short_path(result.planned.out)}: {result.record.summary}  ({state})")

    def on_note(self, text: str) -> None:
        self.echo(text)

    def on_end(self, results: Sequence[StepResult], failures: Sequence[StepFailure]) -> None:
        seconds = time.perf_counter() - self.begun
        try_report(FinishedRun(self.planner, self.steps, results, failures, self.context, seconds), self.echo)


def _shipped(quick: bool) -> Path:
    name: str = read_yaml(_STORY).data["recipes"]["quick" if quick else "full"]
    return RECIPES / name


def _copied(shipped: Path, out: Path, echo: Print) -> Path:
    own_recipe = out / shipped.name
    if out.is_file():
        raise RecipeError(f"{out} is a file; the demo needs a folder, so give another")
    if not own_recipe.exists():
        check_writable_name(out)
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shipped, own_recipe)
    elif own_recipe.read_bytes() != shipped.read_bytes():
        echo(f"Using {short_path(own_recipe)} as it was edited; delete it to start from the shipped one.")
    return own_recipe


def _result(out: Path, own_recipe: Path, planner: Planner, ran: list[StepResult], seconds: float) -> DemoResult:
    grids = [done for done in ran if done.planned.kind == "grid"]
    scores: Mapping[str, Any] = next(
        (done.record.facts["scores"] for done in grids if "scores" in done.record.facts), {}
    )
    files = {done.planned.name: str(done.planned.out) for done in ran}
    for done in grids:
        files["sheet"] = str(done.planned.out / "grid.png")
        files["page"] = str(done.planned.out / "grid.html")
    files["report"] = str(report_paths(planner)[1])
    return DemoResult(
        out=out,
        recipe=own_recipe,
        ran=tuple(ran),
        scores=scores,
        files=files,
        next=next_commands(planner, ran, out, own_recipe, scores),
        seconds=seconds,
    )


def _facts(result: DemoResult) -> dict[str, Any]:
    steps = [
        {
            "step": done.planned.name,
            "kind": done.planned.kind,
            "out": str(done.planned.out),
            "key": done.planned.key,
            "cached": done.cached,
            "seconds": done.record.seconds,
            "summary": done.record.summary,
        }
        for done in result.ran
    ]
    return {
        "recipe": str(result.recipe),
        "seconds": round(result.seconds, 3),
        "steps": steps,
        "scores": dict(result.scores),
        "files": dict(result.files),
        "next": [own.command for own in result.next],
        "why": [own.why for own in result.next],
    }


def _print_scores(result: DemoResult, text: str, echo: Print) -> None:
    if not result.scores:
        return
    scores = result.scores
    rows = [{"label": "base alone", **scores["base"]}, *scores["rows"]]
    width = max(len(row["label"]) for row in rows)
    echo(f"\n{text.format(weight=scores['weight'], style=scores['style'])}\n")
    echo(f"  {'':<{width}}  style  tags   defects  hands")
    for row in rows:
        hands = row["faults"].get("hands", 0.0)
        echo(
            f"  {row['label']:<{width}}  {row['style']:>5.2f}  {100 * row['obedience']:>3.0f} %  "
            f"{row['defects']:>7.2f}  {hands:>5.2f}"
        )


def _print_end(result: DemoResult, echo: Print) -> None:
    echo(f"\nDone in {result.seconds:.0f} s. Look at:")
    for name in ("sheet", "page", "report"):
        if name in result.files:
            echo(f"  {short_path(Path(result.files[name]))}")
    echo(f"  {short_path(result.out)}\n\nThen try")
    for own in result.next:
        echo(f"  {own.why}\n    {own.command}")
