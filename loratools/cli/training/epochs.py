"""``loratools epochs``"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loratools.cli.app import Command, flag_speller
from loratools.cli.options import (
    DTYPES,
    as_object,
    device_option,
    force_option,
    json_option,
    key_options,
    key_rules,
    print_json,
)
from loratools.errors import FileError

if TYPE_CHECKING:
    from loratools.tune.epochs.result import EpochVerdict
    from loratools.tune.epochs.verdict import VerdictRequest

_DRAWN = {  # field -> option that says something of pictures, which --base alone draws
    "prompts": "--prompts",
    "seeds": "--seeds",
    "training_images": "--training-images",
    "held_out": "--held-out",
    "measures": "--measure",
    "score_model": "--score-model",
    "votes": "--votes",
    "negative": "--negative",
    "steps": "--steps",
    "cfg": "--cfg",
    "sampler": "--sampler",
    "size": "--size",
    "dtype": "--dtype",
}


@dataclass(frozen=True)
class EpochsFlags:
    """What ``epochs`` is asked for, by the names of its options."""

    run: str
    plot: str | None
    images: bool
    base: str | None
    prompts: str | None
    seeds: str | None
    weight: float
    training_images: tuple[str, ...]
    held_out: tuple[str, ...]
    measures: tuple[str, ...]
    score_model: str | None
    votes: str | None
    negative: str | None
    steps: int | None
    cfg: float | None
    sampler: str | None
    size: str | None
    batch_size: int
    allow_unknown: bool
    drop: tuple[str, ...]
    device: str
    dtype: str | None
    as_json: bool
    force: bool


@click.command("epochs", cls=Command)
@click.argument("run")
@click.option("--plot", type=click.Path(), metavar="PNG", help="Also draw losses, norm and drift; with --base figures.")
@click.option("--images", is_flag=True, help="Also list the pictures that are learnt worst, and the loss by timesteps.")
@click.option("--base", metavar="BASE", help="Draw every epoch on this base, measure, and recommend one.")
@click.option(
    "--prompts",
    metavar="FILE",
    type=click.Path(),
    help="Prompts to draw, one a line.  [default: captions of held-out pictures, else of some training pictures]",
)
@click.option("--seeds", metavar="LIST", help="Such as 1,2.  [default: as many as make about 32 pictures an epoch]")
@click.option("--weight", type=float, default=1.0, show_default=True, help="At which epochs are compared.")
@click.option(
    "--training-images",
    multiple=True,
    metavar="DIR",
    type=click.Path(),
    help="The training pictures, where the run's header does not lead to them. Repeatable.",
)
@click.option(
    "--held-out", multiple=True, metavar="DIR", type=click.Path(), help="Pictures that were not trained on. Repeatable."
)
@click.option(
    "--measure",
    "measures",
    multiple=True,
    metavar="M",
    help="Of defects: judge, like=DIR with unlike=DIR, python=MODULE:FUNCTION, command=COMMAND. Repeatable.  "
    "[default: judge on the pocket base]",
)
@click.option(
    "--score-model",
    metavar="DIR",
    type=click.Path(),
    help="A CLIP on this machine, which says how well prompts are obeyed; or a DINO, which sees copies.",
)
@click.option("--votes", metavar="JSON", type=click.Path(), help="Votes that a grid's page exported.")
@click.option("--negative", help="The negative prompt.")
@click.option("--steps", type=int, help="Sampler steps.  [default: the base's own, as of --cfg, --sampler and --size]")
@click.option("--cfg", type=float)
@click.option("--sampler")
@click.option("--size", metavar="WxH")
@click.option("--batch-size", type=int, default=8, show_default=True, help="Pictures at once.")
@key_options
@device_option
@click.option("--dtype", type=DTYPES, help="Compute type.  [default: fp32 on a CPU, else fp16]")
@json_option
@force_option
@as_object(EpochsFlags)
def command(flags: EpochsFlags) -> None:
    """Show a training run epoch by epoch, and which epochs are worth looking at; with --base, which one to take.

    RUN is its folder, or FOLDER/NAME where a folder holds several. Norm is the size of what was learnt, drift how far
    an epoch moved from the one before. Where pictures are held out (validation_split), their loss decides. Runs of
    other trainers have no log of losses: there drift alone decides.

    With --base every epoch is drawn on the same prompts and seeds, beside the base, and one is recommended in a
    sentence that says why: the earliest of those that come closest to the held-out pictures within noise, and that
    neither break at 0.9 nor copy training pictures nor lose the prompt. RUN/NAME.verdict.json holds all figures, each
    with its standard error, and RUN@best is that epoch from then on. Pictures stay in RUN/NAME-verdict: work that was
    stopped goes on, and votes.json from its grid.html counts the next time.

    \b
      loratools epochs runs/style
      loratools epochs runs/style --plot epochs.png
      loratools epochs runs/style --base model.safetensors
      loratools epochs runs/style --base model.safetensors --prompts prompts.txt --seeds 1,2,3 --negative lowres
      loratools grid runs/style --base model.safetensors --prompt "1girl, smile" -o grid     then look
    """
    from loratools.train.output.epoch_plot import plot as draw
    from loratools.train.output.epoch_report import report
    from loratools.train.output.read_log import loss_breakdown

    _check(flags)
    request = _request(flags) if flags.base is not None else None
    epochs = report(flags.run, key_rules(flags.allow_unknown, flags.drop))
    losses = loss_breakdown(flags.run) if flags.images else None
    verdict = _verdict(request) if request is not None else None
    if flags.plot:
        if verdict is None:
            draw(epochs, flags.plot)
        else:
            from loratools.tune.epochs.plot import plot

            plot(verdict, flags.plot)
    if flags.as_json:
        content = {**epochs.json(), **(losses.json() if losses else {})}
        if verdict is not None:
            from loratools.tune.epochs.report import verdict_json

            content["verdict"] = verdict_json(verdict)
        print_json(content)
        return
    texts = [each.text() for each in (epochs, losses) if each is not None]
    click.echo("\n\n".join([*texts, *_verdict_texts(flags, verdict)]))


def _check(flags: EpochsFlags) -> None:
    """Raise a usage error for options of pictures where none are drawn."""
    if flags.base is None:
        given = [option for field, option in _DRAWN.items() if getattr(flags, field)]
        if given:
            raise click.UsageError(f"{given[0]} is for pictures, which are drawn with --base; name the base model.")


def _request(flags: EpochsFlags) -> VerdictRequest:
    from loratools.measures.request import parse_measures
    from loratools.preview.request.numbers import parse_seeds, parse_size
    from loratools.preview.request.options import EngineOptions
    from loratools.preview.request.request import SamplingRequest
    from loratools.tune.epochs.evaluation_set import EvaluationRequest
    from loratools.tune.epochs.verdict import VerdictRequest

    return VerdictRequest(
        run=Path(flags.run),
        base=str(flags.base),
        material=EvaluationRequest(
            _prompts(flags.prompts),
            f"of {Path(flags.prompts).name}" if flags.prompts else "",
            tuple(map(Path, flags.training_images)),
            tuple(map(Path, flags.held_out)),
        ),
        seeds=parse_seeds(flags.seeds) if flags.seeds else (),
        weight=flags.weight,
        sampling=SamplingRequest(
            negative=flags.negative,
            steps=flags.steps,
            cfg=flags.cfg,
            sampler=flags.sampler,
            size=parse_size(flags.size) if flags.size else None,
        ),
        engine=EngineOptions(flags.batch_size),
        measures=parse_measures(flags.measures) if flags.measures else None,
        model=Path(flags.score_model) if flags.score_model else None,
        votes=Path(flags.votes) if flags.votes else None,
        device=flags.device,
        dtype=flags.dtype,
        keys=key_rules(flags.allow_unknown, flags.drop),
        force=flags.force,
    )


def _prompts(file: str | None) -> tuple[str, ...]:
    from loratools.preview.request.read_prompts import read_prompts

    if file is None:
        return ()
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileError(f"there is no file of prompts '{file}'; write prompts into it, one a line")
    return tuple(read_prompts([str(path)], Path))


def _verdict(request: VerdictRequest) -> EpochVerdict:
    """Draw, measure and decide, with notes and progress on stderr."""
    from loratools.tune.epochs.verdict import epoch_verdict

    spelled = flag_speller()
    return epoch_verdict(request, progress=True, on_note=lambda note: click.echo(spelled(note), err=True))


def _verdict_texts(flags: EpochsFlags, verdict: EpochVerdict | None) -> list[str]:
    """The verdict of now; without one, what an earlier one says, or why it does not hold any more."""
    if verdict is not None:
        from loratools.tune.epochs.report import verdict_text

        return [flag_speller()(verdict_text(verdict))]
    from loratools.adapter.files.epoch_files import epochs
    from loratools.train.output.recorded_verdict import read_verdict

    files = epochs(flags.run)
    recorded = read_verdict(files)
    if recorded is None:
        return []
    why = recorded.stale(files)
    return [
        f"{recorded.path.name} does not hold any more ({why}); run `loratools epochs` with --base again"
        if why
        else f"{recorded.path.name}: {recorded.sentence}"
    ]
