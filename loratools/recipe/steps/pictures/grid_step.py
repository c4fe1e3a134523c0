"""A grid step as it is read: its axes by value, the LoRAs that it names, and the request that it makes of the renderer.

The same request is made before anything exists, of rows that have a label and nothing else, and when the step runs.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.errors import FileError, GridError, LoratoolsError, RecipeError
from loratools.preview.request.read_axes import build_arrangement
from loratools.preview.request.read_prompts import read_prompts
from loratools.preview.request.read_rows import NameLookup, distinct_labels, planned_labels
from loratools.preview.request.row_text import RowText
from loratools.recipe.plan.lora_refs import Terms, read_terms, why_no_epoch
from loratools.recipe.plan.planner import Planner, StepRequest
from loratools.recipe.plan.step import StepInput
from loratools.recipe.steps.pictures.grid_options import Grid
from loratools.recipe.steps.pictures.picture_size import check_size
from loratools.train.output.epoch_report import best_epoch
from loratools.yamlio import Place

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets
    from loratools.preview.request.arrange import Arrangement
    from loratools.preview.request.axes import Axis
    from loratools.preview.request.options import EngineOptions, ScoreRequest, SheetOptions
    from loratools.preview.request.request import GridRequest, Sampling
    from loratools.preview.request.rows import GridRow


@dataclass(frozen=True)
class GridAxes:
    """What differs between a grid's pictures, by value.

    Args:
        axes: those at ``x``, ``y`` and ``z``; prompts in files are read, base models found.
        weights: None where axes stand in their place.
        seeds: None where an axis has them.
        size: [height, width] in pixels; None is the base's own.
        read: prompts that an axis names by their files, by its slot.
    """

    axes: tuple[Axis, ...]
    weights: list[float] | None
    seeds: list[int] | None
    size: list[int] | None
    prompts: list[str]
    sampler: str | None
    read: dict[str, list[str]] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """All but the axes, as the step's key has them."""
        return {
            "weights": self.weights,
            "seeds": self.seeds,
            "size": self.size,
            "prompts": self.prompts,
            "sampler": self.sampler,
        }


@dataclass(frozen=True)
class GridStep:
    """A grid step with everything that it names; ``named`` are its merge strings, each with its place and terms.

    Args:
        step: as the recipe has it.
        named: rows, values of an axis of adapters, then tags in prompts.
    """

    step: StepRequest
    settings: Grid
    axes: GridAxes
    named: tuple[tuple[str, Place, Terms], ...]

    @staticmethod
    def read(step: StepRequest) -> GridStep:
        """The grid step, read and looked up.

        Raises:
            RecipeError: at the option, for what cannot be read or is not there.
        """
        settings = step.options(Grid)
        axes = read_grid_axes(step, settings)
        presets = step.presets(settings.presets)
        named: list[tuple[str, Place, Terms]] = []

        def add(texts: Iterable[tuple[str, Place]]) -> None:
            named.extend((text, at, read_terms(text, step, presets, *at)) for text, at in texts)

        add(_named(step, settings, axes, presets))
        known = {ref for _, _, terms in named for ref in terms.paths}
        add(list(_named_by_replacing(step, axes, known, presets)))
        return GridStep(step, settings, axes, tuple(named))

    def error(self, *place: str | int, message: str) -> RecipeError:
        """An error at an option of this step."""
        return self.step.error(*place, message=message)

    @property
    def terms(self) -> tuple[Terms, ...]:
        """The terms of every merge string."""
        return tuple(terms for _, _, terms in self.named)

    @cached_property
    def presets(self) -> Presets:
        """Named block vectors."""
        return self.step.presets(self.settings.presets)

    @property
    def rows(self) -> list[RowText]:
        """The rows, as they were read."""
        return [RowText(text, terms.specs) for text, place, terms in self.named if place[0] == "rows"]

    @property
    def sampling(self) -> Sampling:
        """How pictures are sampled."""
        from loratools.preview.request.request import Sampling

        settings, size = self.settings, self.axes.size
        return Sampling(
            settings.negative or None,
            settings.steps,
            settings.cfg,
            self.axes.sampler,
            (size[0], size[1]) if size else None,
            settings.clip_skip,
            settings.noise,
        )

    @property
    def engine(self) -> EngineOptions:
        """How the renderer works."""
        from loratools.preview.request.options import EngineOptions

        settings = self.settings
        return EngineOptions(
            settings.batch_size or 8,
            compiled=settings.compile,
            offload=settings.offload,
            sliced=settings.sliced,
            tiled=settings.tiled,
        )

    @property
    def sheet(self) -> SheetOptions:
        """What is drawn of the pictures."""
        from loratools.preview.request.options import SheetOptions

        settings = self.settings
        return SheetOptions(settings.sheets, settings.full_size, settings.embed, settings.labels, settings.captions)

    def request(self, device: str = "auto", score: ScoreRequest | None = None) -> GridRequest:
        """What the renderer is asked for, as the command line asks it.

        Args:
            device: where pictures are made.
            score: what they are scored by.
        """
        from loratools.preview.request.request import GridRequest, ModelRequest

        settings, paths = self.settings, self.step.paths
        return GridRequest(
            rows=self.rows,
            axes=self.axes.axes,
            weights=settings.weights,
            prompts=settings.prompts,
            seeds=self.axes.seeds,
            sampling=self.sampling,
            model=ModelRequest(paths.base, True, paths.vae.path if paths.vae else None, device, settings.dtype),
            embeddings=paths.find(settings.embeddings) if settings.embeddings else None,
            base_alone=settings.base_alone,
            most=settings.most,
            engine=self.engine,
            title=settings.title,
            sheet=self.sheet,
            score=score,
        )

    def lookup(self, ref: str) -> Path:
        """Where the LoRA or run ``ref`` lies, or will lie.

        Raises:
            FileError: for one that the step does not name.
        """
        for terms in self.terms:
            if ref in terms.paths:
                return terms.paths[ref]
        raise FileError(f"the grid step '{self.step.name}' names no LoRA '{ref}'")

    def names(self) -> NameLookup:
        """Names of what is there once the steps before this one have run."""
        return NameLookup(self.lookup, self.step.paths.find, self.presets, self.settings.missing, best_epoch)

    def planned_names(self) -> PlannedNames:
        """Names of what need not be there yet."""
        names = self.names()
        return PlannedNames(
            names.lookup, names.find, names.presets, names.missing, names.best, planner=self.step.planner
        )

    def arrange(self, names: NameLookup) -> Arrangement:
        """The axes in their places.

        Raises:
            RecipeError: at the axis or option, for what cannot be arranged.
        """
        try:
            return build_arrangement(self.request(), names)
        except LoratoolsError as error:
            raise self.error(*place_of(error, self.settings), message=str(error)) from error

    def planned(self) -> Arrangement:
        """What the step will show, its rows by label alone.

        Raises:
            RecipeError: as :meth:`arrange`.
        """
        return self.arrange(self.planned_names())

    def models(self) -> list[StepInput]:
        """The base models on an axis, as something that the step reads.

        Raises:
            RecipeError: at the axis, for one that is none.
        """
        from loratools.base.base_path import base_digest

        axis = next((axis for axis in self.axes.axes if axis.kind == "base"), None)
        if axis is None:
            return []
        try:
            return [StepInput(str(value), Path(str(value)), base_digest(str(value))) for value in axis.values]
        except LoratoolsError as error:
            raise self.error(axis.slot, message=str(error)) from error


