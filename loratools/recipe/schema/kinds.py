"""Kinds of recipe steps: what a kind declares (:class:`StepKind`), and the list of them all.

Each kind stands in a module of its own under ``loratools.recipe.steps``, with its :class:`StepKind` as ``KIND``, the
model of its options, and a function ``draft`` that resolves a step. A new kind is such a module, and a line in
``_MODULES``. The modules are imported when a recipe is read, not with this one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from loratools.recipe.schema.fields import Strict

_MODULES = {  # kind -> its module under loratools.recipe.steps, in the order in which they are listed
    "draw": "pictures.draw",
    "prepare": "dataset.prepare",
    "tag": "dataset.tag",
    "edit_tags": "dataset.edit_tags",
    "balance": "dataset.balance",
    "train": "lora.train",
    "basestyle": "lora.basestyle",
    "select": "lora.select",
    "merge": "lora.merge",
    "subtract": "lora.subtract",
    "soup": "lora.soup",
    "fix": "lora.fix",
    "tune": "lora.tune",
    "resize": "lora.resize",
    "extract": "lora.extract",
    "convert": "lora.convert",
    "merge_into": "lora.merge_into",
    "grid": "pictures.grid",
    "publish": "pictures.publish",
}
STEP_KINDS = tuple(_MODULES)

Makes = Literal["lora", "checkpoint", "run", "pictures", "grid", "package"]


@dataclass(frozen=True)
class BorrowedOptions:
    """Options that a model of another room checks; a recipe keeps them as a plain mapping.

    Attributes:
        name: of their part of the JSON Schema.
        schema: makes their JSON Schema.
        description: the paragraph over their table.
        listed: the options in that table; all if None.
    """

    name: str
    schema: Callable[[], dict[str, Any]]
    description: str
    listed: Callable[[], Collection[str]] | None = None


@dataclass(frozen=True)
class UnitCost:
    """What one unit of a step's work costs: ``seconds``, and ``size`` bytes of output where that is known."""

    seconds: float
    size: int | None = None


@dataclass(frozen=True)
class StepKind:
    """What is known of every step of one kind before one is resolved.

    Attributes:
        name: its key in a recipe.
        options: the model of its options.
        makes: ``lora`` or ``checkpoint``: one ``.safetensors`` file; ``run``: a folder with a LoRA file an epoch;
            ``pictures`` (with captions), ``grid`` or ``package``: another folder.
        revision: raised when the same options begin to give another result; it is part of every key.
        loads_model: whether it loads a base model. Of such steps one runs at a time in one process, with nothing else
            that computes.
        computes: whether it computes with torch at all; one that does not may run beside any other.
        shared: by several processes: ``no``, ``optional`` (where one fails, another finishes its work) or ``required``
            (it needs every one).
        made_for: the kind of step that reads its pictures, at ``images``; where a recipe has such steps, one must.
        guess: what a unit (``Draft.units``) costs with the pocket base on two CPU cores, before one has run.
    """

    name: str
    options: type[Strict] | BorrowedOptions
    makes: Makes
    revision: int = 1
    loads_model: bool = False
    computes: bool = True
    shared: Literal["no", "optional", "required"] = "no"
    made_for: str | None = None
    guess: UnitCost | None = None

    @property
    def makes_file(self) -> bool:
        """Whether a step makes one file, not a folder."""
        return self.makes in ("lora", "checkpoint")

    @property
    def makes_lora(self) -> bool:
        """Whether its result can be named as a LoRA: a file, or a run's epochs."""
        return self.makes in ("lora", "run")

    @property
    def shorthand(self) -> str | None:
        """The option that may stand alone in place of all options."""
        return None if isinstance(self.options, BorrowedOptions) else getattr(self.options, "shorthand", None)

    def default_out(self, step: str) -> Path:
        """The name of the file or folder of the step named ``step``, in the work folder."""
        return Path(f"{step}.safetensors" if self.makes_file else step)


def module_of(kind: str) -> Any:
    """The module of a kind of step, imported now."""
    return import_module(f"loratools.recipe.steps.{_MODULES[kind]}")


@cache
def step_kind(name: str) -> StepKind:
    """The kind of step called ``name``, one of :data:`STEP_KINDS`."""
    kind: StepKind = module_of(name).KIND
    return kind


def step_kinds() -> Mapping[str, StepKind]:
    """Every kind by name."""
    return {name: step_kind(name) for name in STEP_KINDS}
