"""The house's one rule: a room imports only from the rooms above it, and light ones import nothing heavy."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "loratools"
# from the top of the house to its bottom
ROOMS = [
    "errors",
    "files",
    "launch",
    "yamlio",
    "adapter",
    "blocks",
    "ops",
    "pocket",
    "base",
    "train",
    "preview",
    "recipe",
    "cli",
]
ABOVE = {room: set(ROOMS[: index + 1]) for index, room in enumerate(ROOMS)}
ABOVE["blocks"] -= {"adapter"}  # strings in, floats out
LATE = {"diffusers", "transformers", "accelerate", "matplotlib", "peft"}  # at the top of no module of any room
HEAVY = LATE | {"torch", "safetensors", "numpy", "PIL", "tqdm"}
LIGHT_ROOMS = ("blocks", "recipe", "cli")  # what `loratools --help` and a recipe's checks touch


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "weights" not in path.parts)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of everything that is imported; relative imports do not stand in this house."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports in full"
            if node.module == "loratools":
                yield from ((f"loratools.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield str(node.module), node.lineno


def at_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported: not those of functions, nor of ``if TYPE_CHECKING``."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
            continue
        yield node
        waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def imported_at_import(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in at_import(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(ast.Module([node], []))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_above(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    assert room in ABOVE, f"loratools/{room} is no room; give it a place in ROOMS"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name, line in imports(tree):
        parts = name.split(".")
        if parts[0] == "loratools" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] in ABOVE[room], f"{path}:{line}: {room} imports {name}, which lies below it"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_heavy_is_imported_early(path: Path) -> None:
    forbidden = HEAVY if room_of(path) in LIGHT_ROOMS else LATE
    for name, line in imported_at_import(ast.parse(path.read_text(encoding="utf-8"))):
        assert name.split(".")[0] not in forbidden, f"{path}:{line}: import {name} where it is needed"
        if room_of(path) == "cli" and name.startswith("loratools."):
            room = name.split(".")[1]
            assert room in ("cli", "errors", "__version__"), f"{path}:{line}: {name} belongs inside the command"


def test_the_check_sees_what_it_should() -> None:
    bad = ast.parse(
        "import os\nif True:\n    import torch\nclass A:\n    import numpy\ndef f():\n    import diffusers\n"
    )
    assert {name for name, _ in imported_at_import(bad)} == {"os", "torch", "numpy"}
    typed = ast.parse("if TYPE_CHECKING:\n    import torch\n")
    assert not list(imported_at_import(typed))
