"""``loratools explain``: a LoRA file's story for a newcomer, from its header alone."""

from __future__ import annotations

from loratools.adapter.file import Adapter
from loratools.adapter.names import family_of, is_text
from loratools.recipe.lineage import lineage_of
from loratools.recipe.publish_story import story


def tell(adapter: Adapter, name: str) -> str:
    """What the file is, how it was made, last step first, and whether it can be made again.

    Raises:
        RecipeError: if the recipe in its header is damaged.
    """
    text = sum(is_text(module) for module in adapter)
    parts = f"{len(adapter) - text} modules of the UNet" + (f" and {text} of the text encoder" if text else "")
    lines = [
        f"{name} is a LoRA for {family_of(adapter.family).title}: {parts}, {_ranks(adapter)}.",
        "",
        *story(adapter.metadata),
    ]
    lineage = lineage_of(adapter.path) if adapter.path else None
    if lineage is not None:
        held = f"Its header holds the recipe '{lineage.name}', step '{lineage.step}'"
        lines.append(f"{held}: `loratools reproduce {name}` makes it again.")
    return "\n".join(lines)


def _ranks(adapter: Adapter) -> str:
    ranks = sorted({adapter.ranks[module] for module in adapter if module not in adapter.dense})
    if not ranks:
        return "full differences"
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
