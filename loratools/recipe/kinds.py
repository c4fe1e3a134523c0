"""The kinds of steps that a recipe may hold, by name: one frozen model each, every option with what it does."""

from __future__ import annotations

from loratools.recipe.kinds_look import Draw, Grid, Publish
from loratools.recipe.kinds_lora import Convert, Extract, Fix, Merge, MergeInto, Resize, Select, Soup, Subtract
from loratools.recipe.options import Strict

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
