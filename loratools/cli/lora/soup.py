"""``loratools soup``"""

from __future__ import annotations

import click

from loratools.cli.app import Command
from loratools.cli.options import (
    base_option,
    json_option,
    key_options,
    key_rules,
    lora_options,
    print_report,
    rank_option,
    read_terms,
    safetensors_out,
    short_terms,
    store_options,
)


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
    dtype: str,
    force: bool,
) -> None:
    """Average LoRAs: the merge of each FILE at weight 1/n. A FILE may be RUN@6-8, the mean of those epochs.

    \b
      loratools soup runs/style@6-8 -o soup.safetensors
      loratools soup style-000006 style-000007 --lora-dir runs/style -o soup.safetensors
    """
    from loratools.adapter.algebra.rank import parse_rank
    from loratools.dtypes import torch_dtype
    from loratools.ops.merging.merge import merge_files
    from loratools.ops.merging.merge_string import quoted

    target, rule = safetensors_out(out), parse_rank(rank)
    text = ",".join(f"{quoted(name)}:{1 / len(files)!r}" for name in files)
    terms = read_terms(text, lora_dirs, presets, missing, key_rules(allow_unknown, drop), base)
    report = merge_files(
        terms, target, rule=rule, dtype=torch_dtype(dtype), force=force, owner=f"soup {short_terms(text)}"
    )
    print_report(report, as_json)
