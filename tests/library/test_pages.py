"""What docs/library.md and README promise about the library runs, and is typed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.library.pages import HOSTS, ROOT, Block, blocks, run, save_picture, save_pocket_lora

RECIPE = """\
version: 1
base: pocket
vars: {strength: 1.0}
steps:
  final: {merge: "ink:${strength}:GP1, base_style:-1:GP2", out: final.safetensors}
"""
WRONG = """\
import loratools as lt

reveal_type(lt.merge("a:1"))
reveal_type(lt.merge("a:1", "out.safetensors"))
lt.merge(1)
lt.merge("a:1", "out.safetensors", dtype="fp8")
wrong: lt.TuneResult = lt.train("a.yaml")
"""
FOLDERS = """\
import loratools as lt
import loratools.train.config.config as deep
from loratools import train, tune
from loratools.train import TrainConfig, read_config
from loratools.tune.problem.request import TuneRequest

made: lt.RunResult = lt.train(base="pocket", images="p", on_epoch=lambda epoch: print(epoch.loss))
same: lt.RunResult = train("a.yaml")
tuned: lt.TuneResult = tune("a", "o", base="pocket", symptoms=["hands"])
config: type[TrainConfig] = deep.TrainConfig
"""
SLOW = "Training, grids and recipes"  # loads the pocket base


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder as docs/library.md describes it."""
    monkeypatch.chdir(tmp_path)
    save_pocket_lora(tmp_path / "ink.safetensors", 1)
    save_pocket_lora(tmp_path / "base_style.safetensors", 2)
    (tmp_path / "mine.yaml").write_text(RECIPE, encoding="utf-8")
    save_picture(tmp_path / "downloads")
    return tmp_path


def _blocks(heading: str | None) -> list[Block]:
    """The page's first block, which imports, and then those under a heading; None is all but the slow one's."""
    first, *others = blocks("docs/library.md")
    chosen = [block for block in others if (block.heading != SLOW if heading is None else block.heading == heading)]
    assert chosen, f"docs/library.md has no code under '{heading}'"
    return [first, *chosen]


def test_the_examples_of_the_page_about_the_library_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in _blocks(None):
        run("docs/library.md", block, names)
    out = capsys.readouterr().out
    assert "did you mean 'GP1'" in out and "4 modules, rank 6" in out and "8 of 8" in out
    files = {"mine", "small", "ink-1", "ink-diffusers", "mean", "less", "louder", "soft", "shown"}
    assert {f"{name}.safetensors" for name in files} <= {path.name for path in place.iterdir()}


def test_the_examples_that_load_a_base_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_picture(place / "images")
    names: dict[str, object] = {}
    for block in _blocks(SLOW):
        run("docs/library.md", block, names)
    assert "final runs/mine/final.safetensors made" in capsys.readouterr().out.replace("\\", "/")
    assert (place / "grid/grid.png").is_file() and (place / "runs/ink/ink-000001.safetensors").is_file()


def test_the_readme_merges_in_five_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_pocket_lora(tmp_path / "runs/ink/ink-000008.safetensors", 1)
    save_pocket_lora(tmp_path / "runs/base-style/pocket_BASE-000006.safetensors", 2)
    (block,) = blocks("README.md")
    assert len([line for line in block.code.splitlines() if line.strip()]) <= 5
    names: dict[str, object] = {}
    run("README.md", block, names)
    assert (tmp_path / "ink.safetensors").is_file()


@pytest.mark.slow
def test_every_example_is_typed(tmp_path: Path) -> None:
    shutil.copytree(HOSTS, tmp_path, dirs_exist_ok=True)
    for page in ("README.md", "docs/library.md"):  # each is one program
        code = "".join(block.code for block in blocks(page))
        (tmp_path / f"{Path(page).stem.lower()}.py").write_text(code, encoding="utf-8")
    for number, block in enumerate(blocks("docs/integrations.md")):
        (tmp_path / f"integration_{number}.py").write_text(block.code, encoding="utf-8")
    (tmp_path / "wrong.py").write_text(WRONG, encoding="utf-8")
    (tmp_path / "folders.py").write_text(FOLDERS, encoding="utf-8")
    files = [str(path) for path in sorted(tmp_path.glob("*.py"))]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--ignore-missing-imports", *files],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if "Revealed type" in line or "error:" in line]
    assert len(lines) == 5 and all(line.startswith("wrong.py") for line in lines), done.stdout + done.stderr
    kinds = [line.rpartition("loratools.")[2] for line in lines if "Revealed type" in line]
    assert [kind.rstrip('"') for kind in kinds] == ["library.merging.MergedAdapter", "ops.report.MergeReport"]
