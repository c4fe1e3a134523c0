"""Mistakes that a run would meet half-way are reported by the plan: their place, what is under the caret, and what to
write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratools.errors import RecipeError
from loratools.recipe.run.runner import make_planner
from tests.recipe.conftest import save_lora

STEPS = {
    "pictures": "draw: {style: ink, count: 2, size: 64}",
    "style": "train: {images: pictures, epochs: 3, dim: 2}",
    "base_style": "basestyle: {images_per_framing: 1, epochs: 1, dim: 2}",
    "final": 'merge: "style@2:1:GP1, base_style:-1:GP2"',
    "sheet": 'grid: {rows: [style, final], weights: "0:1:0.5", prompts: 1girl, size: 64}',
}
TWELVE = ",".join(["1"] * 12)  # as many numbers as SDXL has blocks; the base here is SD1


@pytest.fixture
def folder(here: Path, tiny_base: Path) -> Path:
    (here / "tiny").symlink_to(tiny_base, target_is_directory=True)
    (here / "p.txt").write_text("1girl\n", encoding="utf-8")
    for epoch in (1, 2):
        save_lora(here / f"run1/run1-{epoch:06d}.safetensors", epoch)
    return here


def plan(**steps: str) -> list[str]:
    """The steps, planned, of the recipe with these over the usual ones, a line each from the third on."""
    lines = ["base: tiny", "steps:", *(f"  {name}: {{{step}}}" for name, step in {**STEPS, **steps}.items())]
    Path("m.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [planned.name for planned in make_planner("m.yaml").plan()]


def mistake(place: str, body: str) -> tuple[str, str]:
    """The message about a step (``style``, or ``grid`` for a new one) with this body, and the word under the caret."""
    name, kind = (place, STEPS[place].partition(":")[0]) if place in STEPS else ("new", place)
    with pytest.raises(RecipeError) as error:
        plan(**{name: f"{kind}: {body}"})
    message, line = str(error.value), list({**STEPS, name: ""}).index(name) + 3
    assert message.startswith(f"m.yaml, line {line}: steps.{name}.{kind}"), message
    *_, text, carets = error.value.excerpt.splitlines()
    return message, text[carets.index("^") : carets.rindex("^") + 1]


TRAINING = [
    ("imges: pictures", "imges", "there is no such key (did you mean 'images'?)"),
    ("optimizer: AdamWW", "AdamWW", "there is no optimizer 'AdamWW' (did you mean 'AdamW'?)"),
    ("optimizer: torch.optim.Nope", "torch.optim.Nope", "cannot be imported"),
    ("optimizer_args: {weight_deca: 1}", "weight_deca", "(did you mean 'weight_decay'?)"),
    ("optimizer: RMSprop, lr_scheduler: cosin", "cosin", "(did you mean 'cosine'?)"),
    ("block_lr: [1, 2, 3]", "block_lr", "has 3 numbers; accepted lengths are"),
    (f"block_lr: '{TWELVE}'", TWELVE, "this model, sd1, takes 17 or 26"),
    ("block_lr: GP11", "GP11", "unknown block preset 'GP11' (did you mean 'GP1'?)"),
    ("block_lr: {IN00: -1}", "block_lr", "block_lr has -1, which cannot be negative"),
    ("block_dims: {OUTT: 2}", "OUTT", "no block or group 'OUTT' (did you mean 'OUT'?)"),
    ("block_dims: {OUT03: 2.5}", "block_dims", "2.5, which is no rank; use whole numbers"),
    ("sample_prompts: [x], sample_sampler: Eulr", "Eulr", "no sampler 'Eulr' (did you mean 'Euler'?)"),
    ("sample_prompts: ['x --z 3']", "--z", "there is no option '--z' here"),
    ("sample_prompts: ['x --ss Eulr']", "Eulr", "line 1: there is no sampler 'Eulr'"),
    ("network_weights: nope", "nope", "'nope' is no step"),
    ("base_adapters: 'nope:1'", "nope", "'nope' is no step"),
    (f"base_adapters: 'run1:1:{TWELVE}'", TWELVE, "this model, sd1, takes 17 or 26"),
    ("preset: style-04", "style-04", "(did you mean 'style-004'?)"),
    ("dim: two", "two", "dim: it must be a whole number"),
    ("unet_lr: 0, te_lr: 0", "unet_lr", "so there is nothing to train"),
    ("datasets: []", "datasets", "'datasets' does not stand here; write folders under `images`"),
]


@pytest.mark.parametrize(("body", "word", "words"), TRAINING)
@pytest.mark.parametrize("step", ["style", "base_style"])
def test_training_settings(folder: Path, step: str, body: str, word: str, words: str) -> None:
    images = "" if step == "base_style" or "imges" in body else "images: pictures, "
    message, under = mistake(step, f"{{{images}{body}}}")
    assert words in message and under == word, (message, under)


@pytest.mark.parametrize(
    ("step", "body", "word", "words"),
    [
        ("pictures", "{style: ink, figure: blue_hiar}", "blue_hiar", "(did you mean 'blue_hair'?)"),
        ("pictures", "{style: ink, figure: [red_hair, blue_hair]}", "red_hair", "are both its hair color; keep one"),
        ("pictures", "ink", "ink", "write its options as keys, such as {style: ...}"),
        ("style", "{images: [{folder: pictures, mask_folder: no}]}", "no", "there is no 'no'; name what lies on this"),
        ("style", "{images: [{folder: pictures, metadata_file: no}]}", "no", "there is no 'no'"),
        ("style", "{images: [{repeats: 3}]}", "{repeats: 3}", "'folder' is missing"),
        ("base_style", "{images: pictures}", "images", "'images' does not stand here; the base draws them"),
        ("base_style", "{images_per_framin: 1}", "images_per_framin", "(did you mean 'images_per_framing'?)"),
        ("base_style", "{size: 65x64}", "size", "a size of 65x64 does not fit"),
        ("select", "{run: final}", "final", "the step 'final' is a merge, which has no epochs"),
        ("select", "{run: tiny}", "run", "tiny holds no epoch files"),
        ("select", "{run: style, epoch: 9}", "epoch", "asks for an epoch that the run will not have"),
        ("merge", "'p.txt:1'", "merge", "p.txt is a text file"),
        ("resize", "{lora: p.txt, rank: 2}", "lora", "p.txt is a text file"),
        ("merge", f"'style:1:{TWELVE}'", TWELVE, "this model, sd1, takes 17 or 26"),
        ("merge", "{terms: 'style:1', presets: no.yaml}", "no.yaml", "there is no presets file 'no.yaml'"),
        ("merge", "{terms: 'style:1', presets: p.txt}", "presets", "p.txt holds no vector"),
        ("subtract", f"{{style: style, base_style: final, blocks: '{TWELVE}'}}", TWELVE, "sd1, takes 17 or 26"),
        ("subtract", "{style: style, base_style: final, mu: 2}", "mu", "'mu' goes with mode: soft; this one is direct"),
        ("publish", "{lora: final, preview: sheet, row: nope}", "nope", "has no row 'nope'; name one of its rows with"),
        ("publish", "{lora: final, preview: sheet, row: stile@1}", "stile@1", "(did you mean 'style@1'?)"),
        ("publish", "{lora: base_style, preview: sheet}", "sheet", "has no row 'base_style'"),
        ("publish", "{lora: final, preview: run1}", "preview", "grid.json is missing or unreadable"),
        ("publish", "{lora: final, name: 'a:b'}", "a:b", "'a:b' is no plain file name"),
        ("publish", "{lora: final, preview: ''}", "preview", "'' is no step"),
    ],
)
def test_other_steps(folder: Path, step: str, body: str, word: str, words: str) -> None:
    message, under = mistake(step, body)
    assert words in message and under == word, (message, under)


@pytest.mark.parametrize(
    ("body", "word", "words"),
    [
        ("rows: style, x: {epoch: [1, 9]}", "x", "axis x, epoch: 'style@9' asks for an epoch that the run will not"),
        ("rows: run1, y: {epoch: [1, 9]}", "y", "axis y, epoch: run1 has no epoch 9; it has 1 to 2"),
        ("rows: final, x: {epoch: [1, 2]}", "x", "epoch needs one training run in 'final'"),
        ("rows: style@2, x: {'block OUT99': [0, 1]}", "OUT99", "has no block 'OUT99' (did you mean 'OUT09'?)"),
        ("rows: style@2, x: {vector: [GP1, GP11]}", "GP11", "unknown block preset 'GP11'"),
        (f"rows: style@2, x: {{vector: ['{TWELVE}']}}", TWELVE, "this model, sd1, takes 17 or 26"),
        ("rows: style@2, x: {'weight of stile': [0, 1]}", "stile", "no row has a LoRA called 'stile' (did you mean"),
        ("rows: style@2, x: {s/r: [red, blue]}", "red", "'red' stands neither in the prompt '1girl' nor"),
        ("rows: style@2, x: {base: [tiny, nope]}", "nope", "there is no base model 'nope'"),
        ("rows: style@2, x: {negative: ['<lora:run1:1>']}", "<lora:run1:1>", "the negative prompt names a LoRA"),
        ("rows: style, labels: {stile@1: one}", "stile@1", "no axis has a value 'stile@1' (did you mean 'style@1'?)"),
        ("rows: style, most: 3", "most", "= 15 pictures, and 3 are allowed"),
    ],
)
def test_grids(folder: Path, body: str, word: str, words: str) -> None:
    message, under = mistake("grid", f"{{{body}, prompts: 1girl}}")
    assert words in message and under == word, (message, under)


@pytest.mark.parametrize(
    "body",
    [
        "rows: [style@last, final], labels: {style@3: three, final: mine, '1': full, base: none}",
        "rows: style@best, labels: {style@2: two}",  # which one is best only the run's log will say
        "rows: 'style@2:1:GP1,final:-1', x: {'weight of style': [0, 1]}, y: {'block OUT03 of final': [0, 1]}",
        "rows: run1, x: {epoch: [1, best]}",
    ],
)
def test_a_grid_without_mistakes_passes(folder: Path, body: str) -> None:
    assert "new" in plan(new=f"grid: {{{body}, prompts: 1girl}}")


@pytest.mark.parametrize(
    ("lora", "preview"),
    [("style@1", "sheet"), ("final", "sheet"), ("chosen", "sheet"), ("style@2", "changed"), ("final", "changed")],
)
def test_a_row_that_may_be_there_is_not_refused(folder: Path, lora: str, preview: str) -> None:
    changed = "grid: {rows: [style@2, final], x: {'block OUT03': [0, 1]}, prompts: 1girl}"
    out = f"publish: {{lora: {lora}, preview: {preview}}}"
    assert "out" in plan(chosen="select: {run: style, epoch: 2}", changed=changed, out=out)


def test_a_folder_of_loras_is_there_whether_it_is_needed_or_not(folder: Path) -> None:
    Path("m.yaml").write_text("base: tiny\nlora_dirs: [nope]\nsteps: {a: {merge: 'run1:1'}}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="line 2: lora_dirs: no folder 'nope'"):
        make_planner("m.yaml").plan()
