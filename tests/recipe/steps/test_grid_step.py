"""A grid step asks for what the command line asks for; names mean the same before and after their files are there."""

from __future__ import annotations

import contextlib
import importlib
import json
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from click.testing import CliRunner

from loratools.adapter.files.epoch_files import find_lora
from loratools.blocks.presets import load_presets
from loratools.cli import cli
from loratools.errors import RecipeError
from loratools.preview.plan.resolve import edited
from loratools.preview.request.read_rows import NameLookup
from loratools.preview.request.request import GridRequest
from loratools.preview.request.row_text import RowText
from loratools.preview.request.setting import RowEdit
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.run.runner import make_planner, run_steps
from loratools.recipe.steps.pictures.grid_step import GridStep
from tests.recipe.conftest import save_lora


@pytest.fixture
def folder(here: Path, tiny_base: Path) -> Path:
    """A current folder with a base, a LoRA ``a`` and a run of three epochs."""
    (here / "tiny").symlink_to(tiny_base, target_is_directory=True)
    save_lora(here / "a.safetensors", 1)
    (here / "ink").mkdir()
    for epoch in (1, 2, 3):
        save_lora(here / f"ink/ink-{epoch:06d}.safetensors", 10 + epoch)
    return here


def run(body: str) -> None:
    """Plan and run a recipe of one grid step."""
    Path("r.yaml").write_text(f"base: tiny\nsteps:\n  sheet: {{grid: {{{body}, steps: 1, size: 64}}}}\n")
    run_steps(make_planner("r.yaml", Path("work")).plan(), Path("work"), RunContext(device="cpu"))


