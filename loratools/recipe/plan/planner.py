"""From a recipe to its plan: every step resolved, in order, with a key made of all that determines its result.

A step's key is a hash of its kind, its options as they were resolved (presets and named vectors by value), the digests
of the files that it reads, the keys of the steps that it reads, and the tool's version. Names of folders, comments and
the order of steps are not in it. Equal keys mean equal results, so a step whose key is known is not run again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools import __version__
from loratools.errors import RecipeError, did_you_mean
from loratools.recipe.plan.lineage import Lineage, reduced
from loratools.recipe.plan.paths import Places, Source, digest_of
from loratools.recipe.plan.unused import check_reach
from loratools.recipe.schema.kinds import FILES, LORAS, RUNS, folder_of
from loratools.recipe.schema.recipe import Recipe, Step
from loratools.yamlio import Document

if TYPE_CHECKING:
    from loratools.recipe.plan.context import Session


@dataclass(frozen=True)
class Outcome:
    """What a step says of its result: a line for people, and facts as JSON values."""

    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)


Make = Callable[[Path, "Session"], Outcome]  # writes a step's result at the path it is given


@dataclass(frozen=True)
class Draft:
    """A resolved step before it has a key.

    Args:
        options: everything but the sources that determines the result, as JSON values.
        sources: what is read.
        make: runs the step.
        epochs: how many epochs it trains, if it is a run, and ``numbers`` those of them whose files stay, while
            ``pruned_by`` are the settings that remove the others.
        in_place: the step keeps what it finds of its own, from any key (a grid's cells have keys of their own).
        check: raises what can only be known with the session in hand.
        assist: what further processes do while the first is in the part of ``make`` that it shares; it tells how many
            pictures that were.
    """

    options: Mapping[str, Any]
    sources: tuple[Source, ...]
    make: Make
    epochs: int | None = None
    in_place: bool = False
    check: Callable[[Session], None] | None = None  # raises before any step runs
    family: str | None = None  # of the LoRA that it makes, where that is known beforehand
    units: float | None = None  # how much there is to do, in units of its kind: images shown, pictures, bytes
    numbers: tuple[int, ...] = ()
    pruned_by: Mapping[str, int] = field(default_factory=dict)
    assist: Callable[[Path, Session], int] | None = None


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
        """The key of the very bytes, titles and owner included, that it makes: what a cache may share."""
        owner = "" if self.kind in RUNS else self.owner  # a run's files say only its own name
        return hashlib.sha256(f"{self.key} {owner} {self.out.name}".encode()).hexdigest()

    @property
    def is_file(self) -> bool:
        """Whether it makes one file, not a folder."""
        return self.kind in FILES

    @property
    def needs(self) -> tuple[str, ...]:
        """The steps that must have run before."""
        return tuple(dict.fromkeys(source.step for source in self.draft.sources if source.step is not None))

    @property
    def inputs(self) -> str:
        """What it reads, for a person."""
        return ", ".join(dict.fromkeys(source.label for source in self.draft.sources))


class Planner(Places):
    """Resolves the steps of one recipe, each once, following references from step to step.

    Args:
        recipe, document, folder, base: as for :class:`.places.Places`.
        work: where results go.
    """

    def __init__(self, recipe: Recipe, document: Document, folder: Path, work: Path, base: str | None = None) -> None:
        super().__init__(recipe, document, folder, base)
        self.work = work
        self.name = Path(document.source).stem
        self.outs: dict[str, Path] = {}  # step -> where its result goes, instead of where the recipe says
        self._done: dict[str, Planned] = {}
        self._open: list[str] = []

    def plan(self, wanted: Iterable[str] | None = None) -> list[Planned]:
        """The ``wanted`` steps (all, by default) and what they need, in an order in which they can run.

        Raises:
            RecipeError: for an unknown step, a circle, or a step that cannot be resolved.
        """
        for name in self.recipe.steps if wanted is None else wanted:
            if name not in self.recipe.steps:
                hint = did_you_mean(name, self.recipe.steps)
                raise RecipeError(f"{self.document.source} has no step '{name}'{hint}; it has {self._steps()}")
            self.step(name)
        self._check_outs()
        _ = self.lora_dirs  # each is there, whether a name was looked for in it or not
        if wanted is None:
            check_reach(list(self._done.values()), self.document)
        return list(self._done.values())

    def step(self, name: str) -> Planned:
        """The step ``name``, resolved with everything that it needs."""
        if name in self._done:
            return self._done[name]
        if name in self._open:
            circle = " -> ".join([*self._open[self._open.index(name) :], name])
            raise self.fail(name, message=f"the steps need each other in a circle: {circle}")
        self._open.append(name)
        try:
            planned = self._resolve(name, self.recipe.steps[name])
        finally:
            self._open.pop()
        self._done[name] = planned
        return planned

    def source(self, label: str, name: str, *place: str | int) -> Source:
        """What the text ``label`` in step ``name`` means: a step, or a file or folder on disk.

        Raises:
            RecipeError: if it is neither.
        """
        if label in self.recipe.steps:
            planned = self.step(label)
            return Source(label, planned.out, planned.key, label)
        path = self.find(label)
        if path is None:
            hint = did_you_mean(label, self.recipe.steps)
            told = f"'{label}' is no step{hint} and no file or folder in {self.looked()}; the steps are {self._steps()}"
            raise self.fail(name, *place, message=told)
        return Source(label, path, digest_of(path))

    def owner(self, name: str) -> str:
        """Who may overwrite this step's files: the same step of a recipe of the same name."""
        return f"recipe:{self.name}:{name}"

    def _resolve(self, name: str, step: Step) -> Planned:
        module = import_module(f"loratools.recipe.steps.{folder_of(step.kind)}.{step.kind}")
        draft: Draft = module.draft(name, step, self)
        told = Path(step.out).expanduser() if step.out else module.default_out(name)
        out = self.outs.get(name, self.work / told)
        revision = int(module.REVISION)
        key = key_of(step.kind, revision, draft)
        copies = step.kind == "select" and "-" not in draft.options["epoch"]  # another file's bytes, header and all
        lineage = self._lineage(name, draft, key) if step.kind in LORAS | RUNS and not copies else None
        return Planned(name, step.kind, draft, out, key, revision, self.owner(name), lineage)

    def _lineage(self, name: str, draft: Draft, key: str) -> Lineage:
        """The step, those before it, and the digests of all that they read."""
        steps, inputs = [name], dict[str, str]()
        waiting = [draft]
        while waiting:
            for source in waiting.pop(0).sources:
                if source.step is None:
                    inputs[source.label] = source.digest
                elif source.step not in steps:
                    steps.append(source.step)
                    waiting.append(self._done[source.step].draft)
        data = reduced(
            self.document.data,
            [step for step in self.recipe.steps if step in steps],
            self.base if self.rebased else None,
        )
        return Lineage(self.name, name, key, data, inputs)

    def _check_outs(self) -> None:
        owners: dict[Path, str] = {}
        for planned in self._done.values():
            place = Path(planned.out).resolve()
            if place in owners:
                told = f"'{owners[place]}' writes to {planned.out} too; give one another `out`"
                raise self.fail(planned.name, "out", message=told)
            owners[place] = planned.name

    def _steps(self) -> str:
        return ", ".join(self.recipe.steps)


def key_of(kind: str, revision: int, draft: Draft) -> str:
    """The step's key: hex sha256 of everything that determines its result."""
    content = {
        "kind": kind,
        "revision": revision,
        "version": __version__,
        "options": draft.options,
        "sources": [source.digest for source in draft.sources],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