@dataclass(frozen=True)
class PlannedNames(NameLookup):
    """Names of what need not be there yet.

    Args:
        planner: knows the steps that will make it.
    """

    planner: Planner = field(kw_only=True)

    def rows(self, texts: Sequence[RowText]) -> list[GridRow]:
        """Rows of labels alone, and of the names of their LoRAs.

        Raises:
            GridError: for an epoch that a run will not have.
        """
        from loratools.preview.request.rows import GridRow

        for spec in (spec for text in texts for spec in text.specs):
            if (reason := why_no_epoch(spec, self.lookup(spec.ref), self.planner)) is not None:
                raise GridError(reason)
        planned = [planned_labels(text, self.numbers) for text in texts]
        labels = distinct_labels(texts, self.lookup, [[label for label, _ in own] for own in planned])
        names = [tuple(terms) for own in planned for _, terms in own]
        return [GridRow(label, {}, names=own) for label, own in zip(labels, names, strict=True)]

    def is_run(self, ref: str) -> bool:
        """Whether ``ref`` is or will be a training run."""
        return self.numbers(ref) is not None

    def numbers(self, ref: str) -> tuple[int, ...] | None:
        """The epochs that a run has or will have; None for what is no run."""
        from loratools.adapter.files.epoch_files import epochs, is_run

        if ref in self.planner.recipe.steps:
            planned = self.planner.step(ref)
            return planned.draft.numbers if planned.step_kind.makes == "run" else None
        place = self.lookup(ref)
        return tuple(epoch.number for epoch in epochs(place)) if not place.is_file() and is_run(place) else None


def place_of(error: LoratoolsError, settings: Grid) -> Place:
    """The option that an error is about; none where that is left out of the recipe."""
    if not isinstance(error, GridError):
        return ()
    if error.axis:
        return (error.axis,)
    return (error.option,) if error.option and getattr(settings, error.option, None) is not None else ()


