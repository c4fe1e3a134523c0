"""``loratools basestyle``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from loratools.cli.app import Command
from loratools.cli.launched import launched
from loratools.cli.options import DTYPES, device_option, force_option, launch_options


@click.command("basestyle", cls=Command, together=True)
@click.argument("base")
@click.option("-o", "--out", required=True, type=click.Path(), help="Folder for the pictures and the epoch files.")
@click.option("--name", help="The run's name.  [default: BASE's name and _BASE]")
@click.option("--images-per-framing", type=int, default=8, show_default=True, help="Pictures for each of 3 framings.")
@click.option("--epochs", type=int)
@click.option("--preset", help="Named training settings; use the style's own.")
@click.option("--dim", type=int, help="Rank of the LoRA.")
@click.option("--seed", type=int)
@click.option("--dtype", type=DTYPES, help="Storage type of the files.  [default: fp16]")
@launch_options
@device_option
@force_option
def command(
    base: str,
    out: str,
    name: str | None,
    processes: str | None,
    launch: str | None,
    device: str,
    force: bool,
    **settings: Any,
) -> None:
    """Make the LoRA of BASE's own style: BASE draws face_focus, cowboy_shot and full_body pictures, and a LoRA is
    trained on them. Subtracting it from a style's LoRA takes away what that one learnt of the base itself.

    The same base (by digest) and settings are never made twice; an interrupted run goes on.

    \b
      loratools basestyle model.safetensors -o runs/base
      loratools merge "runs/style@8:1:GP1,runs/base:-1:GP2" -o my_style.safetensors
    """
    from loratools.train.basestyle.basestyle import basestyle

    if launched(processes, launch, device, out):
        return
    result = basestyle(base, Path(out), name=name, settings=settings, device=device, force=force)
    if not result.wrote:
        return
    for number, (path, loss) in enumerate(zip(result.epochs, result.losses, strict=False), 1):
        click.echo(f"epoch {number:>3}  loss {loss:.4f}  {path}")
