"""Malformed recipes, made from a good one by seeded mutation: each is one located error, and never a traceback."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from loratools.adapter.algebra.lowrank import LowRank
from loratools.adapter.files.file import write
from loratools.errors import LoratoolsError, RecipeError
from loratools.recipe.importers.write import flow
from loratools.recipe.run.runner import make_planner
from loratools.recipe.schema.json_schema import json_schema
from loratools.recipe.schema.kinds import STEP_KINDS
from loratools.yamlio import load_yaml
from tests.recipe.conftest import save_lora
from tests.recipe.schema_check import wrong

GOOD: dict[str, Any] = {
    "version": 1,
    "base": "tiny",
    "seed": 3,
    "vars": {"weight": 0.8},
    "blocks": {"MINE": [1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]},
    "steps": {
        "pictures": {"draw": {"style": "ink", "count": 2, "size": 64, "figure": ["blue_hair"], "trigger": "mika"}},
        "cut": {"prepare": {"images": "pictures", "text": "keep", "crops": False, "max_ratio": 3.0}},
        "named": {"tag": {"images": "cut", "captioner": "python c.py", "existing": "keep"}},
        "edited": {"edit_tags": {"images": "named", "edits": [{"add": ["ink"], "where": "not smile"}]}},
        "even": {"balance": {"images": "edited", "rule": "guide-003", "steps": 10, "epochs": 2}},
        "style": {"train": {"images": "even", "epochs": 3, "dim": 2, "learning_rate": 1e-3, "optimizer": "AdamW"}},
        "base_style": {"basestyle": {"images_per_framing": 1, "epochs": 1, "dim": 2}},
        "chosen": {"select": {"run": "style", "epoch": 2}, "out": "chosen.safetensors"},
        "final": {"merge": {"terms": "style@2:${weight}:MINE, base_style:-1:GP2", "rank": "exact", "dtype": "fp16"}},
        "less": {"subtract": {"style": "style", "base_style": "base_style", "mode": "soft", "mu": 2.0}},
        "mean": {"soup": {"files": ["style@1", "style@2"], "missing": 1}},
        "hands": {"fix": {"merge": "final", "symptoms": ["hands"], "step": 0.1, "times": 2}},
        "better": {
            "tune": {"lora": "final", "symptom": ["hands"], "measure": "python=m:f", "prompts": ["girl", "hat"]}
        },
        "small": {"resize": {"lora": "a", "rank": "error=0.1"}},
        "model": {"merge_into": {"terms": "a:1:te=0", "into": "base", "match_norm": False}},
        "back": {"extract": {"tuned": "model", "rank": 2, "conv": False, "seed": 1}},
        "other": {"convert": {"lora": "final", "to": "diffusers"}},
        "sheet": {
            "grid": {"rows": ["style", "final"], "weights": [0, 1], "prompts": ["1girl"], "size": 64, "cfg": 5.0}
        },
        "out": {"publish": {"lora": "final", "preview": "sheet", "weight": 0.7, "license": "mit"}},
    },
}
WANTED = 130


@pytest.fixture
def folder(here: Path, tiny_base: Path) -> Path:
    (here / "tiny").symlink_to(tiny_base, target_is_directory=True)
    save_lora(here / "a.safetensors", 1)
    return here


def text_of(recipe: dict[str, Any]) -> str:
    """One line a step, so that the line of a mistake is known."""
    lines = [f"{flow(key)}: {flow(value)}" for key, value in recipe.items() if key != "steps"]
    steps = recipe.get("steps")
    if isinstance(steps, dict):
        lines += ["steps:", *(f"  {flow(name)}: {flow(step)}" for name, step in steps.items())]
    elif "steps" in recipe:
        lines.append(f"steps: {flow(steps)}")
    return "\n".join(lines) + "\n"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value inside a mapping or list."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def typo(word: str, rng: random.Random) -> str:
    at = rng.randrange(len(word))
    return rng.choice([word[:at] + word[at + 1 :], word[:at] + rng.choice("qxz") + word[at:], word + "s"]) or "q"


def mutated(rng: random.Random) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """The good recipe with one thing changed, and where."""
    recipe = json.loads(json.dumps(GOOD))
    path = rng.choice(list(places(recipe)))
    holder = recipe
    for part in path[:-1]:
        holder = holder[part]
    key, value = path[-1], holder[path[-1]]
    kinds = ["type", "null", "extreme", "list", "mapping"] + (
        ["rename", "drop", "extra"] if isinstance(key, str) else []
    )
    match rng.choice(kinds):
        case "rename":
            items = [(typo(name, rng) if name == key else name, item) for name, item in holder.items()]
            holder.clear()
            holder.update(items)
        case "drop":
            del holder[key]
        case "extra":
            holder[typo(str(key), rng)] = value
        case "null":
            holder[key] = None
        case "extreme":
            holder[key] = rng.choice([-1, 0, 1e30, -0.5, 10**25])
        case "list":
            holder[key] = [value, {"x": [value]}]
        case "mapping":
            holder[key] = {"value": value}
        case "type":
            holder[key] = rng.choice(["", "no such word", True, 3.5, []])
    return recipe, path


def mutants() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Texts that the schema does not allow, each once."""
    rng, schema, seen = random.Random(7), json_schema(), set[str]()
    while len(seen) < WANTED:
        recipe, path = mutated(rng)
        text = text_of(recipe)
        if text not in seen and any(True for _ in wrong(load_yaml(text).data, schema, schema["$defs"])):
            seen.add(text)
            yield text, path


