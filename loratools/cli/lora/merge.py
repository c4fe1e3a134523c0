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
    from loratools.ops.merging.lazy_result import Source
    from loratools.ops.merging.terms import Term


@dataclass(frozen=True)
class _Inline:
    """What an inline merge was asked for: the terms, how their names are read, what is made of them, and where to."""

    text: str
    out: str | None
    lora_dirs: tuple[str, ...]
    presets: str | None
    missing: str | None
    rank: str | None
    dtype: str | None
    method: str
    density: float | None
    match_norm: bool
    compat: Literal["supermerger", "supermerger-strength", "lbw"] | None
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
    method: str,
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
    _inline(_Inline(source, out, lora_dirs, presets, missing, rank, dtype, method, density, match_norm, compat, into,
                    base or into, dry_run, allow_unknown, as_json, force))  # fmt: skip


def _inline(asked: _Inline) -> None:
    from loratools.adapter.algebra.rank import parse_rank
    from loratools.dtypes import torch_dtype
    from loratools.ops.analysis.norms import match_norms
    from loratools.ops.merging.combine import combine
    from loratools.ops.merging.merge import merge_files, plan

    place = None if asked.out is None else safetensors_out(asked.out)
    rule = parse_rank(asked.rank or "exact")
    terms: list[Term] = read_terms(
        asked.text, asked.lora_dirs, asked.presets, _missing(asked), asked.allow_unknown, asked.base
    )
    terms = match_norms(terms) if asked.match_norm else terms
    source = _source(asked, terms)
    if asked.dry_run or place is None:
        _print(plan(terms), asked.as_json)
        return
    owner = _owner(asked)
    if asked.into:
        _print(_into(asked, asked.into, source or combine(terms), terms, place, owner), asked.as_json)
        return
    report = merge_files(
        terms,
        place,
        rule=rule,
        dtype=torch_dtype(asked.dtype or "fp16"),
        force=asked.force,
        owner=owner,
        source=source,
        method=_method(asked),
    )
    _print(report, asked.as_json)


def _missing(asked: _Inline) -> str | None:
    """Those tools never ask: they give blocks that a vector does not list 0, and are measured against keeping them."""
    return asked.missing or ("1" if asked.compat else None)


def _source(asked: _Inline, terms: list[Term]) -> Source | None:
    """What is written in place of the exact sum, or None for the sum itself."""
    from loratools.ops.merging.compat import compatible
    from loratools.ops.merging.ties import Ties

    if asked.method == "ties":
        return Ties(terms, 0.5 if asked.density is None else asked.density)
    if asked.compat is None:
        return None
    return compatible(terms, asked.compat)


def _into(asked: _Inline, base: str, source: Source, terms: list[Term], place: Path, owner: str) -> Any:
    from loratools.ops.merging.merge import into_provenance
    from loratools.ops.merging.merge_into import merge_into

    made = into_provenance(terms, base, owner, _method(asked))
    return merge_into(source, base, place, provenance=made, force=asked.force)


def _method(asked: _Inline) -> dict[str, Any]:
    """What the header tells beside the terms; nothing for the plain sum."""
    told: dict[str, Any] = {}
    if asked.method == "ties":
        told |= {"method": "ties", "density": 0.5 if asked.density is None else asked.density}
    return told | ({"compat": asked.compat} if asked.compat else {})


def _owner(asked: _Inline) -> str:
    flags = [f"{key}={value}" for key, value in _method(asked).items()]
    flags += ["match-norm"] if asked.match_norm else []
    flags += [f"into {Path(asked.into).name}"] if asked.into else []
    return " ".join(["merge", short_terms(asked.text), *flags])


def _print(result: Any, as_json: bool) -> None:
    print_json(result.json()) if as_json else click.echo(result.text())
