"""From a recipe to its plan: every step resolved, in order, with a key made of all that determines its result.

A step's key is a hash of its kind, its options as they were resolved (presets and named vectors by value), the digests
of the files that it reads, the keys of the steps that it reads, and the tool's version. Names of folders, comments and
the order of steps are not in it. Equal keys mean equal results, so a step whose key is known is not run again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools import __version__
from loratools.errors import FileError, LoratoolsError, RecipeError, did_you_mean
from loratools.files import sha256
from loratools.recipe.kinds import FILES, LORAS, RUNS
from loratools.recipe.lineage import Lineage, reduced
from loratools.recipe.reach import check_reach
from loratools.recipe.schema import Recipe, Step
from loratools.yamlio import Document, Place

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets
    from loratools.recipe.session import Session


@dataclass(frozen=True)
class Source:
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


class Planner:
    """Resolves the steps of one recipe, each once, following references from step to step.

    Args:
        recipe: the checked recipe, and ``document`` where it came from.
        folder: where relative paths are looked for first; then the folders of the files that it includes, and then
            the current folder.
        work: where results go.
        base: instead of the recipe's own.
    """

    def __init__(self, recipe: Recipe, document: Document, folder: Path, work: Path, base: str | None = None) -> None:
        self.recipe = recipe
        self.document = document
        self.folder = folder
        self.folders = tuple(dict.fromkeys([folder, *(Path(source).parent for source in document.others)]))
        self.work = work
        self.base = self._base_name(base or recipe.base, given=base is not None)
        self._rebased = base is not None
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

    def where(self, name: str, *place: str | int) -> str:
        """``FILE, line N: steps.NAME...`` for the start of a message."""
        return self.document.where(("steps", name, *place))

    def fail(self, name: str, *place: str | int, message: str) -> RecipeError:
        """A RecipeError that tells the place inside step ``name``, with the line and a caret under the word."""
        return self.document.error(("steps", name, *place), message)

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
            told = (f"'{label}' is no step{hint} and no file or folder in {self._looked()}; the steps are "
                    f"{self._steps()}")  # fmt: skip
            raise self.fail(name, *place, message=told)
        return Source(label, path, digest_of(path))

    def find(self, text: str) -> Path | None:
        """The existing file or folder that ``text`` names: beside the recipe first, then beside what it includes, then
        in the current folder."""
        if not text.strip():
            return None
        given = Path(text).expanduser()
        places = [*(folder / given for folder in self.folders), given]
        return next((path for path in places if path.exists()), None)

    def base_source(self) -> Source:
        """The base as something that a step reads."""
        from loratools.adapter.checkpoint import open_checkpoint
        from loratools.base.load import base_digest

        try:
            if Path(self.base).is_file() and Path(self.base).suffix == ".safetensors":
                open_checkpoint(self.base)  # a LoRA is no base
            return Source(self.base, Path(self.base), base_digest(self.base))
        except LoratoolsError as error:
            if self._rebased:
                raise
            raise self.document.error(("base",), str(error)) from error

    def base_place(self) -> Path:
        """Where the base lies on disk; ``pocket`` is the one that ships."""
        from loratools.pocket import weights_folder

        return weights_folder() if self.base == "pocket" else Path(self.base)

    @cached_property
    def base_family(self) -> str | None:
        """The base's model family, or None where its files are not here to be read (a hub id) or are of none."""
        from loratools.adapter.checkpoint import open_checkpoint

        with contextlib.suppress(LoratoolsError):
            return open_checkpoint(self.base_place()).family
        return None

    @cached_property
    def vae(self) -> Source | None:
        """The VAE that pictures are decoded with instead of the base's own, as something that a step reads."""
        if self.recipe.vae is None:
            return None
        try:
            return self.vae_source(self.recipe.vae)
        except LoratoolsError as error:
            raise self.document.error(("vae",), str(error)) from error

    def vae_source(self, text: str, *, offline: bool = False) -> Source:
        """The VAE ``text`` by its content: a folder or file as :meth:`find` finds it, or a hub id, fetched if need be.

        Raises:
            BaseModelError: if it is none of them.
        """
        from loratools.base.vae_place import find_vae, vae_digest

        mistyped = [folder / text for folder in self.folders if Path(text).parent != Path()
                    and (folder / text).parent.is_dir()]  # fmt: skip
        place = find_vae(self.find(text) or next(iter(mistyped), text), offline=offline)
        return Source(text, place, vae_digest(place))

    @cached_property
    def lora_dirs(self) -> tuple[Path, ...]:
        """Folders in which LoRA names are looked for."""
        found = [self.find(text) for text in self.recipe.lora_dirs]
        for text, path in zip(self.recipe.lora_dirs, found, strict=True):
            if path is None:
                raise self.document.error(("lora_dirs",), f"no folder '{text}' in {self._looked()}")
        return (*(path for path in found if path is not None), *self.folders)

    def presets(self, file: str | None = None, name: str | None = None) -> Presets:
        """The built-in vectors under those of a presets ``file``, which step ``name`` names, under the recipe's own
        ``blocks``."""
        from loratools.blocks.presets import load_presets

        path = None if file is None else self.find(file) or Path(file)
        try:
            return load_presets(path, self.recipe.blocks)
        except LoratoolsError as error:
            if file is None or name is None:
                raise self.document.error(("blocks",), str(error)) from error
            kind = self.recipe.steps[name].kind
            raise self.fail(name, kind, "presets", message=str(error)) from error

    def train_document(self, name: str, kind: str) -> Document:
        """The body of a step whose settings another room checks, with its lines."""
        place: Place = ("steps", name, kind)
        return self.document.within(place)

    def owner(self, name: str) -> str:
        """Who may overwrite this step's files: the same step of a recipe of the same name."""
        return f"recipe:{self.name}:{name}"

    def _resolve(self, name: str, step: Step) -> Planned:
        module = import_module(f"loratools.recipe.steps.{step.kind}")
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
        data = reduced(self.document.data, [step for step in self.recipe.steps if step in steps],
                       self.base if self._rebased else None)  # fmt: skip
        return Lineage(self.name, name, key, data, inputs)

    def _base_name(self, text: str, *, given: bool) -> str:
        if text == "pocket":
            return text
        folders = (Path(), *self.folders) if given else (*self.folders, Path())
        return next((str(folder / text) for folder in folders if (folder / text).exists()), text)

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

    def _looked(self) -> str:
        return f"{', '.join(map(str, self.folders))} or the current folder"


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


def digest_of(path: Path) -> str:
    """sha256 of a file, or over the names and digests of all the files in a folder; hidden ones do not count.

    Raises:
        FileError: if one cannot be read.
    """
    try:
        if path.is_file():
            return sha256(path)
        found = sorted(item for item in path.rglob("*") if item.is_file() and not item.name.startswith("."))
        lines = [f"{item.relative_to(path).as_posix()} {sha256(item)}" for item in found]
    except OSError as error:
        raise FileError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
