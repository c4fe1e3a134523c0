"""Paths with spaces, Cyrillic, Chinese, emoji, brackets and signs, of more than 260 characters, and files with
Windows' ends of lines: every command reads and writes there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from loratools.adapter.files.file import read
from loratools.ops.merging.merge_string import quoted
from tests.cli import odd_paths
from tests.cli.odd_paths import SET
from tests.cli.test_cli import call
from tests.tiny import save_tiny_base

A, B, RUN, RECIPE = "стиль 1.safetensors", "基 😀 [b].safetensors", "run, 运行", "рецепт 😀.yaml"
PICTURE = ("--base", "/основа 基", "--steps", "1", "--size", "64x64")
RECIPE_OF_A_TRAINING = """\
base: основа 基
seed: 1
steps:
  style: {train: {images: картинки 😀, epochs: 1, dim: 2, resolution: 64}}
  final: {merge: "style@1:0.5", out: итог.safetensors}
  sheet: {grid: {rows: [final], weights: 1, prompts: подсказки.txt, steps: 1, size: 64}}
"""
OUT = "out 输出 [2]/файл 😀.safetensors"
TERMS = f"{quoted('стиль 1')}:1:МОЙ,{quoted('基 😀 [b]')}:-0.5"

# (what is typed, what is there afterwards); a path that begins with / stands for one in the folder, in full
CHEAP: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("inspect", f"/{A}", f"/{B}"), ()),
    (("inspect", f"/{B}", "--json"), ()),
    (("merge", TERMS, "--presets", "пресеты.yaml", "-o", f"/{OUT}"), (OUT,)),
    (("merge", f"{quoted('ink 墨-000001')}:1", "--lora-dir", f"/{RUN}", "-o", OUT), (OUT,)),
    (("merge", f"{quoted('run, 运行@1')}:1", "-o", OUT), (OUT,)),
    (("merge", TERMS, "--presets", "/пресеты.yaml", "--dry-run"), ()),
    (("verify", f"/{A}", f"{quoted('стиль 1')}:1"), ()),
    (("soup", f"/{RUN}", "-o", f"/{OUT}"), (OUT,)),
    (("soup", "--ema", RUN, "-o", f"/{OUT}"), (OUT,)),
    (("subtract", quoted("стиль 1"), quoted("基 😀 [b]"), "-o", f"/{OUT}"), (OUT,)),
    (("resize", f"/{A}", "-o", f"/{OUT}", "--rank", "1"), (OUT,)),
    (("resize", "--each", f"/{RUN}", "-o", "/малые 小", "--rank", "1"), ("малые 小/ink 墨-000002.safetensors",)),
    (("resize", "/*.safetensors", "-o", "/малые 小", "--rank", "1"), (f"малые 小/{B}", f"малые 小/{A}")),
    (("convert", f"/{B}", "-o", f"/{OUT}", "--to", "diffusers"), (OUT,)),
    (("edit-header", f"/{A}", "--title", "标题 😀", "-o", f"/{OUT}"), (OUT,)),
    (("analyze", f"/{A}", f"/{B}", "--plot", "/график 图.png"), ("график 图.png",)),
    (("blocks", "show", "МОЙ", "--presets", "/пресеты.yaml", "--lora", f"/{A}", "--png", "/в 😀.png"), ("в 😀.png",)),
    (("blocks", "list", "--presets", "/пресеты.yaml"), ()),
    (("blocks", "convert", "МОЙ", "--presets", "/пресеты.yaml", "--to", "26", "--missing", "0"), ()),
    (("blocks", "suggest", f"/{A}", "基 😀 [b]"), ()),
    (("blocks", "fix", f"/{RECIPE}", "--symptom", "hands"), ()),
    (("epochs", f"/{RUN}", "--plot", "/эпохи.png"), ("эпохи.png",)),
    (("run", f"/{RECIPE}", "-o", "/итог 果"), ("итог 果/итог 结果.safetensors",)),
    (("run", f"/{RECIPE}"), ("runs/рецепт 😀/итог 结果.safetensors",)),
    (("merge", f"/{RECIPE}", "-o", "/итог 果"), ("итог 果/итог 结果.safetensors",)),
    (("recipe", "new", "/новый 新.yaml", "--kind", "style", "--images", f"/{SET}", "--yes"), ("новый 新.yaml",)),
    (("explain", f"/{A}"), ()),
    (("dataset", "look", f"/{SET}", "--html", "/лист 表.html"), ("лист 表.html",)),
    (("dataset", "look", f"/{SET}", "--json", "--boxes", "/рамки.json"), ()),
    (("dataset", "import", f"/{SET}"), ()),
    (
        ("dataset", "prepare", f"/{SET}", "-o", "/набор 集", "--resolution", "64", "--boxes", "/рамки.json"),
        ("набор 集",),
    ),
    (("dataset", "balance", f"/{SET}"), ()),
    (("dataset", "balance", f"/{SET}", "-o", "/ровный 平"), ("ровный 平",)),
    (("dataset", "balance", f"/{SET}", "-o", "/ровный 平.yaml"), ("ровный 平.yaml",)),
    (("dataset", "edit", f"/{SET}", "add", "墨 风格", "--where", "file:4_лицо*/*", "--yes"), ()),
    (("dataset", "edit", f"/{SET}", "remove", "улыбка", "--translations", "/переводы.csv", "--yes"), ()),
    (("dataset", "edit", f"/{SET}", "prune", "--implications", "/таблица.csv", "--yes"), ()),
]


def run(folder: Path, words: Sequence[str]) -> str:
    """Run a command there and return what it says; its paths become whole ones."""
    done = call(*(str(folder / word[1:]) if word.startswith("/") else word for word in words))
    assert done.exit_code == 0 or words[0] == "verify", done.output
    assert "Traceback" not in done.output
    return done.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return odd_paths.make(tmp_path_factory.mktemp("odd"))


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, as the current one; what tests write there stays for the others."""
    monkeypatch.chdir(made)
    return made


