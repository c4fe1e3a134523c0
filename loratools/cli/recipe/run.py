"""``loratools run``"""

from __future__ import annotations

from pathlib import Path

import click

from loratools.cli import recipe_output
from loratools.cli.app import Command
from loratools.cli.options import device_option, force_option, json_option, launch_options, size_bytes


@click.command("run", cls=Command)
@click.argument("recipe")
@click.option("--only", multiple=True, metavar="STEP", help="This step, and what it needs. Repeatable.")
@click.option("-o", "--out", type=click.Path(), help="Folder for the results.  [default: runs/NAME]")
@click.option("--base", help="Another base than the recipe's own.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A variable of the recipe. Repeatable.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Steps that do not need each other at once; those that load a model take turns.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Finished results, shared with other work folders.  [default: the work folder's own]",
)
@click.option(
    "--cache-limit",
    metavar="SIZE",
    help="What the cache may take beside the outputs, such as 500MiB.  [default: 20GiB]",
)
@launch_options
@device_option
@click.option("--dry-run", is_flag=True, help="Print the steps: cached or to do, inputs, results.")
@click.option("--explain", multiple=True, metavar="STEP", help="Print which change made this step stale. Repeatable.")
@json_option
@force_option
def command(
    recipe: str,
    only: tuple[str, ...],
    out: str | None,
    base: str | None,
    settings: tuple[str, ...],
    jobs: int,
    cache: Path | None,
    cache_limit: str | None,
    processes: str | None,
    launch: str | None,
    device: str,
    dry_run: bool,
    explain: tuple[str, ...],
    as_json: bool,
    force: bool,
) -> None:
    """Run a recipe: every step that is not cached, in order.

    A step is cached when nothing that determines its result has changed and its files are still what was written.
    Files that the recipe names are looked for beside it, then in the current folder; results go to the current
    folder's runs/NAME. A run that is stopped goes on from there. With --processes or --launch, steps that load a model
    run on different GPUs at once, and one that is alone on all of them.

    \b
      loratools run recipes/style.yaml
      loratools run recipes/style.yaml --only final --dry-run
      loratools run recipes/style.yaml --explain final
      loratools run recipes/style.yaml --processes auto
    """
    limit = None if cache_limit is None else size_bytes(cache_limit, "--cache-limit")
    flags = recipe_output.RunFlags(
        device=device,
        force=force,
        dry_run=dry_run,
        as_json=as_json,
        settings=settings,
        jobs=jobs,
        cache=cache,
        explain=explain,
        cache_limit=limit,
        processes=processes,
        launch=launch,
    )
    recipe_output.run_recipe(recipe, only, out, base, flags)
