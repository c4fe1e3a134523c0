"""``loratools subtract``"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import click

from loratools.cli.app import Command, fail_usage
from loratools.cli.options import (
    as_object,
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


@dataclass(frozen=True)
class SubtractFlags:
    """What ``subtract`` is asked for, by the names of its options."""

    style: str
    base_style: str
    out: str | None
    mode: Literal["direct", "matched", "project", "soft"]
    blocks: str | None
    energy: float
    side: Literal["output", "input", "both"]
    mu: float
    most: float | None
    rank: str
    lora_dirs: tuple[str, ...]
    presets: str | None
    missing: str | None
    base: str | None
    allow_unknown: bool
    drop: tuple[str, ...]
    dry_run: bool
    as_json: bool
    dtype: Dtype
    force: bool


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
@key_options
@click.option("--dry-run", is_flag=True, help="Print what would be removed from each block, and write nothing.")
@json_option
@store_options
@as_object(SubtractFlags)
def command(flags: SubtractFlags) -> None:
    """Remove BASE_STYLE from STYLE; both are LoRA files or merge strings.

    Prints for each block the cosine between the two, the energy removed and the norm kept. direct with --blocks V is
    exactly the merge "STYLE:1,BASE_STYLE:-1:V". The numbers do not settle which mode looks best: render a grid.

    \b
      loratools subtract style base_style --blocks GP2 -o mine.safetensors
      loratools subtract style base_style --mode matched --dry-run
    """
    from loratools.library.operations import subtract
    from loratools.ops.style_removal import SubtractMethod

    if flags.out is None and not flags.dry_run:
        fail_usage("where to? give -o FILE.safetensors, or --dry-run")
    most = math.inf if flags.most is None else flags.most
    report = subtract(
        flags.style,
        flags.base_style,
        None if flags.dry_run else flags.out,
        mode=SubtractMethod(flags.mode, flags.energy, flags.side, flags.mu, most),
        blocks=flags.blocks,
        lora_dirs=flags.lora_dirs,
        presets=flags.presets,
        missing=None if flags.missing is None else float(flags.missing),
        base=flags.base,
        allow_unknown=flags.allow_unknown,
        drop=flags.drop,
        rank=flags.rank,
        dtype=flags.dtype,
        force=flags.force,
    )
    print_report(report, flags.as_json)
