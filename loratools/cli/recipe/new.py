"""``loratools recipe new`` and ``loratools recipe import``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from loratools.cli.options import force_option


@click.command("new")
@click.argument("file", default="recipe.yaml", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--kind", type=click.Choice(["style", "character", "merge", "grid"]), help="What the recipe makes.")
@click.option("--base", help="Base model: a Diffusers folder, a file, a hub id, or pocket.")
@click.option("--images", help="Folder of captioned images; none: drawings of the pocket's own.")
@click.option("--loras", help="merge, grid: a merge string, or files separated by commas.")
@click.option("--name", help="Name of the published file.")
@click.option("--preset", help="Training settings by name.")
@click.option("--epochs", type=click.IntRange(1), help="How many epochs.")
@click.option("--prompt", help="What the grid shows.")
@click.option("--yes", is_flag=True, help="Ask nothing: what no flag says takes its default.")
@force_option
def new(file: Path, yes: bool, force: bool, **flags: Any) -> None:
    """Write a commented starter recipe that runs as it is. What no flag says is asked, on a terminal.

    \b
      loratools recipe new                                    asks
      loratools recipe new my_style.yaml --kind style --base model.safetensors --images images/ink --yes
    """
    from loratools.recipe.importers.starter import Answers, questions, starter
    from loratools.recipe.importers.write import write_new

    given = {key: value for key, value in flags.items() if value is not None}
    if not yes and _asks():
        given["kind"] = given.get("kind") or click.prompt(
            "What should the recipe make",
            type=click.Choice(["style", "character", "merge", "grid"]),
            default="style",
            err=True,
        )
        for key, text, default in questions(given["kind"]):
            if key not in given:
                given[key] = click.prompt(text, default=default, type=type(default), err=True)
    answers = Answers(**given)
    write_new(file, starter(answers, file), force)
    click.echo(f"{file}\nnext: loratools run {file} --dry-run, then loratools run {file}")


def _asks() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty()


@click.command("import")
@click.argument("source")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Recipe file.  [default: stdout]")
@click.option("--base", help="Base model to name in the recipe.")
@force_option
def import_(source: str, out: Path | None, base: str | None, force: bool) -> None:
    """Turn what another tool left into a recipe; what has no place in one is said on stderr.

    SOURCE is SuperMerger's merge string, sd-scripts' TOML, a LoRA file with SuperMerger's or sd-scripts' metadata, a
    picture or text with the WebUI's generation parameters and <lora:...:lbw=...> tags, or - for stdin.

    \b
      loratools recipe import "style:1:GP1,base:-1:GP2" -o merge.yaml
      loratools recipe import picture.png
      loratools recipe import trained.safetensors -o again.yaml
    """
    from loratools.recipe.importers.detect import import_recipe
    from loratools.recipe.importers.write import write_new

    imported = import_recipe(sys.stdin.read() if source == "-" else source, base=base, is_text=source == "-")
    for note in imported.notes:
        click.echo(f"note: {note}", err=True)
    if out is None:
        click.echo(imported.text, nl=False)
        return
    write_new(out, imported.text, force)
    click.echo(f"{out}: {imported.what}")
