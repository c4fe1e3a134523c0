"""A grid step as it is read: its axes by value, the LoRAs that it names, and the request that it makes of the renderer.

The same request is made before anything exists, of rows that have a label and nothing else, and when the step runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.errors import FileError, GridError, LoratoolsError, RecipeError
from loratools.preview.request.read_axes import build_arrangement
from loratools.preview.request.read_rows import NameLookup, distinct_labels, planned_labels
from loratools.preview.request.row_text import RowText
from loratools.recipe.plan.lora_refs import Terms, why_no_epoch
from loratools.recipe.plan.planner import Planner, StepRequest
from loratools.recipe.plan.step import StepInput
from loratools.recipe.steps.pictures.grid_axes import GridAxes, read_grid_axes
from loratools.recipe.steps.pictures.grid_loras import named_loras, with_places, with_runs
from loratools.recipe.steps.pictures.grid_options import Grid
from loratools.train.output.epoch_report import best_epoch
from loratools.yamlio import Place

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets
    from loratools.preview.request.arrange import Arrangement
    from loratools.preview.request.options import EngineOptions, ScoreRequest, SheetOptions
    from loratools.preview.request.request import GridRequest, SamplingRequest
    from loratools.preview.request.rows import GridRow


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
        presets = step.presets(settings.presets)
        axes = with_runs(with_places(read_grid_axes(step, settings), step, settings, presets), step)
        return GridStep(step, settings, axes, named_loras(step, settings, axes, presets))

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
    def sampling(self) -> SamplingRequest:
        """How pictures are sampled."""
        from loratools.preview.request.request import SamplingRequest

        settings, size = self.settings, self.axes.size
        return SamplingRequest(
            negative=settings.negative or None,
            steps=settings.steps,
            cfg=settings.cfg,
            sampler=self.axes.sampler,
            size=(size[0], size[1]) if size else None,
            clip_skip=settings.clip_skip,
            noise=settings.noise,
            frames=settings.frames,
        )

    @property
    def engine(self) -> EngineOptions:
        """How the renderer works."""
        from loratools.preview.request.options import EngineOptions

        settings = self.settings
        return EngineOptions(
            settings.batch_size or 8,
            compiled=settings.compile,
            mixed=settings.mixed,
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
        model = ModelRequest(
            paths.base,
            True,
            paths.vae.path if paths.vae else None,
            device,
            settings.dtype,
            paths.find(settings.embeddings) if settings.embeddings else None,
        )
        return GridRequest(
            rows=self.rows,
            axes=self.axes.axes,
            weights=settings.weights,
            prompts=settings.prompts,
            seeds=self.axes.seeds,
            sampling=self.sampling,
            model=model,
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
        from loratools.adapter.files.lora_file import KeyRules

        settings, keys = self.settings, KeyRules(self.settings.allow_unknown)
        return NameLookup(self.lookup, self.step.paths.find, self.presets, settings.missing, best_epoch, keys)

    def planned_names(self) -> PlannedNames:
        """Names of what need not be there yet."""
        names = self.names()
        return PlannedNames(
            names.lookup, names.find, names.presets, names.missing, names.best, names.keys, planner=self.step.planner
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

        texts = [self.of_files(text) for text in texts]
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
            return planned.draft.kept_epochs if planned.step_kind.makes == "run" else None
        place = self.lookup(ref)
        return tuple(epoch.number for epoch in epochs(place)) if not place.is_file() and is_run(place) else None


def place_of(error: LoratoolsError, settings: Grid) -> Place:
    """The option that an error is about; none where that is left out of the recipe."""
    if not isinstance(error, GridError):
        return ()
    if error.axis:
        return (error.axis,)
    return (error.option,) if error.option and getattr(settings, error.option, None) is not None else ()
