"""``loratools resize``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from loratools.cli.app import Command
from loratools.cli.each import batch_of, each_option, run_each
from loratools.cli.lora import sd_scripts
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


@click.command("resize", cls=Command, elsewhere=sd_scripts.RESIZE)
@click.argument("files", nargs=-1, metavar="IN...")
@each_option
@click.option("-o", "--out", required=True, type=click.Path(), help="The file to write; of several, a folder.")
@rank_option
@base_option
@key_options
@json_option
@store_options
def command(
    files: tuple[str, ...],
    folders: tuple[str, ...],
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
      loratools resize --each loras -o small --rank 16
    """
    from loratools.library.batches import resize_each
    from loratools.library.operations import resize

    given: dict[str, Any] = {"rank": rank, "base": base, "allow_unknown": allow_unknown, "drop": drop}
    given |= {"dtype": dtype, "force": force}
    batch = batch_of(files, folders)
    if batch is not None:
        run_each(lambda on_progress: resize_each(batch, out, given, on_progress), len(batch), as_json)
        return
    report = resize(files[0], out, **given)
    print_json(report.json()) if as_json else click.echo(report.text())
