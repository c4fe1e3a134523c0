"""``loratools blocks fix`` and ``blocks undo``"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import click

from loratools.cli.app import Command
from loratools.cli.options import as_object, device_option, force_option, json_option, launch_options, print_json


@dataclass(frozen=True)
class FixFlags:
    """What ``blocks fix`` is asked for, by the names of its options."""

    recipe: str
    symptom: tuple[str, ...]
    step: str
    merge: str | None
    dry_run: bool
    render: bool
    preview_step: bool
    sizes: str
    out: str | None
    base: str | None
    processes: str | None
    launch: str | None
    device: str
    force: bool
    as_json: bool


@click.command("fix", cls=Command)
@click.argument("recipe", type=click.Path())
@click.option(
    "--symptom", multiple=True, metavar="NAME", help="hands, limbs, face, clothes, style or chaos. Repeatable."
)
@click.option("--step", default="0.1", show_default=True, metavar="SIZE", help="Size of one step, absolute.")
@click.option("--merge", metavar="STEP", help="The merge step that is meant, where the recipe has several.")
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@click.option("--render", is_flag=True, help="Merge again and render base, before and after side by side.")
@click.option("--preview-step", is_flag=True, help="Render a strip over sizes of the edit, and change nothing.")
@click.option("--sizes", default="0:0.4:0.1", show_default=True, help="The sizes for --preview-step.")
@click.option("-o", "--out", type=click.Path(), help="Folder for the recipe's results.  [default: runs/NAME]")
@click.option("--base", help="Another base than the recipe's own.")
@launch_options
@device_option
@force_option
@json_option
@as_object(FixFlags)
def fix(flags: FixFlags) -> None:
    """Edit RECIPE's block vectors for what is wrong with its pictures, by the style method's rules.

    Only the numbers themselves change; comments, order and spacing stay. The next fix of the same symptom goes to the
    next step of its rule, and `blocks undo` walks back. GP1 is the vector of the merge's first positive term, GP2 that
    of its first negative one. Without --symptom the rules are listed.

    \b
      loratools blocks fix my_style.yaml --symptom hands
      loratools blocks fix my_style.yaml --symptom face --step 0.05 --render
      loratools blocks fix my_style.yaml --symptom hands --preview-step
    """
    if not flags.symptom:
        _list(flags.as_json)
        return
    from loratools.recipe.edit.fix import fix as edit
    from loratools.recipe.run.runner import find_recipe

    path = own_recipe(find_recipe(flags.recipe))
    if flags.preview_step:
        _preview(path, flags)
        return
    result = edit(path, flags.symptom, size=_size(flags.step), merge=flags.merge, dry_run=flags.dry_run)
    if not flags.as_json:
        click.echo("\n".join(result.lines()))  # before the pictures, which take their time and may fail
    strip = None
    if flags.render:
        strip = _strip(result.recipe, {"before": result.old, "after": result.text}, "fix", flags)
    if flags.as_json:
        print_json({**result.json(), "strip": strip})
    elif strip:
        click.echo(strip)
    elif flags.dry_run:
        click.echo("nothing was written (--dry-run)")
    else:
        click.echo(
            f"{path} was edited; `loratools merge {path}` makes the new file, `loratools blocks undo {path}` goes back"
        )


@click.command("undo", cls=Command)
@click.argument("recipe", type=click.Path())
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@json_option
def undo(recipe: str, dry_run: bool, as_json: bool) -> None:
    """Take back the last `blocks fix` of RECIPE, byte for byte.

    Where the recipe was edited by hand since, only numbers that are still what the fix wrote go back.

    \b
      loratools blocks undo my_style.yaml
    """
    from loratools.recipe.edit.undo import undo as walk_back
    from loratools.recipe.run.runner import find_recipe

    outcome = walk_back(own_recipe(find_recipe(recipe)), dry_run=dry_run)
    if as_json:
        print_json(outcome.json())
    else:
        click.echo("\n".join(outcome.lines()))


def own_recipe(path: Path) -> Path:
    """The recipe itself, unless it is one that ships: those are not for editing."""
    from loratools.errors import RecipeError
    from loratools.recipe.shipped import RECIPES

    if path.resolve().is_relative_to(RECIPES.resolve()):
        raise RecipeError(f"{path.name} is a recipe that ships with loratools; copy it and edit the copy")
    return path


def _size(text: str) -> Decimal:
    try:
        size = Decimal(text)
    except InvalidOperation:
        size = Decimal("nan")
    if not size.is_finite():
        raise click.BadParameter(f"'{text}' is not a number such as 0.1", param_hint="--step")
    return size


def _preview(path: Path, flags: FixFlags) -> None:
    """Render a strip over sizes of the edit."""
    from loratools.preview.request.numbers import parse_weights
    from loratools.recipe.edit.fix import sized

    sizes = [Decimal(str(size)) for size in parse_weights(flags.sizes)]
    texts = {f"{size:g}" if size else "0": sized(path, flags.symptom, size, flags.merge) for size in sizes}
    strip = _strip(path, texts, "fix-sizes", flags)
    if flags.as_json:
        print_json({"recipe": str(path), "sizes": [float(size) for size in sizes], "strip": strip})
        return
    symptoms = " ".join(f"--symptom {name}" for name in flags.symptom)
    click.echo(f"{strip}\nPick a size, then: loratools blocks fix {path} {symptoms} --step SIZE")


def _strip(path: Path, texts: Mapping[str, str], name: str, flags: FixFlags) -> str:
    """Render the base and the merge of each of ``texts`` side by side; returns the strip's path."""
    from loratools.launch.launcher import make_launcher
    from loratools.recipe.compare import compare
    from loratools.recipe.edit.locate import merge_text
    from loratools.recipe.plan.context import RunContext
    from loratools.recipe.schema.recipe import read_recipe

    recipe, document = read_recipe(path)
    step = merge_text(document, recipe, flags.merge).step
    context = RunContext(flags.device, flags.force, progress=True)
    launcher = make_launcher(flags.processes, flags.launch, flags.device)
    work = Path(flags.out) if flags.out else None
    return str(compare(path, texts, step, context, name=name, work=work, base=flags.base, launcher=launcher))


def _list(as_json: bool) -> None:
    from loratools.blocks.symptoms import symptoms

    if as_json:
        print_json(
            {
                one.name: {
                    "title": one.title,
                    "repeats": one.repeats,
                    "steps": [
                        {"say": step.say, "moves": [move.text() for move in step.moves], "strength": step.strength}
                        for step in one.steps
                    ],
                }
                for one in symptoms().values()
            }
        )
        return
    for one in symptoms().values():
        click.echo(f"{one.name}: {one.title}")
        for index, step in enumerate(one.steps, start=1):
            moves = "; ".join(move.text() for move in step.moves) or f"strength x {step.strength:g}"
            click.echo(f"  {index}. {step.say}\n     {moves}")
