"""``loratools blocks suggest`` and ``blocks analyze-effect``"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loratools.cli.app import Command
from loratools.cli.options import (
    DTYPES,
    as_object,
    device_option,
    force_option,
    json_option,
    key_options,
    key_rules,
    print_json,
)

if TYPE_CHECKING:
    from loratools.blocks.vector import BlockVector, Presets


@dataclass(frozen=True)
class EffectFlags:
    """What ``blocks analyze-effect`` is asked for, by the names of its options."""

    lora: str
    base: str
    prompts: tuple[str, ...]
    negative: str
    seeds: str
    weight: float
    nudge: float
    steps: int | None
    cfg: float | None
    sampler: str | None
    frames: int | None
    size: str | None
    batch_size: int
    out: str
    lora_dirs: tuple[str, ...]
    allow_unknown: bool
    drop: tuple[str, ...]
    device: str
    dtype: str | None
    as_json: bool
    force: bool


@click.command("suggest", cls=Command)
@click.argument("style")
@click.argument("base_style")
@click.option("--lora-dir", "lora_dirs", multiple=True, type=click.Path(), help="Folder with LoRA files. Repeatable.")
@click.option("--gp1", default="GP1", show_default=True, metavar="VECTOR", help="The style's vector, to start from.")
@click.option("--gp2", default="GP2", show_default=True, metavar="VECTOR", help="The guide's, shown beside ours.")
@click.option("--presets", type=click.Path(), help="A file of more named block vectors.")
@key_options
@json_option
def suggest(
    style: str,
    base_style: str,
    lora_dirs: tuple[str, ...],
    gp1: str,
    gp2: str,
    presets: str | None,
    allow_unknown: bool,
    drop: tuple[str, ...],
    as_json: bool,
) -> None:
    """Suggest block vectors from the files alone.

    Per block: how much of STYLE lies along BASE_STYLE (the matched coefficient <S,R>/|R|^2, the cosine, the overlap of
    the subspaces), and the GP2 that removes that part and no more. Where STYLE is a training run's folder with three
    epochs or more, also a GP1 that holds back the blocks whose norm keeps growing while the rest has settled.

    \b
      loratools blocks suggest runs/style/style runs/style/base_style
      loratools blocks suggest style.safetensors base_style.safetensors --json
    """
    from loratools.adapter.files.epoch_files import find_lora, parse_reference
    from loratools.adapter.files.file import read
    from loratools.blocks.presets import load_presets
    from loratools.library.options import lora_file
    from loratools.ops.analysis.suggest import suggest as work_out

    last, other = lora_file(style, lora_dirs), lora_file(base_style, lora_dirs)
    path = last if parse_reference(style).selector else find_lora(style, lora_dirs)
    family = read(last, None, allow_unknown, drop).family
    known = load_presets(presets)
    suggestion = work_out(
        path, other, _vector(gp1, known, family), _vector(gp2, known, family), key_rules(allow_unknown, drop)
    )
    if as_json:
        print_json(suggestion.json())
    else:
        click.echo(suggestion.text())


def _vector(text: str, presets: Presets, family: str) -> BlockVector | None:
    """A vector of the family; the guide's own names mean nothing where the guide has no numbers for the family."""
    from loratools.blocks.parse import find_preset, parse_vector
    from loratools.errors import BlockError

    if text not in ("GP1", "GP2"):
        return parse_vector(text, presets, family)
    try:
        return find_preset(text, presets, family)
    except BlockError:
        return None


@click.command("analyze-effect", cls=Command)
@click.argument("lora")
@click.option("--base", required=True, help="Diffusers folder of any family, SD's single file, hub id, or pocket.")
@click.option("--prompt", "prompts", multiple=True, required=True, help="A prompt, or a file of them. Repeatable.")
@click.option("--negative", default="", help="The negative prompt.")
@click.option("--seed", "seeds", default="1,2,3", show_default=True, help="1,2 or 1-4.")
@click.option("--weight", type=float, default=1.0, show_default=True, help="Of the LoRA.")
@click.option(
    "--nudge", type=float, default=0.0, help="Also move each block's weight up and down by this, such as 0.2."
)
@click.option("--steps", type=int, help="Sampler steps.  [default: the base's]")
@click.option("--cfg", type=float, help="Guidance.  [default: the base's]")
@click.option("--sampler", help="The WebUI's sampler and schedule type, as in `grid`.  [default: the base's]")
@click.option("--size", help="WIDTHxHEIGHT.  [default: the base's]")
@click.option("--frames", type=int, help="Of a video base's videos, whose middle is shown.  [default: the base's]")
@click.option("--batch-size", type=int, default=8, show_default=True, help="Pictures at once.")
@click.option("-o", "--out", required=True, type=click.Path(), help="Folder for pictures, effect.png and effect.json.")
@click.option("--lora-dir", "lora_dirs", multiple=True, type=click.Path(), help="Folder with LoRA files. Repeatable.")
@key_options
@device_option
@click.option("--dtype", type=DTYPES, help="Compute type.  [default: fp32 on a CPU; else SD fp16, others bf16]")
@json_option
@force_option
@as_object(EffectFlags)
def analyze_effect(flags: EffectFlags) -> None:
    """Render each block of LORA alone and left out, and report how much each changes the pictures.

    Means over all prompts and seeds, with their spread: several of both, or the numbers are about one picture.
    Pictures that an interrupted run left are used again.

    \b
      loratools blocks analyze-effect style --base pocket --prompt "1girl, smile" --seed 1-4 -o effect
    """
    from loratools.adapter.files.file import read
    from loratools.base.any_base import load_any_base
    from loratools.library.options import lora_file
    from loratools.preview.block_effect import analyze_effect as measure
    from loratools.preview.request.numbers import parse_seeds, parse_size
    from loratools.preview.request.options import EngineOptions
    from loratools.preview.request.read_prompts import read_prompts
    from loratools.preview.request.request import SamplingRequest

    adapter = read(lora_file(flags.lora, flags.lora_dirs), None, flags.allow_unknown, flags.drop)
    effect = measure(
        load_any_base(flags.base, device=flags.device, dtype=flags.dtype),
        adapter,
        read_prompts(flags.prompts, lambda text: Path(text) if Path(text).is_file() else None),
        out=Path(flags.out),
        seeds=parse_seeds(flags.seeds),
        weight=flags.weight,
        nudge=flags.nudge,
        label=adapter.path.stem,
        sampling=SamplingRequest(
            flags.negative,
            flags.steps,
            flags.cfg,
            flags.sampler,
            parse_size(flags.size) if flags.size else None,
            frames=flags.frames,
        ),
        options=EngineOptions(flags.batch_size),
        progress=True,
        force=flags.force,
    )
    if flags.as_json:
        print_json(effect.json())
    else:
        click.echo(f"{effect.text()}\n{effect.folder / 'effect.png'}")
