"""``loratools inspect``"""

from __future__ import annotations

from typing import Any

import click

from loratools.cli.app import Command
from loratools.cli.each import batch_of, each_option, run_each
from loratools.cli.options import json_option, key_options, print_json


@click.command("inspect", cls=Command)
@click.argument("files", nargs=-1, metavar="FILE...")
@each_option
@click.option("--brief", is_flag=True, help="Read the headers alone: no norms, alphas or hashes; instant.")
@key_options
@json_option
def command(
    files: tuple[str, ...],
    folders: tuple[str, ...],
    brief: bool,
    allow_unknown: bool,
    drop: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what LoRA files are: family, kind, ranks, alpha, modules and norm per block, hashes (stored and true),
    training facts, and how they were made.

    \b
      loratools inspect my_style.safetensors
      loratools inspect runs/style/*.safetensors --json
      loratools inspect ~/loras/*.safetensors --brief
      loratools inspect --each loras --brief
    """
    from loratools.library.batches import inspect_each
    from loratools.library.files import inspect

    given: dict[str, Any] = {"brief": brief, "allow_unknown": allow_unknown, "drop": drop}
    batch = batch_of(files, folders, "FILE...")
    if batch is not None and folders:
        run_each(lambda on_progress: inspect_each(batch, given, on_progress), len(batch), as_json)
        return
    descriptions = [inspect(path, **given) for path in batch or files]
    if as_json:
        print_json(descriptions[0].json() if len(descriptions) == 1 else [one.json() for one in descriptions])
    else:
        click.echo("\n\n".join(one.text() for one in descriptions))
