"""What goes beside a published LoRA: the WebUI's side-car JSON, a model card, and the header's own words.

AUTOMATIC1111's WebUI (and Forge) read ``NAME.json`` beside ``NAME.safetensors``: ``description``, ``sd version``,
``activation text`` (added to the prompt with the tag), ``preferred weight`` (0 to 2), ``negative text`` and ``notes``;
``NAME.png`` is the card's picture. ``README.md`` is a model card as the Hugging Face hub reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.recipe.publish.story import story

if TYPE_CHECKING:
    from loratools.ops.analysis.describe import Description

VERSIONS = {"sd1": "SD1", "sd2": "SD2", "sdxl": "SDXL", "sd3": "SD3"}  # the WebUI's names; all others are Unknown
_MOST_TRIGGERS = 8
_WIDTH = 24  # of a bar in the card's table of blocks


@dataclass(frozen=True)
class CardOptions:
    """What the author says of the LoRA: the options of a publish step of the same names."""

    title: str | None
    description: str
    negative: str
    weight: float
    notes: str
    author: str
    license: str | None
    base_model: str | None
    prompt: str | None


@dataclass(frozen=True)
class Published:
    """What the side-car and the card are made from.

    Args:
        name: the file's name without its ending.
        description: the LoRA described, norms by block included.
        activation: the trigger words, one text.
        base: what the recipe calls the base.
    """

    settings: CardOptions
    name: str
    description: Description
    activation: str
    base: str

    @property
    def title(self) -> str:
        """The heading."""
        return self.settings.title or self.name

    @property
    def base_model(self) -> str | None:
        """The base's hub id: the one that the step names, or the recipe's own base where that is one."""
        from loratools.base.base_path import is_hub_id

        hub = is_hub_id(self.base) and not Path(self.base).exists()
        return self.settings.base_model or (self.base if hub else None)


def triggers(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The trigger words in a LoRA's header: ``modelspec.trigger_phrase``, else the tags that stand under every
    picture of a training folder (``ss_tag_frequency`` against ``ss_dataset_dirs``), most eight."""
    if phrase := metadata.get("modelspec.trigger_phrase"):
        return tuple(word for part in phrase.split(",") if (word := part.strip()))
    tags, folders = _json(metadata, "ss_tag_frequency"), _json(metadata, "ss_dataset_dirs")
    words: dict[str, None] = {}
    for folder, counts in tags.items():
        images = _count(folders.get(folder), counts)
        words |= dict.fromkeys(tag.strip() for tag, count in counts.items() if count >= images and tag.strip())
    return tuple(words)[:_MOST_TRIGGERS]


def _count(folder: object, counts: Mapping[str, int]) -> int:
    """A training folder's pictures; where the header does not say, as many as its commonest tag has."""
    count = folder.get("img_count") if isinstance(folder, dict) else None
    most = max(counts.values(), default=1)
    return count if isinstance(count, int) and 0 < count <= most else most


def _json(metadata: Mapping[str, str], key: str) -> dict[str, dict[str, int]]:
    try:
        values = json.loads(metadata.get(key, "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(values, dict):
        return {}
    folders = {name: values for name, values in values.items() if isinstance(values, dict)}
    return {
        str(name): {str(tag): count for tag, count in values.items() if isinstance(count, int)}
        for name, values in folders.items()
    }


def sidecar(published: Published) -> str:
    """The WebUI's JSON."""
    settings = published.settings
    content = {
        "description": settings.description,
        "sd version": VERSIONS.get(published.description.family, "Unknown"),
        "activation text": published.activation,
        "preferred weight": settings.weight,
        "negative text": settings.negative,
        "notes": settings.notes,
    }
    return json.dumps(content, indent=4, ensure_ascii=False) + "\n"


def header_texts(published: Published) -> dict[str, str]:
    """What the file's own header says of it; names, never how it was made, which stays as it is."""
    settings = published.settings
    texts = {
        "ss_output_name": published.name,
        "modelspec.title": published.title,
        "modelspec.description": settings.description,
        "modelspec.author": settings.author,
        "modelspec.license": settings.license or "",
        "modelspec.trigger_phrase": published.activation,
        "modelspec.usage_hint": f"weight {settings.weight:g}",
    }
    return {key: text for key, text in texts.items() if text}


def card(published: Published, picture: str | None) -> str:
    """``README.md``: front matter for the hub, then use, trigger words, blocks, and how it was made."""
    return "\n".join([*_front(published, picture), "", f"# {published.title}", "", *_body(published, picture)]) + "\n"


def _front(published: Published, picture: str | None) -> Iterator[str]:
    settings = published.settings
    facts: dict[str, Any] = {}
    if settings.license:
        facts["license"] = settings.license
    if published.base_model:
        facts["base_model"] = published.base_model
    if published.activation:
        facts["instance_prompt"] = published.activation
    facts["tags"] = ["lora", "text-to-image", "stable-diffusion"]
    if picture:
        facts["widget"] = [
            {"text": settings.prompt or published.activation or published.title, "output": {"url": picture}}
        ]
    yield "---"
    for key, value in facts.items():
        yield f"{key}: {json.dumps(value, ensure_ascii=False)}"  # JSON is YAML
    yield "---"


def _body(published: Published, picture: str | None) -> Iterator[str]:
    settings, description = published.settings, published.description
    if settings.description:
        yield from (settings.description, "")
    if picture:
        yield from (f"![{published.title}]({picture})", "")
    kind = f"{description.kind} for {VERSIONS.get(description.family, description.family)}"
    ranks = _span(sorted(description.ranks))
    rows = [
        ("file", f"`{published.name}.safetensors`, {kind}, {description.modules} modules, rank {ranks}"),
        ("trigger words", f"`{published.activation}`" if published.activation else "none"),
        ("weight", f"{settings.weight:g}: `<lora:{published.name}:{settings.weight:g}>`"),
        ("negative prompt", f"`{settings.negative}`" if settings.negative else ""),
        ("base", published.base_model or description.metadata.get("ss_sd_model_name") or published.base),
        ("author", settings.author),
        ("licence", settings.license or "not stated"),
    ]
    yield from ("| | |", "|---|---|", *(f"| {name} | {_cell(text)} |" for name, text in rows if text), "")
    if settings.notes:
        yield from (settings.notes, "")
    yield from ("## Blocks", "", "Where its strength lies: each block's share of the squared norm.", "")
    yield from _blocks(description)
    yield from ("", "## How it was made", "", *story(description.metadata))


def _blocks(description: Description) -> Iterator[str]:
    squares = {name: (block.norm or 0.0) ** 2 for name, block in description.blocks.items()}
    whole, most = sum(squares.values()) or 1.0, max(squares.values(), default=0.0) or 1.0
    yield from ("| block | modules | share | |", "|---|---:|---:|---|")
    for name, square in squares.items():
        bar = "█" * round(_WIDTH * square / most)
        yield f"| {name} | {description.blocks[name].modules} | {100 * square / whole:.1f} % | {bar} |"


def _span(ranks: Sequence[int]) -> str:
    return f"{ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else str(*ranks) or "-"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
