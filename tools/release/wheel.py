"""The wheel, built from the source distribution, and which of the tree's files it has to carry."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PAGE = "loratools/studio/page"  # the studio's page: what it is built from stays in the tree
_SERVED = (f"{_PAGE}/dist/", f"{_PAGE}/words/")  # the server says its own sentences by the page's words
_FOR_READERS_OF_THE_TREE = {"loratools/pocket/weights/log.jsonl"}  # how the pocket base was trained
_FOLDERS = ("loratools", "recipes")
BESIDE = (  # files of the source distribution that are no part of the package
    "README.md",
    "README.zh.md",
    "README.ru.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "NOTICE",
    "constraints.txt",
    "pyproject.toml",
    "setup.py",
    "start-studio.bat",
    "start-studio.sh",
)


@dataclass(frozen=True)
class Built:
    """The files of a version that are handed out."""

    sdist: Path
    wheel: Path


def build(root: Path, place: Path) -> Built:
    """Build both by this environment's setuptools, from a copy: the tree stays as it is, and nothing is downloaded.

    Raises:
        subprocess.CalledProcessError: if setuptools cannot; it has said why.
    """
    source = place / "source"
    source.mkdir(parents=True)
    for name in _FOLDERS:
        shutil.copytree(
            root / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules", ".bin")
        )
    for name in (*BESIDE, "MANIFEST.in"):
        shutil.copy(root / name, source / name)
    sdist = _setuptools("sdist", source, place)
    with tarfile.open(sdist) as archive:
        archive.extractall(place / "unpacked", filter="data")
    return Built(sdist, _setuptools("wheel", next((place / "unpacked").iterdir()), place))


def _setuptools(kind: str, source: Path, place: Path) -> Path:
    program = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(place)]
    done = subprocess.run(command, cwd=source, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    return place / done.stdout.strip().splitlines()[-1]


def expected(root: Path) -> set[str]:
    """Paths in the wheel, by the tree."""
    files = {path.relative_to(root) for top in _FOLDERS for path in (root / top).rglob("*") if path.is_file()}
    names = {path.as_posix() for path in files if not {"__pycache__", "node_modules"} & set(path.parts)}
    names -= _FOR_READERS_OF_THE_TREE
    carried = {name for name in names if not name.startswith(f"{_PAGE}/") or name.startswith(_SERVED)}
    return {f"loratools/{name}" if name.startswith("recipes/") else name for name in carried}


def unlike_the_tree(root: Path, built: Built) -> Iterator[str]:
    """What wheel and source distribution lack, or have too much."""
    carried = {name for name in zipfile.ZipFile(built.wheel).namelist() if ".dist-info/" not in name}
    wanted = expected(root)
    yield from (f"the wheel lacks {name}; see package-data in pyproject.toml" for name in sorted(wanted - carried))
    yield from (f"the wheel carries {name}, which is not the package's" for name in sorted(carried - wanted))
    with tarfile.open(built.sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    yield from (f"the source distribution lacks {name}; see MANIFEST.in" for name in BESIDE if name not in packed)
    if any(name.startswith("tests/") for name in packed):
        yield "the source distribution carries some tests without their helpers; see MANIFEST.in"
