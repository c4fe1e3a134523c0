"""An environment with the lowest or newest versions of every package that pyproject.toml names, made by uv."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}  # uv's words
EXTRAS = ("optim", "log", "tag", "face", "text", "studio")
# what the tests need beside what the package does; never older than pyproject.toml has them, nor what is looked at
TEST_PACKAGES = ("pytest", "pytest-xdist", "hypothesis", "httpx2", "onnx", "setuptools", "peft", "lycoris-lora")


@dataclass(frozen=True)
class Environment:
    """An environment's folder, and the uv that made it."""

    uv: str
    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return next(path for name in ("bin/python", "Scripts/python.exe") if (path := self.folder / name).exists())

    def versions(self, names: Sequence[str]) -> dict[str, str]:
        """The installed versions of these packages."""
        listed = _output(self.uv, "pip", "list", "--format", "json", "--python", str(self.python))
        installed = {plain(own["name"]): own["version"] for own in json.loads(listed)}
        return {name: installed[name] for name in names if name in installed}


def make(uv: str, folder: Path, python: str, resolution: str) -> Environment:
    """Make it anew; nothing is built, so that every version is one that has a wheel for this Python.

    Args:
        python: a version that uv finds, such as ``3.13``, or an interpreter's path.
        resolution: of :data:`RESOLUTIONS`.
    Raises:
        subprocess.CalledProcessError: if uv cannot; it has said why.
    """
    _run(uv, "venv", "--quiet", "--clear", "--python", python, str(folder))
    made = Environment(uv, folder)
    wheels = ("--quiet", "--only-binary", ":all:", "--python", str(made.python))
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    resolve = ("--no-header", "--no-annotate", "--resolution", RESOLUTIONS[resolution], *extras)
    pinned = _output(uv, "pip", "compile", *wheels, *resolve, str(ROOT / "pyproject.toml"))
    (folder / "pinned.txt").write_text(pinned, encoding="utf-8")
    _run(uv, "pip", "install", *wheels, "-r", str(folder / "pinned.txt"))
    named = set(package_names())
    looked_at = [line for line in pinned.splitlines() if plain(re.split("[=;@ ]", line)[0]) in named]
    (folder / "constraints.txt").write_text("\n".join(looked_at), encoding="utf-8")
    _run(uv, "pip", "install", *wheels, "-c", str(folder / "constraints.txt"), *_test_requirements())
    return made


def package_names() -> list[str]:
    """The packages that the package and its extras for users ask for."""
    return sorted({plain(re.split("[<>=;!~ \\[]", text)[0]) for text in requirements()})


def requirements() -> Iterator[str]:
    """As pyproject.toml has them, of the package and of its extras for users."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    yield from project["dependencies"]
    for extra in EXTRAS:
        yield from project["optional-dependencies"][extra]


def plain(name: str) -> str:
    """A package's name as indexes compare them."""
    return re.sub("[-_.]+", "-", name.strip()).lower()


def _test_requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {plain(name) for name in TEST_PACKAGES}
    return [
        text for text in project["optional-dependencies"]["test"] if plain(re.split("[<>=;!~ \\[]", text)[0]) in wanted
    ]


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
