"""``loratools analyze``"""

from __future__ import annotations

import click

from loratools.cli.app import Command
from loratools.cli.options import base_option, json_option, key_options, print_json


@click.command("analyze", cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--plot", type=click.Path(), metavar="PNG", help="Also draw it.")
@base_option
@key_options
@json_option
def command(
    files: tuple[str, ...],
    plot: str | None,
    base: str | None,
    allow_unknown: bool,
    drop: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show a LoRA's norm, share and effective rank by block; of several, what they do to one another.

    Of two files, the cosine is between the differences, overlap between the directions they use; the cosine of the
    down factors tells whether two trainings started from the same random numbers.

    Of two and more a report tells, by block and by file, which part of their strength agrees, cancels and is
    orthogonal (undisturbed) when they are added, and how strong the sum is against that: 1.00 where nothing meets,
    more where they add up, less where they cancel. A large cancel is where block weights or another --method of
    `merge` help.

    \b
      loratools analyze style.safetensors
      loratools analyze style.safetensors base_style.safetensors --plot likeness.png
      loratools analyze ink.safetensors face.safetensors dress.safetensors
    """
    from loratools.library.files import analyze
    from loratools.ops.analysis.plot import plot as draw

    analysis = analyze(*files, base=base, allow_unknown=allow_unknown, drop=drop)
    if plot:
        draw(analysis, plot)
    print_json(analysis.json()) if as_json else click.echo(analysis.text())
