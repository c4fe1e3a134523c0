"""``loratools resize``"""

from __future__ import annotations

from pathlib import Path

import click

from loratools.cli.app import Command
from loratools.cli.options import (
    base_option,
    base_weights,
    json_option,
    key_options,
    print_json,
    rank_option,
    safetensors_out,
    store_options,
)


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
    dtype: str,
    force: bool,
) -> None:
    """Write the LoRA IN with other ranks, the loss stated for each block.

    A first pass without loss finds what rank every module really has; "exact" stops there, and any other rule takes
    at most that much. A size spends its bytes where the singular values are largest, over all modules.

    \b
      loratools resize style.safetensors -o small.safetensors --rank error=0.05
      loratools resize style.safetensors -o small.safetensors --rank size=18MiB
    """
    from loratools.adapter.algebra.rank import parse_rank
    from loratools.adapter.files.file import read
    from loratools.dtypes import torch_dtype
    from loratools.ops.resize import resize_file

    target, rule = safetensors_out(out), parse_rank(rank)
    report = resize_file(
        read(file, base_weights(base), allow_unknown, drop),
        target,
        rule=rule,
        dtype=torch_dtype(dtype),
        force=force,
        owner=f"resize {Path(file).name} {rule.text()}",
    )
    print_json(report.json()) if as_json else click.echo(report.text())
