"""From a recipe to its plan: every step resolved, in order, with a key made of all that determines its result.

A step's key is a hash of its kind, its options as they were resolved (presets and named vectors by value), the digests
of the files that it reads, the keys of the steps that it reads, and the tool's version. Names of folders, comments and
the order of steps are not in it. Equal keys mean equal results, so a step whose key is known is not run again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from loratools.errors import RecipeError, did_you_mean
from loratools.recipe.plan.lineage import Lineage, reduced
from loratools.recipe.plan.paths import RecipePaths, digest_of
from loratools.recipe.plan.step import Draft, Planned, StepInput, key_of
from loratools.recipe.schema.kinds import module_of, step_kind
from loratools.recipe.schema.recipe import Options, Recipe, Step
from loratools.yamlio import Document

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets


class Planner:
    """Resolves the steps of one recipe, each once, following references from step to step.

    Args:
        recipe: the checked recipe, and ``document`` where it came from.
        folder: where relative paths are looked for first, see :class:`.paths.RecipePaths`.
        work: where results go.
        base: instead of the recipe's own.
    """

    def __init__(self, recipe: Recipe, document: Document, folder: Path, work: Path, base: str | None = None) -> None:
        self.recipe = recipe
        self.document = document
        self.paths = RecipePaths(recipe, document, folder, base)
        self.work = work
        self.name = Path(document.source).stem
        self.outs: dict[str, Path] = {}  # step -> where its result goes, instead of where the recipe says
        self._planned: dict[str, Planned] = {}
        self._resolving: list[str] = []  # steps that are being resolved now, each needed by the one before it

    def plan(self, names: Iterable[str] | None = None) -> list[Planned]:
        """The steps ``names`` (all, by default) and what they need, in an order in which they can run.

        Raises:
            RecipeError: for an unknown step, a circle, or a step that cannot be resolved.
        """
        for name in self.recipe.steps if names is None else names:
            if name not in self.recipe.steps:
                hint = did_you_mean(name, self.recipe.steps)
                raise RecipeError(f"{self.document.source} has no step '{name}'{hint}; it has {self._step_names()}")
            self.step(name)
        self._check_outs()
        _ = self.paths.lora_dirs  # raises if one is missing, whether a name was looked for in it or not
        if names is None:
            self._check_drawings_are_read()
        return list(self._planned.values())

    def step(self, name: str) -> Planned:
        """The step ``name``, resolved with everything that it needs."""
        if name in self._planned:
            return self._planned[name]
        if name in self._resolving:
            circle = " -> ".join([*self._resolving[self._resolving.index(name) :], name])
            raise self.error(name, message=f"the steps need each other in a circle: {circle}")
        self._resolving.append(name)
        try:
            planned = self._resolve(name, self.recipe.steps[name])
        finally:
            self._resolving.pop()
        self._planned[name] = planned
        return planned

    def input(self, label: str, name: str, *place: str | int) -> StepInput:
        """What the text ``label`` in step ``name`` means: a step, or a file or folder on disk.

        Raises:
            RecipeError: if it is neither.
        """
        if label in self.recipe.steps:
            planned = self.step(label)
            return StepInput(label, planned.out, planned.key, label)
        path = self.paths.find(label)
        if path is None:
            hint = did_you_mean(label, self.recipe.steps)
            searched, names = self.paths.searched(), self._step_names()
            message = f"'{label}' is no step{hint} and no file or folder in {searched}; the steps are {names}"
            raise self.error(name, *place, message=message)
        return StepInput(label, path, digest_of(path))

    def error(self, name: str, *place: str | int, message: str) -> RecipeError:
        """A RecipeError about ``place`` inside step ``name``, with the line and a caret under the word."""
        return self.document.error(("steps", name, *place), message)

    def out(self, name: str) -> Path:
        """The file or folder that the step ``name`` writes."""
        step = self.recipe.steps[name]
        given = Path(step.out).expanduser() if step.out else step_kind(step.kind).default_out(name)
        return self.outs.get(name, self.work / given)

    def owner(self, name: str) -> str:
        """Who may overwrite this step's files: the same step of a recipe of the same name."""
        return f"recipe:{self.name}:{name}"

    def _resolve(self, name: str, step: Step) -> Planned:
        kind, resolve = step_kind(step.kind), draft_function(step.kind)
        draft = resolve(StepRequest(name, self))
        key = key_of(kind.name, kind.revision, draft)
        lineage = self._lineage(name, draft, key) if kind.makes_lora and not draft.copies else None
        return Planned(
            name=name,
            kind=kind.name,
            draft=draft,
            out=self.out(name),
            key=key,
            revision=kind.revision,
            owner=self.owner(name),
            lineage=lineage,
        )

    def _lineage(self, name: str, draft: Draft, key: str) -> Lineage:
        """The step, those before it, and the digests of all that they read."""
        steps, inputs = [name], dict[str, str]()
        queue = [draft]
        while queue:
            for item in queue.pop(0).inputs:
                if item.step is None:
                    inputs[item.label] = item.digest
                elif item.step not in steps:
                    steps.append(item.step)
                    queue.append(self._planned[item.step].draft)
        data = reduced(
            self.document.data,
            [step for step in self.recipe.steps if step in steps],
            self.paths.base if self.paths.rebased else None,
        )
        return Lineage(self.name, name, key, data, inputs)

    def _check_outs(self) -> None:
        """Raise RecipeError if two steps write to the same path."""
        owners: dict[Path, str] = {}
        for planned in self._planned.values():
            path = Path(planned.out).resolve()
            if path in owners:
                message = f"'{owners[path]}' writes to {planned.out} too; give one another `out`"
                raise self.error(planned.name, "out", message=message)
            owners[path] = planned.name

    def _check_drawings_are_read(self) -> None:
        """Raise RecipeError for a step of a whole recipe that is made for another kind's steps, of which none reads it:
        pictures drawn beside a training that trains on others.

        Where the recipe has no such steps, what it makes is there to be looked at. An included file's steps may be more
        than this recipe needs.
        """
        steps = list(self._planned.values())
        read = {name for step in steps for name in step.needs}
        kinds = {step.kind for step in steps}
        for step in steps:
            included = self.document.span(("steps", step.name)).source is not None
            reader = step.step_kind.made_for
            if reader in kinds and step.name not in read and not included:
                use = f"name it at a {reader} step's `images`"
                message = f"nothing reads the pictures of '{step.name}'; {use}, or drop it"
                raise self.document.error(("steps", step.name), message, step.name)

    def _step_names(self) -> str:
        return ", ".join(self.recipe.steps)


