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


@click.command("train", cls=Command)
@click.argument("configs", nargs=-1, metavar="[CONFIG]...")
@click.option("--base", help="A Diffusers folder, a .safetensors or .ckpt file, a hub id, or pocket.")
@click.option(
    "--images", multiple=True, help="Folder of images with .txt tags; 10_name repeats it ten times. Repeatable."
)
@click.option("-o", "--out", type=click.Path(), help="Folder for the epoch files.  [default: runs]")
@click.option("--name", help="The run's name.  [default: the images' folder]")
@click.option("--preset", help="Named settings, such as style-004.")
@click.option("--epochs", type=int)
@click.option("--dim", type=int, help="Rank of the LoRA.")
@click.option("--alpha", type=float, help="alpha; the LoRA counts alpha / dim.  [default: dim]")
@click.option("--unet-lr", type=float)
@click.option("--te-lr", type=float, help="Text encoder's learning rate; 0 leaves it untrained.")
@click.option("--optimizer", metavar="NAME")
@click.option("--lr-scheduler", metavar="NAME", help="cosine, constant, constant_with_warmup, linear and so on.")
@click.option("--lr-warmup", metavar="STEPS", help="Steps, a fraction below 1, or such as 5%.")
@click.option("--noise-offset", type=float)
@click.option("--clip-skip", type=int)
@click.option("--batch-size", type=int)
@click.option("--repeats", type=int, help="Times that an epoch shows each image, where its folder's name does not say.")
@click.option("--resolution", metavar="SIZE", help="512 or 512x768.  [default: the base's own]")
@click.option("--shuffle-tags/--no-shuffle-tags", default=None, help="Shuffle each caption's tags.")
@click.option("--keep-tokens", type=int, help="Tags at the front that stay there when the rest is shuffled.")
@click.option("--allow-uncaptioned", is_flag=True, default=None, help="Train images without a caption on none.")
@click.option("--seed", type=int)
@click.option("--dtype", type=DTYPES, help="Storage type of the files.  [default: fp16]")
@click.option("--mixed-precision", type=click.Choice(["no", "fp16", "bf16"]))
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--resume", is_flag=True, default=None, help="Go on after the last finished epoch.")
@click.option("--force", is_flag=True, default=None, help="Overwrite files that this run did not write.")
@click.option("--dry-run", is_flag=True, help="Print images, steps and sizes; train nothing.")
def command(configs: tuple[str, ...], dry_run: bool, images: tuple[str, ...], **given: Any) -> None:
    """Train a LoRA on a base and write NAME-000001.safetensors and so on, one file for every epoch.

    CONFIG is YAML with the options below (and more) as keys, or an sd-scripts TOML dataset config. Options override
    it, and it may be left out when --base and --images are given. Several CONFIGs are a queue.

    \b
      loratools train --base model.safetensors --images photos --preset style-004 -o runs/style
      loratools train style.yaml --epochs 12 --resume
    """
    from loratools.train.read_config import read_config

    overrides = {**given, "images": list(images) or None}
    if not configs and not (images and given["base"]):
        fail_usage("give a CONFIG, or --base and --images")
    queue = [read_config(config, overrides) for config in configs] or [read_config(None, overrides)]
    if dry_run:
        from loratools.train.loop import plan

        click.echo("\n\n".join(plan(config).text() for config in queue))
        return
    failed = [error for config in queue if (error := _train(config, last=config is queue[-1])) is not None]
    if failed:
        raise TrainingError(f"{len(failed)} of {len(queue)} runs failed; the last one: {failed[-1]}") from failed[-1]


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
    click.echo(f"{len(result.epochs)} epochs of {result.name} in {Path(config.out)}, {result.steps} steps; "
               f"log {result.log}")  # fmt: skip
    return None
