"""``loratools merge``"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from loratools.cli import steps
from loratools.cli.common import (
    DTYPES,
    device_option,
    force_option,
    json_option,
    lora_options,
    print_json,
    read_terms,
    safetensors_out,
    unknown_option,
)
from loratools.cli.shell import Command, fail_usage


@click.command("merge", cls=Command)
@click.argument("source", metavar="RECIPE|TERMS")
@click.option(
    "-o",
    "--out",
    type=click.Path(),
    help="The file to write; for a recipe, its merged file or a folder.",
)
@lora_options
@click.option(
    "--rank", metavar="RULE", help="exact, a number, error=0.01, energy=0.999 or size=36MiB.  [default: exact]"
)
@click.option("--dtype", type=DTYPES, help="Storage type.  [default: fp16]")
@click.option("--base", help="Recipe: another base than its own.")
@device_option
@click.option(
    "--dry-run", is_flag=True, help="Print the resolved plan: file, block, weight, modules, share of the norm."
)
@unknown_option
@json_option
@force_option
def command(
    source: str, out: str | None, lora_dirs: tuple[str, ...], presets: str | None, missing: str | None,
    rank: str | None, dtype: str | None, base: str | None, device: str, dry_run: bool, allow_unknown: bool,
    as_json: bool, force: bool,
) -> None:  # fmt: skip
    """Write the exact weighted sum of LoRA files.

    TERMS is "A:1:GP1,B:-1:GP2": NAME:weight[:vector][:te=x][:unet=y], where NAME is a file, a run (its last epoch),
    or an epoch of it (run@8, run@6-8 for their mean), and the vector a preset or its numbers. Weight x vector always
    multiply, and -1 subtracts. The rank is the sum of the parts' unless --rank asks for less; the error is printed.

    \b
      loratools merge "style:1:GP1,base_style:-1:GP2" --lora-dir loras -o my_style.safetensors
      loratools merge recipes/style.yaml

    With a RECIPE (.yaml), the merge steps run, and before them what they need and is not cached; results go to
    runs/NAME in the current folder.
    """
    if source.lower().endswith((".yaml", ".yml")):
        if lora_dirs or presets or missing or rank or dtype:
            fail_usage("--lora-dir, --presets, --missing, --rank and --dtype stand in the recipe itself")
        steps.merge_recipe(source, out, base, steps.Flags(device, force, dry_run, as_json))
        return
    if base:
        fail_usage("--base goes with a recipe; a merge of files needs none")
    if out is None and not dry_run:
        fail_usage("where to? give -o FILE.safetensors, or --dry-run")
    _inline(source, out, lora_dirs, presets, missing, rank or "exact", dtype or "fp16", dry_run,
            allow_unknown, as_json, force)  # fmt: skip


def _inline(
    text: str, out: str | None, lora_dirs: tuple[str, ...], presets: str | None, missing: str | None, rank: str,
    dtype: str, dry_run: bool, allow_unknown: bool, as_json: bool, force: bool,
) -> None:  # fmt: skip
    from loratools.adapter.rank import parse_rank
    from loratools.adapter.save import DTYPES as TORCH_DTYPES
    from loratools.ops.merge import merge_files, plan
    from loratools.ops.terms import parse_merge_string

    place = None if out is None else safetensors_out(out)
    rule = parse_rank(rank)
    terms = read_terms(text, lora_dirs, presets, missing, allow_unknown)
    if dry_run or place is None:
        resolved = plan(terms)
        print_json(resolved.json()) if as_json else click.echo(resolved.text())
        return
    owner = "merge " + ",".join(replace(s, ref=Path(s.ref).name).text() for s in parse_merge_string(text))
    report = merge_files(terms, Path(place), rule=rule, dtype=TORCH_DTYPES[dtype], force=force, owner=owner)
    print_json(report.json()) if as_json else click.echo(report.text())
