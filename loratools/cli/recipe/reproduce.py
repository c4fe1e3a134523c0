"""``loratools reproduce``"""

from __future__ import annotations

from pathlib import Path

import click

from loratools.cli.app import Command
from loratools.cli.options import device_option, force_option, json_option, launch_options, print_json


@click.command("reproduce", cls=Command)
@click.argument("file")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Keep the new file here.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the recipe's relative paths begin.  [default: the current folder]",
)
@click.option(
    "--lora-dir",
    "lora_dirs",
    multiple=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Look for LoRAs here too. Repeatable.",
)
@force_option
@launch_options
@device_option
@json_option
def command(
    file: str,
    out: Path | None,
    folder: Path | None,
    lora_dirs: tuple[Path, ...],
    force: bool,
    processes: str | None,
    launch: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Make a file again from the recipe in its own header, from nothing, and say whether the digest is the same.

    Everything that the recipe reads has to be here: pictures, LoRAs, the base. Steps that only a CPU's sums decide
    give the same bits; where they do not, the relative difference is printed and what is other than it was.

    \b
      loratools reproduce my_style.safetensors
      loratools reproduce my_style.safetensors --folder ~/loras/ink -o again.safetensors
    """
    from loratools.launch.launcher import make_launcher
    from loratools.library.options import lora_file
    from loratools.recipe.plan.context import RunContext
    from loratools.recipe.reproduce import reproduce

    result = reproduce(
        lora_file(file, lora_dirs),
        RunContext(device, progress=True),
        out=out,
        folder=folder,
        lora_dirs=lora_dirs,
        force=force,
        launcher=make_launcher(processes, launch, device),
    )
    print_json(result.json()) if as_json else click.echo(result.text())
