"""``loratools epochs``"""

from __future__ import annotations

import click

from loratools.cli.app import Command
from loratools.cli.options import json_option, key_options, key_rules, print_json


@click.command("epochs", cls=Command)
@click.argument("run")
@click.option("--plot", type=click.Path(), metavar="PNG", help="Also draw losses, norm and drift.")
@click.option("--images", is_flag=True, help="Also list the pictures that are learnt worst, and the loss by timesteps.")
@key_options
@json_option
def command(
    run: str, plot: str | None, images: bool, allow_unknown: bool, drop: tuple[str, ...], as_json: bool
) -> None:
    """Show a training run epoch by epoch, and which epochs are worth looking at.

    RUN is its folder, or FOLDER/NAME where a folder holds several. Norm is the size of what was learnt, drift how far
    an epoch moved from the one before. Where pictures are held out (validation_split), their loss decides. Runs of
    other trainers have no log of losses: there drift alone decides.

    \b
      loratools epochs runs/style
      loratools epochs runs/style --plot epochs.png
      loratools grid runs/style --base model.safetensors --prompt "1girl, smile" -o grid     then look
    """
    from loratools.train.output.epoch_plot import plot as draw
    from loratools.train.output.epoch_report import report
    from loratools.train.output.read_log import loss_breakdown

    epochs = report(run, key_rules(allow_unknown, drop))
    losses = loss_breakdown(run) if images else None
    if plot:
        draw(epochs, plot)
    if as_json:
        print_json({**epochs.json(), **(losses.json() if losses else {})})
    else:
        click.echo("\n\n".join(each.text() for each in (epochs, losses) if each is not None))
