"""``loratools extract``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from loratools.cli.app import Command
from loratools.cli.each import batch_of, each_option, run_each
from loratools.cli.lora import sd_scripts
from loratools.cli.options import json_option, key_options, print_report, store_options

if TYPE_CHECKING:
    from loratools.dtypes import Dtype


@click.command("extract", cls=Command, elsewhere=sd_scripts.EXTRACT)
@click.option("--base", type=click.Path(), help="The model before tuning; leave it out for a full-difference adapter.")
@click.option("--tuned", type=click.Path(), help="The model after tuning.")
@each_option
@click.option("-o", "--out", required=True, type=click.Path(), help="The file to write; of several, a folder.")
@click.option("--rank", metavar="RULE", required=True, help="A number, error=0.1, energy=0.99, size=36MiB or exact.")
@click.option("--conv", is_flag=True, help="Convolutions and the network's other layers too.")
@click.option("--norms", is_flag=True, help="Normalisations too, as full differences.")
@click.option("--biases", is_flag=True, help="Biases of layers too, as full differences.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random projections.")
@key_options
@json_option
@store_options
def command(
    base: str | None,
    tuned: str | None,
    folders: tuple[str, ...],
    out: str,
    rank: str,
    conv: bool,
    norms: bool,
    biases: bool,
    seed: int,
    allow_unknown: bool,
    drop: tuple[str, ...],
    as_json: bool,
    dtype: Dtype,
    force: bool,
) -> None:
    """Make a LoRA of what turns the model --base into the model --tuned, the loss stated for each block.

    Models are single .safetensors or .ckpt files, or Diffusers folders. Text encoders count where both have them;
    modules that are the same in both are left out. What changed and is not taken is counted and named, and the error
    is of the whole change: --conv, --norms and --biases take more of it. Only a small part of a full fine-tune has low
    rank, so look at the error: error=0.3 tells how much rank it takes.

    \b
      loratools extract --base sd15.safetensors --tuned mine.safetensors -o mine_lora.safetensors --rank 64
      loratools extract --base sd15.safetensors --each tuned_models -o loras --rank 64
    """
    from loratools.library.batches import extract_each
    from loratools.library.operations import extract

    given: dict[str, Any] = {"rank": rank, "base": base, "conv": conv, "norms": norms, "biases": biases, "seed": seed}
    given |= {"allow_unknown": allow_unknown, "drop": drop, "dtype": dtype, "force": force}
    batch = batch_of([tuned] if tuned else [], folders, "--tuned")
    if batch is not None:
        run_each(lambda on_progress: extract_each(batch, out, given, on_progress), len(batch), as_json)
        return
    print_report(extract(str(tuned), out, **given), as_json)
