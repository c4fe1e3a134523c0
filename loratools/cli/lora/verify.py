"""``loratools verify``"""

from __future__ import annotations

import click

from loratools.cli.app import Command
from loratools.cli.options import base_option, json_option, key_options, key_rules, lora_options, print_json, read_terms


@click.command("verify", cls=Command)
@click.argument("result")
@click.argument("terms")
@lora_options
@base_option
@key_options
@json_option
def command(
    result: str,
    terms: str,
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
    """
    from loratools.ops.merging.verify import verify

    keys = key_rules(allow_unknown, drop)
    verification = verify(result, read_terms(terms, lora_dirs, presets, missing, keys, base), keys)
    print_json(verification.json()) if as_json else click.echo(verification.text())