class Asked(Exception):
    """Nothing is rendered: what was asked for is known."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], GridRequest]:
    """Runs something up to its asking for a grid, and hands over the request."""
    requests: list[GridRequest] = []

    def render(request: GridRequest, *_: object) -> NoReturn:
        requests.append(request)
        raise Asked

    monkeypatch.setattr("loratools.preview.run.render_request", render)

    def request_of(action: Callable[[], object]) -> GridRequest:
        with contextlib.suppress(Asked):
            action()
        return requests.pop()

    return request_of


def test_a_recipe_asks_for_what_the_command_line_asks_for(
    folder: Path, asked: Callable[[Callable[[], object]], GridRequest]
) -> None:
    (folder / "ti").mkdir()
    torch.save({"x": torch.ones(16)}, folder / "ti/badink.pt")
    (folder / "images").mkdir()
    (folder / "images/1.png").write_bytes(b"")
    flags = (
        "a --base tiny --weights 0.5 --y seed:1,2 --no-base --most 9 --prompt 1girl --negative bad --steps 2 --cfg 3 "
        "--sampler Euler --size 64x72 --clip-skip 2 --frames 5 --noise webui-cpu --embeddings ti --batch-size 3 "
        "--compile --no-mixed --offload --sliced --tiled --title T --label 0.5=half --caption C --sheet webp "
        "--full-size --embed --score --score-images images --held-out images --device cpu --dtype bf16 -o out"
    )
    wanted = asked(lambda: CliRunner().invoke(cli, ["grid", *flags.split()], catch_exceptions=False))
    body = (
        "rows: a, weights: 0.5, y: {seed: [1, 2]}, base_alone: false, most: 9, prompts: 1girl, negative: bad, cfg: 3, "
        "sampler: Euler, clip_skip: 2, frames: 5, noise: webui-cpu, embeddings: ti, batch_size: 3, "
        "compile: true, mixed: false, offload: true, sliced: true, tiled: true, title: T, labels: {'0.5': half}, "
        "captions: C, sheets: webp, full_size: true, embed: true, score: true, score_images: images, "
        "held_out: images, dtype: bf16, steps: 2, size: 64x72"
    )

    def recipe() -> None:
        Path("r.yaml").write_text(f"base: tiny\nsteps:\n  sheet: {{grid: {{{body}}}}}\n")
        run_steps(make_planner("r.yaml", Path("work")).plan(), Path("work"), RunContext(device="cpu"))

    step = asked(recipe)
    assert step.fixed_kinds | {"base"} == wanted.fixed_kinds  # a recipe has a base in any case
    assert replace(step, model=replace(step.model, default=False)) == wanted


def test_a_folder_of_several_runs_is_a_row_for_each_epoch_of_each(
    folder: Path, asked: Callable[[Callable[[], object]], GridRequest]
) -> None:
    from loratools.library.pictures import name_lookup
    from loratools.library.terms import TermReading
    from loratools.preview.request.read_axes import build_arrangement

    for name in ("ink-000001", "ink-000002", "wash-000001"):
        (folder / "sub/o").mkdir(parents=True, exist_ok=True)
        save_lora(folder / f"sub/o/{name}.safetensors", 1)
    labels = ["ink@1", "ink@2", "wash@1"]
    flags = ["--base", "tiny", "--prompt", "1girl", "--weights", "1", "--device", "cpu", "-o", "out"]

    def shown(*words: str) -> list[str]:
        request = asked(lambda: CliRunner().invoke(cli, ["grid", *words, *flags], catch_exceptions=False))
        arrangement = build_arrangement(request, name_lookup(TermReading()))
        return [row.label for axis in arrangement.axes if axis.kind == "adapter" for row in axis.values]

    assert shown("sub/o") == labels == shown("--y", "adapter: sub/o")
    assert shown("sub/o@last") == ["ink@2", "wash@1"] and shown("sub/o/ink") == labels[:2]
    assert "sub/o holds several runs (ink, wash)" in CliRunner().invoke(cli, ["grid", "sub/o:0.5", *flags]).output

    for body in ("rows: o", "y: {adapter: o}"):
        text = f"base: {folder / 'tiny'}\nsteps:\n  sheet: {{grid: {{{body}, prompts: 1girl, weights: 1, most: 9}}}}\n"
        Path("sub/r.yaml").write_text(text)
        planner = make_planner("sub/r.yaml", Path("work"))
        step = GridStep.read(StepRequest("sheet", planner))
        rows = [row.label for axis in step.planned().axes if axis.kind == "adapter" for row in axis.values]
        assert (
            rows
            == labels
            == [
                row.label
                for axis in build_arrangement(step.request(), step.names()).axes
                if axis.kind == "adapter"
                for row in axis.values
            ]
        )
    Path("sub/r.yaml").write_text("base: pocket\nsteps:\n  m: {merge: 'o:1'}\n")
    with pytest.raises(RecipeError, match=r"several runs \(ink, wash\)"):
        make_planner("sub/r.yaml", Path("work")).plan()


def test_grids_of_a_run_share_their_base_and_training_gets_its_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loratools.base.load import load_base

    loaded: list[weakref.ref[Any]] = []

    def load(*names: Any, **options: Any) -> Any:
        base = load_base(*names, **options)
        loaded.append(weakref.ref(base.unet))
        return base

    def train(*_: object, **__: object) -> NoReturn:
        assert [unet() for unet in loaded] == [None], "the grids' base is still there"
        raise RecipeError("training has all memory")

    monkeypatch.setattr("loratools.preview.session.load_any_base", load)
    monkeypatch.setattr(importlib.import_module("loratools.train.trainer"), "train", train)
    grid = "{grid: {weights: 1, prompts: 1girl, steps: 1, size: 64"
    Path("r.yaml").write_text(
        f"base: tiny\nsteps:\n  one: {grid}, rows: [a.safetensors]}}}}\n"
        f"  two: {grid}, rows: [a.safetensors], seeds: 2}}}}\n"
        "  pictures: {draw: {style: ink, count: 1}}\n  ink: {train: {images: pictures}}\n"
    )
    with pytest.raises(RecipeError, match="has all memory"):
        run_steps(make_planner("r.yaml", Path("work")).plan(), Path("work"), RunContext(device="cpu"))
    assert len(loaded) == 1 and Path("work/one/grid.png").is_file() and Path("work/two/grid.png").is_file()


def test_offload_holds_while_a_recipe_loads_its_base(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from loratools.base.load import load_base

    parked: list[bool] = []

    def load(*names: Any, **options: Any) -> Any:
        parked.append(options["parked"])
        return load_base(*names, **options)

    monkeypatch.setattr("loratools.preview.session.load_any_base", load)
    run("x: {cfg: [3, 5]}, prompts: 1girl, offload: true")
    assert parked == [True]


@pytest.mark.parametrize(
    ("row", "axis"),
    [
        ("ink@last:1,a:1", "weight of ink@last"),
        ("ink@last:1,a:1", "weight of ink@3"),
        ("ink@last:1,a:1", "weight of ink"),
        ("ink@best:1,a:1", "weight of ink@best"),
        ("ink@1-2:1,a:1", "weight of ink@1-2"),
        ("ink@1-2:1,a:1", "weight of ink@2"),
        ("ink@last:1,a:1", "te of ink@last"),
        ("ink@best:1,a:1", "unet of ink@best"),
        ("ink@1-2:1,a:1", "block OUT11 of ink@1-2"),
        ("ink/ink-000001.safetensors:1,a:1", "weight of ink-000001"),
        ("ink@last", "weight of ink@last"),
        ("ink", "weight of ink"),
    ],
)
def test_a_name_on_an_axis_that_passes_the_plan_is_there_in_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, row: str, axis: str
) -> None:
    monkeypatch.setattr("loratools.recipe.steps.pictures.grid_step.best_epoch", lambda run: 2)
    run(f'rows: "{row}", x: {{"{axis}": [0, 1]}}, prompts: 1girl, seeds: 1')
    assert Path("work/sheet/grid.json").is_file()


def test_a_vector_of_every_epoch_of_a_stack(folder: Path) -> None:
    run('rows: "ink@last:1,a:1", x: {"vector of ink": [GP1, ALL]}, y: {"epoch of ink": [1, last]}, prompts: 1girl')
    assert Path("work/sheet/grid.json").is_file()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('rows: ["ink@last:1,a:1", a], x: {"weight of ink": [0, 1]}', "axis x, weight of ink: 'a' has no LoRA called"),
        ('rows: ["ink@last:1,a:1"], x: {"weight of ink@2": [0, 1]}', "no row has a LoRA called 'ink@2'"),
        ('rows: ["ink@best:1,a:1"], x: {"weight of ink@last": [0, 1]}', "no row has a LoRA called 'ink@last'"),
    ],
)
def test_a_lora_that_a_row_does_not_have_is_told_by_the_plan(folder: Path, body: str, words: str) -> None:
    with pytest.raises(RecipeError, match=r"grid\.x") as error:
        run(f"{body}, prompts: 1girl")
    assert words in str(error.value)


def test_a_selected_epoch_is_not_that_of_an_axis_of_epochs(folder: Path) -> None:
    body = 'rows: "ink@last:1,a:1", x: {"vector of ink@last": [GP1, ALL]}, y: {"epoch of ink": [1, 3]}, prompts: 1girl'
    with pytest.raises(RecipeError, match=r"grid\.x: axis x, blocks of ink@last: 'ink@1:1\.0,a:1\.0' has no LoRA"):
        run(body)


def test_strengths_of_tags_need_tags_in_every_prompt(folder: Path) -> None:
    with pytest.raises(RecipeError, match="axis y, text encoder: 'base' is not a LoRA file or stack"):
        run('y: {te: [0, 1]}, prompts: ["1girl <lora:a:1>", 1girl]')


def test_prompt_s_r_may_put_another_lora_into_a_tag(folder: Path) -> None:
    save_lora(folder / "b.safetensors", 2)
    run('x: {"s/r": ["a:1", "b:1"]}, prompts: "1girl <lora:a:1>"')
    record = Path("work/sheet/grid.json").read_text(encoding="utf-8")
    assert "<lora:b:1>" in record


def test_prompts_in_a_file_on_an_axis_count_and_their_tags_are_found(folder: Path) -> None:
    Path("two.txt").write_text("1girl <lora:a:1>\n1girl\n", encoding="utf-8")
    run("x: {prompt: two.txt}")
    first = Path("work/sheet/grid.json").read_text(encoding="utf-8")
    Path("two.txt").write_text("1girl <lora:a:1>\nsmile\n", encoding="utf-8")
    run("x: {prompt: two.txt}")
    assert "smile" in Path("work/sheet/grid.json").read_text(encoding="utf-8") and "smile" not in first


def test_base_models_on_an_axis_lie_beside_the_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere").mkdir()
    Path("r.yaml").write_text(
        "base: tiny\nsteps:\n  sheet: {grid: {x: {base: [tiny]}, prompts: 1girl, steps: 1, size: 64}}\n"
    )
    monkeypatch.chdir("elsewhere")
    run_steps(make_planner("../r.yaml", Path("work")).plan(), Path("work"), RunContext(device="cpu"))
    assert Path("work/sheet/grid.json").is_file()


def test_the_weight_of_an_average_is_shared_among_its_epochs(folder: Path) -> None:
    names = NameLookup(find_lora, lambda _: None, load_presets())
    (row,) = names.rows([RowText.parse("ink@1-2:1,a:0.5")])
    same, half, one = (
        edited(row, [RowEdit("weight", value, term)], names.presets)
        for value, term in ((1.0, "ink"), (0.5, "ink@1-2"), (0.0, "ink@2"))
    )
    assert [term.weight for term in same.terms] == [term.weight for term in row.terms] == [0.5, 0.5, 0.5]
    assert [term.weight for term in half.terms] == [0.25, 0.25, 0.5]
    assert [term.weight for term in one.terms] == [0.5, 0.0, 0.5]


def test_words_that_mark_a_place_in_a_tag_are_no_values(folder: Path) -> None:
    body = (
        'x: {"s/r": [NUM, "000001", "000003"]}, y: {"s/r": [STRENGTH, 0.5, 1]}, seeds: 1, '
        'prompts: "1girl <lora:ink-NUM:STRENGTH>"'
    )
    Path("r.yaml").write_text(
        f"base: tiny\nlora_dirs: ink\nsteps:\n  sheet: {{grid: {{{body}, steps: 1, size: 64}}}}\n"
    )
    run_steps(make_planner("r.yaml", Path("work")).plan(), Path("work"), RunContext(device="cpu"))
    record = json.loads(Path("work/sheet/grid.json").read_text(encoding="utf-8"))
    assert [axis["labels"] for axis in record["axes"][:2]] == [["base", "000001", "000003"], ["0.5", "1"]]
    assert len({cell["key"] for cell in record["cells"]}) == 5


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('x: {"s/r": [NUM]}, prompts: "1girl <lora:ink-NUM:1>"', r"grid\.x: .*'NUM' only marks the place"),
        ('x: {cfg: 3}, prompts: "1girl <lora:a:STRENGTH>"', r"grid\.prompts: .*if STRENGTH marks a place"),
        ('x: {"s/r": [NUM, "1", "9"]}, prompts: "1girl <lora:ink@NUM:1>"', r"grid\.x: ink has no epoch 9"),
        ('rows: a, prompts: "{1girl|1boy}"', "'{1girl|1boy}' is a random choice"),
        ("rows: a, prompts: 1girl, negative: __bad__", "'__bad__' is a wildcard"),
    ],
)
def test_the_plan_refuses_prompts_that_would_be_drawn_as_words(folder: Path, body: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        run(body)
