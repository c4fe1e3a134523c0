"""``loratools verify``"""

from __future__ import annotations

import click

from loratools.cli.app import Command
from loratools.cli.options import base_option, json_option, key_options, lora_options, print_json


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
    from loratools.library.merging import verify

    verification = verify(
        result,
        terms,
        lora_dirs=lora_dirs,
        presets=presets,
        missing=None if missing is None else float(missing),
        base=base,
        allow_unknown=allow_unknown,
        drop=drop,
    )
    print_json(verification.json()) if as_json else click.echo(verification.text())
