"""``publish``: the LoRA under its own name, with a preview, the WebUI's side-car JSON and a model card beside it.

The folder appears whole: it is made under a hidden name beside its place, and takes that place by a rename.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.errors import FileError, LoratoolsError, did_you_mean
from loratools.files import replacing_folder, write_text
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import Terms, check_base, one_file, read_one
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.picture_steps import Publish
from loratools.recipe.schema.recipe import Step

if TYPE_CHECKING:
    from loratools.preview.record.grid import Grid, Picture
    from loratools.recipe.publish.card import Published

REVISION = 2
_MARKER = ".published.json"  # says whose folder it is
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def default_out(name: str) -> Path:
    """A folder."""
    return Path(name)


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Find the LoRA and the preview."""
    settings = step.options(Publish)
    terms = read_one(settings.lora, name, planner, "publish", "lora")
    sources = [*terms.inputs, *_preview_sources(settings, terms, name, planner)]
    title = settings.name or Path(step.out or name).name
    options = {**settings.model_dump(), "name": title, "base": planner.paths.base}
    if settings.preview == "render":
        options |= {
            "seed": planner.recipe.seed if settings.seed is None else settings.seed,
            **_sampling(settings, name, planner),
        }
    return Draft(
        options, tuple(sources), lambda out, context: _make(out, context, settings, terms, options, name, planner)
    )


def _preview_sources(settings: Publish, terms: Terms, name: str, planner: Planner) -> Iterator[StepInput]:
    if settings.preview == "none":
        return
    if settings.preview == "render":
        check_base(terms, planner, name, "publish", "lora")
        yield planner.paths.base_input()
        if planner.paths.vae is not None:
            yield planner.paths.vae
        return
    found = planner.input(settings.preview, name, "publish", "preview")
    if found.step is not None and planner.step(found.step).kind != "grid":
        message = f"the step '{found.step}' is a {planner.step(found.step).kind}, which shows no pictures; name a grid"
        raise planner.error(name, "publish", "preview", message=message)
    if found.step is not None or found.path.is_dir():
        _check_row(settings, terms, found, name, planner)
    if found.step is None and found.path.is_file() and found.path.suffix.lower() not in _PICTURES:
        message = f"'{settings.preview}' is no picture; give a {', '.join(_PICTURES)} file, or a grid step"
        raise planner.error(name, "publish", "preview", message=message)
    yield found


def _check_row(settings: Publish, terms: Terms, grid: StepInput, name: str, planner: Planner) -> None:
    """Raise RecipeError if the grid has, or will have, no row for the LoRA."""
    labels = _rows_of(grid, name, planner)
    row, source = settings.row or settings.lora, terms.inputs[0]
    copied = source.step is None or planner.step(source.step).kind == "select"  # which rows of other names may hold
    if labels is None or row in labels or (settings.row is None and copied):
        return
    hint = did_you_mean(row, labels)
    told = f"the grid '{grid.label}' has no row '{row}'{hint}; name one of its rows with `row`: {', '.join(labels)}"
    raise planner.error(name, "publish", "row" if settings.row is not None else "preview", message=told)


def _rows_of(grid: StepInput, name: str, planner: Planner) -> list[str] | None:
    """The labels of a grid's rows; None where they are not known before it is there."""
    from loratools.preview.record.grid import read_grid
    from loratools.recipe.steps.pictures.grid_check import planned_row_labels
    from loratools.recipe.steps.pictures.grid_step import GridStep

    if grid.step is not None:
        return planned_row_labels(GridStep.read(grid.step, planner).planned())
    try:
        return [row.label for row in read_grid(grid.path).rows]
    except LoratoolsError as error:
        raise planner.error(name, "publish", "preview", message=str(error)) from error


def _sampling(settings: Publish, name: str, planner: Planner) -> dict[str, Any]:
    from loratools.base.sampling.samplers import find_sampler
    from loratools.preview.request.numbers import parse_size
    from loratools.recipe.steps.pictures.picture_size import check_size

    readers: dict[str, Callable[[], Any]] = {
        "size": lambda: list(parse_size(settings.size)) if settings.size else None,
        "sampler": lambda: find_sampler(settings.sampler).name if settings.sampler else None,
    }
    found: dict[str, Any] = {}
    for key, reader in readers.items():
        try:
            found[key] = reader()
        except LoratoolsError as error:
            raise planner.error(name, "publish", key, message=str(error)) from error
    if found["size"]:
        check_size(found["size"], planner, name, "publish", "size")
    return found


