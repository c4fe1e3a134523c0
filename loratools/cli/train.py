"""``loratools train``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loratools.cli.common import DTYPES
from loratools.cli.shell import Command, fail_usage
from loratools.errors import LoratoolsError, TrainingError

if TYPE_CHECKING:
    from loratools.train.config import TrainConfig


_GROUPS = {  # heading of the help -> options, in order
    "What": ("--base", "--images", "--out", "--name", "--preset", "--set"),
    "How long and how much": ("--epochs", "--repeats", "--batch-size", "--resolution", "--seed", "--dry-run"),
    "The LoRA and how fast it learns": (
        "--dim", "--alpha", "--conv-dim", "--conv-alpha", "--network-weights", "--unet-lr", "--te-lr", "--optimizer",
        "--lr-scheduler", "--lr-warmup", "--noise-offset", "--clip-skip",
    ),
    "Captions": ("--shuffle-tags", "--keep-tokens", "--allow-uncaptioned"),
}  # fmt: skip


class _Grouped(Command):
    """A command whose help has a heading for each kind of option."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        left = {option.opts[-1]: record for option in options if (record := option.get_help_record(ctx))}
        for heading, names in _GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([left.pop(name) for name in names])
        with formatter.section("The machine and the files"):
            formatter.write_dl(list(left.values()))


@click.command("train", cls=_Grouped)
@click.argument("configs", nargs=-1, metavar="[CONFIG]...")
@click.option("--base", help="A Diffusers folder, a .safetensors or .ckpt file, a hub id, or pocket.")
@click.option(
    "--images", multiple=True, help="Folder of images with .txt tags; 10_name repeats it ten times. Repeatable."
)
@click.option("-o", "--out", type=click.Path(), help="Folder for the epoch files.  [default: runs]")
@click.option("--name", help="The run's name.  [default: the images' folder]")
@click.option("--preset", help="style-004, character-002, character-003, object, pose or scene: one guide's numbers.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of a CONFIG. Repeatable.")
@click.option("--epochs", type=int, help="Times through the images; each has its own file.")
@click.option("--dim", type=int, help="Rank of the LoRA.")
@click.option("--alpha", type=float, help="alpha; the LoRA counts alpha / dim.  [default: dim]")
@click.option("--conv-dim", type=int, help="Rank of the 3x3 convolutions, which are then trained too (LoCon).")
@click.option("--conv-alpha", type=float, help="alpha of the 3x3 convolutions.  [default: conv-dim]")
@click.option("--network-weights", metavar="FILE", help="A LoRA to go on from.")
@click.option("--unet-lr", type=float, help="UNet's learning rate, such as 1e-4; 0 leaves it untrained.")
@click.option("--te-lr", type=float, help="Text encoder's learning rate; 0 leaves it untrained.")
@click.option("--optimizer", metavar="NAME", help="AdamW, and others.  [default: AdamW]")
@click.option("--lr-scheduler", metavar="NAME", help="cosine, constant, constant_with_warmup, linear and so on.")
@click.option("--lr-warmup", metavar="STEPS", help="Steps, a fraction below 1, or such as 5%.")
@click.option("--noise-offset", type=float, help="Lets the LoRA learn dark and bright pictures; guide 004 has 0.1.")
@click.option("--clip-skip", type=int, help="2 for bases from NovelAI's family, else 1.")
@click.option("--batch-size", type=int, help="Images a step; more need more memory.")
@click.option("--repeats", type=int, help="Times that an epoch shows each image, where its folder's name does not say.")
@click.option("--resolution", metavar="SIZE", help="512 or 512x768.  [default: the base's own]")
@click.option("--shuffle-tags/--no-shuffle-tags", default=None, help="Shuffle each caption's tags.")
@click.option("--keep-tokens", type=int, help="Tags at the front that stay there when the rest is shuffled.")
@click.option("--allow-uncaptioned", is_flag=True, default=None, help="Train images without a caption on none.")
@click.option("--seed", type=int, help="The same seed gives the same LoRA.")
@click.option("--dtype", type=DTYPES, help="Storage type of the files.  [default: fp16]")
@click.option("--mixed-precision", type=click.Choice(["no", "fp16", "bf16"]), help="What is computed in.")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--resume", is_flag=True, default=None, help="Go on after the last finished epoch.")
@click.option("--force", is_flag=True, default=None, help="Overwrite files that this run did not write.")
@click.option("--dry-run", is_flag=True, help="Print steps, sizes, time, memory and warnings; train nothing.")
def command(
    configs: tuple[str, ...], dry_run: bool, images: tuple[str, ...], settings: tuple[str, ...], **given: Any
) -> None:
    """Train a LoRA on a base and write NAME-000001.safetensors and so on, one file for every epoch.

    CONFIG is YAML with the options below (and more) as keys, or sd-scripts' TOML: a dataset config, or the options that
    it reads with --config_file. Options override it, and it may be left out when --base and --images are given.
    Several CONFIGs are a queue.

    \b
      loratools train --base model.safetensors --images photos --preset style-004 -o runs/style
      loratools train style.yaml --dry-run
      loratools train style.yaml --epochs 12 --resume --set tag_dropout=0.1 --set cache_latents=disk
    """
    from loratools.train.read_config import read_config

    overrides = {**_settings(settings), **{key: value for key, value in given.items() if value is not None}}
    overrides |= {"images": list(images)} if images else {}
    if not configs and not (overrides.get("images") and overrides.get("base")):
        fail_usage("give a CONFIG, or --base and --images")
    queue = [read_config(config, overrides) for config in configs] or [read_config(None, overrides)]
    if dry_run:
        click.echo("\n\n".join(_planned(config) for config in queue))
        return
    failed = [error for config in queue if (error := _train(config, last=config is queue[-1])) is not None]
    if failed:
        raise TrainingError(f"{len(failed)} of {len(queue)} runs failed; the last one: {failed[-1]}") from failed[-1]


def _settings(texts: tuple[str, ...]) -> dict[str, Any]:
    """The values of ``--set``, read as YAML would."""
    from loratools.yamlio import load_yaml

    values: dict[str, Any] = {}
    for text in texts:
        key, found, value = text.partition("=")
        if not found or not key.strip():
            fail_usage(f"--set {text}: write KEY=VALUE, such as --set tag_dropout=0.1")
        values[key.strip().replace("-", "_")] = load_yaml(value, f"--set {key}").data
    return values


def _planned(config: TrainConfig) -> str:
    from loratools.base.load import pick_device
    from loratools.train import estimate
    from loratools.train.loop import plan
    from loratools.train.step import precision

    device, found = pick_device(config.device), plan(config)
    seconds = found.operations / estimate.throughput(device, precision(config, device).compute)
    return f"{found.text()}\ntime: about {estimate.spelled(seconds)} on {device} (within a factor of two or three)"


def _train(config: TrainConfig, *, last: bool) -> LoratoolsError | None:
    """Run one config of the queue; the error of one that is not the last is told and lets the queue go on."""
    from loratools.train.loop import EpochRecord, train

    def tell(record: EpochRecord) -> None:
        click.echo(f"epoch {record.epoch:>3}  loss {record.loss:.4f}  {record.seconds:6.1f} s  {record.path}")

    try:
        result = train(config, on_epoch=tell)
    except LoratoolsError as error:
        if last:
            raise
        click.echo(f"error: {config.name}: {error}", err=True)
        return error
    if result.wrote:
        click.echo(f"{len(result.epochs)} epochs of {result.name} in {Path(config.out)}, {result.steps} steps; "
                   f"log {result.log}")  # fmt: skip
    return None
