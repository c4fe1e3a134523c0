"""``loratools blocks tune --dry-run``: what it would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from loratools.cli.blocks.answers import with_flags
from loratools.cli.blocks.tune_flags import TuneFlags, base_of, check_recipe_flags, owner_of, read_terms
from loratools.cli.options import print_json

if TYPE_CHECKING:
    from loratools.tune.dry_run.report import TuneDryRun
    from loratools.tune.problem.request import TuneRequest


def print_dry_run(flags: TuneFlags, request: TuneRequest) -> None:
    """Say what the tune would do; nothing is loaded but the headers of files, and nothing is written.

    Raises:
        LoratoolsError: what the tune would raise before its first picture.
    """
    if flags.processes or flags.launch:
        from loratools.launch.launcher import make_launcher

        make_launcher(flags.processes, flags.launch, flags.device)  # so that a mistake in them shows
    first, planned = _recipe(flags, request) if flags.is_recipe else ((), _terms(flags, request))
    if flags.as_json:
        print_json({"first": list(first), "tune": None if planned is None else planned.json()})
        return
    if planned is None:
        only = " ".join(f"--only {own}" for own in first)
        click.echo(
            f"first: the tune makes {', '.join(first)}, which the merge reads; what it then does shows once that is "
            f"there: `loratools run {flags.what} {only}`"
        )
    else:
        click.echo(with_flags(planned.text()))
    click.echo("nothing was loaded or written (--dry-run)")


def _terms(flags: TuneFlags, request: TuneRequest) -> TuneDryRun:
    base = base_of(flags)
    from loratools.base.any_base import load_any_base
    from loratools.tune.dry_run.make import tune_dry_run

    terms, earlier = read_terms(flags)
    return tune_dry_run(
        load_any_base(base, device=flags.device, dtype=flags.dtype, weights=False),
        terms,
        request,
        Path(flags.out),
        owner=owner_of(flags),
        force=flags.force,
        earlier=earlier,
    )


def _recipe(flags: TuneFlags, request: TuneRequest) -> tuple[tuple[str, ...], TuneDryRun | None]:
    """The steps that come first, and the tune, which is not known where there are some."""
    check_recipe_flags(flags)
    from loratools.cli.blocks.fix import own_recipe
    from loratools.recipe.plan.context import RunContext
    from loratools.recipe.run.runner import find_recipe
    from loratools.recipe.tune_merge import dry_run_recipe

    planned = dry_run_recipe(
        own_recipe(find_recipe(flags.what)),
        request,
        Path(flags.out),
        RunContext(flags.device, flags.force),
        merge=flags.merge,
        base=flags.base,
        dtype=flags.dtype,
    )
    return planned.first, planned.tune
