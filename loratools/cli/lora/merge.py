"""``loratools merge``"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from loratools.cli import recipe_output
from loratools.cli.app import Command, DoraBase, fail_usage
from loratools.cli.lora import sd_scripts
from loratools.cli.options import (
    DTYPES,
    Report,
    as_object,
    device_option,
    force_option,
    json_option,
    key_options,
    launch_options,
    lora_options,
    print_report,
)

if TYPE_CHECKING:
    from loratools.dtypes import Dtype
    from loratools.ops.merging.method import MergeMethod
    from loratools.ops.merging.methods.declared import MethodName


@dataclass(frozen=True)
class MergeFlags:
    """What ``merge`` is asked for, by the names of its options."""

    source: str
    out: str | None
    lora_dirs: tuple[str, ...]
    presets: str | None
    missing: str | None
    rank: str | None
    dtype: Dtype | None
    method: MethodName
    density: float | None
    gamma: float | None
    seed: int | None
    floor: float | None
    keep: float | None
    match_norm: bool
    into: str | None
    compat: Literal["supermerger", "supermerger-strength", "lbw"] | None
    base: str | None
    settings: tuple[str, ...]
    jobs: int
    cache: Path | None
    explain: tuple[str, ...]
    processes: str | None
    launch: str | None
    device: str
    dry_run: bool
    allow_unknown: bool
    drop: tuple[str, ...]
    as_json: bool
    force: bool

    def merge_method(self) -> MergeMethod:
        """What is made of the terms."""
        from loratools.ops.merging.method import MergeMethod

        return MergeMethod(self.method, match_norm=self.match_norm, compat=self.compat, **self.numbers)

    @property
    def numbers(self) -> dict[str, Any]:
        """The parameters of methods that were given."""
        given = {name: getattr(self, name) for name in ("density", "gamma", "seed", "floor", "keep")}
        return {name: value for name, value in given.items() if value is not None}


@click.command("merge", cls=Command, context_settings={"allow_extra_args": True}, elsewhere=sd_scripts.MERGE)
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
    type=click.Choice(["exact", "ties", "dare", "breadcrumbs", "slerp", "karcher", "knots", "iso-c", "tsv-m"]),
    default="exact",
    show_default=True,
    help="How one LoRA is made of several: see below.",
)
@click.option(
    "--density", type=float, help="ties, knots (0.5), dare, breadcrumbs (0.9): the part of the entries that is kept."
)
@click.option("--gamma", type=float, help="breadcrumbs: the part that is dropped as the largest.  [default: 0.001]")
@click.option("--seed", type=int, help="dare: of the random draw.  [default: 0]")
@click.option(
    "--floor", type=float, help="iso-c: singular values under this part of the largest are left out.  [default: 0.001]"
)
@click.option("--keep", type=float, help="tsv-m: the part of each LoRA's directions that takes part.  [default: 1]")
@click.option("--match-norm", is_flag=True, help="Bring the LoRAs to equal norm in each block before the weights.")
@click.option(
    "--into",
    type=click.Path(),
    metavar="BASE",
    help="Add the result to this model: a .safetensors file, a Diffusers folder, pocket.",
)
@click.option(
    "--compat",
    type=click.Choice(["supermerger", "supermerger-strength", "lbw"]),
    help="What another tool would make of TERMS, with its distance from what was asked.",
)
@click.option("--base", cls=DoraBase, help="Terms: the base that a DoRA depends on. Recipe: another base than its own.")
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
@launch_options
@device_option
@click.option(
    "--dry-run", is_flag=True, help="Print the resolved plan: file, block, weight, modules, share of the norm."
)
@key_options
@json_option
@force_option
@as_object(MergeFlags)
def command(flags: MergeFlags) -> None:
    """Write the exact weighted sum of LoRA files.

    TERMS is "A:1:GP1,B:-1:GP2": `NAME:weight[:vector][:te=x][:unet=y]`, where NAME is a file, a run (its last epoch),
    or an epoch of it (run@8, run@6-8 for their mean), and the vector a preset or its numbers. Weight x vector always
    multiply, and -1 subtracts. The rank is the sum of the parts' unless --rank asks for less; the error is printed.

    \b
      loratools merge "style:1:GP1,base_style:-1:GP2" --lora-dir loras -o my_style.safetensors
      loratools merge "style:1:GP1" --into model.safetensors -o model_with_style.safetensors
      loratools merge "ink:0.5,pen:0.5" --method slerp -o ink_pen.safetensors
      loratools merge recipes/style.yaml

    \b
    --method, when a grid shows what the sum does wrong:
      exact        the sum, as a UI adds LoRAs: always first
      ties         several of one kind wash one another out: signs elected
      dare         many at full weight: thinned at random (--seed)
      breadcrumbs  pictures burn or rustle: loudest and faintest dropped
      slerp        a mean of two that is as strong as they are
      karcher      the same of three and more
      knots        as ties, in directions that all share
      iso-c        one loud direction drowns the rest: all made equal
      tsv-m        two bleed into one another: what they share taken away
    Formulas, papers and errors: docs/adapters.md. All but exact print how far
    the result is from the sum.

    With a RECIPE (.yaml), the merge steps run, and before them what they need and is not cached; results go to
    runs/NAME in the current folder.
    """
    _check_one_text(flags.source)
    if flags.source.lower().endswith((".yaml", ".yml")):
        _recipe(flags)
    else:
        _check_terms(flags)
        _terms(flags)


def _check_one_text(source: str) -> None:
    """A usage error for LoRAs as words of their own, as other tools take them."""
    if more := click.get_current_context().args:
        text = ",".join(f"{name}:1" for name in (source, *more))
        fail_usage(f'several LoRAs are one text: loratools merge "{text}" -o OUT, each NAME:weight; or name one RECIPE')


def _recipe(flags: MergeFlags) -> None:
    if flags.lora_dirs or flags.presets or flags.missing or flags.rank or flags.dtype:
        fail_usage("--lora-dir, --presets, --missing, --rank and --dtype stand in the recipe itself")
    if flags.allow_unknown or flags.drop:
        fail_usage("--allow-unknown and --drop go with terms; in a recipe write allow_unknown: true at the step")
    if flags.method != "exact" or flags.numbers or flags.match_norm or flags.into or flags.compat:
        fail_usage("--method and its numbers, --match-norm, --into and --compat go with terms, not with a recipe")
    how = recipe_output.RunFlags(
        device=flags.device,
        force=flags.force,
        dry_run=flags.dry_run,
        as_json=flags.as_json,
        settings=flags.settings,
        jobs=flags.jobs,
        cache=flags.cache,
        explain=flags.explain,
        processes=flags.processes,
        launch=flags.launch,
    )
    recipe_output.merge_recipe(flags.source, flags.out, flags.base, how)


def _check_terms(flags: MergeFlags) -> None:
    if flags.settings or flags.explain or flags.cache or flags.jobs > 1:
        fail_usage("--set, --jobs, --cache and --explain go with a recipe, not with terms")
    if (flags.processes, flags.launch) != (None, None):
        fail_usage("--processes and --launch go with a recipe; a merge of terms is one process' work")
    if flags.out is None and not flags.dry_run:
        fail_usage("where to? give -o FILE.safetensors, or --dry-run")
    if flags.into and (flags.rank or flags.dtype):
        fail_usage("--into adds the sum at full rank and keeps the checkpoint's dtype; drop --rank and --dtype")
    _check_numbers(flags)
    if flags.compat and (flags.method != "exact" or flags.match_norm):
        fail_usage("--compat reproduces another tool as it is; drop --method and --match-norm")


def _check_numbers(flags: MergeFlags) -> None:
    """Exit where a number of another method is given."""
    from loratools.ops.merging.methods.declared import METHODS

    for name in flags.numbers:
        if not METHODS[flags.method].takes(name):
            goes = " or ".join(method.name for method in METHODS.values() if method.takes(name))
            fail_usage(f"--{name} goes with --method {goes}")


def _terms(flags: MergeFlags) -> None:
    from loratools.library.merging import merge

    merged = merge(
        flags.source,
        lora_dirs=flags.lora_dirs,
        presets=flags.presets,
        missing=None if flags.missing is None else float(flags.missing),
        base=flags.base or flags.into,
        allow_unknown=flags.allow_unknown,
        drop=flags.drop,
        rank=flags.rank or "exact",
        dtype=flags.dtype or "fp16",
        method=flags.merge_method(),
    )
    if flags.dry_run or flags.out is None:
        report: Report = merged.plan()
    elif flags.into:
        report = merged.write_into(flags.into, flags.out, force=flags.force)
    else:
        report = merged.write(flags.out, force=flags.force)
    print_report(report, flags.as_json)
