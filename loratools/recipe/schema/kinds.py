"""The kinds of steps that a recipe may hold, by name: one frozen model each, every option with what it does."""

from __future__ import annotations

from loratools.recipe.schema.fields import Strict
from loratools.recipe.schema.lora_steps import Convert, Extract, Fix, Merge, MergeInto, Resize, Select, Soup, Subtract
from loratools.recipe.schema.picture_steps import Draw, Grid, Publish

KINDS: dict[str, type[Strict] | None] = {  # None: the settings of another room's model
    "draw": Draw,
    "train": None,
    "basestyle": None,
    "select": Select,
    "merge": Merge,
    "subtract": Subtract,
    "soup": Soup,
    "fix": Fix,
    "resize": Resize,
    "extract": Extract,
    "convert": Convert,
    "merge_into": MergeInto,
    "grid": Grid,
    "publish": Publish,
}
FILES = frozenset({"select", "merge", "subtract", "soup", "fix", "resize", "extract", "convert", "merge_into"})
LORAS = frozenset(FILES - {"merge_into"})  # kinds whose file is a LoRA
RUNS = frozenset({"train", "basestyle"})
PICTURES = frozenset({"draw", "grid", "publish"})


def folder_of(kind: str) -> str:
    """The folder of ``loratools/recipe/steps`` that a kind's module lies in: ``lora`` or ``pictures``."""
    return "pictures" if kind in PICTURES else "lora"
