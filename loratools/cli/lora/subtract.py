"""``loratools subtract``"""

from __future__ import annotations

from typing import Literal

import click

from loratools.cli.app import Command, fail_usage
from loratools.cli.options import (
    base_option,
    json_option,
    lora_options,
    print_json,
    rank_option,
    read_terms,
    safetensors_out,
    short_terms,
    store_options,
)


@click.command("subtract", cls=Command)
@click.argument("style")
@click.argument("base_style")
@click.option("-o", "--out", type=click.Path(), help="The file to write.")
@click.option(
    "--mode",
    type=click.Choice(["direct", "matched", "project", "soft"]),
    default="direct",
    show_default=True,
    help="direct: all of it; matched: only what the style has along it; project: its directions; soft: those in part.",
)
@click.option("--blocks", metavar="VEC", help="How strongly in each block: a preset, numbers or names.")
@click.option(
    "--energy",
    type=float,
    default=0.99,
    show_default=True,
    help="project, soft: the part of BASE_STYLE's energy that its directions must hold.",
)
@click.option(
    "--side",
    type=click.Choice(["output", "input", "both"]),
    default="output",
    show_default=True,
    help="project, soft: which side is freed of its directions.",
)
@click.option("--mu", type=float, default=1.0, show_default=True, help="soft: its directions keep 1 / (1 + mu).")
@click.option("--most", type=float, help="matched: the largest multiple of BASE_STYLE that is removed.")
@rank_option
@lora_options
@base_option
@click.option("--dry-run", is_flag=True, help="Print what would be removed from each block, and write nothing.")
@json_option
@store_options
def command(
    style: str,
    base_style: str,
    out: str | None,
    mode: Literal["direct", "matched", "project", "soft"],
    blocks: str | None,
    energy: float,
    side: Literal["output", "input", "both"],
    mu: float,
    most: float | None,
    rank: str,
    lora_dirs: tuple[str, ...],
    presets: str | None,
    missing: str | None,
    base: str | None,
    dry_run: bool,
    as_json: bool,
    dtype: str,
    force: bool,
) -> None:
    """Remove BASE_STYLE from STYLE; both are LoRA files or merge strings.

    Prints for each block the cosine between the two, the energy removed and the norm kept. direct with --blocks V is
    exactly the merge "STYLE:1,BASE_STYLE:-1:V". The numbers do not settle which mode looks best: render a grid.

    \b
      loratools subtract style base_style --blocks GP2 -o mine.safetensors
      loratools subtract style base_style --mode matched --dry-run
    """
    import math

    from loratools.adapter.algebra.rank import parse_rank
    from loratools.blocks.parse import parse_vector
    from loratools.blocks.presets import load_presets
    from loratools.dtypes import torch_dtype
    from loratools.ops.subtract import Method, subtract_files

    if out is None and not dry_run:
        fail_usage("where to? give -o FILE.safetensors, or --dry-run")
    place = None if out is None else safetensors_out(out)
    method, rule = Method(mode, energy, side, mu, math.inf if most is None else most), parse_rank(rank)
    first, second = (read_terms(text, lora_dirs, presets, missing, base=base) for text in (style, base_style))
    vector = parse_vector(blocks, load_presets(presets), first[0].adapter.family) if blocks else None
    owner = f"subtract {mode} {short_terms(style)} - {short_terms(base_style)}" + (f" {blocks}" if blocks else "")
    report = subtract_files(
        first,
        second,
        None if dry_run else place,
        method=method,
        vector=vector,
        missing=None if missing is None else float(missing),
        rule=rule,
        dtype=torch_dtype(dtype),
        force=force,
        owner=owner,
    )
    print_json(report.json()) if as_json else click.echo(report.text())
