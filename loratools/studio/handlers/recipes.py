"""``/api/recipes``: recipes below the roots."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.routing import Route

from loratools.blocks.presets import load_presets
from loratools.errors import LoratoolsError
from loratools.recipe.edit.log import RecipeFile, load_log
from loratools.recipe.edit.undo import undo
from loratools.recipe.schema.recipe import Recipe as RecipeModel
from loratools.recipe.schema.recipe import parse_recipe
from loratools.studio.api.models import Nothing, Recipe, RecipeDetail, RecipeStep
from loratools.studio.api.words import problem, quoted
from loratools.studio.context import Studio
from loratools.studio.discover.walk import Stamp
from loratools.studio.handlers.answers import get, post
from loratools.yamlio import Document


def recipes(studio: Studio, request: Request) -> list[Recipe]:
    """Every recipe, the newest first."""
    found = sorted(studio.index.now.recipes, key=lambda own: -own.stamp.mtime_ns)
    return [_recipe(studio, own.path, own.stamp) for own in found]


def recipe(studio: Studio, request: Request) -> RecipeDetail:
    """One recipe: its text, and what it names as far as it can be read."""
    return detail(studio, find_recipe(studio, request.path_params["id"]))


def undo_edit(studio: Studio, request: Request, body: Nothing) -> RecipeDetail:
    """Take the last edit of a vector back, as ``loratools blocks undo`` does."""
    path = find_recipe(studio, request.path_params["id"])
    undo(path)
    studio.index.look_soon()
    return detail(studio, path)


def find_recipe(studio: Studio, recipe_id: str) -> Path:
    """The recipe of an id.

    Raises:
        StudioError: if there is none.
    """
    path = studio.roots.path(recipe_id)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise problem("recipe.none", status=404, name=path.name)
    return path


def detail(studio: Studio, path: Path) -> RecipeDetail:
    """A recipe's file as it is now."""
    file = RecipeFile.read(path)
    facts = path.stat()
    shown = _recipe(studio, path, Stamp(facts.st_mtime_ns, facts.st_size))
    try:
        read, document = parse_recipe(file.text, str(path))
        undoable = bool(load_log(path, file.digest))
    except LoratoolsError as error:
        return RecipeDetail(
            recipe=shown, text=file.text, vectors={}, steps=[], base=None, undo=False, problem=quoted(str(error))
        )
    return RecipeDetail(
        recipe=shown,
        text=file.text,
        vectors=_vectors(read),
        steps=[_step(name, body.kind, document) for name, body in read.steps.items()],
        base=read.base,
        undo=undoable,
    )


def _recipe(studio: Studio, path: Path, stamp: Stamp) -> Recipe:
    root = studio.roots.root_of(path)
    return Recipe(
        id=studio.roots.id_of(path),
        name=path.stem,
        root=root.id if root else "",
        path=studio.roots.shown(path),
        changed=stamp.mtime_ns / 1e9,
    )


def _vectors(read: RecipeModel) -> dict[str, dict[str, float]]:
    """The recipe's own vectors by name; those that wait for a family are left out."""
    presets = load_presets(read.blocks)
    listed = {name: presets[name] for name in read.blocks if name in presets}
    return {
        name: variants[0].by_name() for name, variants in listed.items() if variants and not isinstance(variants, str)
    }


def _step(name: str, kind: str, document: Document) -> RecipeStep:
    """A step as YAML, as the recipe has it."""
    import yaml

    steps = document.data.get("steps", {}) if isinstance(document.data, dict) else {}
    text = yaml.safe_dump({name: steps.get(name)}, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return RecipeStep(name=name, kind=kind, text=text)


ROUTES: list[Route] = [
    get("/api/recipes", recipes),
    get("/api/recipes/{id}", recipe),
    post("/api/recipes/{id}/undo", Nothing, undo_edit),
]
