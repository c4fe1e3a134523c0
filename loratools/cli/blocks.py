"""``loratools blocks``"""

from __future__ import annotations

import click

from loratools.cli.common import json_option, print_json
from loratools.cli.shell import Group


@click.group("blocks", cls=Group)
def command() -> None:
    """Show block vectors, presets and the blocks of each model family.

    \b
      loratools blocks list
      loratools blocks show GP1,OUT03=0.8
    """


@command.command("list")
@click.option("--presets", type=click.Path(), help="A file of more named block vectors.")
@json_option
def list_(presets: str | None, as_json: bool) -> None:
    """List every scheme (a family's ordered blocks) and every preset with its values.

    \b
      loratools blocks list --presets my_presets.yaml
    """
    from loratools.blocks.presets import load_presets
    from loratools.blocks.scheme import SCHEMES

    known = load_presets(presets)
    if as_json:
        schemes = {scheme.name: {"title": scheme.title, "blocks": list(scheme.names)} for scheme in SCHEMES.values()}
        vectors = {name: {one.scheme.name: dict(one.weights) for one in found} for name, found in known.items()}
        print_json({"schemes": schemes, "presets": vectors})
        return
    for scheme in SCHEMES.values():
        click.echo(f"{scheme.name}  {scheme.title}\n  {' '.join(scheme.names)}")
    click.echo("")
    width = max(len(name) for name in known)
    for name, found in known.items():
        for vector in found:
            click.echo(f"{name:<{width}}  {vector.scheme.name:<8}  {_short(vector.text())}")


@command.command("show")
@click.argument("vector")
@click.option("--presets", type=click.Path(), help="A file of more named block vectors.")
@click.option("--family", type=click.Choice(["sd1", "sd2", "sdxl", "flux"]), help="The model family it is meant for.")
@json_option
def show(vector: str, presets: str | None, family: str | None, as_json: bool) -> None:
    """Say what VECTOR (a preset, numbers, names with weights, or a preset with changes) gives to each block.

    \b
      loratools blocks show GP1
      loratools blocks show GP1,OUT03=0.8,MID=0.5
    """
    from loratools.blocks.presets import load_presets
    from loratools.blocks.vector import parse_vector

    found = parse_vector(vector, load_presets(presets), family)
    if as_json:
        print_json({"scheme": found.scheme.name, "blocks": dict(found.weights), "text": found.text()})
    else:
        click.echo(f"{found.scheme.title}\n{found.explain()}\n\n{found.text()}")


def _short(text: str) -> str:
    return text if len(text) <= 90 else f"{text[:87]}..."
