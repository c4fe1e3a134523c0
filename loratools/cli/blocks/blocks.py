"""``loratools blocks``"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loratools.cli.app import Group, fail_usage
from loratools.cli.blocks import files, fix, tune
from loratools.cli.each import batch_of, each_option, run_each
from loratools.cli.options import json_option, key_options, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from loratools.blocks.explain import BlockRow, BlockShare
    from loratools.blocks.vector import BlockVector

_FORMS = ["lbw", "prompt", "inspire", "diffusers"]


@click.group("blocks", cls=Group)
def command() -> None:
    """Show, convert, fix and suggest block vectors: the numbers that weigh each part of a LoRA.

    \b
      loratools blocks show GP1,OUT03=0.8
      loratools blocks fix my_recipe.yaml --symptom hands
      loratools blocks suggest style.safetensors base_style.safetensors
    """


for _more in (fix.fix, fix.undo, tune.tune, files.suggest, files.analyze_effect):
    command.add_command(_more)


@command.command("list")
@click.option("--presets", type=click.Path(), help="A file of more named block vectors.")
@json_option
def list_(presets: str | None, as_json: bool) -> None:
    """List every scheme (a family's ordered blocks) and every preset with its values and their picture.

    \b
      loratools blocks list --presets lbwpresets.txt
    """
    from loratools.blocks.explain import sparkline
    from loratools.blocks.presets import load_presets
    from loratools.blocks.scheme import ALL_SCHEMES

    known = load_presets(presets)
    if as_json:
        schemes = {scheme.name: {"title": scheme.title, "blocks": list(scheme.names)} for scheme in ALL_SCHEMES}
        vectors = {
            name: {"text": preset}
            if isinstance(preset, str)
            else {one.scheme.name: dict(one.weights) for one in preset}
            for name, preset in known.items()
        }
        print_json({"schemes": schemes, "presets": vectors})
        return
    for scheme in ALL_SCHEMES:
        click.echo(f"{scheme.name}  {scheme.title}\n  {scheme.listing}")
    click.echo("")
    width = max(len(name) for name in known)
    for name, preset in known.items():
        if isinstance(preset, str):
            click.echo(f"{name:<{width}}  as used  {_short(preset)}")
            continue
        for vector in preset:
            click.echo(
                f"{name:<{width}}  {vector.scheme.name:<8}  |{_clip(sparkline(vector))}|  {_short(vector.text())}"
            )


@command.command("show")
@click.argument("vector")
@click.option("--presets", type=click.Path(), help="A file of more named block vectors.")
@click.option("--family", metavar="FAMILY", help="The model family it is meant for, such as sdxl or z-image.")
@click.option("--lora", type=click.Path(), help="A LoRA file: show its share of each block before and after.")
@click.option("--lora-dir", "lora_dirs", multiple=True, type=click.Path(), help="Folder with LoRA files. Repeatable.")
@each_option
@click.option("--png", type=click.Path(), help="Draw the vector to this picture.")
@click.option("--seed", type=int, help="Of the random letters R and U.")
@key_options
@json_option
def show(
    vector: str,
    presets: str | None,
    family: str | None,
    lora: str | None,
    lora_dirs: tuple[str, ...],
    folders: tuple[str, ...],
    png: str | None,
    seed: int | None,
    allow_unknown: bool,
    drop: tuple[str, ...],
    as_json: bool,
) -> None:
    """Explain VECTOR: what it gives to each block, where that block is and what it is known to govern.

    VECTOR is a preset, numbers, names and groups with weights, a preset with changes, mix(A,B,0.5), inspire-20:..., or
    a prompt's <lora:NAME:1:lbw=...>.

    \b
      loratools blocks show GP1
      loratools blocks show "IN=0.5,MID=1,OUT04-OUT08=0.3,TE=0"
      loratools blocks show GP1,OUT03=0.8 --lora style.safetensors --png gp1.png
      loratools blocks show GP1 --each loras
    """
    from loratools.blocks.explain import explain

    if folders or (lora is not None and batch_of([lora], ()) is not None):
        if png is not None:
            fail_usage("--png draws one vector; leave it out with several files")
        names, keys = [lora] if lora else [], (allow_unknown, drop)
        _show_each(batch_of(names, folders, "--lora") or (), vector, (presets, family, seed), keys, as_json)
        return
    parts: Mapping[str, BlockShare] | None = None
    if lora is None:
        tag = _read(vector, presets, family, seed)
    else:
        from loratools.adapter.files.file import read
        from loratools.library.options import lora_file
        from loratools.ops.analysis.block_shares import parts_of

        adapter = read(lora_file(lora, lora_dirs), None, allow_unknown, drop)
        tag = _read(vector, presets, adapter.family, seed)
        parts = parts_of(adapter, tag.vector, te=tag.te, unet=tag.unet)
    block_vector = tag.vector
    rows = explain(block_vector, parts)
    if png is not None:
        from loratools.preview.sheet.block_chart import write_bars

        write_bars(Path(png), _short(vector), rows)
    if as_json:
        print_json(
            {
                "scheme": block_vector.scheme.name,
                "blocks": dict(block_vector.weights),
                "text": block_vector.text(),
                "rules": [rule.text() for rule in block_vector.rules],
                "rows": [row.json() for row in rows],
                "png": png,
                **tag.strength(),
            }
        )
        return
    click.echo(f"{block_vector.scheme.title}\n{_table(rows)}")
    for rule in block_vector.rules:
        where = "1 block, replaces its" if len(rule.blocks) == 1 else f"{len(rule.blocks)} blocks, replaces their"
        click.echo(f"rule  {rule.text()}: {where} weight there")
    if tag.name is not None:
        click.echo(f"the tag's strength multiplies all of it: text encoder {tag.te:g}, network {tag.unet:g}")
    click.echo(f"\n{block_vector.text()}" + (f"\n{png}" if png else ""))


def _show_each(
    batch: tuple[Path, ...],
    vector: str,
    reading: tuple[str | None, str | None, int | None],
    keys: tuple[bool, tuple[str, ...]],
    as_json: bool,
) -> None:
    """What VECTOR does to each of several files, a line a file."""
    from loratools.adapter.files.file import read
    from loratools.library.batches import show_each
    from loratools.ops.analysis.block_shares import weigh_blocks

    presets, family, seed = reading

    def parts(path: Path) -> tuple[str, Mapping[str, BlockShare], float]:
        adapter = read(path, None, *keys)
        tag = _read(vector, presets, family or adapter.family, seed)
        return adapter.family, *weigh_blocks(adapter, tag.vector, te=tag.te, unet=tag.unet)

    run_each(lambda on_progress: show_each(batch, parts, on_progress), len(batch), as_json)


@command.command("convert")
@click.argument("vector")
@click.option("--to", "to", metavar="N", help="12, 17, 20, 26, 61, a scheme's name, or inspire-12|17|20|21|27|58.")
@click.option("--missing", type=click.Choice(["1", "0"]), help="Weight of blocks that VECTOR does not list.")
@click.option("--drop", is_flag=True, help="Leave out weights that the new order has no place for.")
@click.option("--as", "form", type=click.Choice(_FORMS), help="Print it as another tool writes it.")
@click.option("--name", help="The preset's or LoRA's name, for --as lbw and prompt.  [default: the tag's, or MINE]")
@click.option("--presets", type=click.Path(), help="A file of more named block vectors.")
@click.option("--seed", type=int, help="Of the random letters R and U.")
@json_option
def convert(
    vector: str,
    to: str | None,
    missing: str | None,
    drop: bool,
    form: str | None,
    name: str | None,
    presets: str | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Write VECTOR in another order, by block name, or as another tool writes it.

    \b
      loratools blocks convert GP1 --to 26 --missing 0
      loratools blocks convert GP1 --as prompt --name my_style
      loratools blocks convert GP1 --to inspire-27 --missing 1 --drop
    """
    from loratools.blocks import export
    from loratools.blocks.inspire import find_order, inspire_numbers

    tag = _read(vector, presets, None, seed)
    block_vector, name = tag.vector, name or tag.name or "MINE"
    order = find_order(to) if to is not None and to.lower().startswith("inspire") else None
    if to is not None or missing is not None:
        fill = None if missing is None else float(missing)
        scheme = block_vector.scheme if to is None else _target(order.scheme if order else to, block_vector)
        block_vector = block_vector.converted(scheme, fill, drop=drop)
    if form == "diffusers":
        text: Any = export.as_diffusers(block_vector, tag.te, tag.unet)
    elif form == "inspire" or order is not None:
        text = export.as_inspire(block_vector, order, drop=drop)
    elif form == "lbw":
        text = export.as_lbw(block_vector, name)
    elif form == "prompt":
        text = export.as_prompt(block_vector, name, tag.te, tag.unet)
    else:
        text = block_vector.text()
    if as_json:
        numbers = None if order is None else inspire_numbers(block_vector, order, drop=drop)
        print_json(
            {
                "scheme": order.name if order else block_vector.scheme.name,
                "blocks": dict(block_vector.weights),
                "numbers": numbers,
                "text": text,
                **tag.strength(),
            }
        )
    else:
        click.echo(text if isinstance(text, str) else json.dumps(text, indent=1))
        if form not in ("prompt", "diffusers") and (tag.te, tag.unet) != (1, 1):
            strength = f"text encoder {tag.te:g}, network {tag.unet:g}"
            click.echo(f"the tag's strength ({strength}) is no part of a vector; set it where this is used", err=True)


def _target(text: str, block_vector: BlockVector) -> Any:
    from loratools.blocks.export import scheme_named
    from loratools.blocks.scheme import full_scheme

    return scheme_named(text, block_vector.scheme.family) if text else full_scheme(block_vector.scheme.family)


@dataclass(frozen=True)
class _Read:
    """A vector, and what the prompt's tag that it stood in says beside it; ``name`` is None where it was none."""

    vector: BlockVector
    name: str | None = None
    te: float = 1.0
    unet: float = 1.0

    def strength(self) -> dict[str, Any]:
        """A tag's name and strength as JSON values; nothing where there was no tag."""
        return {} if self.name is None else {"name": self.name, "strength": {"te": self.te, "unet": self.unet}}


def _read(text: str, presets: str | None, family: str | None, seed: int | None) -> _Read:
    """A vector in any form, a prompt's tag too."""
    from loratools.blocks.parse import parse_vector
    from loratools.blocks.presets import load_presets
    from loratools.blocks.scheme import full_scheme
    from loratools.blocks.webui_tag import is_tag, parse_tag
    from loratools.errors import BlockError

    if family is not None:
        full_scheme(family)  # which says so if there is no such family
    known = load_presets(presets)
    if not is_tag(text):
        return _Read(parse_vector(text if seed is None else f"{text},seed={seed}", known, family))
    tag = parse_tag(text if seed is None else text.rstrip()[:-1] + f":seed={seed}>", known, family)
    if tag.vector is None:
        raise BlockError(f"'{text}' has no block vector; write lbw= with a preset or numbers in it")
    return _Read(tag.vector, tag.name, tag.te, tag.unet)


def _table(rows: Sequence[BlockRow]) -> str:
    """Aligned columns; the bars and what is known come last, to the left."""
    from loratools.blocks.explain import bar
    from loratools.ops.text_table import table

    parts = any(row.part is not None for row in rows)
    lines = [["block", "where", "weight", *(["modules", "before", "after"] if parts else []), "", "known to govern"]]
    for row in rows:
        weight = "-" if row.weight is None else f"{row.weight:g}"
        drawn = "" if row.weight is None else bar(row.weight)
        lines.append([row.block, row.known.size or "-", weight, *_part(row.part), drawn, row.known.governs])
    return table(lines, left=(0, 1, len(lines[0]) - 2, len(lines[0]) - 1))


def _part(part: BlockShare | None) -> list[str]:
    return [] if part is None else [str(part.modules), f"{100 * part.before:.1f} %", f"{100 * part.after:.1f} %"]


def _short(text: str) -> str:
    return text if len(text) <= 90 else f"{text[:87]}..."


def _clip(text: str) -> str:
    return text if len(text) <= 26 else f"{text[:25]}…"
