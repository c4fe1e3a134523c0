"""Plans: what a step's key depends on and what not, references, order, and mistakes reported before anything runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from loratools.errors import RecipeError
from loratools.recipe.plan.step import Planned
from loratools.recipe.run.runner import find_recipe, make_planner
from tests.recipe.conftest import save_lora

VECTOR = "[1.0, 0.6, 0.9, 0.9, 0.9, 0.6, 0.5, 0.4, 0.4, 0.6, 0.8, 1.0, 1.1, 1.1, 1.1, 1.1, 1.1]"
RECIPE = f"""\
version: 1
base: tiny
blocks:
  GP1: {VECTOR}
steps:
  pictures: {{draw: {{style: ink, count: 2, size: 64}}}}
  style: {{train: {{images: pictures, epochs: 3, dim: 2, learning_rate: 1e-3}}}}
  base_style: {{basestyle: {{images_per_framing: 1, epochs: 2, dim: 2}}}}
  final: {{merge: "style@2:1:GP1, base_style:-1:GP2"}}
  mean: {{merge: "style@1-3:0.5"}}
  sheet: {{grid: {{rows: [style, final], weights: "0:1:0.5", prompts: p.txt, size: 64}}}}
"""


@pytest.fixture
def folder(here: Path, tiny_base: Path) -> Path:
    (here / "tiny").symlink_to(tiny_base, target_is_directory=True)
    (here / "p.txt").write_text("1girl\n", encoding="utf-8")
    return here


def plan(folder: Path, text: str = RECIPE, wanted: list[str] | None = None) -> dict[str, Planned]:
    (folder / "r.yaml").write_text(text, encoding="utf-8")
    return {step.name: step for step in make_planner(folder / "r.yaml", folder / "work").plan(wanted)}


def changed(folder: Path, text: str) -> set[str]:
    """The steps whose key another text changes."""
    before = plan(folder)
    after = plan(folder, text)
    return {name for name in before if name not in after or before[name].key != after[name].key}


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("[1.0, 0.6", "[0.9, 0.6", {"final", "sheet"}),
        ("[1.0, 0.6", "[1.00, 0.60", set()),
        ("GP1:", "GP1:  # a comment\n   ", set()),
        ("epochs: 3", "epochs: 4", {"style", "final", "mean", "sheet"}),
        ("count: 2", "count: 3", {"pictures", "style", "final", "mean", "sheet"}),
        ("epochs: 2", "epochs: 1", {"base_style", "final", "sheet"}),
        (":-1:GP2", ":-1:GP2_STRONG", {"final", "sheet"}),
        (":-1:GP2", ":-1:gp2", set()),  # the same preset in another spelling
        (":1:GP1", f":1:{VECTOR[1:-1].replace(' ', '')}", set()),  # the same numbers, written out
        ("style@1-3:0.5", "style@1-3:0.4", {"mean"}),
        ('"0:1:0.5"', '"0,0.5,1"', set()),
        ('"0:1:0.5"', '"0,1"', {"sheet"}),
        ("version: 1", "version: 1\nseed: 2", {"pictures", "style", "base_style", "final", "mean", "sheet"}),
    ],
)
def test_only_what_depends_on_a_change_is_stale(folder: Path, old: str, new: str, stale: set[str]) -> None:
    assert old in RECIPE
    assert changed(folder, RECIPE.replace(old, new, 1)) == stale


def test_inputs_count_by_content(folder: Path) -> None:
    before = plan(folder)
    (folder / "p.txt").write_text("# a comment\n1girl\n\n", encoding="utf-8")
    assert plan(folder)["sheet"].key == before["sheet"].key
    (folder / "p.txt").write_text("1girl, smile\n", encoding="utf-8")
    after = plan(folder)
    assert {name for name in before if before[name].key != after[name].key} == {"sheet"}


def test_embeddings_count_by_content_and_noise_by_name(folder: Path) -> None:
    import torch

    (folder / "ti").mkdir()
    with pytest.raises(RecipeError, match=r"grid.embeddings: .*ti' holds no embedding"):
        plan(folder, RECIPE.replace("p.txt,", "p.txt, embeddings: ti,"))
    keys = set()
    for value, noise in ((1.0, "own"), (2.0, "own"), (2.0, "webui-gpu")):
        torch.save({"x": torch.full((16,), value)}, folder / "ti/badink.pt")
        text = RECIPE.replace("p.txt,", f"p.txt, embeddings: ti, noise: {noise},")
        keys.add(plan(folder, text)["sheet"].key)
    assert len(keys) == 3


def test_order_needs_and_places(folder: Path) -> None:
    reverse = RECIPE.split("steps:\n")
    steps = reverse[1].splitlines()
    steps_by_name = plan(folder, reverse[0] + "steps:\n" + "\n".join(reversed(steps)))
    names = list(steps_by_name)
    assert names.index("pictures") < names.index("style") < names.index("final") < names.index("sheet")
    assert steps_by_name["final"].needs == ("style", "base_style")
    assert steps_by_name["final"].out == folder / "work/final.safetensors"
    assert steps_by_name["style"].out == folder / "work/style"
    assert {name: step.key for name, step in steps_by_name.items()} == {n: s.key for n, s in plan(folder).items()}


def test_only_what_is_wanted_is_planned(folder: Path) -> None:
    assert list(plan(folder, wanted=["mean"])) == ["pictures", "style", "mean"]
    with pytest.raises(RecipeError, match="no step 'maen' \\(did you mean 'mean'"):
        plan(folder, wanted=["maen"])


def test_files_beside_the_recipe_come_first(folder: Path) -> None:
    deep = folder / "deep"
    deep.mkdir()
    text = 'base: ../tiny\nsteps: {out: {merge: "a:1, b:-0.5"}}\n'
    (deep / "r.yaml").write_text(text, encoding="utf-8")
    save_lora(deep / "a.safetensors", 1)
    save_lora(folder / "a.safetensors", 2)
    save_lora(folder / "b.safetensors", 3)
    (step,) = make_planner(deep / "r.yaml").plan()
    assert [source.path for source in step.draft.inputs] == [deep / "a.safetensors", Path("b.safetensors")]
    assert step.out == Path("runs/r/out.safetensors")
    first = step.key
    save_lora(deep / "a.safetensors", 4)
    (again,) = make_planner(deep / "r.yaml").plan()
    assert again.key != first


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("style@2:1", "style@9:1", 9, "an epoch that the run will not have; it has 1 to 3"),
        ("style@2:1", "stile@2:1", 9, "(did you mean 'style'?)"),
        ("style@2:1", "pictures:1", 9, "is a draw, which makes no LoRA"),
        ("style@1-3", "final@1", 10, "is no run"),
        (":-1:GP2", ":-1:GPZ", 9, "GPZ"),
        (":-1:GP2", ":-1:1,2,3", 9, "3"),
        (":-1:GP2", ":x:GP2", 9, "'x' stands where the weight"),
        ("images: pictures", "images: nowhere", 7, "'nowhere' is no step"),
        ("images: pictures", "images: base_style", 7, "makes no pictures"),
        ("images: pictures, ", "", 7, "'images' is missing"),
        ("images: pictures", "images: p.txt", 7, "'p.txt' is a file, and a folder of pictures is needed"),
        ("images: pictures", "images: tiny", 7, "'tiny' holds no pictures; name a folder inside it, such as tiny/"),
        ("base: tiny", "base: tinny", 2, "tinny"),
        ("base: tiny", "base: lora.safetensors", 2, "is a LoRA, not a base model"),
        ('"style@1-3:0.5"', '{terms: "style@1-3:0.5", presets: mine.yaml}', 10, "mine.yaml"),
        ("prompts: p.txt", "prompts: '1girl <lora:a:one>'", 11, "the prompt's <lora:a:one>: "),
        ("dim: 2, learning", "dimm: 2, learning", 7, "(did you mean 'dim'?)"),
        ("epochs: 3", "epochs: 0", 7, "epochs"),
        ("epochs: 3", "out: x", 7, "write `out:` beside"),
        ("images_per_framing: 1", "images_per_fram: 1", 8, "images_per_fram"),
        (
            "images_per_framing: 1",
            "images_per_framing: two",
            8,
            "basestyle.images_per_framing: it must be a whole number",
        ),
        ("images_per_framing: 1", "images_per_framing: 0", 8, "it must be 1 or more (it is 0)"),
        ("images_per_framing: 1", "images_per_framing: true", 8, "true cannot be used here"),
        ("images_per_framing: 1", "sampler: Eulerr", 8, "Euler"),
        ("images_per_framing: 1", "size: abc", 8, "basestyle.size: 'abc' is not a size; write WIDTHxHEIGHT"),
        ("images_per_framing: 1", "size: [513, 512]", 8, "a size of 512x513 does not fit"),
        ("images_per_framing: 1", "steps: -3", 8, "basestyle.steps: it must be"),
        ("images_per_framing: 1", "cfg: high", 8, "basestyle.cfg: it must be a number (it is 'high')"),
        ("style@1-3", "style@3-1", 10, "'style@3-1' runs backwards; write style@1-3"),
        ("style@1-3", "run1@9", 10, "run1 has no epoch 9; it has 1 to 2"),
        (":-1:GP2", ":-1:" + ",".join(["1"] * 20), 9, "20"),
        ("p.txt, size: 64", "p.txt, size: 513", 11, "a size of 513x513 does not fit; width and height must be"),
        ("p.txt, size: 64", "p.txt, cfg: 3, x: {cfg: [4, 7]}", 11, "the cfg is given beside the axis x"),
        ("p.txt, size: 64", "p.txt, x: {cfg: [4, 7]}, y: {cfg: [3, 5]}", 11, "the axes x and y both change the"),
        ("p.txt, size: 64", "p.txt, x: {size: [64, 513]}", 11, "a size of 513x513 does not fit"),
        ("p.txt, size: 64", "p.txt, score_images: pictures", 11, "'score_images' says what 'score' compares with; add"),
        ("p.txt, size: 64", "p.txt, score: true, score_images: picturs", 11, "(did you mean 'pictures'?)"),
        ("p.txt, size: 64", "p.txt, score: true, score_images: style", 11, "the step 'style' is a train, which makes"),
        ("p.txt, size: 64", "p.txt, score: true, held_out: run1", 11, "there are no images in"),
        ("p.txt, size: 64", "p.txt, score: true, held_out: p.txt", 11, "there is no folder "),
        ("p.txt, size: 64", "p.txt, score: true, score_models: clip", 11, "there is no folder 'clip'"),
        ("p.txt, size: 64", "p.txt, score: true, score_models: [run1]", 11, "holds no model (no config.json)"),
        ("p.txt, size: 64", "p.txt, score: true, score_models: tiny/vae", 11, "is not a model's config"),
        ('{merge: "style@1-3:0.5"}', "{merge_into: {terms: final, into: lora.safetensors}}", 10, "is a LoRA, not"),
        ('{merge: "style@1-3:0.5"}', "{merge_into: {terms: final, into: final}}", 10, "is a merge, which is no"),
        ('{merge: "style@1-3:0.5"}', "{extract: {tuned: lora.safetensors}}", 10, "is a LoRA, not"),
        ("style: ink", "style: inc", 6, "'ink'"),
        ('"0:1:0.5"', '"0:1:x"', 11, "is not a number"),
        ("p.txt", "q.txt", 11, "no file of prompts 'q.txt'"),
        ("p.txt, size: 64", "p.txt, sampler: Eular", 11, "Euler"),
        ("rows: [style, final]", "rows: [style, sheet]", 11, "in a circle"),
        ("{style: ink, count: 2, size: 64}", "{style: ink, count: 2, size: 64}, out: style", 7, "writes to"),
    ],
)
def test_mistakes_are_found_before_anything_runs(folder: Path, old: str, new: str, line: int, words: str) -> None:
    assert old in RECIPE
    save_lora(folder / "lora.safetensors", 1)
    for epoch in (1, 2):
        save_lora(folder / f"run1/run1-{epoch:06d}.safetensors", epoch)
    with pytest.raises(RecipeError) as error:
        plan(folder, RECIPE.replace(old, new, 1))
    assert "^" in error.value.excerpt
    assert words in str(error.value)
    assert f"r.yaml, line {line}" in str(error.value), str(error.value)
    assert not (folder / "work").exists()


def test_a_circle_of_merges(folder: Path) -> None:
    with pytest.raises(RecipeError, match="circle: a -> b -> a"):
        plan(folder, 'base: tiny\nsteps: {a: {merge: "b:1"}, b: {merge: "a:1"}}\n')


def test_shipped_recipes_are_found_by_name(here: Path) -> None:
    assert find_recipe("recipes/style.yaml").name == "style.yaml"
    assert find_recipe("style.yaml") == find_recipe("recipes/style.yaml")
    with pytest.raises(RecipeError, match=r"no recipe nothing\.yaml.*style\.yaml"):
        find_recipe("nothing.yaml")
    with pytest.raises(RecipeError, match="no recipe"):
        find_recipe("elsewhere/style.yaml")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"style@2:1:GP1', '"style@1:1:GP1'),
        ('{merge: "style@2-3:0.5"}', '{merge: "style@1-3:0.5"}'),
        ('{merge: "style@2-3:0.5"}', "{soup: style@1-3}"),
        ('{merge: "style@2-3:0.5"}', "{select: {run: style, epoch: 1}}"),
        ("rows: [style,", 'rows: ["style@1",'),
    ],
)
@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("save_last_n: 2", "save_last_n: 2 removes; of 1 to 3 there will be 2, 3, so ask for one of them"),
        ("save_every_epochs: 2", "save_every_epochs: 2 removes; of 1 to 3 there will be 2, 3, so ask"),
        ("save_every_epochs: 2, save_last_n: 2", "save_every_epochs: 2 removes; of 1 to 3 there will be 2, 3,"),
    ],
)
def test_epochs_that_the_run_removes_are_not_asked_for(
    folder: Path, setting: str, reason: str, old: str, new: str
) -> None:
    kept = RECIPE.replace("epochs: 3, dim", f"epochs: 3, {setting}, dim").replace("style@1-3", "style@2-3")
    assert plan(folder, kept) and old in kept
    with pytest.raises(RecipeError, match="epoch 1, whose file " + re.escape(reason)):
        plan(folder, kept.replace(old, new))


def test_an_epoch_within_a_range_may_be_one_that_the_run_removes(folder: Path) -> None:
    text = RECIPE.replace("epochs: 3, dim", "epochs: 6, save_every_epochs: 2, save_last_n: 2, dim")
    for asked, reason in (
        ("4-6", "epoch 5, whose file save_every_epochs: 2"),
        ("2", "epoch 2, whose file save_last_n: 2"),
    ):
        with pytest.raises(
            RecipeError, match=f"'style@{asked}' asks for {reason} removes; of 1 to 6 there will be 4, 6,"
        ):
            plan(folder, text.replace("style@2:1:GP1", "style@6:1:GP1").replace("style@1-3", f"style@{asked}"))


def test_which_files_a_run_leaves_is_part_of_its_key(folder: Path) -> None:
    more = {"style", "final", "mean", "sheet"}
    assert changed(folder, RECIPE.replace("epochs: 3, dim", "epochs: 3, save_last_n: 3, dim")) == more
    assert changed(folder, RECIPE.replace("epochs: 3, dim", "epochs: 3, save_every_steps: 1, dim")) == more
    assert changed(folder, RECIPE.replace("epochs: 3, dim", "epochs: 3, save_state_every_steps: 1, dim")) == set()


def test_a_default_that_is_written_out_changes_nothing(folder: Path) -> None:
    plain = RECIPE.replace("images_per_framing: 1, ", "")
    plan(folder, plain)
    before = plan(folder, plain)["base_style"].key
    for option in ("images_per_framing: 8", 'negative: ""', "picture_seed: 1", "cfg: null"):
        assert plan(folder, plain.replace("{basestyle: {", f"{{basestyle: {{{option}, "))["base_style"].key == before
    assert plan(folder, RECIPE)["base_style"].key != before


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
def test_a_vae_that_is_none_is_told_where_it_stands(
    folder: Path, hub: Callable[[str, Path], Path], vae: str, reason: str
) -> None:
    (folder / "run").mkdir()
    with pytest.raises(RecipeError, match=rf"r.yaml, line 3: vae: {reason}") as error:
        plan(folder, RECIPE.replace("blocks:", f"vae: {vae}\nblocks:", 1))
    assert "^" in error.value.excerpt
    with pytest.raises(RecipeError, match=rf"r.yaml, line 7: steps.style.train.vae: {reason}"):
        plan(folder, RECIPE.replace("train: {", f"train: {{vae: {vae}, ", 1))
