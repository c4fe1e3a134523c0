"""``loratools soup``"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loratools.cli.app import Command
from loratools.cli.options import (
    base_option,
    json_option,
    key_options,
    lora_options,
    print_report,
    rank_option,
    store_options,
)

if TYPE_CHECKING:
    from loratools.dtypes import Dtype


@click.command("soup", cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-o", "--out", required=True, type=click.Path(), help="The file to write.")
@rank_option
@lora_options
@base_option
@key_options
@json_option
@store_options
def command(
    files: tuple[str, ...],
    out: str,
    rank: str,
    lora_dirs: tuple[str, ...],
    presets: str | None,
    missing: str | None,
    base: str | None,
    allow_unknown: bool,
    drop: tuple[str, ...],
    as_json: bool,
    dtype: Dtype,
    force: bool,
) -> None:
    """Average LoRAs: the merge of each FILE at weight 1/n. A FILE may be RUN@6-8, the mean of those epochs.

    \b
      loratools soup runs/style@6-8 -o soup.safetensors
      loratools soup style-000006 style-000007 --lora-dir runs/style -o soup.safetensors
    """
    from loratools.library.merging import soup

    report = soup(
        files,
        out,
        lora_dirs=lora_dirs,
        presets=presets,
        missing=None if missing is None else float(missing),
        base=base,
        allow_unknown=allow_unknown,
        drop=drop,
        rank=rank,
        dtype=dtype,
        force=force,
    )
    print_report(report, as_json)
