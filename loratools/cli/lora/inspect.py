"""``loratools inspect``"""

from __future__ import annotations

import click

from loratools.cli.app import Command
from loratools.cli.options import json_option, key_options, print_json


@click.command("inspect", cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--brief", is_flag=True, help="Read the headers alone: no norms, alphas or hashes; instant.")
@key_options
@json_option
def command(files: tuple[str, ...], brief: bool, allow_unknown: bool, drop: tuple[str, ...], as_json: bool) -> None:
    """Say what LoRA files are: family, kind, ranks, alpha, modules and norm per block, hashes (stored and true),
    training facts, and how they were made.

    \b
      loratools inspect my_style.safetensors
      loratools inspect runs/style/*.safetensors --json
      loratools inspect ~/loras/*.safetensors --brief
    """
    from loratools.library.files import inspect

    descriptions = [inspect(path, brief=brief, allow_unknown=allow_unknown, drop=drop) for path in files]
    if as_json:
        print_json(descriptions[0].json() if len(descriptions) == 1 else [one.json() for one in descriptions])
    else:
        click.echo("\n\n".join(one.text() for one in descriptions))