@dataclass(frozen=True)
class StepRequest:
    """A step to be resolved: what the ``draft`` function of its kind is given.

    Attributes:
        name: of the step; ``planner`` is that of its recipe, and finds what the step reads.
    """

    name: str
    planner: Planner

    @property
    def step(self) -> Step:
        """The step as the recipe has it."""
        return self.planner.recipe.steps[self.name]

    @property
    def kind(self) -> str:
        """The name of its kind."""
        return self.step.kind

    @property
    def paths(self) -> RecipePaths:
        """Where the recipe's names lie."""
        return self.planner.paths

    @property
    def owner(self) -> str:
        """Who may overwrite the step's files."""
        return self.planner.owner(self.name)

    def options(self, model: type[Options]) -> Options:
        """The step's options, which are of ``model``."""
        return self.step.options(model)

    def presets(self, file: str | None = None) -> Presets:
        """Named block vectors: the built-in ones, under those of the presets ``file`` that the step names, under the
        recipe's own ``blocks``."""
        return self.paths.presets(file, ("steps", self.name, self.kind, "presets"))

    def input(self, label: str, *place: str | int) -> StepInput:
        """What ``label`` means, which stands at ``place`` in the step's options: see :meth:`Planner.input`."""
        return self.planner.input(label, self.name, self.kind, *place)

    def error(self, *place: str | int, message: str) -> RecipeError:
        """A RecipeError about ``place`` in the step's options."""
        return self.planner.error(self.name, self.kind, *place, message=message)


class DraftFunction(Protocol):
    """``draft`` of a kind's module."""

    def __call__(self, request: StepRequest, /) -> Draft:
        """Resolve a step: find what it reads, and say how it is made.

        Raises:
            RecipeError: at the option that cannot be resolved.
        """


def draft_function(kind: str) -> DraftFunction:
    """What resolves the steps of the kind called ``kind``."""
    function: DraftFunction = module_of(kind).draft
    return function
