"""``loratools explain``: how a file was made, for a newcomer, from its header alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from loratools.adapter.architectures.names import is_text
from loratools.adapter.files.file import Adapter, read
from loratools.adapter.files.metadata import Provenance
from loratools.adapter.header import read_header
from loratools.recipe.plan.lineage import lineage_of
from loratools.recipe.publish.story import story


def explain_file(path: Path) -> str:
    """What the file at ``path`` is and how it was made: a LoRA, or a checkpoint that a merge was added to.

    Raises:
        FileError, FormatError: if it cannot be read, or is neither.
        RecipeError: if the recipe in its header is damaged.
    """
    metadata = read_header(path).metadata if path.is_file() and path.suffix == ".safetensors" else {}
    return (
        _checkpoint(metadata, path.name)
        if _is_merged_checkpoint(metadata)
        else _lora(read(path, allow_unknown=True), path.name)
    )


def _is_merged_checkpoint(metadata: Mapping[str, str]) -> bool:
    provenance = Provenance.from_metadata(metadata)
    return provenance is not None and isinstance(provenance.step.get("into"), dict)


def _checkpoint(metadata: Mapping[str, str], name: str) -> str:
    return "\n".join([f"{name} is a base model's checkpoint that LoRAs were added to.", "", *story(metadata)])


def _lora(adapter: Adapter, name: str) -> str:
    """What the file is, how it was made, last step first, and whether it can be made again.

    Raises:
        RecipeError: if the recipe in its header is damaged.
    """
    text = sum(is_text(module) for module in adapter)
    parts = f"{len(adapter) - text} modules of the UNet" + (f" and {text} of the text encoder" if text else "")
    lines = [
        f"{name} is a LoRA for {adapter.identity.title}: {parts}, {_ranks(adapter)}.",
        "",
        *story(adapter.metadata),
    ]
    lineage = lineage_of(adapter.path) if adapter.path else None
    if lineage is not None:
        lines.append(
            f"Its header holds the recipe '{lineage.name}', step '{lineage.step}': "
            f"`loratools reproduce {name}` makes it again."
        )
    return "\n".join(lines)


def _ranks(adapter: Adapter) -> str:
    ranks = sorted({adapter.ranks[module] for module in adapter if module not in adapter.dense})
    if not ranks:
        return "full differences"
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
