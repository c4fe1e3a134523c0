"""The command line: thin commands, imported only when they run, and one place that turns errors into exit codes."""

from __future__ import annotations

import click

from loratools.cli.app import LazyGroup
from loratools.cli.commands import COMMANDS
from loratools.version import __version__

__all__ = ["COMMANDS", "cli", "main"]


@click.group(cls=LazyGroup, commands=None, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="loratools %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
def cli() -> None:
    """The post-training LoRA toolbox for Stable Diffusion.

    \b
      loratools demo                                          see it work, with nothing to download
      loratools merge "style.safetensors:1:GP1,base.safetensors:-1:GP2" -o out.safetensors
      loratools grid runs/style --base model.safetensors --prompt "1girl, smile" -o grid
      loratools run recipes/style.yaml                        from images to the merged file

    Exit codes: 0 done, 1 an error that says what to do, 2 a mistyped command.
    """


def main() -> None:
    """The ``loratools`` command."""
    cli.main(prog_name="loratools")
