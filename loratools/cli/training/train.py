"""``loratools train``"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from loratools.cli.app import GIVEN, Command, fail_usage, flag_speller
from loratools.cli.launched import launched
from loratools.cli.options import DTYPES, launch_options
from loratools.errors import LoratoolsError, TrainingError

if TYPE_CHECKING:
    from loratools.train.config.config import TrainConfig
    from loratools.train.interrupt import Interrupted

_GROUPS = {  # heading of the help -> options, in order
    "What to train on": ("--base", "--images", "--preset", "--vae"),
    "How long": ("--epochs", "--repeats", "--batch-size", "--resolution", "--dry-run"),
    "The LoRA, and how fast it learns": (
        "--dim",
        "--alpha",
        "--conv-dim",
        "--conv-alpha",
        "--unet-lr",
        "--te-lr",
        "--optimizer",
        "--lr-scheduler",
        "--lr-warmup",
        "--noise-offset",
        "--clip-skip",
        "--network-weights",
    ),
    "All weights in the place of a LoRA (DreamBooth, fine-tuning)": (
        "--full",
        "--save",
        "--save-end",
        "--stop-text-encoder",
        "--weights",
    ),
    "Captions": ("--shuffle-tags", "--keep-tokens", "--allow-uncaptioned"),
    "Files": ("--out", "--name", "--dtype", "--resume", "--force"),
    "The machine": ("--device", "--processes", "--launch", "--mixed-precision", "--seed", "--offline"),
    "Everything else": ("--set",),
}


class _Grouped(Command):
    """A command whose help has a heading for each kind of option, and names every other key of a config."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(self._no_such(error.option_name, given, ctx), ctx) from error

    def _no_such(self, first: str, args: Sequence[str], ctx: click.Context) -> str:
        """The message for options that are none here: those of sd-scripts' command line have others of ours."""
        from loratools.train.config.config import TrainConfig
        from loratools.train.sd_scripts.flags import our_spelling

        flags = {name for option in self.get_params(ctx) for name in (*option.opts, *option.secondary_opts)}
        names = [first, *(arg.partition("=")[0] for arg in args if arg.startswith("--") and arg != "--")]
        unknown = [name for name in dict.fromkeys(names) if name not in flags]
        settings = {name: field.annotation is bool for name, field in TrainConfig.model_fields.items()}
        spellings = {name: our_spelling(name, flags, settings) for name in unknown}
        parts = (f"{name} ({spelling})" if spelling else name for name, spelling in spellings.items())
        return f"no such option: {', '.join(parts)}"

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        left = {option.opts[-1]: record for option in options if (record := option.get_help_record(ctx))}
        for heading, names in _GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([left.pop(name) for name in names])
        with formatter.section("Other"):
            formatter.write_dl(list(left.values()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from loratools.train.config.config import TrainConfig

        shown = {option.opts[-1].lstrip("-") for option in self.params}
        keys = [name for name in TrainConfig.model_fields if name not in shown and name.replace("_", "-") not in shown]
        with formatter.section("Keys for a CONFIG or --set that are no options (docs/training.md tells what they do)"):
            formatter.write_text(", ".join(sorted(keys)))


@click.command("train", cls=_Grouped, together=True)
@click.argument("configs", nargs=-1, metavar="[CONFIG]...")
@click.option(
    "--base",
    metavar="BASE",
    help="The model to train on: a .safetensors or .ckpt file, a Diffusers folder, a hub id, or pocket.",
)
@click.option(
    "--images",
    multiple=True,
    metavar="FOLDER",
    help="Pictures, each with a .txt of its tags beside it. In "
    "a folder that is named 10_ink every picture is shown ten times an epoch. Repeatable.",
)
@click.option(
    "--preset",
    metavar="NAME",
    help="One guide's numbers for a subject: style-004, character-002, "
    "character-003, object, pose or scene; with --full dreambooth-001 or finetune-sdxl. What you set yourself comes "
    "before it.",
)
@click.option(
    "--vae", type=click.Path(), help="Another VAE than the base's own: a file, a Diffusers folder or a hub id."
)
@click.option("--offline", is_flag=True, default=None, help="Never ask the Hugging Face hub for anything.")
@click.option("-o", "--out", type=click.Path(), help="Folder for the epoch files.  [default: runs]")
@click.option("--name", help="What the files are called.  [default: as the images' folder]")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any key of a CONFIG, such as --set tag_dropout=0.1. Repeatable.",
)
@click.option(
    "--epochs", type=int, help="Times through all pictures. Each leaves a file to choose from.  [default: 10]"
)
@click.option("--dim", type=int, help="Rank of the LoRA: more holds finer detail, in a larger file.  [default: 32]")
@click.option(
    "--alpha",
    type=float,
    help="The LoRA is scaled by alpha / dim: a small alpha learns more slowly at the same rates.  [default: as dim]",
)
@click.option(
    "--conv-dim",
    type=int,
    help="Rank of the 3x3 convolutions, which are then trained too (LoCon): more texture, a larger file.",
)
@click.option("--conv-alpha", type=float, help="alpha of the 3x3 convolutions.  [default: as conv-dim]")
@click.option("--network-weights", metavar="FILE", help="A LoRA to go on from.")
@click.option(
    "--unet-lr", type=float, help="Learning rate of the UNet, which paints; 0 leaves it as it is.  [default: 1e-4]"
)
@click.option(
    "--te-lr",
    type=float,
    help="Learning rate of the text encoder, which reads the tags; 0 leaves it as it is.  [default: 1e-4]",
)
@click.option(
    "--optimizer",
    metavar="NAME",
    help="AdamW, AdamW8bit (less memory), Prodigy (finds its rate), Lion and others.  [default: AdamW]",
)
@click.option(
    "--lr-scheduler",
    metavar="NAME",
    help="How the rates fall: cosine, constant, constant_with_warmup, linear and so on.  [default: cosine]",
)
@click.option("--lr-warmup", metavar="STEPS", help="Steps in which the rates rise from 0; or a share such as 5%.")
@click.option(
    "--noise-offset", type=float, help="Above 0 lets very dark and bright pictures be learnt; style-004 has 0.1."
)
@click.option("--clip-skip", type=int, help="2 for anime bases of NovelAI's family, else 1.  [default: 1]")
@click.option(
    "--full",
    is_flag=True,
    default=None,
    help="Train all weights of the base. Start from --preset dreambooth-001 or finetune-sdxl.",
)
@click.option(
    "--save",
    metavar="KIND",
    help="What an epoch's file is: checkpoint, delta (the difference to the base), lora:64 or lora:error=0.05.  "
    "[default: checkpoint]",
)
@click.option(
    "--save-end", metavar="KIND", help="One file more after the last epoch: as --save, or diffusers for a folder."
)
@click.option(
    "--stop-text-encoder",
    "stop_text_encoder_training",
    metavar="SHARE",
    help="Leave the text encoder as it is after this share of the run (0.4, 40%) or so many steps. LoRAs too.",
)
@click.option(
    "--weights",
    type=click.Choice(["fp32", "bf16"]),
    help="What the weights are held in; bf16 is half the memory.  [default: fp32]",
)
@click.option("--batch-size", type=int, help="Pictures a step: more are faster and need more memory.  [default: 1]")
@click.option(
    "--repeats", type=int, help="Times an epoch shows each picture, where its folder's name does not say.  [default: 1]"
)
@click.option(
    "--resolution",
    metavar="SIZE",
    help="512 or 512x768; pictures of other shapes get sizes of the same area.  [default: the base's own]",
)
@click.option(
    "--shuffle-tags/--no-shuffle-tags",
    default=None,
    help="Give each use of a picture its tags in another order.  [default: shuffle]",
)
@click.option(
    "--keep-tokens",
    type=int,
    help="The first so many tags stay in front, such as the one that calls the LoRA.  [default: 0]",
)
@click.option("--allow-uncaptioned", is_flag=True, default=None, help="Also train pictures that have no tags.")
@click.option("--seed", type=int, help="The same seed gives the same LoRA.  [default: 1]")
@click.option("--dtype", type=DTYPES, help="Number type of the files.  [default: fp16]")
@click.option(
    "--mixed-precision",
    type=click.Choice(["no", "fp16", "bf16"]),
    help="What is computed in.  [default: bf16 where the GPU has it]",
)
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.  [default: auto]")
@launch_options
@click.option("--resume", is_flag=True, default=None, help="Go on with a run that was cut short, where it was.")
@click.option(
    "--force",
    is_flag=True,
    default=None,
    help="Overwrite files that this run did not write, and begin anew over a run that was cut short.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Train nothing: print steps, sizes, buckets, tags, file size, time and "
    "memory to expect, and what the guides would warn of.",
)
def command(
    configs: tuple[str, ...],
    dry_run: bool,
    images: tuple[str, ...],
    settings: tuple[str, ...],
    processes: str | None,
    launch: str | None,
    **given: Any,
) -> None:
    """Train a LoRA on your pictures, or with --full all of the base, and keep a file of every epoch to choose from.

    The least it needs is a base model and a folder of pictures with tags. Look at a --dry-run first, then train, then
    see the epochs side by side with `loratools grid`. docs/training.md goes through all of it.

    \b
      loratools train --base model.safetensors --images photos --preset style-004 -o runs/ink --dry-run
      loratools train --base model.safetensors --images photos --preset style-004 -o runs/ink
      loratools train ink.yaml poses.yaml                 settings from files; several are a queue
      loratools train ink.yaml --epochs 12 --resume       options come before what a file says

    CONFIG is YAML with these options as keys (unet_lr: 1e-4), or another trainer's file: the TOML of sd-scripts (its
    options, a dataset config, or both one after the other), kohya_ss' JSON, or LoRA Easy Training Scripts' TOML.
    """
    from loratools.launch.launcher import check_launch
    from loratools.train.config.read import read_config
    from loratools.train.interrupt import Interrupted
    from loratools.train.sd_scripts.trainer_file import pair_files

    check_launch(processes, launch)
    overrides = {**_settings(settings), **{key: value for key, value in given.items() if value is not None}}
    overrides |= {"images": list(images)} if images else {}
    overrides |= {"network_type": "full"} if overrides.pop("full", None) else {}
    if not configs and not (overrides.get("images") and overrides.get("base")):
        fail_usage("give a CONFIG, or --base and --images")
    for path in configs:
        _refuse_no_config(Path(path))
    files = pair_files(configs)
    queue = [read_config(file, overrides, dataset=dataset, must_exist=True) for file, dataset in files]
    queue = queue or [read_config(None, overrides, must_exist=True)]
    _refuse_twins([file for file, _ in files], [config for config, _ in queue])
    if dry_run:
        click.echo("\n\n".join(_dry_run(config, notes) for config, notes in queue))
        return
    out = str(queue[0][0].out)
    if launched(processes, launch, given["device"] or queue[0][0].device, out, go_on=" with --resume"):
        return
    try:
        results = [_train(config, notes, last=number == len(queue)) for number, (config, notes) in enumerate(queue, 1)]
        failed = [error for error in results if error is not None]
    except Interrupted as stop:
        _say_how_to_go_on(stop)
    if failed:
        raise TrainingError(f"{len(failed)} of {len(queue)} runs failed; the last one: {failed[-1]}") from failed[-1]


def _refuse_no_config(path: Path) -> None:
    """Leave with a usage error for a folder, a base model or a picture in the place of a CONFIG, saying its option."""
    from loratools.base.base_path import SINGLE_FILES
    from loratools.dataset.folder import IMAGE_EXTENSIONS

    suffix = path.suffix.lower()
    if path.is_dir() and not (path / "model_index.json").is_file():
        fail_usage(f"{path} is a folder and no CONFIG; if it holds the pictures, write --images {path}")
    if path.is_dir() or suffix in SINGLE_FILES:
        fail_usage(f"{path} is no CONFIG; if it is the base model, write --base {path}")
    if suffix in IMAGE_EXTENSIONS:
        fail_usage(f"{path} is a picture and no CONFIG; write --images and the folder that it lies in")


def _say_how_to_go_on(stop: Interrupted) -> NoReturn:
    """After the state was saved: the command that goes on, and the exit code of what asked to stop."""
    context = click.get_current_context()
    given = [*context.meta[GIVEN], *([] if context.params["resume"] else ["--resume"])]
    how = f"to go on: loratools train {shlex.join(given)}"
    if stop.ranks.world > 1:
        how = "to go on, launch it again with --resume"
    if stop.ranks.main:
        click.echo(f"{stop}; {how}", err=True)
    context.exit(128 + stop.signal)


def _refuse_twins(configs: Sequence[str], queue: Sequence[TrainConfig]) -> None:
    """Two runs of one folder and name would each take the other's files away."""
    places: dict[tuple[Path, str], str] = {}
    for source, config in zip(configs, queue, strict=False):
        place = config.out.resolve(), config.name
        if place in places:
            fail_usage(
                f"{places[place]} and {source} are both called '{config.name}' in {config.out}, so one would "
                "replace the other; give each a name: (or out:) of its own"
            )
        places[place] = source


def _settings(texts: tuple[str, ...]) -> dict[str, Any]:
    """The values of ``--set``, read as YAML would."""
    from loratools.yamlio import load_yaml

    values: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            fail_usage(f"--set {text}: write KEY=VALUE, such as --set tag_dropout=0.1")
        values[key.strip().replace("-", "_")] = load_yaml(value, f"--set {key}").data
    return values


def _dry_run(config: TrainConfig, notes: Sequence[str]) -> str:
    import torch

    from loratools.train.dry_run import estimate
    from loratools.train.setup import plan_machine
    from loratools.train.trainer import dry_run

    report, precision = dry_run(config, notes), plan_machine(config).precision
    device = precision.device
    seconds = estimate.seconds(
        report.operations,
        report.batches_per_epoch * report.epochs,
        report.modules,
        device,
        torch.float32 if device.type == "cpu" and precision.name == "fp16" else precision.compute,
        graph=config.graph != "off",
    )
    return f"{report.text()}\ntime: about {estimate.spelled(seconds)} on {device} (within a factor of two or three)"


def _train(config: TrainConfig, notes: Sequence[str], *, last: bool) -> LoratoolsError | None:
    """Run one config of the queue; the error of one that is not the last is printed and lets the queue go on."""
    from tqdm import tqdm

    from loratools.library.training import start
    from loratools.train.callbacks.records import EpochRecord

    def print_epoch(record: EpochRecord) -> None:
        more = "".join(f"{name} {value:.4f}  " for name, value in record.metrics.items())
        text = f"epoch {record.epoch:>3}  loss {record.loss:.4f}  {more}{record.seconds:6.1f} s  {record.path}"
        tqdm.write(text, file=sys.stdout)  # on a line of its own, above the bar

    def print_note(text: str) -> None:
        click.echo(f"note: {text}", err=True)

    try:
        result = start(config, notes, progress=True, on_epoch=print_epoch, on_note=print_note)
    except LoratoolsError as error:
        if last:
            raise
        click.echo(flag_speller()(f"error: {config.name}: {error}"), err=True)
        error.__traceback__ = error.__cause__ = error.__context__ = None  # they hold the run, and its memory
        return error
    if result.wrote:
        click.echo(
            f"{len(result.epochs)} epochs of {result.name} in {Path(config.out)}, {result.steps} steps; "
            f"log {result.log}"
        )
        if len(result.epochs) > 1:
            click.echo(f"which to take: loratools epochs {_word(result.log.parent)} --base {_word(config.base)}")
    return None


def _word(text: object) -> str:
    """A word for a shell of any system."""
    return f'"{text}"' if " " in str(text) else str(text)
