"""``loratools resize``"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loratools.cli.app import Command
from loratools.cli.options import (
    base_option,
    json_option,
    key_options,
    print_json,
    rank_option,
    store_options,
)

if TYPE_CHECKING:
    from loratools.dtypes import Dtype


@click.command("resize", cls=Command)
@click.argument("file", metavar="IN")
@click.option("-o", "--out", required=True, type=click.Path(), help="The file to write.")
@rank_option
@base_option
@key_options
@json_option
@store_options
def command(
    file: str,
    out: str,
    rank: str,
    base: str | None,
    allow_unknown: bool,
    drop: tuple[str, ...],
    as_json: bool,
    dtype: Dtype,
    force: bool,
) -> None:
    """Write the LoRA IN with other ranks, the loss stated for each block.

    A first pass without loss finds what rank every module really has; "exact" stops there, and any other rule takes
    at most that much. A size spends its bytes where the singular values are largest, over all modules.

    \b
      loratools resize style.safetensors -o small.safetensors --rank error=0.05
      loratools resize style.safetensors -o small.safetensors --rank size=18MiB
    """
    from loratools.library.operations import resize

    report = resize(file, out, rank=rank, base=base, allow_unknown=allow_unknown, drop=drop, dtype=dtype, force=force)
    print_json(report.json()) if as_json else click.echo(report.text())
