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
@click.option("--ema", is_flag=True, help="Weigh the epochs of a run by a power of time, as an EMA would have.")
@click.option(
    "--sigma-rel",
    type=float,
    help="ema: its width over the training; 0.289 is the plain mean.  [default: 0.1]",
)
@click.option("--gamma", type=float, help="ema: the exponent in place of the width, such as 7.")
@rank_option
@lora_options
@base_option
@key_options
@json_option
@store_options
def command(
    files: tuple[str, ...],
    out: str,
    ema: bool,
    sigma_rel: float | None,
    gamma: float | None,
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

    --ema takes one RUN (all its epochs) or RUN@4-10 and gives epoch k the weight of its time under a power function,
    (t_k^(g+1) - t_(k-1)^(g+1)) / t_n^(g+1): an exponential moving average after the fact, as in EDM2 (2312.02696). Wide
    is smooth, narrow is the last epoch. It is as fine as the epochs are, and never narrower than one of them.

    \b
      loratools soup runs/style@6-8 -o soup.safetensors
      loratools soup runs/style --ema --sigma-rel 0.15 -o smooth.safetensors
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
        ema=ema,
        sigma_rel=sigma_rel,
        gamma=gamma,
        rank=rank,
        dtype=dtype,
        force=force,
    )
    print_report(report, as_json)
