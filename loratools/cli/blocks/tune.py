"""``loratools blocks tune``"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loratools.cli.app import Command, fail_usage
from loratools.cli.blocks.answers import asking, choose, with_flags
from loratools.cli.launched import launched
from loratools.cli.options import (
    DTYPES,
    as_object,
    device_option,
    force_option,
    json_option,
    key_options,
    launch_options,
    lora_options,
    print_json,
)

if TYPE_CHECKING:
    from loratools.library.terms import TermReading
    from loratools.ops.merging.terms import Term
    from loratools.recipe.edit.log import EditResult
    from loratools.tune.problem.request import TuneRequest
    from loratools.tune.progress import OnProgress
    from loratools.tune.report.result import TuneResult


@dataclass(frozen=True)
class TuneFlags:
    """What ``blocks tune`` is asked for, by the names of its options."""

    what: str
    base: str | None
    symptom: tuple[str, ...]
    out: str
    measure: tuple[str, ...]
    prompts: tuple[str, ...]
    seeds: str | None
    keep: float
    lowest: float | None
    highest: float | None
    amount: bool
    epochs_by_block: str | None
    budget: str | None
    quick: bool
    then: tuple[str, ...]
    merge: str | None
    training: str | None
    votes: str | None
    terminal: bool
    negative: str | None
    steps: int | None
    cfg: float | None
    sampler: str | None
    frames: int | None
    size: str | None
    batch_size: int
    search_seed: int
    lora_dirs: tuple[str, ...]
    presets: str | None
    missing: str | None
    allow_unknown: bool
    drop: tuple[str, ...]
    processes: str | None
    launch: str | None
    device: str
    dtype: str | None
    as_json: bool
    force: bool


@click.command("tune", cls=Command, together=True)
@click.argument("what", metavar="LORA|STACK|RUN@8|RECIPE")
@click.option("--base", help="Diffusers folder, single file, hub id, or pocket.  [a recipe: its own]")
@click.option(
    "--symptom",
    multiple=True,
    required=True,
    metavar="NAME",
    help="hands, limbs, face, clothes, chaos or style. Repeatable.",
)
@click.option(
    "-o", "--out", required=True, type=click.Path(), help="Folder for the LoRA, the figures and the pictures."
)
@click.option(
    "--measure",
    multiple=True,
    metavar="HOW",
    help="judge, votes (pairs to choose from), marks (pictures to mark), marks=VOTES.json, like=DIR with unlike=DIR, "
    "python=MODULE:FUNCTION or command=COMMAND. Repeatable.  "
    "[default: judge, which reads the pocket base's pictures]",
)
@click.option(
    "--prompts",
    multiple=True,
    metavar="FILE",
    help="A file of prompts, one a line, or a prompt; half are kept for the report. Repeatable.  [default: a recipe's "
    "grid's, else made of the LoRA's training tags]",
)
@click.option(
    "--seeds",
    help="Of the search, 1,2 or 1-4; the report has others.  [default: from 1, as many as make enough pictures]",
)
@click.option("--keep", type=float, default=0.95, show_default=True, help="Share of the style that has to stay.")
@click.option(
    "--lowest",
    type=float,
    help="Least block weight that is tried; below 0 a block is subtracted. 0 with --highest 1.4 keeps to what people "
    "write, which repairs less.  [default: -0.5]",
)
@click.option("--highest", type=float, help="Greatest block weight that is tried.  [default: 1.8]")
@click.option("--amount", is_flag=True, help="Search the amount of the subtracted LoRA (of negative weight) as well.")
@click.option(
    "--epochs-by-block",
    metavar="EPOCH",
    help="Of a run: search how much of each block comes from this earlier epoch as well.",
)
@click.option("--budget", metavar="TIME", help="Stop in time with the best so far: 10m, 90s or 1h30m.")
@click.option("--quick", is_flag=True, help="A third of the pictures.")
@click.option(
    "--then",
    multiple=True,
    metavar="WAY",
    help="Go on from what was found: picks trains on with the LoRA's best pictures, defect-lora subtracts what its bad "
    "ones teach, search searches again. Each is taken only where held-out pictures say so. Repeatable, in order.",
)
@click.option("--merge", metavar="STEP", help="Recipe: the merge step that is meant, where there are several.")
@click.option("--training", type=click.Path(), help="Folder of the training pictures, which some measures look at.")
@click.option(
    "--votes",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="The votes.json that a page of this tune exported, where it was not saved beside that page.",
)
@click.option("--terminal", is_flag=True, help="With --measure votes: choose here, between two picture files.")
@click.option("--negative", help="The negative prompt.")
@click.option("--steps", type=int, help="Sampler steps of the report's pictures; the search's take fewer.")
@click.option("--cfg", type=float, help="Guidance.  [default: the base's]")
@click.option("--sampler", help="The WebUI's sampler and schedule type, as in `grid`.  [default: the base's]")
@click.option("--frames", type=int, help="Of a video base's videos, whose middle is shown.  [default: the base's]")
@click.option("--size", help="WIDTHxHEIGHT.  [default: the base's]")
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True, help="Pictures at once.")
@click.option("--search-seed", type=int, default=1, show_default=True, help="Of the search's own choices.")
@lora_options
@key_options
@launch_options
@device_option
@click.option("--dtype", type=DTYPES, help="Compute type.  [default: fp32 on a CPU; else SD fp16, others bf16]")
@json_option
@force_option
@as_object(TuneFlags)
def tune(flags: TuneFlags) -> None:
    """Find the block vector that repairs a LoRA, by looking at its pictures.

    The blocks of the first LoRA of positive weight are searched, so that the symptom is least while style and tags
    stay. What comes out is shown beside the base, the whole LoRA, the guide's rule and the best plain strength, on
    prompts and seeds that the search never saw; where it does not beat plain strength, plain strength is the answer.

    DIR gets tuned.safetensors, tune.json, sheet.png and frontier.png. A RECIPE's vector is edited in place, and `blocks
    undo` takes it back. A tune that is stopped goes on where it was; Ctrl-C and --budget end it with the best so far.

    \b
      loratools blocks tune runs/ink/style@8 --base pocket --symptom hands -o tuned
      loratools blocks tune "style:1:GP1,base_style:-1:GP2" --base model.safetensors --symptom face \\
          --measure like=good --measure unlike=bad --prompts prompts.txt -o tuned
      loratools blocks tune my_style.yaml --symptom hands --quick -o tuned
      loratools blocks tune runs/ink/style@8 --base pocket --symptom hands --then picks -o tuned
    """
    from loratools.measures.request import asks_for_marks, asks_for_votes

    request = _request(flags)
    voted = asks_for_votes(request.measures)
    if flags.votes and not (voted or asks_for_marks(request.measures)):
        fail_usage(
            "--votes answers what a tune asks, with --measure votes or marks; stars of a grid are --measure marks=FILE"
        )
    if flags.terminal and not voted:
        fail_usage("--terminal asks for choices here; it goes with --measure votes")
    with asking():
        _tune(flags, request)


def _tune(flags: TuneFlags, request: TuneRequest) -> None:
    if flags.what.lower().endswith((".yaml", ".yml")):
        _recipe(flags, request)
    else:
        _terms(flags, request)


def _request(flags: TuneFlags) -> TuneRequest:
    from loratools.measures.request import MeasureRequest, parse_measures
    from loratools.preview.request.numbers import parse_seeds, parse_size
    from loratools.preview.request.read_prompts import read_prompts
    from loratools.preview.request.request import SamplingRequest
    from loratools.tune.problem.effort import FULL, QUICK
    from loratools.tune.problem.request import TuneRequest, parse_duration, sorted_symptoms
    from loratools.tune.problem.then import read_ways
    from loratools.tune.problem.weight_range import HIGHEST, LOWEST, WeightRange

    size = parse_size(flags.size) if flags.size else None
    prompts = read_prompts(flags.prompts, lambda text: Path(text) if Path(text).is_file() else None)
    return TuneRequest(
        sorted_symptoms(flags.symptom),
        tuple(prompts),
        parse_measures(flags.measure) or (MeasureRequest("judge"),),
        tuple(parse_seeds(flags.seeds)) if flags.seeds else (),
        flags.keep,
        flags.amount,
        QUICK if flags.quick else FULL,
        None if flags.budget is None else parse_duration(flags.budget),
        flags.search_seed,
        SamplingRequest(flags.negative, flags.steps, flags.cfg, flags.sampler, size, frames=flags.frames),
        None if flags.training is None else Path(flags.training),
        flags.batch_size,
        read_ways(flags.then),
        WeightRange(
            LOWEST if flags.lowest is None else flags.lowest, HIGHEST if flags.highest is None else flags.highest
        ),
    )


def _terms(flags: TuneFlags, request: TuneRequest) -> None:
    if flags.base is None:
        fail_usage("which base are the pictures drawn with? give --base, such as --base pocket")
    if flags.merge:
        fail_usage("--merge goes with a recipe")
    if launched(flags.processes, flags.launch, flags.device, flags.out):
        return
    from loratools.base.any_base import load_any_base
    from loratools.library.terms import TermReading, short_terms
    from loratools.train.distributed import joined
    from loratools.tune.tuning import OWNER, tune

    missing = None if flags.missing is None else float(flags.missing)
    reading = TermReading(flags.lora_dirs, flags.presets, missing, allow_unknown=flags.allow_unknown, drop=flags.drop)
    terms = reading.terms(flags.what)
    earlier = _earlier(flags, reading) if flags.epochs_by_block else None
    with joined(flags.device) as (ranks, device), _bar(ranks.main) as on_progress:
        result = tune(
            load_any_base(flags.base, device=device, dtype=flags.dtype),
            terms,
            request,
            Path(flags.out),
            on_progress=on_progress,
            on_note=_note if ranks.main else None,
            owner=f"{OWNER} {short_terms(flags.what)}",
            force=flags.force,
            ranks=ranks,
            earlier=earlier,
            votes=None if flags.votes is None else Path(flags.votes),
            chooser=choose if flags.terminal else None,
        )
    if ranks.main:
        _print(result, flags)


def _earlier(flags: TuneFlags, reading: TermReading) -> Term:
    """The earlier epoch that ``--epochs-by-block`` names, of the run whose blocks are tuned."""
    from loratools.ops.merging.merge_string import parse_merge_string

    spec = next((spec for spec in parse_merge_string(flags.what) if spec.weight > 0), None)
    if spec is None or not str(flags.epochs_by_block).isdecimal():
        fail_usage("--epochs-by-block takes the number of an epoch of the run whose blocks are tuned, such as 4")
    (term,) = reading.resolved([replace(spec, epoch=flags.epochs_by_block, vector_text=None)])
    return term


def _recipe(flags: TuneFlags, request: TuneRequest) -> None:
    if flags.lora_dirs or flags.presets or flags.missing:
        fail_usage("--lora-dir, --presets and --missing stand in the recipe itself")
    if flags.then:
        fail_usage(
            "--then trains, and no number of a recipe's vector can hold what was learnt; give the LoRA itself, or a "
            "`tune` step with `then:` in the recipe"
        )
    if flags.epochs_by_block:
        fail_usage("--epochs-by-block goes with a run; a recipe's merge has no place for a second epoch of each block")
    from loratools.cli.blocks.fix import own_recipe
    from loratools.launch.launcher import make_launcher
    from loratools.recipe.plan.context import RunContext
    from loratools.recipe.run.runner import find_recipe
    from loratools.recipe.tune_merge import make_needed, tune_recipe
    from loratools.train.distributed import joined

    path, context = own_recipe(find_recipe(flags.what)), RunContext(flags.device, flags.force, progress=True)
    if flags.processes or flags.launch:  # what the merge reads, before several processes look at its pictures
        launcher = make_launcher(flags.processes, flags.launch, flags.device)
        make_needed(path, context, merge=flags.merge, base=flags.base, launcher=launcher)
    if launched(flags.processes, flags.launch, flags.device, flags.out):
        return
    with joined(flags.device) as (ranks, device), _bar(ranks.main) as on_progress:
        tuned = tune_recipe(
            path,
            request,
            Path(flags.out),
            replace(context, device=device),
            merge=flags.merge,
            base=flags.base,
            dtype=flags.dtype,
            ranks=ranks,
            on_progress=on_progress,
            on_note=_note if ranks.main else None,
            votes=None if flags.votes is None else Path(flags.votes),
            chooser=choose if flags.terminal else None,
        )
    if ranks.main:
        _print(tuned.result, flags, tuned.edit)


def _print(result: TuneResult, flags: TuneFlags, edit: EditResult | None = None) -> None:
    if flags.as_json:
        print_json({**result.json(), **({} if edit is None else {"recipe": edit.json()})})
        return
    click.echo(with_flags(result.text()))
    if edit is not None:
        click.echo("\n".join(edit.lines()))
        if edit.written:
            click.echo(f"{edit.recipe} was edited; `loratools blocks undo {edit.recipe}` goes back")
        else:
            click.echo(f"{edit.recipe} stays as it is")
    click.echo(f"{result.file}\n{result.sheet}\n{result.frontier}")


def _note(text: str) -> None:
    click.echo(text, err=True)


@contextlib.contextmanager
def _bar(shows: bool) -> Iterator[OnProgress | None]:
    """A progress bar on stderr, with the time that is left by the pictures drawn so far."""
    if not shows:
        yield None
        return
    from loratools.progress import tqdm_bar

    form = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} pictures [{elapsed}{postfix}]"
    with tqdm_bar(total=1, leave=False, unit="picture", bar_format=form) as shown:

        def on_progress(progress: Any) -> None:
            shown.total, shown.n = progress.total, progress.done
            shown.set_description(progress.stage, refresh=False)
            shown.seconds_left = progress.seconds_left  # of all stages, and no more than the budget
            if progress.seconds_left is not None:
                left = round(progress.seconds_left)
                shown.set_postfix_str(f"about {left // 60}:{left % 60:02d} left", refresh=False)
            shown.refresh() if progress.done == progress.total else shown.update(0)

        yield on_progress