@pytest.mark.parametrize(("words", "results"), CHEAP)
def test_commands(folder: Path, words: tuple[str, ...], results: tuple[str, ...]) -> None:
    run(folder, [*words, "--force"] if OUT in {word.lstrip("/") for word in words} else words)
    for name in results:
        assert (folder / name).exists(), name
    assert not list(folder.rglob("*.part"))


def lines_end_as_windows_does(path: Path) -> bool:
    data = path.read_bytes()
    return data.count(b"\n") == data.count(b"\r\n") > 0


def to_crlf(path: Path) -> None:
    """What an editor of Windows makes of a file."""
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


def test_a_recipe_is_edited_and_put_back_with_its_ends_of_lines(folder: Path) -> None:
    recipe = Path(shutil.copy(RECIPE, "правка 改.yaml"))
    before = recipe.read_bytes()
    run(folder, ("blocks", "fix", str(recipe), "--symptom", "hands"))
    assert recipe.read_bytes() != before and lines_end_as_windows_does(recipe)
    (log,) = folder.glob(".правка*.fixes.json")
    to_crlf(log)
    run(folder, ("blocks", "undo", str(recipe)))
    assert recipe.read_bytes() == before


def test_captions_are_edited_and_put_back(folder: Path) -> None:
    own = Path(shutil.copytree(SET, "своё 自"))
    captions = sorted(own.glob("[14]_*/*.txt"))
    before = [path.read_bytes() for path in captions]
    seen = json.loads(run(folder, ("dataset", "look", "своё 自", "--json")))
    assert seen["pictures"] == 4 and "\\r" not in json.dumps(seen)
    run(folder, ("dataset", "edit", "своё 自", "add", "墨", "--at", "front", "--yes"))
    texts = [path.read_bytes().decode() for path in captions]
    assert all(text.startswith("墨, ") and "\r\r" not in text and "\r," not in text for text in texts)
    (log,) = own.rglob("operations.jsonl")
    to_crlf(log)
    run(folder, ("dataset", "edit", "своё 自", "undo"))
    assert [path.read_bytes() for path in captions] == before


@pytest.mark.parametrize("pattern", ["file:4_лицо*/*", 'file:"画 [1].png"'])
def test_pictures_are_chosen_by_their_files(folder: Path, pattern: str) -> None:
    shown = run(folder, ("dataset", "edit", f"/{SET}", "add", "ещё", "--where", pattern, "--dry-run"))
    assert "画 [1]" in shown and "画 [0]" not in shown


def test_the_studio_lists_it(folder: Path) -> None:
    from loratools.studio.discover.index import Index
    from loratools.studio.events import Events
    from loratools.studio.roots import Roots
    from loratools.studio.token import Secrets

    index = Index(Roots([folder], Secrets()), Events())
    try:
        seen = index.refresh()
    finally:
        index.close()
    assert {own.path.name for own in seen.loras} >= {A, B}
    assert {own.place.name for own in seen.runs} >= {"ink 墨"}


