"""What ``run`` and ``merge RECIPE`` share: a recipe's steps as lines, or as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loratools.cli.app import fail_usage, flag_speller
from loratools.cli.options import print_json
from loratools.errors import RecipeError

if TYPE_CHECKING:
    from loratools.recipe.observer import StepResult
    from loratools.recipe.plan.planner import Planner
    from loratools.recipe.plan.step import Planned
    from loratools.recipe.run.estimate import Forecast


@dataclass(frozen=True)
class RunFlags:
    """How to run, from the command line."""

    device: str
    force: bool
    dry_run: bool
    as_json: bool
    settings: tuple[str, ...] = ()
    jobs: int = 1
    cache: Path | None = None
    explain: tuple[str, ...] = ()
    cache_limit: int | None = None  # bytes
    processes: str | None = None
    launch: str | None = None

    def values(self) -> dict[str, str]:
        """Variables from ``--set NAME=VALUE``."""
        pairs = [text.partition("=") for text in self.settings]
        if wrong := [name for name, equals, _ in pairs if not name.strip() or not equals]:
            fail_usage(f"--set {wrong[0]}: write NAME=VALUE, such as --set style_weight=0.8")
        return {name.strip(): value.strip() for name, _, value in pairs}


def run_recipe(recipe: str, only: tuple[str, ...], work: str | None, base: str | None, flags: RunFlags) -> None:
    """Run (or show) the steps named ``only`` and what they need; all of them if none is named."""
    from loratools.recipe.run.runner import default_work, make_planner

    folder = Path(work) if work else default_work(recipe)

    planner = make_planner(recipe, folder, base, flags.values())
    _run_or_show(planner, planner.plan(only or None), flags)


def merge_recipe(recipe: str, out: str | None, base: str | None, flags: RunFlags) -> None:
    """Run (or show) the merge steps of a recipe and what they need. ``out`` is the merged file, or a folder for all."""
    from loratools.library.options import lora_out
    from loratools.recipe.run.runner import default_work, make_planner, targets_of

    is_file = out is not None and Path(out).suffix.lower() == ".safetensors"
    folder = Path(out) if out is not None and not is_file else default_work(recipe)

    planner = make_planner(recipe, folder, base, flags.values())
    targets = targets_of(planner, "merge")
    if out is not None and is_file:
        if len(targets) > 1:
            raise RecipeError(f"{recipe} has several merge steps ({', '.join(targets)}); give each an `out` there")
        planner.outs[targets[0]] = lora_out(out).absolute()
    planned = planner.plan(targets)
    _run_or_show(planner, planned, flags, plans=targets)
    left = [name for name in planner.recipe.steps if name not in {step.name for step in planned}]
    if left and not flags.as_json and not flags.dry_run:
        click.echo(f"not needed for the merge: {', '.join(left)}; `loratools run {recipe}` makes them")


def _run_or_show(planner: Planner, planned: list[Planned], flags: RunFlags, plans: list[str] | None = None) -> None:
    from loratools.recipe.run.launched import check_step_launcher, step_launcher

    check_step_launcher(planner, flags.processes, flags.launch)
    if flags.explain:
        _explain(planner, planned, flags)
        return
    if flags.dry_run:
        _dry_run(planner, planned, flags, plans or [])
        return
    from loratools.recipe.plan.context import RunContext
    from loratools.recipe.report import RunPrinter
    from loratools.recipe.run.cache import DEFAULT_LIMIT
    from loratools.recipe.run.runner import run_steps

    context, spelled = RunContext(flags.device, flags.force, progress=True), flag_speller()
    results = run_steps(
        planned,
        planner.work,
        context,
        cache=flags.cache,
        limit=DEFAULT_LIMIT if flags.cache_limit is None else flags.cache_limit,
        jobs=flags.jobs,
        launch=step_launcher(planner, flags.device, flags.processes, flags.launch),
        observer=RunPrinter(
            planner,
            planned,
            context,
            out=None if flags.as_json else click.echo,
            err=lambda text: click.echo(spelled(text), err=True),
        ),
    )
    if flags.as_json:
        print_json([_facts(done.planned, "cached" if done.cached else "made", done) for done in results])


def _dry_run(planner: Planner, planned: list[Planned], flags: RunFlags, plans: list[str]) -> None:
    from loratools.ops.text_table import table
    from loratools.recipe.run.estimate import forecast
    from loratools.recipe.run.runner import state_of
    from loratools.recipe.run.work_folder import WorkFolder

    folder = WorkFolder(planner.work, flags.cache)
    forecasts = [forecast(step, state_of(folder, step), folder) for step in planned]
    if flags.as_json:
        print_json([_forecast_facts(one) for one in forecasts])
        return
    rows = [["step", "kind", "state", "time", "size", "memory", "basis", "reads", "writes"]]
    rows += [_forecast_row(one) for one in forecasts]
    click.echo(table(rows, left=range(len(rows[0]))))
    for step in planned:
        for warning in step.draft.warnings:
            click.echo(f"warning: {warning}")
    states = {one.planned.name: one.state for one in forecasts}
    for step in planned:
        if step.name in plans:
            _merge_plan(planner, step, states)


def _forecast_facts(forecast: Forecast) -> dict[str, Any]:
    facts = _facts(forecast.planned, forecast.state)
    return {**facts, "estimate": asdict(forecast.estimate), "warnings": list(forecast.planned.draft.warnings)}


def _forecast_row(forecast: Forecast) -> list[str]:
    from loratools.recipe.run.estimate import size_text, time_text
    from loratools.recipe.run.work_folder import short_path

    step, expected = forecast.planned, forecast.estimate
    return [
        step.name,
        step.kind,
        forecast.state,
        time_text(expected.seconds),
        size_text(expected.size),
        size_text(expected.memory),
        expected.basis or "-",
        step.reads or "-",
        short_path(step.out),
    ]


def _explain(planner: Planner, planned: list[Planned], flags: RunFlags) -> None:
    """Print each step that is asked for: its state, and which changes made it stale. Nothing is run."""
    from loratools.recipe.run.runner import state_of
    from loratools.recipe.run.stale import explain
    from loratools.recipe.run.work_folder import WorkFolder

    folder, steps = WorkFolder(planner.work, flags.cache), {step.name: step for step in planned}
    asked = planner.plan(flags.explain) and [steps[name] for name in flags.explain if name in steps]
    if missing := [name for name in flags.explain if name not in steps]:
        raise RecipeError(f"the step '{missing[0]}' is not part of this run, which needs only {', '.join(steps)}")
    changes = {step.name: (state_of(folder, step), explain(step, steps, folder)) for step in asked}
    if flags.as_json:
        print_json([{"step": name, "state": state, "changes": lines} for name, (state, lines) in changes.items()])
        return
    for name, (state, lines) in changes.items():
        click.echo(f"{name}: {state}")
        for line in lines:
            click.echo(f"  {line}")


def _merge_plan(planner: Planner, step: Planned, states: dict[str, str]) -> None:
    """The plan of a merge whose inputs exist, block by block."""
    from loratools.recipe.steps.lora.merge import merge_plan

    waiting = [name for name in step.needs if states[name] != "cached"]
    click.echo("")
    if waiting:
        click.echo(f"{step.name}: the plan by block is known once {', '.join(waiting)} has run")
        return
    click.echo(f"{step.name}:\n{merge_plan(step.name, planner).text()}")


def _facts(step: Planned, state: str, done: StepResult | None = None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "step": step.name,
        "kind": step.kind,
        "state": state,
        "key": step.key,
        "out": str(step.out),
        "inputs": [
            {"name": source.label, "digest": source.digest, "step": source.step} for source in step.draft.inputs
        ],
    }
    if done is not None:
        facts |= {
            "seconds": done.record.seconds,
            "size": done.record.size,
            "memory": done.record.memory,
            "summary": done.record.summary,
            "result": dict(done.record.facts),
        }
    return facts
