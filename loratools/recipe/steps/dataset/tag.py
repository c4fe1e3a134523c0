"""``tag``: captions by a tagger, and sentences by a captioner, for a folder of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from loratools.errors import DatasetError, LoratoolsError
from loratools.line_program import command_files
from loratools.recipe.plan.context import RunContext, bar
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.fields import Strict, listed
from loratools.recipe.schema.kinds import StepKind, UnitCost
from loratools.recipe.steps.dataset.copied import CopiedFolder, DoneHere, done_here
from loratools.recipe.steps.dataset.source import pictures_input, units_of

if TYPE_CHECKING:
    from loratools.dataset.tagging.tag_folder import TagRequest
    from loratools.dataset.tagging.tagger import TaggerFiles


class Tag(Strict):
    """Captions by a tagger (WD, CL, DeepDanbooru) as an ONNX file, and sentences by a program of your own. What is
    changed in the step's own folder, by `dataset edit` or by hand, counts as part of the step and stays."""

    images: str = Field(description="a folder of pictures, or the step that makes one")
    tagger: str | None = Field(None, description="an .onnx file, its folder, or a hub id")
    labels: str | None = Field(None, description="the tagger's list of tags, where that does not lie beside it")
    threshold: str | float | None = Field(None, description="precise, balanced, many, mcut or a number")
    character_threshold: str | float | None = Field(None, description="of characters and series: a number, or mcut")
    characters: Literal["first", "last", "none"] = Field("first", description="where their names go")
    rating: Literal["first", "last", "none"] = Field("none", description="where the rating goes")
    order: Literal["score", "model"] = Field("score", description="of general tags")
    exclude: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field((), description="tags that are never written")
    existing: Literal["keep", "append", "replace"] = Field(
        "keep", description="captions that pictures have already: keep them, append to them, or replace them"
    )
    captioner: str | None = Field(None, description="a program that reads and writes JSON lines")
    sentence: Literal["after", "instead"] = Field("after", description="where its sentences go")
    offline: bool = Field(False, description="take a hub model from the cache, and never ask the hub")


KIND = StepKind("tag", Tag, "pictures", made_for="train", guess=UnitCost(seconds=1.0, size=500_000))
_NOT_KEYED = {"images", "tagger", "labels", "offline"}  # what they name counts by its content


def draft(request: StepRequest) -> Draft:
    """Find the tagger and check the thresholds by its table."""
    options = request.options(Tag)
    source = pictures_input(request, options.images, "images")
    if options.tagger is None and options.captioner is None:
        raise request.error(message="name a 'tagger', or a 'captioner', or both")
    files: TaggerFiles | None = None
    inputs: list[StepInput] = [source]
    if options.tagger is not None:
        files = _find(request, options)
        inputs += [_file(request, files.model), _file(request, files.labels)]
        _check(request, options, files)
    if options.captioner is not None:
        inputs += [_file(request, file) for file in command_files(options.captioner)]
    here = done_here(request.planner.out(request.name), request.owner)
    resolved = options.model_dump(mode="json", exclude=_NOT_KEYED, exclude_defaults=True) | here.json()
    step = TagStep(request.owner, source, options, files, here)
    return Draft(resolved, tuple(inputs), step.make, in_place=True, units=units_of(request, source))


def _find(request: StepRequest, options: Tag) -> TaggerFiles:
    from loratools.dataset.tagging.tagger import find_tagger

    beside = request.paths.find(str(options.tagger))
    labels = options.labels and str(request.paths.find(options.labels) or options.labels)
    try:
        return find_tagger(str(beside or options.tagger), labels, offline=options.offline)
    except LoratoolsError as error:
        raise request.error("tagger", message=str(error)) from error


def _file(request: StepRequest, path: Path) -> StepInput:
    from loratools.digests import file_digest

    return StepInput(path.name, path, file_digest(path))


def _check(request: StepRequest, options: Tag, files: TaggerFiles) -> None:
    from loratools.dataset.tagging.labels import read_labels
    from loratools.dataset.tagging.thresholds import character_threshold, read_threshold

    family, place = "wd", "labels"
    try:
        family = read_labels(files.labels).family
        place = "threshold"
        read_threshold(_text(options.threshold), files.name, family)
        place = "character_threshold"
        character_threshold(_text(options.character_threshold), family)
    except LoratoolsError as error:
        known = place != "labels" or options.labels is not None
        raise request.error(place if known else "tagger", message=str(error)) from error


def _text(value: str | float | None) -> str | None:
    return None if value is None else str(value)


@dataclass(frozen=True)
class TagStep:
    """Pictures to be tagged; probabilities stay in the step's folder, so that only new pictures are looked at."""

    owner: str
    source: StepInput
    options: Tag
    files: TaggerFiles | None
    here: DoneHere

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Write the pictures with their captions into the folder ``out``.

        Raises:
            DatasetError: for a picture or caption that cannot be read.
        """
        from loratools.dataset.edits.edit import CaptionEditor
        from loratools.dataset.tagging.tag_folder import tag_pictures
        from loratools.dataset.tags.store import DatasetFolder

        folder = DatasetFolder.open(self.source.path)
        read = folder.read()
        for sentence in read.unreadable.values():
            raise DatasetError(sentence)
        copy = CopiedFolder(folder, out, self.owner, force=context.force)
        copied = copy.follow(read.pictures)
        own = DatasetFolder(out.resolve(), out.resolve())
        with bar(context, "tagging", len(read.pictures)) as advance:
            done = _Advance(advance)
            pictures, report = tag_pictures(own, read.pictures, self._request(context), on_progress=done)
        if report.notes:
            raise DatasetError(report.notes[0])
        copy.write(CaptionEditor(own).edited(self.here.edits, pictures), self.here.by_hand)
        facts: dict[str, Any] = {**report.json(), "copied": copied}
        facts.pop("tags")
        seen = f"{report.looked_at} looked at" if report.tagger else f"{report.sentences} sentences"
        said = "".join(f"; {note}" for note in read.read_as)
        return Outcome(f"{len(pictures)} pictures, {seen}{said}", facts)

    def _request(self, context: RunContext) -> TagRequest:
        from loratools.dataset.edits.operations import tag_list
        from loratools.dataset.tagging.sentences import SentenceRequest
        from loratools.dataset.tagging.tag_folder import TagRequest

        options = self.options
        captioner = options.captioner
        return TagRequest(
            tagger=None if self.files is None else str(self.files.model),
            labels=None if self.files is None else str(self.files.labels),
            threshold=_text(options.threshold),
            character_threshold=_text(options.character_threshold),
            characters=options.characters,
            rating=options.rating,
            order=options.order,
            exclude=tag_list(list(options.exclude), "exclude"),
            existing=options.existing,
            sentences=None if captioner is None else SentenceRequest(captioner, options.sentence),
            device="cpu" if context.device == "cpu" else "auto",
        )


class _Advance:
    """Tells a bar of the pictures that were done since it was last told."""

    def __init__(self, advance: Any) -> None:
        self._advance, self._done = advance, 0

    def __call__(self, done: int, total: int) -> None:
        self._advance(done - self._done)
        self._done = done
