"""The files that LoRA steps write: each once, its recipe in its header from the start, named after itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import loratools as lt
from loratools import files
from loratools.adapter.files.file import read
from loratools.errors import RecipeError
from loratools.ops.merging.methods.declared import PARAMETERS
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lineage import lineage_of
from loratools.recipe.publish.story import story
from loratools.recipe.run.runner import make_planner, run_steps
from loratools.recipe.steps.lora.merge import Merge as MergeStepOptions
from tests.recipe.conftest import save_lora

RECIPE = """\
base: tiny
steps:
  mixed: {merge: "a:1:GP1, b:-0.5:GP2"}
  clean: {subtract: {style: a, base_style: b}}
  mean: {soup: [a, b]}
  moved: {fix: {merge: mixed, symptoms: hands}}
  small: {resize: {lora: mixed, rank: 1}}
  spelled: {convert: {lora: a, to: diffusers}}
"""
CPU = RunContext(device="cpu")


@pytest.fixture
def folder(here: Path, tiny_base: Path) -> Path:
    (here / "tiny").symlink_to(tiny_base, target_is_directory=True)
    for seed, name in enumerate("ab"):
        save_lora(here / f"{name}.safetensors", seed)
    return here


def run(text: str, context: RunContext = CPU) -> dict[str, Path]:
    """The files of a recipe's steps, which are run if need be."""
    Path("r.yaml").write_text(text, encoding="utf-8")
    results = run_steps(make_planner("r.yaml", Path("work")).plan(), Path("work"), context)
    return {result.planned.name: result.planned.out for result in results}


def test_every_file_is_written_once_and_holds_its_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: Counter[str] = Counter()
    original = files.replacing

    @contextmanager
    def counted(path: Path, *, sync: bool = True) -> Iterator[Path]:
        written[Path(path).name] += 1
        with original(path, sync=sync) as part:
            yield part

    monkeypatch.setattr(files, "replacing", counted)
    outs = run(RECIPE)
    assert len(outs) == 6
    for name, out in outs.items():
        lineage = lineage_of(out)
        assert lineage is not None and lineage.step == name and name in lineage.data["steps"]
        assert written[out.name] == 1, written


METHODS = """\
base: tiny
steps:
  drawn: {merge: {terms: "a:1, b:0.5", method: dare, density: 0.4, seed: 3}}
  arc: {merge: {terms: "a:0.5:GP1, b:0.5", method: slerp}}
"""


def test_a_merge_step_takes_a_method_with_its_numbers(folder: Path) -> None:
    outs = run(METHODS)
    own = lt.merge("a:1, b:0.5", "own.safetensors", method=lt.MergeMethod("dare", density=0.4, seed=3))
    assert read(outs["drawn"]).digest == own.digest
    assert set(MergeStepOptions.model_fields) >= {*PARAMETERS, "method"}
    assert "by DARE of density 0.4 and seed 3" in "\n".join(story(read(outs["drawn"]).metadata))
    assert "by SLERP" in "\n".join(story(read(outs["arc"]).metadata))
    for wrong, says in (
        ("method: ties, seed: 3", "seed is no parameter of the merge method ties"),
        ("method: breadcrumbs, density: 0.95, gamma: 0.1", "add up to at most 1"),
        ("method: tsvm", "tsv-m"),
        ("gamma: 0.1", "gamma goes with breadcrumbs"),
    ):
        with pytest.raises(RecipeError, match=says):
            run(f'base: tiny\nsteps:\n  m: {{merge: {{terms: "a:1, b:1", {wrong}}}}}\n')
    with pytest.raises(RecipeError, match=r"line 3.*karcher is made of two LoRAs or more, and the merge has 1"):
        run("base: tiny\nsteps:\n  m: {merge: {terms: a, method: karcher}}\n")


def test_a_size_counts_the_recipe_in_the_header(folder: Path) -> None:
    """The rule was met before the recipe was put into the header, which made the file larger than it."""
    wanted = run(RECIPE)["small"].stat().st_size + 400  # room for a few more ranks than 1
    small = run(RECIPE.replace("rank: 1}", f"rank: size={wanted}B}}"))["small"]
    assert lineage_of(small) is not None and wanted - 200 < small.stat().st_size <= wanted


def test_a_conversion_is_named_after_its_own_file_and_made_again_by_its_own_step(folder: Path) -> None:
    """It was written under a hidden name, which its header kept; outside the work folder it refused its own file."""
    text = "base: tiny\nsteps:\n  spelled: {convert: {lora: a, to: STYLE}, out: OUT}\n"
    text = text.replace("OUT", str(folder / "elsewhere/mine.safetensors"))
    out = run(text.replace("STYLE", "diffusers"))["spelled"]
    assert read(out).metadata["ss_output_name"] == "mine"
    run(text.replace("STYLE", "kohya"))
    assert [path.name for path in out.parent.iterdir() if path.suffix == ".safetensors"] == [out.name]


def test_a_peft_folder_beside_the_recipe_counts_with_its_settings(folder: Path) -> None:
    """Its alpha stands in a file of its own: with another one the step is made anew, and pictures drawn anew."""
    path = "base_model.model.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    factors = {f"{path}.lora_A.weight": torch.ones(2, 16), f"{path}.lora_B.weight": torch.ones(16, 2)}
    (folder / "loras" / "unet").mkdir(parents=True)
    save_file(factors, folder / "loras/unet/adapter_model.safetensors")
    config, norms, digests = folder / "loras/unet/adapter_config.json", [], set()
    for alpha in (2, 6, 6):
        config.write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": alpha}), encoding="utf-8")
        made = run('base: tiny\nsteps:\n  m: {merge: "loras/unet:1"}\n')["m"]
        norms += [delta.norm() for delta in read(made).values()]
        digests.add(read(folder / "loras/unet").digest)
    assert norms == pytest.approx([32, 96, 96]) and len(digests) == 2


def test_supermergers_reading_of_written_numbers_is_a_step_of_its_own(folder: Path) -> None:
    """It ignores the ratio of a vector that is written out, and not of one that has a name."""
    numbers = ",".join(["0.5"] * 17)
    text = 'base: tiny\nblocks: {V: [NUMBERS]}\nsteps:\n  m: {merge: {terms: "a:0.25:VECTOR", compat: supermerger}}\n'
    named, written = (
        read(run(text.replace("NUMBERS", numbers).replace("VECTOR", vector))["m"]).digest for vector in ("V", numbers)
    )
    assert named != written
