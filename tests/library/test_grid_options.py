"""A grid is asked for in one way: as flags, in a recipe's step, and from a program."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest

import loratools as lt
from loratools.cli.pictures.grid import command
from loratools.errors import UnknownKeysError, UnlistedBlocksError
from loratools.preview.request.options import EngineOptions
from loratools.recipe.steps.pictures.grid_options import Grid
from tests.cli.test_unknown_keys import odd

__all__ = ["odd"]  # the fixture: a current folder with LoRAs that hold keys of no module

NAMES = {"no_base": "base_alone", "compiled": "compile", "formats": "sheets", "batch_size": "batch"}
HERE_AND_NOW = {"base", "out", "redraw", "processes", "launch", "device", "as_json", "force", "help", "debug"}
DRAWN = {"labels", "captions", "sheets", "full_size", "embed", "score", "score_images", "held_out", "score_models"}
SETTINGS = {"base": "nix", "prompts": "girl", "weights": [1.0]}


def renamed(names: set[str]) -> set[str]:
    return {NAMES.get(name, name) for name in names}


def test_the_command_the_step_and_the_function_take_the_same() -> None:
    flags = renamed({str(parameter.name) for parameter in command.params})
    step = renamed(set(Grid.model_fields))
    assert flags - HERE_AND_NOW - {"drop", "lora_dirs"} <= step
    parts = (lt.GridOptions, lt.SamplingRequest, lt.ModelRequest, EngineOptions)
    program = set(inspect.signature(lt.render_grid).parameters)
    program = renamed(program | {field.name for part in parts for field in dataclasses.fields(part)})
    axes = {"x", "y", "z"}
    assert flags - HERE_AND_NOW - DRAWN - axes <= program and "axes" in program


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (lt.GridOptions(), UnknownKeysError, "bundle_emb"),
        (lt.GridOptions(drop="bundle_emb.*"), UnknownKeysError, "nowhere"),
        (lt.GridOptions(drop=["bundle_emb.*", "*nowhere*"]), lt.LoratoolsError, "nix"),  # the base's turn
        (lt.GridOptions(allow_unknown=True), lt.LoratoolsError, "nix"),
    ],
)
def test_unknown_keys(odd: Path, options: lt.GridOptions, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        lt.render_grid("odd", "g", options=options, **SETTINGS)


def test_a_short_vector_needs_missing(odd: Path) -> None:
    drop = ["bundle_emb.*", "*nowhere*"]
    with pytest.raises(UnlistedBlocksError, match="IN00"):
        lt.render_grid("full:1:GP1", "g", options=lt.GridOptions(drop=drop), **SETTINGS)
    with pytest.raises(lt.LoratoolsError, match="nix"):
        lt.render_grid("full:1:GP1", "g", options=lt.GridOptions(drop=drop, missing=0), **SETTINGS)


def test_a_recipes_grid_takes_the_key_that_its_message_names(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **settings: object) -> None:
        raise lt.LoratoolsError("the rows were read")

    monkeypatch.setattr("loratools.preview.run.render_request", refuse)
    recipe = odd / "r.yaml"
    step = "base: pocket\nsteps:\n  g: {grid: {rows: odd.safetensors, prompts: girl, steps: 1, size: 64%s}}\n"
    recipe.write_text(step % "", encoding="utf-8")
    with pytest.raises(lt.LoratoolsError, match="bundle_emb"):
        lt.run_recipe(recipe, "out", device="cpu")
    recipe.write_text(step % ", allow_unknown: true", encoding="utf-8")
    with pytest.raises(lt.LoratoolsError, match="the rows were read"):
        lt.run_recipe(recipe, "out", device="cpu")
