"""``draw``: captioned pictures in one of the pocket's drawing styles, ``0001.png`` with ``0001.txt`` and so on."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from loratools.errors import FileError, PocketError
from loratools.files import replacing, sha256, write_text
from loratools.recipe.plan.context import RunContext, bar
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome
from loratools.recipe.schema.fields import Count, Seed, Strict, listed
from loratools.recipe.schema.kinds import StepKind, UnitCost

if TYPE_CHECKING:
    from loratools.pocket.draw import Figure


class Draw(Strict):
    """Captioned drawings by the pocket's own drawing program, to train a style on."""

    style: str = Field(description="the drawing style, such as ink")
    count: Count = Field(24, description="how many pictures")
    seed: Seed | None = Field(None, description="the recipe's seed if left out")
    size: Annotated[int, Field(ge=32, le=1024)] = Field(128, description="side in pixels")
    figure: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (), description="tags that every picture has, such as [blue_hair, twintails]: a character"
    )
    trigger: str | None = Field(None, description="a word at the front of every caption")


KIND = StepKind("draw", Draw, "pictures", computes=False, made_for="train", guess=UnitCost(seconds=0.03, size=12_000))
_MARKER = ".drawn.json"  # says whose folder it is


def draft(request: StepRequest) -> Draft:
    """Check the style and fix the seed."""
    options = request.options(Draw)
    check_style(options.style, request, "style")
    try:
        figure_of(random.Random(0), options)
    except PocketError as error:
        raise request.error("figure", message=str(error)) from error
    seed = request.planner.recipe.seed if options.seed is None else options.seed
    more = options.model_dump(include={"figure", "trigger"}, exclude_defaults=True)
    resolved = {**options.model_dump(include={"style", "count", "size"}), **more, "seed": seed}
    return Draft(resolved, (), DrawStep(options, seed, request.owner).make, units=options.count)


def check_style(style: str, request: StepRequest, *place: str) -> None:
    """Raise RecipeError, with the styles that exist, if the pocket's program cannot draw ``style``."""
    from loratools.pocket.draw import random_figure

    try:
        random_figure(random.Random(0), style=style)
    except PocketError as error:
        raise request.error(*place, message=str(error)) from error


def figure_of(rng: random.Random, options: Draw) -> Figure:
    """A random figure in the step's style, with the tags that every one of its pictures has.

    Raises:
        PocketError: for a tag that cannot be drawn.
    """
    from loratools.pocket.draw import random_figure
    from loratools.pocket.draw.figure import ATTRIBUTES, unknown

    of = {tag: attribute for attribute, tags in ATTRIBUTES.items() for tag in tags}
    for tag in options.figure:
        if tag not in of:
            raise unknown("tag", tag, of)
        other = next((known for known in options.figure if of[known] == of[tag] and known != tag), None)
        if other is not None:
            raise PocketError(f"'{tag}' and '{other}' are both its {of[tag].replace('_', ' ')}; keep one")
    figure = random_figure(rng, style=options.style)
    fixed: dict[str, Any] = {of[tag]: tag for tag in options.figure}
    return replace(figure, **fixed)


@dataclass(frozen=True)
class DrawStep:
    """Drawings to be made, by ``seed``, into a folder that ``owner`` may overwrite."""

    options: Draw
    seed: int
    owner: str

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Draw into the folder ``out``.

        Raises:
            FileError: if something else than this step's own drawings is there, or what a person changed of them,
                without ``force``.
        """
        _clear(out, self.owner, context.force)
        write_text(out / _MARKER, json.dumps({"owner": self.owner}))
        count = self.options.count
        with bar(context, "drawing", count) as advance:
            for number in range(1, count + 1):
                self._draw(out / f"{number:04d}", number)
                advance(1)
        write_text(out / _MARKER, json.dumps({"owner": self.owner, "files": _digests(out)}))
        return Outcome(f"{count} {self.options.style} pictures with tags", {"images": count})

    def _draw(self, stem: Path, number: int) -> None:
        """Drawing ``number``, as ``STEM.png`` with its tags in ``STEM.txt``."""
        from loratools.pocket.draw import draw

        options = self.options
        rng = random.Random(f"{self.seed}/{options.style}/{number}")
        figure = figure_of(rng, options)
        image = draw(figure, rng.randrange(2**32), options.size).image
        with replacing(stem.with_suffix(".png")) as part:
            image.save(part, format="PNG")
        tags = figure.tags() if options.trigger is None else (options.trigger, *figure.tags())
        write_text(stem.with_suffix(".txt"), ", ".join(tags) + "\n")


def _digests(out: Path) -> dict[str, str]:
    """Of every file below ``out`` but hidden ones, by its path there."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(out).as_posix(): sha256(path) for path in files}


def _clear(out: Path, owner: str, force: bool) -> None:
    """Delete the step's own drawings; raise FileError where the folder holds anything else, or a changed one."""
    if not out.exists():
        return
    try:
        marker = json.loads((out / _MARKER).read_text(encoding="utf-8"))
        ours, drawn = marker.get("owner") == owner, dict(marker.get("files") or {})
    except (OSError, ValueError, AttributeError, TypeError):
        ours, drawn = False, {}
    if not ours and not force and (out.is_file() or any(out.iterdir())):
        raise FileError(
            f"{out} exists and was not drawn by this step; give the step another `out`, or use `force=True`"
        )
    changed = [name for name, digest in (_digests(out) if drawn else {}).items() if drawn.get(name) != digest]
    if ours and changed and not force:
        raise FileError(
            f"{out / changed[0]} was changed since it was drawn; edit captions by an edit_tags step after this one, or "
            "use `force=True` to draw all anew"
        )
    if ours:
        shutil.rmtree(out)
