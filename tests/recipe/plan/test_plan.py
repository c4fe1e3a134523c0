"""Plans: what a step's key depends on and what not, references, order, and mistakes reported before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loratools.errors import RecipeError
from loratools.recipe.plan.lora_refs import vector_values
from loratools.recipe.run.runner import find_recipe, make_planner
from tests.recipe.conftest import save_lora
from tests.recipe.plan.conftest import RECIPE, VECTOR, plan


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


@pytest.mark.parametrize("how", ["mixed: true", "mixed: false", "compile: true", "tiled: true"])
def test_how_a_grid_is_worked_at_leaves_its_key(folder: Path, how: str) -> None:
    """What was stored before such an option was there stays found, too."""
    text = RECIPE.replace("p.txt,", f"p.txt, {how},")
    assert text != RECIPE and plan(folder, text)["sheet"].key == plan(folder)["sheet"].key


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


def test_a_file_with_an_at_is_a_file_unless_a_step_has_the_name(folder: Path) -> None:
    for name in ("style@2", "ink@2"):
        save_lora(folder / f"{name}.safetensors", 1)
    final = 'style@2:0.5, "ink@2":-1:GP1'
    text = RECIPE.replace("style@1-3:0.5", final.replace('"', ""))
    assert text != RECIPE
    step = plan(folder, text)["mean"]
    assert [(one.label, one.step) for one in step.draft.inputs] == [("style@2", "style"), ("ink@2", None)]
    assert step.draft.inputs[1].path.name == "ink@2.safetensors"


def test_what_a_vector_means_is_known_for_sd3_too() -> None:
    from loratools.blocks.presets import load_presets

    presets = load_presets(None)
    numbers, named = vector_values(",".join(["0.5"] * 42), presets), vector_values("B01=0.5", presets)
    assert [scheme for scheme, *_ in numbers] == [scheme for scheme, *_ in named] == ["sd3-42"]
    assert named[0][1] == {"B01": 0.5} and len(numbers[0][1]) == 42
    assert vector_values("B01=0.50", presets) == named != vector_values("B02=0.5", presets)
    assert [scheme for scheme, *_ in vector_values("ALL=0.5", presets)] == ["sd1-26", "sdxl-20", "flux-61"]
