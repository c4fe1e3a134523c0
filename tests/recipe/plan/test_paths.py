"""Where the files lie that a recipe names, and that they count by content: VAEs, prompts, what includes name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from loratools.errors import RecipeError
from loratools.recipe.plan.paths import digest_of
from loratools.recipe.run.runner import make_planner
from tests.recipe.conftest import save_lora
from tests.recipe.plan.conftest import RECIPE, plan


@pytest.mark.parametrize("kind", ["style", "base_style"])
def test_a_vae_counts_by_content_and_lies_beside_the_recipe(folder: Path, tiny_base: Path, kind: str) -> None:
    (folder / "recipes").mkdir()
    (folder / "recipes/tiny").symlink_to(tiny_base, target_is_directory=True)
    (folder / "recipes/p.txt").write_text("1girl\n", encoding="utf-8")
    shutil.copytree(tiny_base / "vae", folder / "recipes/mine")
    key = {"style": "{train: {", "base_style": "{basestyle: {"}[kind]
    text = RECIPE.replace(key, f"{key}vae: mine, ")
    plain, first = plan(folder / "recipes"), plan(folder / "recipes", text)
    assert plain[kind].key != first[kind].key
    (source,) = [source for source in first[kind].draft.inputs if source.label == "mine"]
    assert source.path == folder / "recipes/mine"
    moved = text.replace("vae: mine", "vae: other")
    shutil.copytree(folder / "recipes/mine", folder / "other")  # in the current folder
    assert plan(folder / "recipes", moved)[kind].key == first[kind].key
    with open(folder / "other/config.json", "a", encoding="utf-8") as stream:
        stream.write("\n")
    assert plan(folder / "recipes", moved)[kind].key != first[kind].key
    with pytest.raises(RecipeError, match=r"\.vae: there is no VAE 'nowhere'; give a Diffusers folder"):
        plan(folder / "recipes", text.replace("vae: mine", "vae: nowhere"))


@pytest.mark.parametrize(("kind", "key"), [("style", "{train: {"), ("base_style", "{basestyle: {")])
def test_sample_prompts_lie_beside_the_recipe(folder: Path, kind: str, key: str) -> None:
    with pytest.raises(RecipeError, match=r"sample_prompts.*there is no 'nowhere.txt' beside the recipe"):
        plan(folder, RECIPE.replace(key, f"{key}sample_prompts: nowhere.txt, "))
    text = RECIPE.replace(key, f"{key}sample_prompts: p.txt, ")
    assert plan(folder, text)[kind].key == plan(folder)[kind].key  # they change nothing of what is learnt


def test_a_house_file_may_hold_more_than_is_used_and_names_what_lies_beside_it(folder: Path) -> None:
    house = folder / "house"
    house.mkdir()
    save_lora(house / "ours.safetensors", 1)
    save_lora(folder / "mine/style.safetensors", 2)
    (house / "house.yaml").write_text(
        'vars: {strength: 0.5, unused: 3}\nlora_dirs: loras\nsteps:\n  own: {merge: "ours.safetensors:${strength}"}\n',
        encoding="utf-8",
    )
    save_lora(house / "loras/deep.safetensors", 3)
    recipe = folder / "mine/r.yaml"
    text = 'include: ../house/house.yaml\nsteps: {final: {merge: "own:1, style:1, deep:1"}}\n'
    recipe.write_text(text, encoding="utf-8")
    planned = make_planner(recipe, folder / "work").plan()
    assert [step.name for step in planned] == ["own", "final"]
    recipe.write_text("vars: {mine: 1}\n" + text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"line 1: vars\.mine: nothing uses 'mine'"):
        make_planner(recipe, folder / "work")


@pytest.mark.parametrize(
    "where", ["vae: owner/vae\nsteps", "{train: {vae: owner/vae, ", "{basestyle: {vae: owner/vae, "]
)
def test_a_vae_of_the_hub_counts_by_its_content(
    folder: Path, tiny_base: Path, hub: Callable[[str, Path], Path], where: str
) -> None:
    place = hub("owner/vae", tiny_base / "vae")
    text = RECIPE.replace("steps" if "steps" in where else where.partition("vae")[0], where, 1)
    before, after = plan(folder), plan(folder, text)
    stale = {name for name in before if before[name].key != after[name].key}
    assert stale and stale <= {"style", "base_style", "final", "mean", "sheet"}
    sources = {source.path for step in after.values() for source in step.draft.inputs if source.label == "owner/vae"}
    assert sources == {place}
    copied = Path(shutil.copytree(tiny_base / "vae", folder / "mine"))
    assert {name: step.key for name, step in plan(folder, text.replace("owner/vae", "mine")).items()} == {
        name: step.key for name, step in after.items()
    }
    (copied / "config.json").write_text(" " + (copied / "config.json").read_text(encoding="utf-8"), encoding="utf-8")
    changed = plan(folder, text.replace("owner/vae", "mine"))
    assert {name for name in after if after[name].key != changed[name].key} == stale


@pytest.mark.parametrize(
    ("vae", "reason"),
    [
        ("owner/other", "cannot get the VAE 'owner/other' from the Hugging Face hub"),
        ("tiny/vea", "there is no VAE '.*tiny/vea'"),  # in a folder that is there, so the hub is not asked
        ("p.txt", "there is no VAE '.*p.txt'; give a Diffusers folder, a .safetensors, .ckpt, .pt file, or a hub id"),
        ("run", ".*run has no config.json, so it is no Diffusers folder of a VAE"),
    ],
)
def test_a_vae_that_is_none_is_named_at_its_line(
    folder: Path, hub: Callable[[str, Path], Path], vae: str, reason: str
) -> None:
    (folder / "run").mkdir()
    with pytest.raises(RecipeError, match=rf"r.yaml, line 3: vae: {reason}") as error:
        plan(folder, RECIPE.replace("blocks:", f"vae: {vae}\nblocks:", 1))
    assert "^" in error.value.excerpt
    with pytest.raises(RecipeError, match=rf"r.yaml, line 7: steps.style.train.vae: {reason}"):
        plan(folder, RECIPE.replace("train: {", f"train: {{vae: {vae}, ", 1))


def test_of_hidden_files_those_count_that_say_what_pictures_are(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    seen = {digest_of(tmp_path)}
    for name in (".DS_Store", ".git/objects/1", ".loratools-studio/jobs/queue.sqlite", ".dataset/facts.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert digest_of(tmp_path) in seen  # else a page that is opened on it, or a commit, would train everything anew
    for name in ("a.txt", ".a_meta.json", "sub/.b_meta.json", ".dataset/tags.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
        assert digest_of(tmp_path) not in seen
        seen.add(digest_of(tmp_path))
