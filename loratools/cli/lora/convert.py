"""``loratools convert``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from loratools.cli.app import Command
from loratools.cli.each import batch_of, each_option, run_each
from loratools.cli.options import (
    DTYPES,
    base_option,
    force_option,
    json_option,
    key_options,
    print_json,
)

if TYPE_CHECKING:
    from loratools.dtypes import Dtype


@click.command("convert", cls=Command)
@click.argument("sources", nargs=-1, metavar="FILE|FOLDER")
@each_option
@click.option("-o", "--out", required=True, type=click.Path(), help="The file to write; of several, a folder.")
@click.option(
    "--to",
    "style",
    required=True,
    type=click.Choice(["kohya", "diffusers", "comfy", "original"]),
    help="How keys are spelled.",
)
@click.option("--dtype", type=DTYPES, help="Storage type.  [default: the file's own]")
@base_option
@key_options
@json_option
@force_option
def command(
    sources: tuple[str, ...],
    folders: tuple[str, ...],
    out: str,
    style: Literal["kohya", "diffusers", "comfy", "original"],
    dtype: Dtype | None,
    base: str | None,
    allow_unknown: bool,
    drop: tuple[str, ...],
    as_json: bool,
    force: bool,
) -> None:
    """Rewrite a LoRA file (or a PEFT folder) in kohya's or Diffusers' style; its differences stay the same.

    Every kind is lowered to plain factors with the scale folded in, so that LoHa, LoKr and Tucker files load where
    only LoRA does. kohya is what WebUIs and ComfyUI read; diffusers needs no alpha, and its modules are padded with
    zeros to one rank, because diffusers before 0.40 scales mixed ranks wrongly.

    \b
      loratools convert style.safetensors -o style_diffusers.safetensors --to diffusers
      loratools convert my_peft_folder -o style.safetensors --to kohya
      loratools convert --each loras -o loras_diffusers --to diffusers
    """
    from loratools.library.batches import convert_each
    from loratools.library.operations import convert

    given: dict[str, Any] = {"to": style, "dtype": dtype, "base": base, "allow_unknown": allow_unknown}
    given |= {"drop": drop, "force": force}
    batch = batch_of(sources, folders, "FILE|FOLDER")
    if batch is not None:
        run_each(lambda on_progress: convert_each(batch, out, given, on_progress), len(batch), as_json)
        return
    made = convert(sources[0], out, **given)
    print_json(made.json()) if as_json else click.echo(made.text())
