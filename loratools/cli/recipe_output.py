"""What ``run`` and ``merge RECIPE`` share: a recipe's steps as lines, or as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loratools.cli.app import INTERRUPTED, fail_usage
from loratools.cli.options import print_json, safetensors_out
from loratools.errors import RecipeError

if TYPE_CHECKING:
    from loratools.recipe.plan.context import RunContext
    from loratools.recipe.plan.planner import Planner
    from loratools.recipe.plan.step import Planned
    from loratools.recipe.run.runner import OnEnd, Ran
    from loratools.recipe.run.scheduler import Failure


@dataclass(frozen=True)
class Flags:
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

    def values(self) -> dict[str, str]:
        """Variables from ``--set NAME=VALUE``."""
        pairs = [text.partition("=") for text in self.settings]
        if wrong := [name for name, equals, _ in pairs if not name.strip() or not equals]:
            fail_usage(f"--set {wrong[0]}: write NAME=VALUE, such as --set style_weight=0.8")
        return {name.strip(): value.strip() for name, _, value in pairs}


def run_recipe(recipe: str, only: tuple[str, ...], work: str | None, base: str | None, flags: Flags) -> None:
    """Run (or show) the steps named ``only`` and what they need; all of them if none is named."""
    from loratools.recipe.run.runner import make_planner, usual_work

    place = Path(work) if work else usual_work(recipe)

    def plan() -> tuple[Planner, list[Planned]]:
        planner = make_planner(recipe, place, base, flags.values())
        return planner, planner.plan(only or None)

    if not helped(place, lambda: plan()[1], flags):
        _show(*plan(), flags)


def merge_recipe(recipe: str, out: str | None, base: str | None, flags: Flags) -> None:
    """Run (or show) the merge steps of a recipe and what they need. ``out`` is the merged file, or a folder for all."""
    from loratools.recipe.run.runner import make_planner, targets_of, usual_work

    is_file = out is not None and Path(out).suffix.lower() == ".safetensors"
    place = Path(out) if out is not None and not is_file else usual_work(recipe)

    def plan() -> tuple[Planner, list[Planned], list[str]]:
        planner = make_planner(recipe, place, base, flags.values())
        targets = targets_of(planner, "merge")
        if out is not None and is_file:
            if len(targets) > 1:
                raise RecipeError(f"{recipe} has several merge steps ({', '.join(targets)}); give each an `out` there")
            planner.outs[targets[0]] = safetensors_out(out).absolute()
        return planner, planner.plan(targets), targets

    if helped(place, lambda: plan()[1], flags):
        return
    planner, planned, targets = plan()
    _show(planner, planned, flags, plans=targets)
    left = [name for name in planner.recipe.steps if name not in {step.name for step in planned}]
    if left and not flags.as_json and not flags.dry_run:
        click.echo(f"not needed for the merge: {', '.join(left)}; `loratools run {recipe}` makes them")


def helped(work: Path, plan: Callable[[], Sequence[Planned]], flags: Flags) -> bool:
    """Whether this is not the first of the processes that a launcher started; then it has taken part in the first's run
    of the steps that ``plan`` finds."""
    from loratools.launch import Rank

    rank = Rank.here()
    if rank.main or flags.explain or flags.dry_run:
        return not rank.main
    from loratools.recipe.launch.worker import follow
    from loratools.recipe.plan.context import RunContext

    try:
        follow(work, rank, plan, RunContext(flags.device, flags.force))
    except KeyboardInterrupt:  # the first process tells of it
        click.get_current_context().exit(INTERRUPTED)
    return True


def _show(planner: Planner, planned: list[Planned], flags: Flags, plans: list[str] | None = None) -> None:
    if flags.explain:
        _explain(planner, planned, flags)
        return
    if flags.dry_run:
        _dry_run(planner, planned, flags, plans or [])
        return
    from loratools.launch import Rank
    from loratools.recipe.plan.context import RunContext
    from loratools.recipe.run.cache import DEFAULT_LIMIT
    from loratools.recipe.run.runner import run_steps

    limit = DEFAULT_LIMIT if flags.cache_limit is None else flags.cache_limit
    context = RunContext(flags.device, flags.force, progress=True)
    width = max(len(step.name) for step in planned)
    ran = run_steps(
        planned,
        planner.work,
        context,
        cache=flags.cache,
        limit=limit,
        jobs=flags.jobs,
        rank=Rank.here(),
        on_fail=_teller(),
        on_note=lambda text: click.echo(text, err=True),
        on_done=None if flags.as_json else lambda done: _line(done, width),
        on_end=_reporter(planner, planned, context, quiet=flags.as_json),
        on_wait=_waiting,
    )
    if flags.as_json:
        print_json([_facts(done.planned, "cached" if done.cached else "made", done) for done in ran])


def _line(done: Ran, width: int) -> None:
    from loratools.recipe.run.work_folder import shown

    step, record = done.planned, done.record
    state = "cached" if done.cached else f"{record.seconds:.1f} s"
    source = f"{step.reads} -> " if step.reads else ""
    click.echo(f"{step.name:<{width}}  {step.kind:<9}  {state:>8}  {source}{shown(step.out)}: {record.summary}")


def _waiting(step: Planned) -> None:
    click.echo(f"the step '{step.name}' waits: another process is making the very same for this cache", err=True)


def _teller() -> Callable[[Failure], None]:
    """Tells of failures on stderr as they come; of the first not why, since that is the error that ends the run."""
    failed: list[str] = []

    def tell(failure: Failure) -> None:
        why = f": {failure.error}" if failed else ""
        failed.append(failure.planned.name)
        lost = f"; not run, since they need it: {', '.join(failure.skipped)}" if failure.skipped else ""
        click.echo(f"the step '{failure.planned.name}' failed{lost}{why}", err=True)

    return tell


def _reporter(planner: Planner, planned: list[Planned], context: RunContext, *, quiet: bool) -> OnEnd:
    """Writes ``run.json`` and ``report.html`` when a run has ended, and says where."""
    import time

    from loratools.recipe.report import Told, try_report
    from loratools.recipe.run.work_folder import shown

    begun = time.perf_counter()

    def ended(ran: Sequence[Ran], failures: Sequence[Failure]) -> None:
        told = Told(planner, planned, ran, failures, context, time.perf_counter() - begun)
        page = try_report(told, lambda line: click.echo(line, err=True))
        if page is not None and not quiet:
            click.echo(f"report: {shown(page)}")
        if failures:
            click.echo(
                "what is done stays; to go on, mend what the error names and run the same command again", err=True
            )

    return ended


def _dry_run(planner: Planner, planned: list[Planned], flags: Flags, plans: list[str]) -> None:
    from loratools.recipe.run.estimate import Estimate, estimate, size_text, time_text
    from loratools.recipe.run.runner import state_of
    from loratools.recipe.run.work_folder import Store, shown

    store = Store(planner.work, flags.cache)
    states = {step.name: state_of(store, step) for step in planned}
    expected = {
        step.name: Estimate(None, None, None, "")
        if states[step.name] in ("cached", "kept")
        else estimate(step, store.record(step.name), store.cache)
        for step in planned
    }
    if flags.as_json:
        print_json([{**_facts(step, states[step.name]), "estimate": asdict(expected[step.name])} for step in planned])
        return
    rows = [["step", "kind", "state", "time", "size", "memory", "basis", "reads", "writes"]]
    for s in planned:
        told = expected[s.name]
        rows.append(
            [
                s.name,
                s.kind,
                states[s.name],
                time_text(told.seconds),
                size_text(told.size),
                size_text(told.memory),
                told.basis or "-",
                s.reads or "-",
                shown(s.out),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for step in planned:
        if step.name in plans:
            _merge_plan(planner, step, states)


def _explain(planner: Planner, planned: list[Planned], flags: Flags) -> None:
    """Of each step that is asked for: its state, and which changes made it stale. Nothing is run."""
    from loratools.recipe.run.runner import state_of
    from loratools.recipe.run.stale import explain
    from loratools.recipe.run.work_folder import Store

    store, steps = Store(planner.work, flags.cache), {step.name: step for step in planned}
    asked = planner.plan(flags.explain) and [steps[name] for name in flags.explain if name in steps]
    if lacking := [name for name in flags.explain if name not in steps]:
        raise RecipeError(f"the step '{lacking[0]}' is not part of this run, which needs only {', '.join(steps)}")
    told = {step.name: (state_of(store, step), explain(step, steps, store)) for step in asked}
    if flags.as_json:
        print_json([{"step": name, "state": state, "changes": lines} for name, (state, lines) in told.items()])
        return
    for name, (state, lines) in told.items():
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


def _facts(step: Planned, state: str, done: Ran | None = None) -> dict[str, Any]:
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
