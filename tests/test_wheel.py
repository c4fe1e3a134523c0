"""What a user installs: the wheel, built from the source distribution, carries every file and finds its recipes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools", "77", reason="older ones cannot read this pyproject.toml")

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
PAGE = "loratools/studio/page"  # the studio's page: what it is built from stays in the tree
SOURCES = ("loratools", "recipes", "pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE")
LOOK = """\
from loratools.base.single_file import CONFIGS
from loratools.pocket import weights_folder
from loratools.recipe.shipped import RECIPES, SCHEMA
print(RECIPES / "style.yaml")
for path in (RECIPES / "style.yaml", SCHEMA, weights_folder() / "model_index.json", CONFIGS / "sdxl/model_index.json"):
    assert path.is_file(), path
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by this environment's setuptools, with nothing downloaded, from copies: the tree stays as it is."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".bin"))
        else:
            shutil.copy(ROOT / name, source / name)
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, str(work), cwd=source)
    with tarfile.open(next(work.glob("*.tar.gz"))) as archive:
        archive.extractall(work / "unpacked", filter="data")
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    run(sys.executable, "-c", build, str(work), cwd=next((work / "unpacked").iterdir()))
    return next(work.glob("*.whl"))


def run(*command: str, cwd: Path, **environment: str) -> str:
    """What it prints; its errors are the test's."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_carries_every_file(wheel: Path) -> None:
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {path.relative_to(ROOT) for top in ("loratools", "recipes") for path in (ROOT / top).rglob("*")}
    expected = {path.as_posix() for path in files if (ROOT / path).is_file() and "__pycache__" not in path.parts}
    expected.remove("loratools/pocket/weights/log.jsonl")  # how the pocket base was trained: for readers of the tree
    served = (f"{PAGE}/dist/", f"{PAGE}/words/")  # the server says its own sentences by the page's words
    expected = {name for name in expected if not name.startswith(f"{PAGE}/") or name.startswith(served)}
    assert f"{PAGE}/dist/index.html" in expected
    assert carried == {f"loratools/{name}" if name.startswith("recipes/") else name for name in expected}


def test_an_installed_wheel_finds_its_recipes_weights_and_configurations(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    printed = run(sys.executable, "-c", LOOK, cwd=tmp_path, PYTHONPATH=str(place))
    assert Path(printed.strip()) == place / "loratools/recipes/style.yaml"
    steps = run(sys.executable, "-m", "loratools", "recipe", "steps", cwd=tmp_path, PYTHONPATH=str(place))
    assert "publish" in steps
