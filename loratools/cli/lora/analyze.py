"""``loratools analyze``"""

from __future__ import annotations

import click

from loratools.cli.app import Command
from loratools.cli.options import base_option, json_option, key_options, print_json


@click.command("analyze", cls=Command)
@click.argument("file")
@click.argument("file2", required=False)
@click.option("--plot", type=click.Path(), metavar="PNG", help="Also draw it.")
@base_option
@key_options
@json_option
def command(
    file: str,
    file2: str | None,
    plot: str | None,
    base: str | None,
    allow_unknown: bool,
    drop: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show a LoRA's norm, share and effective rank by block; for two files also how alike they are.

    Cosine is between the differences, overlap between the directions they use; the cosine of the down factors tells
    whether two trainings started from the same random numbers.

    \b
      loratools analyze style.safetensors
      loratools analyze style.safetensors base_style.safetensors --plot likeness.png
    """
    from loratools.library.files import analyze
    from loratools.ops.analysis.analyze import plot as draw

    analysis = analyze(file, file2, base=base, allow_unknown=allow_unknown, drop=drop)
    if plot:
        draw(analysis, plot)
    print_json(analysis.json()) if as_json else click.echo(analysis.text())
