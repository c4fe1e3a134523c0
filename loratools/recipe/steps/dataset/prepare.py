"""``prepare``: a folder of pictures as it was downloaded, to upright pictures in classes, without copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from loratools.errors import DatasetError, LoratoolsError
from loratools.recipe.plan.context import RunContext, bar
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.fields import Strict, listed
from loratools.recipe.schema.kinds import StepKind, UnitCost
from loratools.recipe.steps.dataset.source import pictures_input, units_of

if TYPE_CHECKING:
    from loratools.dataset.detect.detectors import Detectors
    from loratools.dataset.prepare.options import PrepareOptions


class Prepare(Strict):
    """Pictures upright, on white, cropped into classes, enlarged, without copies and text; originals are only read."""

    images: str = Field(description="a folder of pictures and sidecars, at any depth, or the step that makes one")
    resolution: Annotated[int, Field(ge=64)] = Field(512, description="that will be trained at, in pixels")
    text: Literal["keep", "mask", "crop", "fill"] = Field("mask", description="what becomes of text that is found")
    crops: bool = Field(True, description="crop faces and figures out of larger pictures")
    detectors: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (), description="animeface, rapidocr, or face|head|halfbody|person|text=FILE.onnx"
    )
    boxes: str | None = Field(None, description="a JSON file of boxes by hand")
    upscaler: str | None = Field(None, description="a super-resolution model's file; Lanczos without one")
    max_ratio: Annotated[float, Field(ge=1)] = Field(3.0, description="long to short side; beyond it one is left out")
    max_enlarge: Annotated[float, Field(ge=1)] = Field(4.0, description="times a side; beyond it one is left out")
    keep_copies: bool = Field(False, description="leave copies of a picture in")
    encoding: str = Field(
        "auto", description="of sidecars that are not Unicode, such as gbk; auto finds it if it is sure"
    )


KIND = StepKind("prepare", Prepare, "pictures", made_for="train", guess=UnitCost(seconds=0.1, size=500_000))
_NOT_KEYED = {"images", "detectors", "boxes", "upscaler"}  # what they name counts by its content


def draft(request: StepRequest) -> Draft:
    """Find the pictures and every model's file."""
    from loratools.dataset.prepare.earlier import changes_by_hand

    options = request.options(Prepare)
    source = pictures_input(request, options.images, "images")
    detectors = tuple(_located(request, name) for name in options.detectors)
    boxes = _path(request, options.boxes, "boxes")
    upscaler = _path(request, options.upscaler, "upscaler")
    files = [file for name in detectors for file in _files_of(name)]
    inputs = [source, *(_file(path) for path in (*files, boxes, upscaler) if path is not None)]
    named = [name.partition("=")[0] if _files_of(name) else name for name in detectors]
    by_hand = changes_by_hand(request.planner.out(request.name))  # which the folder keeps, and later steps have to see
    resolved = {**options.model_dump(mode="json", exclude=_NOT_KEYED, exclude_defaults=True), "detectors": named}
    resolved |= {"by_hand": by_hand} if by_hand else {}
    step = PrepareStep(source, options, detectors, boxes, upscaler)
    return Draft(
        resolved, tuple(inputs), step.make, in_place=True, check=step.check(request), units=units_of(request, source)
    )


def _located(request: StepRequest, name: str) -> str:
    """A detector's name with its file as a path that exists, where the recipe's folder has it."""
    kind, equals, file = name.partition("=")
    return f"{kind}={request.paths.find(file) or file}" if equals else name


def _files_of(name: str) -> list[Path]:
    """The files on disk that a detector is made of: its graph, and the threshold beside it."""
    file = Path(name.partition("=")[2])
    graph = file / "model.onnx" if file.is_dir() else file
    return [path for path in (graph, graph.with_name("threshold.json")) if path.is_file()] if graph.is_file() else []


def _path(request: StepRequest, name: str | None, place: str) -> Path | None:
    if name is None:
        return None
    path = request.paths.find(name)
    if path is None or not Path(path).is_file():
        raise request.error(place, message=f"there is no file '{name}'; name it as it lies beside the recipe")
    return Path(path)


def _file(path: Path) -> StepInput:
    from loratools.digests import file_digest

    return StepInput(path.name, path, file_digest(path))


@dataclass(frozen=True)
class PrepareStep:
    """Pictures to be prepared; the folder keeps its manifest, so that only new pictures are worked on."""

    source: StepInput
    options: Prepare
    detectors: tuple[str, ...]
    boxes: Path | None
    upscaler: Path | None

    def check(self, request: StepRequest) -> Callable[[RunContext], None]:
        """What opens the detectors before any step runs, so that a missing package is said at once."""

        def check(context: RunContext) -> None:
            try:
                self._open(context)
            except LoratoolsError as error:
                raise request.error("detectors", message=str(error)) from error

        return check

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Write the prepared pictures into the folder ``out``.

        Raises:
            DatasetError: if a picture could not be written or shown to a detector; what is finished stays.
        """
        from loratools.dataset.prepare.enlarge import open_upscaler
        from loratools.dataset.prepare.run import prepare

        device = _device(context)
        upscaler = open_upscaler(self.upscaler, device) if self.upscaler is not None else None
        with bar(context, "preparing", 100) as advance:
            shown = 0

            def on_progress(done: int, total: int) -> None:
                nonlocal shown
                percent = 100 * done // max(total, 1)
                advance(percent - shown)
                shown = percent

            report = prepare(
                self.source.path,
                out,
                self._settings(),
                self._open(context),
                upscaler,
                encoding=self.options.encoding,
                force=context.force,
                on_progress=on_progress,
            )
        if report.problems:
            raise DatasetError(report.problems[0])
        facts = report.json()
        left_out = len(facts.pop("unused"))
        facts["unused"] = left_out
        return Outcome(f"{facts['pictures']} pictures of {facts['originals']}, {left_out} left out", facts)

    def _open(self, context: RunContext) -> Detectors:
        from loratools.dataset.detect.detectors import open_detectors

        return open_detectors(self.detectors, self.boxes, _device(context))

    def _settings(self) -> PrepareOptions:
        from loratools.dataset.prepare.options import PrepareOptions

        options = self.options
        return PrepareOptions(
            resolution=options.resolution,
            most_enlarged=options.max_enlarge,
            most_ratio=options.max_ratio,
            crops=options.crops,
            text=options.text,
            keep_copies=options.keep_copies,
        )


def _device(context: RunContext) -> str:
    return "cpu" if context.device == "cpu" else "auto"
