"""``loratools recipe``"""

from __future__ import annotations

from pathlib import Path

import click

from loratools.cli.app import Group
from loratools.cli.options import force_option
from loratools.cli.recipe import new


@click.group("recipe", cls=Group)
def command() -> None:
    """Write recipes: a starter from answers, another tool's settings as one, every step and option, the schema.

    \b
      loratools recipe new my_style.yaml --images images/ink --base model.safetensors
      loratools recipe import "A:1:GP1,B:-1:GP2" -o merge.yaml
      loratools recipe steps publish
    """


command.add_command(new.new)
command.add_command(new.import_)


@command.command("steps")
@click.argument("kinds", nargs=-1)
def steps(kinds: tuple[str, ...]) -> None:
    """List every kind of step with its options, or the KINDS that are named.

    \b
      loratools recipe steps merge grid
    """
    from loratools.errors import RecipeError, did_you_mean
    from loratools.recipe.schema.kinds import STEP_KINDS
    from loratools.recipe.schema.option_table import option_tables

    for kind in kinds:
        if kind not in STEP_KINDS:
            near = did_you_mean(kind, STEP_KINDS)
            near = did_you_mean(kind, STEP_KINDS)
            raise RecipeError(f"there is no step '{kind}'{near}; there are {', '.join(STEP_KINDS)}")
    click.echo(option_tables(kinds or None).rstrip())


@command.command("schema")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="File.  [default: stdout]")
@force_option
def schema(out: Path | None, force: bool) -> None:
    """Print the JSON Schema of recipes, for editors: completion, descriptions, and a red line under a mistake.

    A recipe names it in its first line: # yaml-language-server: $schema=recipe.schema.json

    \b
      loratools recipe schema -o recipe.schema.json
    """
    from loratools.recipe.importers.write import write_new
    from loratools.recipe.schema.json_schema import schema_text

    if out is None:
        click.echo(schema_text(), nl=False)
        return
    write_new(out, schema_text(), force or _is_schema(out))
    click.echo(str(out))


def _is_schema(path: Path) -> bool:
    """Whether the file is an older schema of ours, which may be replaced."""
    try:
        return '"A loratools recipe"' in path.read_text(encoding="utf-8")[:400]
    except (OSError, UnicodeDecodeError):
        return False
