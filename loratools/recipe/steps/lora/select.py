"""``select``: one epoch of a run as a file, by the shortlist, by people's votes, or by number."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from loratools.errors import FileError, LoratoolsError, RecipeError
from loratools.files import replacing, sha256
from loratools.ops.merging.merge_string import quoted
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import Terms, one_file, read_terms
from loratools.recipe.plan.paths import digest_of
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.kinds import RUNS
from loratools.recipe.schema.lora_steps import Select
from loratools.recipe.schema.recipe import Step
from loratools.recipe.steps.lora.common import file_out, open_terms, told

REVISION = 1
default_out = file_out
_LABEL = re.compile(r"(?:(?P<name>.+)[@-])?0*(?P<number>\d+)(?:\.safetensors)?")


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Find the run, and the epoch where it is known by now."""
    settings = step.options(Select)
    _check_run(settings.run, name, planner)
    epoch, extra, where = settings.epoch, tuple[StepInput, ...](), "epoch"
    if settings.votes is not None:
        path = planner.paths.find(settings.votes)
        if path is None:
            raise planner.error(name, "select", "votes", message=f"there is no file '{settings.votes}'")
        try:
            epoch = str(winner(path, settings.run))
        except LoratoolsError as error:
            raise planner.error(name, "select", "votes", message=str(error)) from error
        extra, where = (StepInput(settings.votes, path, digest_of(path)),), "votes"
    if not re.fullmatch(r"best|last|\d+(-\d+)?", epoch):
        message = f"'{epoch}' is no epoch; write best, last, a number such as 8, or a range such as 6-8"
        raise planner.error(name, "select", "epoch", message=message)
    terms = read_terms(quoted(f"{settings.run}@{epoch}"), name, planner, {}, "select", where)
    return Draft(
        {"epoch": epoch},
        (*terms.inputs, *extra),
        lambda out, context: _make(out, context, settings, terms, name, planner),
        family=terms.family,
    )


def _check_run(run: str, name: str, planner: Planner) -> None:
    """Raise RecipeError unless ``run`` is a training step or a run on disk."""
    from loratools.adapter.files.epoch_files import epochs

    source = planner.input(run, name, "select", "run")
    if source.step is not None:
        kind = planner.step(source.step).kind
        if kind not in RUNS:
            told = f"the step '{run}' is a {kind}, which has no epochs; name a train or basestyle, or a run on disk"
            raise planner.error(name, "select", "run", message=told)
        return
    try:
        epochs(source.path)
    except LoratoolsError as error:
        raise planner.error(name, "select", "run", message=str(error)) from error


def winner(votes: Path, run: str) -> int:
    """The epoch of ``run`` that people liked best: a grid's exported ``votes.json``, or plain counts.

    Of an export the standings over all weights and prompts decide, and rows that are no epoch of the run do not count.
    Plain counts map ``8``, ``style@8`` or ``style-000008`` to a number; of equals the earlier wins, which is less
    trained.

    Raises:
        FileError, FormatError: if the file is neither, or knows no epoch of the run.
    """
    try:
        told = json.loads(votes.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise FileError(f"{votes} holds no votes ({error}); export them from grid.html with the key E") from error
    if isinstance(told, dict) and "format" in told:
        return _liked(votes, run)
    counts: dict[int, float] = {}
    for label, count in told.items() if isinstance(told, dict) else ():
        if (number := _epoch(label, run)) is not None and isinstance(count, int | float):
            counts[number] = counts.get(number, 0) + count
    if not counts:
        raise FileError(f'{votes} holds no votes for epochs of {run}; it should look like {{"{Path(run).name}@8": 3}}')
    return min(counts, key=lambda number: (-counts[number], number))


def _liked(votes: Path, run: str) -> int:
    from loratools.preview.record.votes import read_votes, standings

    found = standings(read_votes(votes), ["adapter"])
    epochs = [number for standing in found if (number := _epoch(standing.at[0], run)) is not None]
    if not epochs:
        have = ", ".join(standing.at[0] for standing in found)
        raise FileError(f"{votes} holds no votes for epochs of {run}; its rows are {have}")
    return epochs[0]


def _epoch(label: str, run: str) -> int | None:
    """The epoch that a label means, if it is one of this run."""
    found = _LABEL.fullmatch(label)
    return int(found["number"]) if found and found["name"] in (None, run, Path(run).name) else None


def _make(out: Path, context: RunContext, settings: Select, terms: Terms, name: str, planner: Planner) -> Outcome:
    if "-" in (terms.specs[0].epoch or ""):
        from loratools.ops.merging.merge import merge_files

        report = merge_files(open_terms(terms, planner), out, force=context.force, owner=planner.owner(name))
        return told(report)
    path = one_file(terms)
    if out.exists() and not context.force and sha256(out) != sha256(path):
        raise FileError(f"{out} exists and was not written by this step; give it another `out`, or use --force")
    if out.resolve() == path.resolve():
        raise RecipeError(f"the step '{name}' would copy {path} onto itself; give it another `out`")
    with replacing(out) as part:
        shutil.copyfile(path, part)
    return Outcome(f"{path.name}, {out.stat().st_size / 2**20:.1f} MiB", {"chosen": path.name})
