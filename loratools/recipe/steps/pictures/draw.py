"""``draw``: captioned pictures in one of the pocket's drawing styles, ``0001.png`` with ``0001.txt`` and so on."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.errors import FileError, PocketError
from loratools.files import replacing, write_text
from loratools.recipe.plan.context import RunContext, bar
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Draft, Outcome
from loratools.recipe.schema.picture_steps import Draw
from loratools.recipe.schema.recipe import Step

if TYPE_CHECKING:
    from loratools.pocket.draw import Figure

REVISION = 1
_MARKER = ".drawn.json"  # says whose folder it is


def default_out(name: str) -> Path:
    """A folder."""
    return Path(name)


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Check the style and fix the seed."""
    settings = step.options(Draw)
    check_style(settings.style, planner, name, "draw", "style")
    _check_figure(settings, planner, name)
    seed = planner.recipe.seed if settings.seed is None else settings.seed
    more = settings.model_dump(include={"figure", "trigger"}, exclude_defaults=True)
    options = {**settings.model_dump(include={"style", "count", "size"}), **more, "seed": seed}
    owner = planner.owner(name)
    return Draft(options, (), lambda out, context: _make(out, context, settings, seed, owner), units=settings.count)


def check_style(style: str, planner: Planner, name: str, *place: str) -> None:
    """Raise RecipeError, with the styles that exist, if the pocket's program cannot draw ``style``."""
    from loratools.pocket.draw import random_figure

    try:
        random_figure(random.Random(0), style=style)
    except PocketError as error:
        raise planner.error(name, *place, message=str(error)) from error


def _check_figure(settings: Draw, planner: Planner, name: str) -> None:
    try:
        figure_of(random.Random(0), settings)
    except PocketError as error:
        raise planner.error(name, "draw", "figure", message=str(error)) from error


def figure_of(rng: random.Random, settings: Draw) -> Figure:
    """A random figure in the step's style, with the tags that every one of its pictures has.

    Raises:
        PocketError: for a tag that cannot be drawn.
    """
    from loratools.pocket.draw import random_figure
    from loratools.pocket.draw.figure import ATTRIBUTES, unknown

    of = {tag: attribute for attribute, tags in ATTRIBUTES.items() for tag in tags}
    for tag in settings.figure:
        if tag not in of:
            raise unknown("tag", tag, of)
        other = next((known for known in settings.figure if of[known] == of[tag] and known != tag), None)
        if other is not None:
            raise PocketError(f"'{tag}' and '{other}' are both its {of[tag].replace('_', ' ')}; keep one")
    figure = random_figure(rng, style=settings.style)
    fixed: dict[str, Any] = {of[tag]: tag for tag in settings.figure}
    return replace(figure, **fixed)


def _make(out: Path, context: RunContext, settings: Draw, seed: int, owner: str) -> Outcome:
    _clear(out, owner, context.force)
    write_text(out / _MARKER, json.dumps({"owner": owner}))
    with bar(context, "drawing", settings.count) as advance:
        for number in range(1, settings.count + 1):
            _one(out / f"{number:04d}", settings, seed, number)
            advance(1)
    return Outcome(f"{settings.count} {settings.style} pictures with tags", {"images": settings.count})


def _one(stem: Path, settings: Draw, seed: int, number: int) -> None:
    from loratools.pocket.draw import draw

    rng = random.Random(f"{seed}/{settings.style}/{number}")
    figure = figure_of(rng, settings)
    image = draw(figure, rng.randrange(2**32), settings.size).image
    with replacing(stem.with_suffix(".png")) as part:
        image.save(part, format="PNG")
    tags = figure.tags() if settings.trigger is None else (settings.trigger, *figure.tags())
    write_text(stem.with_suffix(".txt"), ", ".join(tags) + "\n")


def _clear(out: Path, owner: str, force: bool) -> None:
    """Take our own unfinished drawings away; refuse where the folder holds anything else."""
    if not out.exists():
        return
    try:
        ours = json.loads((out / _MARKER).read_text(encoding="utf-8")).get("owner") == owner
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours and not force and (out.is_file() or any(out.iterdir())):
        raise FileError(f"{out} exists and was not drawn by this step; give the step another `out`, or use --force")
    if ours:
        shutil.rmtree(out)