def _make(
    out: Path,
    context: RunContext,
    settings: Publish,
    terms: Terms,
    options: dict[str, Any],
    name: str,
    planner: Planner,
) -> Outcome:
    from loratools.adapter.files.rewrite_header import rewrite_header
    from loratools.ops.analysis.describe import describe
    from loratools.recipe.publish.card import Published, card, header_texts, sidecar, triggers

    lora, owner = one_file(terms), planner.owner(name)
    found = describe(lora, allow_unknown=True)
    activation = ", ".join(triggers(found.metadata)) if settings.activation is None else settings.activation
    made = Published(settings, options["name"], found, activation, planner.paths.base)
    with _swapped(out, owner, context.force) as folder:
        digest = rewrite_header(lora, folder / f"{made.name}.safetensors", header_texts(made), owner=owner)
        picture = _picture(folder, context, made, options, planner)
        write_text(folder / f"{made.name}.json", sidecar(made))
        write_text(folder / "README.md", card(made, picture))
        files = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    facts = {"files": files, "activation": activation, "digest": digest, "weight": settings.weight}
    return Outcome(f"{', '.join(files)}; weight {settings.weight:g}, trigger words: {activation or 'none'}", facts)


@contextmanager
def _swapped(out: Path, owner: str, force: bool) -> Iterator[Path]:
    """Yield a new folder that takes the place of ``out`` on a clean exit; what was there goes then, not before.

    Raises:
        FileError: if something else than this step's own folder is in the way, without ``force``.
    """
    if out.exists() and not _ours(out, owner) and not force and (out.is_file() or any(out.iterdir())):
        raise FileError(f"{out} exists and was not written by this step; give it another `out`, or use --force")
    with replacing_folder(out) as fresh:
        write_text(fresh / _MARKER, json.dumps({"owner": owner}))
        yield fresh


def _ours(out: Path, owner: str) -> bool:
    try:
        return bool(json.loads((out / _MARKER).read_text(encoding="utf-8")).get("owner") == owner)
    except (OSError, ValueError, AttributeError):
        return False


def _picture(
    folder: Path, context: RunContext, made: Published, options: dict[str, Any], planner: Planner
) -> str | None:
    """Put the preview beside the LoRA in ``folder``; its name, or None without one."""
    place, text = folder / f"{made.name}.png", made.settings.preview
    if text == "none":
        return None
    if text == "render":
        _render(place, context, made, options, planner)
        return place.name
    source = planner.step(text).out if text in planner.recipe.steps else planner.paths.find(text)
    if source is None:
        raise FileError(f"the preview '{text}' is gone; name another")
    _copy(_cell(source, made) if source.is_dir() else source, place)
    return place.name


def _cell(folder: Path, made: Published) -> Path:
    """The grid's picture of the LoRA's row at the weight nearest to the one that it is meant for.

    Raises:
        FileError: if the grid has no such row.
    """
    from loratools.preview.record.grid import read_grid

    grid = read_grid(folder)
    labels, row = [info.label for info in grid.rows], made.settings.row or made.settings.lora
    wanted = labels.index(row) if row in labels else None
    if wanted is None and made.settings.row is None:
        wanted = _by_digest(grid, made.description.model_hash)
    if wanted is None:
        told = f"the grid {folder} has no row '{row}'; name one of its rows with `row`: {', '.join(labels)}"
        raise FileError(told)
    shown = [picture for picture in grid.pictures if picture.row == wanted and picture.weight != 0]
    if not shown:
        raise FileError(f"the grid {folder} shows '{row}' at no weight but 0; render it at {made.settings.weight:g}")

    def far(picture: Picture) -> tuple[float, int]:
        return abs(picture.weight - made.settings.weight), picture.prompt

    return folder / min(shown, key=far).file  # of several seeds the first


def _by_digest(grid: Grid, digest: str | None) -> int | None:
    """The row that is the very file, whatever it is called there."""
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


def _render(place: Path, context: RunContext, made: Published, options: dict[str, Any], planner: Planner) -> None:
    from loratools.adapter.files.file import read
    from loratools.preview.request.options import EngineOptions
    from loratools.preview.request.request import ModelRequest, Sampling
    from loratools.preview.request.rows import GridRow
    from loratools.preview.run import load_model, render_grid

    settings = made.settings
    vae = planner.paths.vae
    base = load_model(planner.paths.base, ModelRequest(vae=vae.path if vae else None, device=context.device))
    prompt = settings.prompt if settings.prompt is not None else made.activation
    row = GridRow.of_file(read(place.with_suffix(".safetensors")), made.name)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".") as spare:
        result = render_grid(
            base,
            [row],
            [settings.weight],
            [prompt or made.title],
            out=Path(spare),
            sampling=Sampling(
                settings.negative, settings.steps, settings.cfg, options["sampler"], _pair(options["size"])
            ),
            seeds=[options["seed"]],
            options=EngineOptions(batch=1),
            owner=made.name,
        )
        (picture,) = result.paths(made.name, settings.weight)
        shutil.copyfile(picture, place)


def _pair(size: Sequence[int] | None) -> tuple[int, int] | None:
    return (size[0], size[1]) if size else None
