"""``loratools merge``"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from loratools.cli import recipe_output
from loratools.cli.app import Command, fail_usage
from loratools.cli.options import (
    DTYPES,
    device_option,
    force_option,
    json_option,
    lora_options,
    print_json,
    read_terms,
    safetensors_out,
    short_terms,
    unknown_option,
)

if TYPE_CHECKING:
    from loratools.ops.merging.merge_into import IntoReport
    from loratools.ops.merging.method import MergeMethod
    from loratools.ops.merging.terms import Term


@dataclass(frozen=True)
class _Inline:
    """What an inline merge was asked for: the terms, how their names are read, what is made of them, and where to."""

    text: str
    out: str | None
    lora_dirs: tuple[str, ...]
    presets: str | None
    missing: float | None
    rank: str
    dtype: str
    method: MergeMethod
    into: str | None
    base: str | None
    dry_run: bool
    allow_unknown: bool
    as_json: bool
    force: bool


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
@click.option(
    "--method",
    type=click.Choice(["exact", "ties"]),
    default="exact",
    show_default=True,
    help="exact: the weighted sum; ties: trim, elect signs and average, in the core space.",
)
@click.option("--density", type=float, help="ties: the part of the entries that takes part.  [default: 0.5]")
@click.option("--match-norm", is_flag=True, help="Bring the LoRAs to equal norm in each block before the weights.")
@click.option("--into", type=click.Path(), metavar="BASE", help="Add the result to this .safetensors checkpoint.")
@click.option(
    "--compat",
    type=click.Choice(["supermerger", "supermerger-strength", "lbw"]),
    help="What another tool would make of TERMS, with its distance from what was asked.",
)
@click.option("--base", help="Terms: the base that a DoRA depends on. Recipe: another base than its own.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A variable of the recipe. Repeatable.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Recipe: steps that do not need each other at once.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Recipe: finished results, shared with other work folders.",
)
@click.option(
    "--explain", multiple=True, metavar="STEP", help="Recipe: print which change made this step stale. Repeatable."
)
@device_option
@click.option(
    "--dry-run", is_flag=True, help="Print the resolved plan: file, block, weight, modules, share of the norm."
)
@unknown_option
@json_option
@force_option
def command(
    source: str,
    out: str | None,
    lora_dirs: tuple[str, ...],
    presets: str | None,
    missing: str | None,
    rank: str | None,
    dtype: str | None,
    method: Literal["exact", "ties"],
    density: float | None,
    match_norm: bool,
    into: str | None,
    compat: Literal["supermerger", "supermerger-strength", "lbw"] | None,
    base: str | None,
    settings: tuple[str, ...],
    jobs: int,
    cache: Path | None,
    explain: tuple[str, ...],
    device: str,
    dry_run: bool,
    allow_unknown: bool,
    as_json: bool,
    force: bool,
) -> None:
    """Write the exact weighted sum of LoRA files.

    TERMS is "A:1:GP1,B:-1:GP2": NAME:weight[:vector][:te=x][:unet=y], where NAME is a file, a run (its last epoch),
    or an epoch of it (run@8, run@6-8 for their mean), and the vector a preset or its numbers. Weight x vector always
    multiply, and -1 subtracts. The rank is the sum of the parts' unless --rank asks for less; the error is printed.

    \b
      loratools merge "style:1:GP1,base_style:-1:GP2" --lora-dir loras -o my_style.safetensors
      loratools merge "style:1:GP1" --into model.safetensors -o model_with_style.safetensors
      loratools merge recipes/style.yaml

    With a RECIPE (.yaml), the merge steps run, and before them what they need and is not cached; results go to
    runs/NAME in the current folder.
    """
    if source.lower().endswith((".yaml", ".yml")):
        if lora_dirs or presets or missing or rank or dtype:
            fail_usage("--lora-dir, --presets, --missing, --rank and --dtype stand in the recipe itself")
        if method != "exact" or density or match_norm or into or compat:
            fail_usage("--method, --density, --match-norm, --into and --compat go with terms, not with a recipe")
        recipe_output.merge_recipe(
            source, out, base, recipe_output.Flags(device, force, dry_run, as_json, settings, jobs, cache, explain)
        )
        return
    if settings or explain or cache or jobs > 1:
        fail_usage("--set, --jobs, --cache and --explain go with a recipe, not with terms")
    if out is None and not dry_run:
        fail_usage("where to? give -o FILE.safetensors, or --dry-run")
    if into and (rank or dtype):
        fail_usage("--into adds the sum at full rank and keeps the checkpoint's dtype; drop --rank and --dtype")
    if density is not None and method != "ties":
        fail_usage("--density goes with --method ties")
    if compat and (method != "exact" or match_norm):
        fail_usage("--compat reproduces another tool as it is; drop --method and --match-norm")
    from loratools.ops.merging.method import MergeMethod

    _inline(
        _Inline(
            text=source,
            out=out,
            lora_dirs=lora_dirs,
            presets=presets,
            missing=None if missing is None else float(missing),
            rank=rank or "exact",
            dtype=dtype or "fp16",
            method=MergeMethod(method, density, match_norm, compat),
            into=into,
            base=base or into,
            dry_run=dry_run,
            allow_unknown=allow_unknown,
            as_json=as_json,
            force=force,
        )
    )


def _inline(asked: _Inline) -> None:
    from loratools.adapter.algebra.rank import parse_rank
    from loratools.dtypes import torch_dtype
    from loratools.ops.merging.merge import merge_files, plan

    out = None if asked.out is None else safetensors_out(asked.out)
    rule, method = parse_rank(asked.rank), asked.method
    missing = method.missing(asked.missing)
    terms = read_terms(asked.text, asked.lora_dirs, asked.presets, missing, asked.allow_unknown, asked.base)
    terms = method.prepared(terms)
    if asked.dry_run or out is None:
        method.result(terms)  # raises where the method cannot take these terms
        _print(plan(terms), asked.as_json)
    elif asked.into:
        _print(_into(asked, asked.into, terms, out), asked.as_json)
    else:
        report = merge_files(
            terms,
            out,
            rule=rule,
            dtype=torch_dtype(asked.dtype),
            force=asked.force,
            owner=_owner(asked),
            method=method,
        )
        _print(report, asked.as_json)


def _into(asked: _Inline, base: str, terms: list[Term], out: Path) -> IntoReport:
    from loratools.ops.merging.combine import combine
    from loratools.ops.merging.merge import into_provenance
    from loratools.ops.merging.merge_into import merge_into

    result = asked.method.result(terms) or combine(terms)
    made = into_provenance(terms, base, _owner(asked), asked.method)
    return merge_into(result, base, out, provenance=made, force=asked.force)


def _owner(asked: _Inline) -> str:
    """Which command may write the file again: its terms and what else decides the result."""
    flags = [f"{key}={value}" for key, value in asked.method.facts().items()]
    flags += ["match-norm"] if asked.method.match_norm else []
    flags += [f"into {Path(asked.into).name}"] if asked.into else []
    return " ".join(["merge", short_terms(asked.text), *flags])


def _print(result: Any, as_json: bool) -> None:
    print_json(result.json()) if as_json else click.echo(result.text())