OWN = ("--base", "/основа 基", "--images", f"/{SET}", "--name", "墨 1", "--epochs", "1", "--resolution", "64")
MEASURED = ("--steps", "1", "--size", "64x64", "--prompts", "/подсказки.txt", "--seeds", "1,2", "--training-images")
SLOW: list[tuple[tuple[str, ...], str]] = [
    (
        ("grid", f"/{RUN}", *PICTURE, "--prompt", "/подсказки.txt", "--weights", "1", "-o", "/сетка 格"),
        "сетка 格/grid.html",
    ),
    (("grid", "-o", "/сетка 格", "--redraw", "--title", "Заголовок 标题 😀"), "сетка 格/grid.png"),
    (("blocks", "analyze-effect", f"/{A}", *PICTURE, "--prompt", "1girl", "-o", "/сила 力"), "сила 力/effect.png"),
    (
        ("merge", f"{quoted('стиль 1')}:1", "--into", "/основа 基", "-o", "/вместе 合.safetensors"),
        "вместе 合.safetensors",
    ),
    (("extract", "--base", "/основа 基", "--tuned", "/вместе 合.safetensors", "-o", f"/{OUT}", "--rank", "2"), OUT),
    (("epochs", f"/{RUN}", "--base", "/основа 基", *MEASURED, f"/{SET}"), f"{RUN}/ink 墨.verdict.json"),
    (("train", "/обучение 训.yaml", "--resolution", "64"), "по yaml/墨 1-000001.safetensors"),
    (("train", "/обучение 训.toml", "--resolution", "64"), "по toml/墨 1-000001.safetensors"),
    (("train", "/обучение 训.json", "--resolution", "64"), "по gui/墨 1-000001.safetensors"),
    (("train", *OWN, "--full", "--save", "delta", "-o", "/полное 全"), "полное 全/墨 1-000001.safetensors"),
    (
        ("basestyle", "/основа 基", "-o", "/сама 基", "--images-per-framing", "1", "--epochs", "1", "--dim", "2"),
        "сама 基",
    ),
]


@pytest.mark.slow
def test_commands_that_load_a_base(folder: Path) -> None:
    """One after another, since some read what those before them wrote."""
    save_tiny_base(folder / "основа 基")
    odd_paths.configs(folder)
    for words, result in SLOW:
        run(folder, words)
        assert (folder / result).exists(), words
    recipe = folder / "обучение, рецепт.yaml"
    odd_paths.crlf(recipe, RECIPE_OF_A_TRAINING)
    run(folder, ("run", f"/{recipe.name}"))
    final = "runs/обучение, рецепт/итог.safetensors"
    run(folder, ("explain", f"/{final}"))
    run(folder, ("reproduce", f"/{final}", "-o", "/снова 再.safetensors"))
    assert read(folder / "снова 再.safetensors").digest == read(folder / final).digest
    assert not list(folder.rglob("*.part"))


IMPOSSIBLE = ["style: one", "con", "NUL.2026", "what?", "trailing ", "dots.", "a|b"]
WRITERS: list[tuple[tuple[str, ...], str]] = [
    (("merge", f"{quoted('стиль 1')}:1", "-o"), ".safetensors"),
    (("soup", f"/{RUN}", "-o"), ".safetensors"),
    (("resize", f"/{A}", "--rank", "1", "-o"), ".safetensors"),
    (("resize", "--each", f"/{RUN}", "--rank", "1", "-o"), ""),
    (("convert", f"/{A}", "--to", "diffusers", "-o"), ".safetensors"),
    (("subtract", quoted("стиль 1"), quoted("基 😀 [b]"), "-o"), ".safetensors"),
    (("edit-header", f"/{A}", "--title", "a", "-o"), ".safetensors"),
    (("analyze", f"/{A}", "--plot"), ".png"),
    (("blocks", "show", "GP1", "--png"), ".png"),
    (("recipe", "new", "--kind", "style", "--yes"), ".yaml"),
    (("run", f"/{RECIPE}", "-o"), ""),
    (("merge", f"/{RECIPE}", "-o"), ""),
    (("dataset", "look", f"/{SET}", "--html"), ".html"),
    (("dataset", "prepare", f"/{SET}", "-o"), ""),
    (("dataset", "balance", f"/{SET}", "-o"), ""),
    (("dataset", "balance", f"/{SET}", "-o"), ".yaml"),
    (("train", "--base", "pocket", "--images", f"/{SET}", "--epochs", "1", "--dim", "2", "-o"), ""),
    (("train", "--base", "pocket", "--images", f"/{SET}", "--epochs", "1", "--dim", "2", "--name"), ""),
    (("basestyle", "pocket", "-o"), ""),
    (("grid", f"/{A}", "--base", "pocket", "--prompt", "a", "-o"), ""),
    (("demo", "--quick", "-o"), ""),
]


@pytest.mark.parametrize(("words", "ending"), WRITERS)
def test_a_name_that_windows_cannot_have_is_refused_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], ending: str
) -> None:
    monkeypatch.setattr("loratools.file_names._on_windows", lambda: True)
    monkeypatch.chdir(folder.joinpath(*[".."] * len(odd_paths.PARTS)))  # where all names are possible
    place = Path("there")
    place.mkdir(exist_ok=True)
    before = sorted(Path.cwd().rglob("*"))
    for name in IMPOSSIBLE if words[0] == "merge" else IMPOSSIBLE[:1]:
        own = (
            name
            if words[-1] == "--name"
            else name + ending
            if ending and not name.endswith((".", " "))
            else f"{name}/a{ending}"
        )
        full = [str(folder / word[1:]) if word.startswith("/") else word for word in words]
        done = call(
            *full,
            own if words[-1] == "--name" else place / own,
            *(["--lora-dir", folder] if words[1].startswith('"') else []),
        )
        assert done.exit_code == 1 and re.search(
            "on Windows .*; choose another|cannot be a file's name", done.stderr
        ), done.output
        assert sorted(Path.cwd().rglob("*")) == before
