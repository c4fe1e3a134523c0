"""``loratools run``"""

from __future__ import annotations

import click

from loratools.cli import steps
from loratools.cli.common import device_option, force_option, json_option
from loratools.cli.shell import Command


@click.command("run", cls=Command)
@click.argument("recipe")
@click.option("--only", multiple=True, metavar="STEP", help="This step, and what it needs. Repeatable.")
@click.option("-o", "--out", type=click.Path(), help="Folder for the results.  [default: runs/NAME]")
@click.option("--base", help="Another base than the recipe's own.")
@device_option
@click.option("--dry-run", is_flag=True, help="Print the steps: cached or to do, inputs, results.")
@json_option
@force_option
def command(
    recipe: str, only: tuple[str, ...], out: str | None, base: str | None, device: str, dry_run: bool, as_json: bool,
    force: bool,
) -> None:  # fmt: skip
    """Run a recipe: every step that is not cached, in order.

    A step is cached when nothing that determines its result has changed and its files are still what was written.
    Files that the recipe names are looked for beside it, then in the current folder; results go to the current
    folder's runs/NAME. A run that is stopped goes on from there.

    \b
      loratools run recipes/style.yaml
      loratools run recipes/style.yaml --only final --dry-run
    """
    steps.run_recipe(recipe, only, out, base, steps.Flags(device, force, dry_run, as_json))
