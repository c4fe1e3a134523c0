"""A step as it is planned and run.

What it reads is a :class:`StepInput`, how it is made a :class:`Draft`; :class:`Planned` has its key and file too, and
:class:`Outcome` is what it says of its result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lineage import Lineage
from loratools.recipe.schema.kinds import StepKind, step_kind
from loratools.version import __version__


@dataclass(frozen=True)
class StepInput:
    """Something that a step reads: a file, a folder or an earlier step.

    Args:
        label: as the recipe writes it.
        path: where it lies, or will lie once ``step`` has run.
        digest: of its content; for a step, what stands for it: its key.
        step: the step that makes it, if one does.
    """

    label: str
    path: Path
    digest: str
    step: str | None = None


@dataclass(frozen=True)
class Outcome:
    """A step's report of its result: a line for people, and facts as JSON values."""

    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)


Make = Callable[[Path, RunContext], Outcome]  # writes a step's result at the path it is given


@dataclass(frozen=True)
class Draft:
    """A resolved step before it has a key.

    Args:
        options: everything but the inputs that determines the result, as JSON values.
        inputs: what is read.
        make: runs the step.
        epochs: how many epochs it trains, if it is a run; ``kept_epochs`` are those whose files stay, and
            ``pruned_by`` the settings that remove the others.
        in_place: whether the folder is kept when the step's key changes, because the step itself finds out which of its
            files still hold, as a grid does by its pictures' keys; else an old result moves to the cache.
        check: called before any step runs; raises what only the run's context can show.
        family: of the LoRA that it makes, where that is known beforehand.
        units: how much there is to do, in units of its kind: images shown, pictures, bytes.
        most_processes: among how many processes its work can be shared with a gain; in each of them ``make`` is called,
            and the first one writes what others do not.
        copies: the result is another file's bytes, header and all.
        warnings: what a person should know before it runs, such as a package that this machine lacks.
    """

    options: Mapping[str, Any]
    inputs: tuple[StepInput, ...]
    make: Make
    epochs: int | None = None
    in_place: bool = False
    check: Callable[[RunContext], None] | None = None
    family: str | None = None
    units: float | None = None
    kept_epochs: tuple[int, ...] = ()
    pruned_by: Mapping[str, int] = field(default_factory=dict)
    most_processes: int = 1
    copies: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planned:
    """A step that can be run: ``draft`` resolved, ``out`` its file or folder, ``key`` a hash of all that matters."""

    name: str
    kind: str
    draft: Draft
    out: Path
    key: str
    revision: int
    owner: str
    lineage: Lineage | None = None  # of a LoRA file or a run's epochs, for their headers

    @property
    def identity(self) -> str:
        """The cache's key: hash of ``key`` and of all that changes only the bytes of the header (title, owner)."""
        owner = "" if self.step_kind.makes == "run" else self.owner  # a run's files hold only its own name
        return hashlib.sha256(f"{self.key} {owner} {self.out.name}".encode()).hexdigest()

    @property
    def step_kind(self) -> StepKind:
        """What is known of every step of its kind."""
        return step_kind(self.kind)

    @property
    def needs(self) -> tuple[str, ...]:
        """The steps that must have run before."""
        return tuple(dict.fromkeys(item.step for item in self.draft.inputs if item.step is not None))

    @property
    def reads(self) -> str:
        """The labels of its inputs in one line."""
        return ", ".join(dict.fromkeys(item.label for item in self.draft.inputs))


def key_of(kind: str, revision: int, draft: Draft) -> str:
    """The step's key: hex sha256 of everything that determines its result."""
    content = {
        "kind": kind,
        "revision": revision,
        "version": __version__,
        "options": draft.options,
        "sources": [item.digest for item in draft.inputs],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
