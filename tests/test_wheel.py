"""What a user installs: the wheel, built from the source distribution, carries every file and finds its recipes."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.release.wheel import Built, build, unlike_the_tree

pytest.importorskip("setuptools", "77", reason="older ones cannot read this pyproject.toml")

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
LOOK = """\
from loratools.base.single_file import CONFIGS
from loratools.pocket import weights_folder
from loratools.recipe.shipped import RECIPES, SCHEMA
print(RECIPES / "style.yaml")
for path in (RECIPES / "style.yaml", SCHEMA, weights_folder() / "model_index.json", CONFIGS / "sdxl/model_index.json"):
    assert path.is_file(), path
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def place(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, as an installer lays them."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(built.wheel) as archive:
        archive.extractall(folder)
    return folder


def run(*command: str, cwd: Path, **environment: str) -> str:
    """What it prints; its errors are the test's."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_and_source_distribution_carry_every_file(built: Built) -> None:
    assert list(unlike_the_tree(ROOT, built)) == []
    names = zipfile.ZipFile(built.wheel).namelist()
    assert "loratools/studio/page/dist/index.html" in names and "loratools/recipes/style.yaml" in names


def test_an_installed_wheel_finds_its_recipes_weights_and_configurations(place: Path, tmp_path: Path) -> None:
    printed = run(sys.executable, "-c", LOOK, cwd=tmp_path, PYTHONPATH=str(place))
    assert Path(printed.strip()) == place / "loratools/recipes/style.yaml"
    steps = run(sys.executable, "-m", "loratools", "recipe", "steps", cwd=tmp_path, PYTHONPATH=str(place))
    assert "publish" in steps


def test_an_installed_wheel_runs_the_demo_in_another_folder(place: Path, tmp_path: Path) -> None:
    """The whole way from drawings to a published file, in a folder with a space and other scripts in its name."""
    folder = tmp_path / "мой 小さな demo"
    folder.mkdir()
    run(sys.executable, "-P", "-m", "loratools", "demo", "--quick", cwd=folder, PYTHONPATH=str(place))
    assert (folder / "demo/my_style.safetensors").is_file() and (folder / "demo/sheet/grid.png").is_file()
