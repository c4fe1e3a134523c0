"""``loratools recipe new``: a commented starter recipe from a few answers, which runs as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loratools.errors import RecipeError, did_you_mean
from loratools.recipe.importers.write import flow, step_name
from loratools.recipe.schema.recipe import parse_recipe

StarterKind = Literal["style", "character", "merge", "grid"]
_PROMPT = "1girl, cowboy_shot, blue_hair, twintails, green_eyes, white_clothes, waving, smile, grass"
_HEADINGS = {
    "style": "A style LoRA: trained, the base's own style subtracted, looked at, and published.",
    "character": "A character LoRA: trained, every epoch looked at, the chosen one published.",
    "merge": "LoRAs added up exactly with block weights, looked at, and published.",
    "grid": "LoRAs at every weight beside the base alone.",
}


@dataclass(frozen=True)
class Answers:
    """What a starter is made from; None takes the default of its kind.

    Args:
        images: a folder of captioned pictures; None has the pocket draw some.
        loras: a merge string, for ``merge`` and ``grid``.
        name: of the published file.
    """

    kind: StarterKind = "style"
    base: str = "pocket"
    images: str | None = None
    loras: str | None = None
    name: str | None = None
    preset: str | None = None
    epochs: int | None = None
    prompt: str | None = None


def questions(kind: str) -> Iterator[tuple[str, str, str | int]]:
    """What a person is asked: the answer's name, the question, its default."""
    yield "base", "Base model (a folder, a file, a hub id, or pocket)", "pocket"
    if kind in ("style", "character"):
        yield "images", "Folder of captioned images (empty: the pocket draws some)", ""
        yield "epochs", "Epochs", 8
    else:
        yield "loras", "LoRAs, such as style.safetensors:1:GP1, base_style.safetensors:-1:GP2", ""
    if kind != "grid":
        yield "name", "Name of the published file", f"my_{kind}"
    yield "prompt", "Prompt of the grid", _PROMPT


def starter(answers: Answers, path: Path) -> str:
    """The recipe's text; ``path`` is what it will be called.

    Raises:
        RecipeError: for a preset that does not exist, or LoRAs that are missing or no merge string.
    """
    trained = answers.kind in ("style", "character")
    lines = [
        "# yaml-language-server: $schema=recipe.schema.json",  # `loratools recipe schema -o` writes it beside
        f"# {_HEADINGS[answers.kind]}",
        f"#   loratools run {path.name} --dry-run     what would be done",
        f"#   loratools run {path.name}               do it; an edit makes only what depends on it anew",
        "version: 1",
        f"base: {flow(answers.base)}",
        "seed: 1",
        "steps:",
        *(_training_steps(answers) if trained else _merge_steps(answers)),
    ]
    text = "\n".join(lines) + "\n"
    parse_recipe(text, str(path))
    return text


def _training_steps(answers: Answers) -> Iterator[str]:
    preset, name = _preset(answers), step_name(answers.name or f"my_{answers.kind}")
    run, trigger = answers.kind, "" if answers.images else "ink_style, " if answers.kind == "style" else "mika, "
    prompt = answers.prompt or trigger + _PROMPT
    images = answers.images or "pictures"
    if not answers.images:
        drawn = "style: ink" if run == "style" else "style: house, trigger: mika, figure: [pink_hair, twintails]"
        yield f"  pictures: {{draw: {{{drawn}, count: 12}}}}   # or your folder at `images` below"
    length = f", epochs: {answers.epochs}" if answers.epochs else ""
    short = ", repeats: 22" if not answers.images and answers.base == "pocket" else ""
    yield f"  {run}: {{train: {{images: {flow(images)}, preset: {preset}{length}{short}}}}}"
    if run == "style":
        yield "  # the base's own style, which the style LoRA learnt too, is subtracted block by block (GP1, -GP2)"
        yield f"  base_style: {{basestyle: {{preset: {preset}, epochs: 1, repeats: 16}}}}"
        yield '  final: {merge: "style:1:GP1, base_style:-1:GP2"}   # style@6 is epoch 6'
    else:
        yield "  final: {select: {run: character, epoch: best}}   # or a number"
    yield from _grid_step([run, "final"], prompt)
    yield f"  {name}: {{publish: {{lora: final, preview: sheet, weight: 0.75}}}}   # license: and author: belong here"


def _merge_steps(answers: Answers) -> Iterator[str]:
    if not answers.loras or not answers.loras.strip():
        raise RecipeError(
            "there is no LoRA to start from; give --loras, such as --loras style.safetensors:1:GP1,base.safetensors:-1"
        )
    prompt = answers.prompt or _PROMPT
    if answers.kind == "grid":
        from loratools.ops.merging.merge_string import parse_merge_string

        yield from _grid_step([spec.text() for spec in parse_merge_string(answers.loras)], prompt)
        return
    name = step_name(answers.name or "my_merge")
    yield f"  final: {{merge: {flow(answers.loras)}}}   # strength x vector; `loratools blocks list` shows the vectors"
    yield from _grid_step(["final"], prompt)
    yield f"  {name}: {{publish: {{lora: final, preview: sheet, weight: 1}}}}   # license: and author: belong here"


def _grid_step(rows: list[str], prompt: str) -> Iterator[str]:
    yield "  sheet:"
    yield "    grid:"
    yield f"      rows: {flow(rows)}   # a run is a row for each epoch"
    yield "      weights: 0:1:0.25"
    yield f"      prompts: {flow([prompt])}   # or a file of them, a line each"
    yield "      seeds: 1   # 1-4 for four"


def _preset(answers: Answers) -> str:
    from loratools.train.config.read import presets

    fitting = "style-004" if answers.kind == "style" else "character-002"
    name = answers.preset or ("pocket-style" if answers.base == "pocket" else fitting)
    if name not in presets():
        have = ", ".join(presets())
        raise RecipeError(f"there is no preset '{name}'{did_you_mean(name, presets())}; there are {have}")
    return name
