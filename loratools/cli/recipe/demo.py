"""``loratools demo``"""

from __future__ import annotations

from pathlib import Path

import click

from loratools.cli.app import Command
from loratools.cli.options import device_option, force_option, launch_options


@click.command("demo", cls=Command)
@click.option("-o", "--out", default="demo", show_default=True, type=click.Path(), help="Folder for everything.")
@click.option("--quick", is_flag=True, help="Fewer pictures, epochs and cells: about a minute.")
@launch_options
@device_option
@force_option
def command(out: str, quick: bool, processes: str | None, launch: str | None, device: str, force: bool) -> None:
    """See the whole story on a small built-in model, on a CPU, with nothing to download.

    Draws pictures in a new style with their tags, trains a LoRA for 8 epochs, makes the LoRA of the base's own style,
    subtracts it with GP1 and GP2, renders epochs x weights with the merged file in the last row, and has a judge score
    every row. A second run goes on from what is there.

    \b
      loratools demo
      loratools demo --quick -o /tmp/demo
    """
    from loratools.launch.launcher import make_launcher
    from loratools.recipe.demo.demo import run_demo
    from loratools.recipe.plan.context import RunContext

    context = RunContext(device, force, progress=True)
    launcher = make_launcher(processes, launch, device)
    run_demo(Path(out), context, click.echo, quick=quick, launcher=launcher)