def read_grid_axes(step: StepRequest, settings: Grid) -> GridAxes:
    """The axes and the sampler by value.

    Raises:
        RecipeError: at the option, for what cannot be read, or says what was said before.
    """
    from loratools.base.sampling.samplers import find_sampler
    from loratools.preview.request.numbers import parse_seeds, parse_size, parse_weights
    from loratools.preview.request.request import USUAL_WEIGHTS

    axes = _slots(step, settings)
    weights = settings.weights or (None if axes else USUAL_WEIGHTS)
    seeds = settings.seeds or str(step.planner.recipe.seed)
    seeded = settings.seeds is None and any(axis.kind == "seed" for axis in axes)

    def read(key: str, reader: Callable[[], Any]) -> Any:
        try:
            return reader()
        except LoratoolsError as error:
            raise step.error(key, message=str(error)) from error

    values = GridAxes(
        tuple(axes),
        weights=read("weights", lambda: list(parse_weights(weights)) if weights else None),
        seeds=read("seeds", lambda: None if seeded else list(parse_seeds(seeds))),
        size=read("size", lambda: list(parse_size(settings.size)) if settings.size else None),
        prompts=read("prompts", lambda: read_prompts(settings.prompts, step.paths.find) if settings.prompts else []),
        sampler=read("sampler", lambda: find_sampler(settings.sampler).name if settings.sampler else None),
    )
    _check_axes(step, settings, values)
    if values.size:
        check_size(values.size, step, "size")
    resolved = tuple(_found(axis, step) for axis in axes)
    files = {
        axis.slot: [str(value) for value in own.values]
        for axis, own in zip(axes, resolved, strict=True)
        if axis.kind == "prompt" and axis != own
    }
    return replace(values, axes=resolved, read=files)


def _slots(step: StepRequest, settings: Grid) -> list[Axis]:
    from loratools.preview.request.axes import parse_axis

    axes = []
    for slot in ("x", "y", "z"):
        text = getattr(settings, slot)
        try:
            axes += [parse_axis(text, slot)] if text is not None else []
        except LoratoolsError as error:
            raise step.error(slot, message=str(error)) from error
    return axes


def _found(axis: Axis, step: StepRequest) -> Axis:
    """``axis`` with prompts in files read, and base models looked for beside the recipe, as its own base is."""
    find = step.paths.find
    if axis.kind == "base":
        paths = ((text, find(text)) for text in map(str, axis.values))
        return replace(axis, values=tuple(text if text == "pocket" or not path else str(path) for text, path in paths))
    if axis.kind != "prompt":
        return axis
    try:
        return replace(axis, values=tuple(dict.fromkeys(read_prompts([str(value) for value in axis.values], find))))
    except LoratoolsError as error:
        raise step.error(axis.slot, message=f"axis {axis.slot}: {error}") from error


def _check_axes(step: StepRequest, settings: Grid, values: GridAxes) -> None:
    """Raise RecipeError for an axis that says what is said before it, or that has nothing to change."""
    from loratools.preview.request.arrange import check_axes

    for count, axis in enumerate(values.axes, 1):
        try:
            check_axes(values.axes[:count], settings.rows, values.prompts)
        except GridError as error:
            raise step.error(axis.slot, message=str(error)) from error
        if axis.kind == "size":
            for value in axis.values:
                if isinstance(value, tuple):
                    check_size(value, step, axis.slot)


def _named(step: StepRequest, settings: Grid, axes: GridAxes, presets: Presets) -> Iterator[tuple[str, Place]]:
    """Every merge string and where it stands: rows, values of an axis of adapters, tags in prompts."""
    from loratools.preview.request.prompt_loras import take_tags

    yield from ((text, ("rows", n)) for n, text in enumerate(settings.rows))
    for axis in axes.axes:
        if axis.kind == "adapter":
            yield from ((str(value), (axis.slot,)) for value in axis.values)
    texts: list[tuple[str, Place]] = [(text, ("prompts",)) for text in axes.prompts]
    for axis in axes.axes:
        if axis.kind in ("prompt", "s/r"):
            texts += [(str(value), (axis.slot,)) for value in axis.values]
    tags = [(tag, place) for text, place in texts for tag in take_tags(text)[1]]
    yield from ((_tag_text(tag, step, place, presets), place) for tag, place in tags)


def _named_by_replacing(
    step: StepRequest, axes: GridAxes, known: Set[str], presets: Presets
) -> Iterator[tuple[str, Place]]:
    """Tags with LoRAs beside the ``known`` ones, which prompts name only once Prompt S/R has replaced a text."""
    from loratools.ops.merging.merge_string import parse_merge_string
    from loratools.preview.request.prompt_loras import take_tags

    seen = set(known)
    for prompt, place in _replaced(axes):
        for tag in take_tags(prompt)[1]:
            text = _tag_text(tag, step, place, presets)
            refs = {spec.ref for spec in parse_merge_string(text)}
            if not refs <= seen:
                seen |= refs
                yield text, place


def _tag_text(tag: str, step: StepRequest, place: Place, presets: Presets) -> str:
    from loratools.preview.request.prompt_loras import merge_string

    try:
        return merge_string([tag], presets)
    except LoratoolsError as error:
        raise step.error(*place, message=str(error)) from error


def _replaced(axes: GridAxes) -> Iterator[tuple[str, Place]]:
    """Every prompt once the texts of Prompt S/R are replaced, and the first axis that replaces some."""
    from loratools.preview.request.setting import Setting, applied

    texts = [axis for axis in axes.axes if axis.kind in ("prompt", "s/r")]
    slot = next((axis.slot for axis in texts if axis.kind == "s/r"), None)
    if slot is None:
        return
    for prompt in axes.prompts or [""]:
        for at in itertools.product(*(range(len(axis.values)) for axis in texts)):
            with contextlib.suppress(GridError):  # a text that only the negative prompt has, or none: see arrange()
                yield applied(Setting(prompt, 0), texts, at).prompt, (slot,)
