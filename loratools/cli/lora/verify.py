"""``loratools verify``"""

from __future__ import annotations

from typing import Any

import click

from loratools.cli.app import Command
from loratools.cli.each import batch_of, each_option, run_each
from loratools.cli.options import base_option, json_option, key_options, lora_options, print_json


@click.command("verify", cls=Command)
@click.argument("results", nargs=-1, metavar="RESULT...")
@click.argument("terms")
@each_option
@lora_options
@base_option
@key_options
@json_option
def command(
    results: tuple[str, ...],
    terms: str,
    folders: tuple[str, ...],
    lora_dirs: tuple[str, ...],
    presets: str | None,
    missing: str | None,
    base: str | None,
    allow_unknown: bool,
    drop: tuple[str, ...],
    as_json: bool,
) -> None:
    """Recompute TERMS in float64 and say how far the file RESULT is from them, in total and per block.

    The error is |file - asked| / |asked|. It works on files of any tool: see what another merger really computed.

    \b
      loratools verify my_style.safetensors "style:1:GP1,base_style:-1:GP2" --lora-dir loras
      loratools verify --each results "style:1:GP1,base_style:-1:GP2" --lora-dir loras
    """
    from loratools.library.batches import verify_each
    from loratools.library.merging import verify

    given: dict[str, Any] = {"lora_dirs": lora_dirs, "presets": presets, "base": base, "drop": drop}
    given |= {"missing": None if missing is None else float(missing), "allow_unknown": allow_unknown}
    batch = batch_of(results, folders, "RESULT")
    if batch is not None:
        run_each(lambda on_progress: verify_each(batch, terms, given, on_progress), len(batch), as_json)
        return
    verification = verify(results[0], terms, **given)
    print_json(verification.json()) if as_json else click.echo(verification.text())
