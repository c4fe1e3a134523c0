"""``loratools explain``"""

from __future__ import annotations

import click

from loratools.cli.app import Command


@click.command("explain", cls=Command)
@click.argument("file")
def command(file: str) -> None:
    """Tell in words how a LoRA file, or a checkpoint that LoRAs were merged into, was made.

    What was merged with which weights, what was subtracted, and what each part was trained on, from the header alone.
    Files of other trainers tell what their ss_* facts say.

    \b
      loratools explain my_style.safetensors
      loratools reproduce my_style.safetensors      make it again
    """
    from loratools.library.recipes import explain

    click.echo(explain(file))
