"""``loratools convert``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from loratools.cli.app import Command
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
@click.argument("source", metavar="FILE|FOLDER")
@click.option("-o", "--out", required=True, type=click.Path(), help="The file to write.")
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
    source: str,
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
    """
    from loratools.library.operations import convert

    made = convert(source, out, to=style, dtype=dtype, base=base, allow_unknown=allow_unknown, drop=drop, force=force)
    print_json(made.json()) if as_json else click.echo(made.text())
