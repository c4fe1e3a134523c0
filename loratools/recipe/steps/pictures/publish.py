"""``publish``: the LoRA under its own name, with a preview, the WebUI's side-car JSON and a model card beside it.

The folder appears whole: it is made under a hidden name beside its place, and takes that place by a rename.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, model_validator

from loratools.errors import FileError, LoratoolsError, did_you_mean
from loratools.files import replacing_folder, write_text
from loratools.imaging.thumbnail import THUMBNAIL
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import Terms, check_base, one_file, read_one
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.fields import Count, NumberText, Seed, Short
from loratools.recipe.schema.kinds import StepKind

if TYPE_CHECKING:
    from loratools.preview.record.grid import Grid, Picture
    from loratools.recipe.publish.card import Published


class Publish(Short):
    """A folder to hand out: the LoRA under its own name, a preview, the WebUI's side-car JSON and a model card."""

    shorthand: ClassVar[str] = "lora"
    lora: str = Field(description="a step, an epoch `run@8`, or a file: what is published")
    name: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="the file's name without its ending; the folder's own if left out"
    )
    title: str | None = Field(None, description="the card's heading; the name if left out")
    description: str = Field("", description="a sentence about it, for the card and the WebUI")
    activation: str | None = Field(
        None, description="trigger words; the tags that every training picture has if left out"
    )
    negative: str = Field("", description="what belongs into the negative prompt with it")
    weight: Annotated[float, Field(gt=0, le=2)] = Field(1.0, description="the weight that it is meant for")
    notes: str = Field("", description="more, in Markdown, for the card and the WebUI's notes")
    author: str = Field("", description="who made it")
    license: str | None = Field(None, description="its licence, such as cc-by-4.0 or creativeml-openrail-m")
    base_model: str | None = Field(None, description="the hub id of the base that the card names")
    preview: str = Field("render", description="render, none, a picture, or a grid step (or a grid's folder)")
    thumbnail: bool = Field(False, description="put the preview into the file's header too, at 256 x 256 at most")
    row: str | None = Field(None, description="of a grid: the row shown; the LoRA's own if left out")
    prompt: str | None = Field(None, description="render: the prompt; the trigger words if left out")
    seed: Seed | None = Field(None, description="render: the recipe's seed if left out")
    size: NumberText | None = Field(None, description="render: 512 or 512x768")
    steps: Count | None = Field(None, description="render: sampler steps; the base's own if left out")
    cfg: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(None, description="render: guidance scale")
    sampler: str | None = Field(
        None, description="render: the WebUI's sampler and schedule type, such as `DPM++ 2M Karras`"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Publish:
        given = [key for key in ("prompt", "seed", "size", "steps", "cfg", "sampler") if getattr(self, key) is not None]
        if given and self.preview != "render":
            raise ValueError(f"'{given[0]}' goes with preview: render; drop it, or the other preview")
        if self.row is not None and self.preview in ("render", "none"):
            raise ValueError("'row' goes with a preview that is a grid; name its step at 'preview'")
        if self.thumbnail and self.preview == "none":
            raise ValueError("'thumbnail' puts the preview into the header; drop it, or preview: none")
        if self.name is not None and (set(self.name) & set('/\\:*?"<>|') or self.name.startswith(".")):
            raise ValueError(f"'{self.name}' is no plain file name; the folder is named with 'out' beside the kind")
        return self


KIND = StepKind("publish", Publish, "package", revision=3, loads_model=True)
_MARKER = ".published.json"  # says whose folder it is
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def draft(request: StepRequest) -> Draft:
    """Find the LoRA and the preview."""
    options = request.options(Publish)
    terms = read_one(options.lora, request, "lora")
    inputs = (*terms.inputs, *_preview_inputs(options, terms, request))
    step = PublishStep(request, options, terms, *_sampling(options, request))
    resolved = {**options.model_dump(exclude={"thumbnail"}), "name": step.name, "base": request.paths.base}
    if options.thumbnail:  # absent by default, so that old keys stay
        resolved["thumbnail"] = True
    if options.preview == "render":
        resolved |= {"seed": step.seed, "size": step.size and list(step.size), "sampler": step.sampler}
    return Draft(resolved, inputs, step.make)


def _preview_inputs(options: Publish, terms: Terms, request: StepRequest) -> Iterator[StepInput]:
    if options.preview == "none":
        return
    if options.preview == "render":
        check_base(terms, request, "lora")
        yield request.paths.base_input()
        if request.paths.vae is not None:
            yield request.paths.vae
        return
    preview = request.input(options.preview, "preview")
    if preview.step is not None and (planned := request.planner.step(preview.step)).step_kind.makes != "grid":
        message = f"the step '{preview.step}' is a {planned.kind}, which shows no pictures; name a grid"
        raise request.error("preview", message=message)
    if preview.step is not None or preview.path.is_dir():
        _check_row(options, terms, preview, request)
    if preview.step is None and preview.path.is_file() and preview.path.suffix.lower() not in _PICTURES:
        message = f"'{options.preview}' is no picture; give a {', '.join(_PICTURES)} file, or a grid step"
        raise request.error("preview", message=message)
    yield preview


def _check_row(options: Publish, terms: Terms, grid: StepInput, request: StepRequest) -> None:
    """Raise RecipeError if the grid has, or will have, no row for the LoRA."""
    labels = _rows_of(grid, request)
    row, lora = options.row or options.lora, terms.inputs[0].step
    copied = lora is None or request.planner.step(lora).draft.copies  # rows of other names may hold the same file
    if labels is None or row in labels or (options.row is None and copied):
        return
    hint = did_you_mean(row, labels)
    message = f"the grid '{grid.label}' has no row '{row}'{hint}; name one of its rows with `row`: {', '.join(labels)}"
    raise request.error("row" if options.row is not None else "preview", message=message)


def _rows_of(grid: StepInput, request: StepRequest) -> list[str] | None:
    """The labels of a grid's rows; None where they are not known before it is there."""
    from loratools.preview.record.folder import read_grid
    from loratools.recipe.steps.pictures.grid_check import planned_row_labels
    from loratools.recipe.steps.pictures.grid_step import GridStep

    if grid.step is not None:
        return planned_row_labels(GridStep.read(StepRequest(grid.step, request.planner)).planned())
    try:
        return [row.label for row in read_grid(grid.path).rows]
    except LoratoolsError as error:
        raise request.error("preview", message=str(error)) from error


def _sampling(options: Publish, request: StepRequest) -> tuple[tuple[int, int] | None, str | None]:
    """The size (height, width) and the sampler by its name, of a preview that is rendered."""
    from loratools.base.sampling.samplers import find_sampler
    from loratools.preview.request.numbers import parse_size
    from loratools.recipe.steps.pictures.picture_size import check_size

    try:
        size = parse_size(options.size) if options.size else None
    except LoratoolsError as error:
        raise request.error("size", message=str(error)) from error
    try:
        sampler = find_sampler(options.sampler).name if options.sampler else None
    except LoratoolsError as error:
        raise request.error("sampler", message=str(error)) from error
    if size:
        check_size(size, request, "size")
    return size, sampler


@dataclass(frozen=True)
class PublishStep:
    """A LoRA to be published: what a rendered preview needs beside the ``options`` is ``size`` and ``sampler``."""

    request: StepRequest
    options: Publish
    terms: Terms
    size: tuple[int, int] | None
    sampler: str | None

    @property
    def name(self) -> str:
        """The name of the published file, without its ending."""
        return self.options.name or Path(self.request.step.out or self.request.name).name

    @property
    def seed(self) -> int:
        """The seed of a rendered preview."""
        return self.request.planner.recipe.seed if self.options.seed is None else self.options.seed

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Fill the folder ``out``, whole or not at all."""
        from loratools.adapter.files.rewrite_header import rewrite_header
        from loratools.imaging.thumbnail import thumbnail_url
        from loratools.ops.analysis.describe import describe
        from loratools.recipe.publish.card import CardOptions, Published, card, header_texts, sidecar, triggers
        from loratools.recipe.publish.public import public_metadata, public_text

        options, owner, lora = self.options, self.request.owner, one_file(self.terms)
        read = describe(lora, allow_unknown=True)
        described = replace(read, metadata=public_metadata(read.metadata))
        hidden = {key: text for key, text in described.metadata.items() if read.metadata[key] != text}
        activation = ", ".join(triggers(described.metadata)) if options.activation is None else options.activation
        about = CardOptions(**options.model_dump(include={field.name for field in fields(CardOptions)}))
        published = Published(about, self.name, described, activation, public_text(self.request.paths.base))
        with _swapped(out, owner, context.force) as folder:
            file = folder / f"{self.name}.safetensors"
            digest = rewrite_header(lora, file, hidden | header_texts(published), owner=owner)
            picture = self._picture(folder, context, published)
            if options.thumbnail and picture is not None:
                rewrite_header(file, file, {THUMBNAIL: thumbnail_url(folder / picture)}, force=True)
            write_text(folder / f"{self.name}.json", sidecar(published))
            write_text(folder / "README.md", card(published, picture))
            files = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        facts = {"files": files, "activation": activation, "digest": digest, "weight": options.weight}
        return Outcome(f"{', '.join(files)}; weight {options.weight:g}, trigger words: {activation or 'none'}", facts)

    def _picture(self, folder: Path, context: RunContext, published: Published) -> str | None:
        """Put the preview beside the LoRA in ``folder``; its name, or None without one."""
        from loratools.recipe.publish.public import make_picture_public

        path, text, planner = folder / f"{self.name}.png", self.options.preview, self.request.planner
        if text == "none":
            return None
        if text == "render":
            self._render(path, context, published)
        else:
            source = planner.step(text).out if text in planner.recipe.steps else planner.paths.find(text)
            if source is None:
                raise FileError(f"the preview '{text}' is gone; name another")
            _copy(_grid_picture(source, self.options, published) if source.is_dir() else source, path)
        make_picture_public(path)
        return path.name

    def _render(self, path: Path, context: RunContext, published: Published) -> None:
        """Render the preview of the LoRA that lies beside ``path``."""
        from loratools.adapter.files.file import read
        from loratools.preview.request.options import EngineOptions
        from loratools.preview.request.request import ModelRequest, SamplingRequest
        from loratools.preview.request.rows import GridRow
        from loratools.preview.run import render_grid

        options, vae = self.options, self.request.paths.vae
        model = ModelRequest(vae=vae.path if vae else None, device=context.device)
        prompt = options.prompt if options.prompt is not None else published.activation
        row = GridRow.of_file(read(path.with_suffix(".safetensors")), self.name)
        session = context.kept.session()
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as spare:
            result = render_grid(
                session.load(self.request.paths.base, model),
                [row],
                [options.weight],
                [prompt or published.title],
                out=Path(spare),
                sampling=SamplingRequest(options.negative, options.steps, options.cfg, self.sampler, self.size),
                seeds=[self.seed],
                options=EngineOptions(batch=1),
                owner=self.name,
                session=session,
            )
            (picture,) = result.paths(self.name, options.weight)
            shutil.copyfile(picture, path)


@contextmanager
def _swapped(out: Path, owner: str, force: bool) -> Iterator[Path]:
    """Yield a new folder that takes the place of ``out`` on a clean exit; what was there goes then, not before.

    Raises:
        FileError: if something else than this step's own folder is in the way, without ``force``.
    """
    if out.exists() and not _ours(out, owner) and not force and (out.is_file() or any(out.iterdir())):
        raise FileError(f"{out} exists and was not written by this step; give it another `out`, or use `force=True`")
    with replacing_folder(out) as fresh:
        write_text(fresh / _MARKER, json.dumps({"owner": owner}))
        yield fresh


def _ours(out: Path, owner: str) -> bool:
    try:
        return bool(json.loads((out / _MARKER).read_text(encoding="utf-8")).get("owner") == owner)
    except (OSError, ValueError, AttributeError):
        return False


def _grid_picture(folder: Path, options: Publish, published: Published) -> Path:
    """The grid's picture of the LoRA's row at the weight nearest to the one that it is meant for.

    Raises:
        FileError: if the grid has no such row.
    """
    from loratools.preview.record.folder import read_grid

    grid = read_grid(folder)
    labels, row = [info.label for info in grid.rows], options.row or options.lora
    number = labels.index(row) if row in labels else None
    if number is None and options.row is None:
        number = _by_digest(grid, published.description.model_hash)
    if number is None:
        raise FileError(f"the grid {folder} has no row '{row}'; name one of its rows with `row`: {', '.join(labels)}")
    shown = [picture for picture in grid.pictures if picture.row == number and picture.weight != 0]
    if not shown:
        raise FileError(f"the grid {folder} shows '{row}' at no weight but 0; render it at {options.weight:g}")

    def distance(picture: Picture) -> tuple[float, int]:
        return abs(picture.weight - options.weight), picture.prompt

    return folder / min(shown, key=distance).file  # of several seeds the first


def _by_digest(grid: Grid, digest: str | None) -> int | None:
    """The row that is the file with this digest, whatever it is called there."""
    alone = (i for i, row in enumerate(grid.rows) if [use.digest for use in row.loras] == [digest])
    return next(alone, None)


def _copy(source: Path, place: Path) -> None:
    """A PNG as it is, with its texts; another picture as PNG."""
    if source.suffix.lower() == ".png":
        shutil.copyfile(source, place)
        return
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(source) as image:
            image.convert("RGB").save(place, format="PNG")
    except (OSError, UnidentifiedImageError) as error:
        raise FileError(f"{source} cannot be read as a picture: {error}") from error
