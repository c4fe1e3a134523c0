"""``select``: one epoch of a run as a file, by the shortlist, by people's votes, or by number."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator

from loratools.adapter.files.epoch_files import labelled_epoch
from loratools.errors import FileError, LoratoolsError, RecipeError
from loratools.files import replacing, sha256
from loratools.ops.merging.merge_string import quoted
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import Terms, one_file, read_terms
from loratools.recipe.plan.paths import digest_of
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.fields import NumberText, Short
from loratools.recipe.schema.kinds import StepKind
from loratools.recipe.steps.lora.common import outcome_of


class Select(Short):
    """One epoch of a run as a file: a byte-for-byte copy."""

    shorthand: ClassVar[str] = "run"
    run: str = Field(description="a train or basestyle step, or a run on disk")
    epoch: NumberText = Field(
        "best", description="best (the verdict's or the shortlist's), last, a number, or 6-8 for the mean of several"
    )
    votes: str | None = Field(
        None,
        description="instead of epoch: the votes.json that grid.html exports, or a JSON file of {label: count}",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Select:
        if self.votes is not None and "epoch" in self.model_fields_set:
            raise ValueError("give either 'epoch' or 'votes', not both")
        return self


KIND = StepKind("select", Select, "lora")


def draft(request: StepRequest) -> Draft:
    """Find the run, and the epoch where it is known by now."""
    options = request.options(Select)
    _check_run(options.run, request)
    epoch, votes, key = options.epoch, tuple[StepInput, ...](), "epoch"
    if options.votes is not None:
        path = request.paths.find(options.votes)
        if path is None:
            raise request.error("votes", message=f"there is no file '{options.votes}'")
        try:
            epoch = str(winner(path, options.run))
        except LoratoolsError as error:
            raise request.error("votes", message=str(error)) from error
        votes, key = (StepInput(options.votes, path, digest_of(path)),), "votes"
    if not re.fullmatch(r"best|last|\d+(-\d+)?", epoch):
        message = f"'{epoch}' is no epoch; write best, last, a number such as 8, or a range such as 6-8"
        raise request.error("epoch", message=message)
    terms = read_terms(quoted(f"{options.run}@{epoch}"), request, {}, key)
    copies = "-" not in epoch
    return Draft(
        {"epoch": epoch},
        (*terms.inputs, *votes),
        (CopyStep(request, terms) if copies else MeanStep(request, terms)).make,
        family=terms.family,
        copies=copies,
    )


def _check_run(run: str, request: StepRequest) -> None:
    """Raise RecipeError unless ``run`` is a training step or a run on disk."""
    from loratools.adapter.files.epoch_files import epochs

    item = request.input(run, "run")
    if item.step is not None:
        planned = request.planner.step(item.step)
        if planned.step_kind.makes != "run":
            makes = f"the step '{run}' is a {planned.kind}, which has no epochs"
            message = f"{makes}; name a train or basestyle, or a run on disk"
            raise request.error("run", message=message)
        return
    try:
        epochs(item.path)
    except LoratoolsError as error:
        raise request.error("run", message=str(error)) from error


def winner(votes: Path, run: str) -> int:
    """The epoch of ``run`` that people liked best: a grid's exported ``votes.json``, or plain counts.

    Of an export the standings over all weights and prompts decide, and rows that are no epoch of the run do not count.
    Plain counts map ``8``, ``style@8`` or ``style-000008`` to a number; of equals the earlier wins, which is less
    trained.

    Raises:
        FileError, FormatError: if the file is neither, or knows no epoch of the run.
    """
    try:
        content = json.loads(votes.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise FileError(f"{votes} holds no votes ({error}); export them from grid.html with the key E") from error
    if isinstance(content, dict) and "format" in content:
        return _liked(votes, run)
    counts: dict[int, float] = {}
    for label, count in content.items() if isinstance(content, dict) else ():
        if (number := labelled_epoch(label, run)) is not None and isinstance(count, int | float):
            counts[number] = counts.get(number, 0) + count
    if not counts:
        raise FileError(f'{votes} holds no votes for epochs of {run}; it should look like {{"{Path(run).name}@8": 3}}')
    return min(counts, key=lambda number: (-counts[number], number))


def _liked(votes: Path, run: str) -> int:
    from loratools.measures.votes.votes_file import read_votes, standings

    ranked = standings(read_votes(votes), ["adapter"])
    epochs = [number for standing in ranked if (number := labelled_epoch(standing.at[0], run)) is not None]
    if not epochs:
        have = ", ".join(standing.at[0] for standing in ranked)
        raise FileError(f"{votes} holds no votes for epochs of {run}; its rows are {have}")
    return epochs[0]


@dataclass(frozen=True)
class MeanStep:
    """A ``select`` of several epochs, of which it makes the mean."""

    request: StepRequest
    terms: Terms

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Write the LoRA ``out``."""
        from loratools.ops.merging.merge import merge_files
        from loratools.ops.merging.terms import resolve_terms

        terms = resolve_terms(self.terms.specs, self.terms.lookup(), presets={})
        report = merge_files(terms, out, force=context.force, owner=self.request.owner, recipe=context.recipe())
        return outcome_of(report)


@dataclass(frozen=True)
class CopyStep:
    """A ``select`` of one epoch, whose file it copies."""

    request: StepRequest
    terms: Terms

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Copy the epoch's file to ``out``.

        Raises:
            FileError: if another file is there, without ``force``.
            RecipeError: if ``out`` is the epoch's file itself.
        """
        path = one_file(self.terms)
        if out.exists() and not context.force and sha256(out) != sha256(path):
            raise FileError(
                f"{out} exists and was not written by this step; give it another `out`, or use `force=True`"
            )
        if out.resolve() == path.resolve():
            message = f"the step '{self.request.name}' would copy {path} onto itself; give it another `out`"
            raise RecipeError(message)
        with replacing(out) as part:
            shutil.copyfile(path, part)
        return Outcome(f"{path.name}, {out.stat().st_size / 2**20:.1f} MiB", {"chosen": path.name})
