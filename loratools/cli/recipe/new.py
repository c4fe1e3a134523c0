"""``loratools recipe new`` and ``loratools recipe import``"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path

import click

from loratools.cli.app import Command
from loratools.cli.options import as_object, force_option


@dataclass(frozen=True)
class NewFlags:
    """What ``recipe new`` is asked for, by the names of its options; None where an option is not given."""

    file: Path
    kind: str | None
    base: str | None
    images: str | None
    loras: str | None
    name: str | None
    preset: str | None
    epochs: int | None
    prompt: str | None
    yes: bool
    force: bool


@click.command("new", cls=Command)
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
@as_object(NewFlags)
def new(flags: NewFlags) -> None:
    """Write a commented starter recipe that runs as it is. What no flag says is asked, on a terminal.

    \b
      loratools recipe new                                    asks
      loratools recipe new my_style.yaml --kind style --base model.safetensors --images images/ink --yes
    """
    from loratools.recipe.importers.starter import Answers, questions, starter
    from loratools.recipe.importers.write import write_new

    names = [field.name for field in fields(Answers)]
    given = {name: value for name in names if (value := getattr(flags, name)) is not None}
    if not flags.yes and _is_terminal():
        given["kind"] = given.get("kind") or click.prompt(
            "What should the recipe make",
            type=click.Choice(["style", "character", "merge", "grid"]),
            default="style",
            err=True,
        )
        for key, text, default in questions(given["kind"]):
            if key not in given:
                given[key] = click.prompt(text, default=default, type=type(default), err=True)
    write_new(flags.file, starter(Answers(**given), flags.file), flags.force)
    click.echo(f"{flags.file}\nnext: loratools run {flags.file} --dry-run, then loratools run {flags.file}")


def _is_terminal() -> bool:
    """Whether a person can answer questions."""
    return sys.stdin.isatty()


@click.command("import", cls=Command)
@click.argument("source")
@click.argument("dataset", required=False, metavar="[DATASET]")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Recipe file.  [default: stdout]")
@click.option("--base", help="Base model to name in the recipe.")
@force_option
def import_(source: str, dataset: str | None, out: Path | None, base: str | None, force: bool) -> None:
    """Turn what another tool left into a recipe; what has no place in one is said on stderr.

    SOURCE is SuperMerger's merge string, a config that `loratools train` reads (sd-scripts' TOML, kohya_ss' JSON), a
    LoRA file with SuperMerger's or sd-scripts' metadata, a picture or text with the WebUI's generation parameters and
    <lora:...:lbw=...> tags or an X/Y/Z plot, or - for stdin. DATASET is sd-scripts' dataset config, where its
    options do not name it.

    \b
      loratools recipe import "style:1:GP1,base:-1:GP2" -o merge.yaml
      loratools recipe import picture.png
      loratools recipe import trained.safetensors -o again.yaml
    """
    from loratools.recipe.importers.detect import import_recipe
    from loratools.recipe.importers.write import write_new

    text = sys.stdin.read() if source == "-" else source
    imported = import_recipe(text, base=base, is_text=source == "-", dataset=dataset)
    for note in imported.notes:
        click.echo(f"note: {note}", err=True)
    if out is None:
        click.echo(imported.text, nl=False)
        return
    write_new(out, imported.text, force)
    click.echo(f"{out}: {imported.what}")
