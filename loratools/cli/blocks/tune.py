"""``loratools blocks tune``"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loratools.cli.app import Command, fail_usage
from loratools.cli.blocks.answers import asking, choose, with_flags
from loratools.cli.blocks.tune_dry_run import print_dry_run
from loratools.cli.blocks.tune_flags import TuneFlags, base_of, check_recipe_flags, owner_of, read_terms, request_of
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
    from loratools.recipe.edit.log import EditResult
    from loratools.tune.problem.request import TuneRequest
    from loratools.tune.progress import OnProgress
    from loratools.tune.report.result import TuneResult


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
    help="A file of prompts, one a line, or a prompt; a tenth to a half are for the report. Repeatable.  [default: a "
    "recipe's grid's, else made of the LoRA's training tags]",
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
@click.option(
    "--method",
    type=click.Choice(["auto", "gradient", "pictures"]),
    default="auto",
    show_default=True,
    help="gradient follows what judge, like, unlike, marks and votes say of every number at once, on SD 1, SD 2 "
    "and SDXL; pictures needs none: for python, command, and where memory is short. auto is the gradient for the "
    "judge alone.",
)
@click.option(
    "--parts",
    type=click.Choice(["auto", "blocks", "kinds"]),
    default="auto",
    show_default=True,
    help="What has a number: each block, or each kind of layers in a block (attention, feed-forward, ...), as rules "
    "OUT05/attn1=0.3. auto is kinds with a gradient.",
)
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
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say what would be searched, how, from which prompts, and what memory it takes; load and write nothing.",
)
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
      loratools blocks tune runs/ink/style@8 --base pocket --symptom hands -o tuned --dry-run
    """
    from loratools.measures.request import asks_for_marks, asks_for_votes

    request = request_of(flags)
    voted = asks_for_votes(request.measures)
    if flags.votes and not (voted or asks_for_marks(request.measures)):
        fail_usage(
            "--votes answers what a tune asks, with --measure votes or marks; stars of a grid are --measure marks=FILE"
        )
    if flags.terminal and not voted:
        fail_usage("--terminal asks for choices here; it goes with --measure votes")
    if flags.votes:  # before anything is drawn
        from loratools.measures.votes.votes_file import read_votes

        read_votes(Path(flags.votes))
    if flags.dry_run:
        print_dry_run(flags, request)
        return
    with asking():
        _tune(flags, request)


def _tune(flags: TuneFlags, request: TuneRequest) -> None:
    if flags.is_recipe:
        _recipe(flags, request)
    else:
        _terms(flags, request)


def _terms(flags: TuneFlags, request: TuneRequest) -> None:
    base = base_of(flags)
    if launched(flags.processes, flags.launch, flags.device, flags.out):
        return
    from loratools.base.any_base import load_any_base
    from loratools.train.distributed import joined
    from loratools.tune.tuning import tune

    terms, earlier = read_terms(flags)
    with joined(flags.device) as (ranks, device), _bar(ranks.main) as on_progress:
        result = tune(
            load_any_base(base, device=device, dtype=flags.dtype),
            terms,
            request,
            Path(flags.out),
            on_progress=on_progress,
            on_note=_note if ranks.main else None,
            owner=owner_of(flags),
            force=flags.force,
            ranks=ranks,
            earlier=earlier,
            votes=None if flags.votes is None else Path(flags.votes),
            chooser=choose if flags.terminal else None,
        )
    if ranks.main:
        _print(result, flags)


def _recipe(flags: TuneFlags, request: TuneRequest) -> None:
    check_recipe_flags(flags)
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