def test_the_good_recipe_is_good(folder: Path) -> None:
    Path("m.yaml").write_text(text_of(GOOD), encoding="utf-8")
    assert {step.kind for step in make_planner("m.yaml").plan()} == set(STEP_KINDS)


def test_every_mutant_is_a_located_error(folder: Path) -> None:
    for number, (text, path) in enumerate(mutants()):
        Path("m.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(RecipeError) as caught:
            make_planner("m.yaml").plan()
        message, excerpt = str(caught.value), caught.value.excerpt
        why = f"mutant {number}, {path}:\n{text}\n{message}\n{excerpt}"
        start = re.match(r"m\.yaml, line (\d+)", message)
        assert start, why
        assert re.search(r"--> m\.yaml:\d+:\d+\n", excerpt) and "^" in excerpt, why
        if len(path) > 2 and path[0] == "steps":  # its own step, or one that asks for what is gone
            named = [number for number, line in enumerate(text.splitlines(), 1) if line.startswith(f"  {path[1]}:")]
            users = [number for number, line in enumerate(text.splitlines(), 1) if str(path[1]) in line]
            assert int(start[1]) in {*named, *users}, why


def test_damaged_texts_are_errors_too(folder: Path) -> None:
    rng, good = random.Random(11), text_of(GOOD)
    for _ in range(60):
        at = rng.randrange(len(good))
        junk = rng.choice(["{", "}", "[", ": ", "\t", "\n", "&a", "*a", "!x ", "${", "\0", "%", "'", '"', "- ", "🙂"])
        text = rng.choice([good[:at], good[:at] + junk + good[at:], good[:at] + junk + good[at + 3 :]])
        Path("m.yaml").write_text(text, encoding="utf-8")
        try:
            make_planner("m.yaml").plan()
        except LoratoolsError as error:
            assert "m.yaml" in str(error), text


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("images: pictures", "images: a_folder", "nothing reads the pictures of 'pictures'"),
        ("${weight}", "0.8", "nothing uses 'weight'"),
        ("${weight}", "${wieght}", "no variable 'wieght' (did you mean 'weight'?)"),
        ("lora: a,", "lora: b,", "'b' is no step"),
        ("tuned: model", "tuned: small", "which makes no model"),
        ('terms: "a:1:te=0"', 'terms: "back:1"', "in a circle"),
    ],
)
def test_what_leads_nowhere_is_found_before_anything_runs(folder: Path, old: str, new: str, words: str) -> None:
    (folder / "a_folder").mkdir()
    (folder / "a_folder/1.png").touch()
    text = text_of(GOOD)
    assert old in text
    Path("m.yaml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        make_planner("m.yaml").plan()
    assert words in str(error.value) and re.match(r"m\.yaml, line \d+: ", str(error.value))
    assert "^" in error.value.excerpt


XL = "text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ('merge: "a:1, xl:-1"', "'xl' is a LoRA for sdxl and 'a' one for sd1; only LoRAs of one model family add up"),
        ("soup: [a, xl]", "only LoRAs of one model family add up"),
        ("subtract: {style: a, base_style: xl}", "'xl' is for sdxl and the style for sd1"),
        ("grid: {rows: xl, prompts: x}", "'xl' is a LoRA for sdxl and the base"),
        ("publish: xl", "name a base of its family at `base:`"),
        ('merge_into: {terms: "xl:1", into: base}', "'xl' is a LoRA for sdxl and 'base' is sd1"),
    ],
)
def test_families_that_do_not_fit_are_found_before_anything_runs(folder: Path, step: str, words: str) -> None:
    delta = LowRank(torch.ones(8, 1), torch.ones(1, 8), (8, 8))
    write({XL: delta}, "xl.safetensors", family="sdxl", metadata={}, provenance=None, owner="test")
    Path("m.yaml").write_text(f"base: tiny\nsteps:\n  one: {{{step}}}\n", encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        make_planner("m.yaml").plan()
    assert words in str(error.value) and str(error.value).startswith("m.yaml, line 3: steps.one.")
    assert "^" in error.value.excerpt
