"""The house's rules: rooms, floors inside them, no circles, no heaps, and light rooms import nothing heavy.

A room, and a floor inside a room, imports only from what stands before it in its list here: imports inside functions
and under ``TYPE_CHECKING`` count too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "loratools"
# from the top of the house to its bottom
ROOMS = [
    "version", "errors", "progress", "module_path", "file_names", "files", "digests", "line_program", "launch",
    "dtypes", "yamlio", "validation", "imaging", "adapter", "blocks", "ops", "pocket", "dataset", "base", "train",
    "measures", "preview", "tune", "recipe", "library", "studio", "doctor", "cli",
]  # fmt: skip
ABOVE = {room: set(ROOMS[: index + 1]) for index, room in enumerate(ROOMS)}
# inside a room, floor by floor; the folders and files of one floor do not import one another
FLOORS: dict[str, list[str]] = {
    "launch": ["rank", "launcher job", "elastic worker workers", "jobs"],
    "adapter": ["foreign_file parallel", "header", "algebra", "architectures", "files"],
    "ops": [
        "text_table randomized_svd extract_parts", "report batch", "merging", "analysis style_removal",
        "subtract resize extract convert edit_header",
    ],
    "dataset": [
        "captions bit_depth caption_weights onnx_model", "folder", "encodings", "caption_metadata images tables unused",
        "caption_files walk", "scan", "tags", "facts sidecars", "similar detect", "edits", "tagging", "balance",
        "look", "prepare",
    ],
    "base": [
        "quiet to_device picture_size", "base_path model text_model", "single_file vae_path", "load", "vae", "prompt",
        "sampling patching fused", "compiled pipelines weight_function", "any_base infotext generate",
    ],
    "train": [
        "distributed sd_scripts seeds stop_file", "config interrupt", "data", "network", "optim", "output step",
        "callbacks drawing",
        "dry_run loop", "setup", "trainer", "basestyle",
    ],
    "measures": [
        "estimate copy_risk features", "measure", "last_batch request pictures smooth",
        "own_command own_function judged votes closeness", "sources probe", "build",
    ],
    "preview": [
        "request", "record", "judge page plan", "render sheet", "drawing session", "redraw run", "block_effect",
    ],
    "tune": [
        "arrays", "problem progress", "history", "search", "descent", "choosing", "drawing folder", "report", "run",
        "asking", "epochs", "then", "plan", "dry_run tuning",
    ],
    "recipe": [
        "shipped", "schema", "plan record", "observer", "importers publish", "steps", "edit run", "report",
        "compare reproduce demo", "tune_merge",
    ],
    "library": [
        "options", "terms files tune_options",
        "merging operations vectors training tuning pictures captions dataset recipes", "batches",
    ],
    "studio": [
        "api token", "events roots gate device child_environment", "discover", "jobs measuring", "context stacks demo",
        "live", "handlers", "app", "serve",
    ],
    "cli": [
        "commands", "app", "options", "launched recipe_output each",
        "lora recipe pictures training dataset blocks studio machine",
    ],
    "doctor": ["facts", "finding torch_wheels gather", "torch_and_gpu", "checks", "report __main__"],
}  # fmt: skip
LATE = {"diffusers", "transformers", "accelerate", "matplotlib", "peft"}  # at the top of no module of any room
HEAVY = LATE | {"torch", "safetensors", "numpy", "PIL", "tqdm"}
LIGHT_ROOMS = ("dtypes", "blocks", "recipe", "cli")  # what `loratools --help` and a recipe's checks touch
HEAP = 20  # files that one folder may hold
SKIPPED_FORMATS = 60  # tables that are read better as they were typed, in all
PARAMETERS = 16  # that one function may take
MANY_PARAMETERS = {  # functions that still take more; a list that only becomes shorter
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if not {"weights", "node_modules"} & set(path.parts))


@cache
def house() -> dict[str, Path]:
    """Dotted name -> file, of everything that is ours and not a test."""
    tops = (ROOT / "benchmarks", ROOT / "tools")
    files = [*modules(), *(path for top in tops for path in sorted(top.rglob("*.py")))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def arrows(name: str) -> frozenset[str]:
    """The modules of the house that the module ``name`` imports, wherever in it the import stands."""
    targets: set[str] = set()
    for node in ast.walk(parsed(house()[name])):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & house().keys()
            targets |= inner or {str(node.module)}
    return frozenset((targets & house().keys()) - {name})


def circles(names: Iterator[str] | list[str]) -> list[list[str]]:
    """Every circle of imports among ``names``, as the sorted names of its modules (Tarjan's components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    result: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(arrows(name)):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            cut = stack.index(name)
            if len(stack) - cut > 1:
                result.append(sorted(stack[cut:]))
            del stack[cut:]

    for name in names:
        if name not in index:
            visit(name)
    return result


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
    for name, line in imports(parsed(path)):
        parts = name.split(".")
        if parts[0] == "loratools" and len(parts) > 1:
            assert parts[1] in ABOVE[room], f"{path}:{line}: {room} imports {name}, which lies below it"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_heavy_is_imported_early(path: Path) -> None:
    forbidden = HEAVY if room_of(path) in LIGHT_ROOMS else LATE
    for name, line in imported_at_import(parsed(path)):
        assert name.split(".")[0] not in forbidden, f"{path}:{line}: import {name} where it is needed"
        if room_of(path) == "cli" and name.startswith("loratools."):
            room = name.split(".")[1]
            assert room in ("cli", "errors", "dtypes", "version"), f"{path}:{line}: {name} belongs inside the command"


def floor_of(room: str, name: str) -> int:
    """The floor of ``loratools.ROOM.PLACE...``, counted from the top."""
    place = name.split(".")[2]
    for number, floor in enumerate(FLOORS[room]):
        if place in floor.split():
            return number
    raise AssertionError(f"loratools/{room}/{place} stands on no floor; give it a place in FLOORS")


@pytest.mark.parametrize("room", FLOORS)
def test_a_floor_imports_only_from_floors_above(room: str) -> None:
    wrong = []
    prefix = f"loratools.{room}."
    for name in (name for name in house() if name.startswith(prefix)):
        own, place = floor_of(room, name), name.split(".")[2]
        for other in sorted(arrows(name)):
            if not other.startswith(prefix) or other.split(".")[2] == place:
                continue
            if floor_of(room, other) >= own:
                wrong.append(f"{name} imports {other}, which stands no higher")
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_itself_round_a_corner() -> None:
    assert not circles(sorted(house()))


def test_no_folder_is_a_heap_and_each_says_what_belongs_there() -> None:
    folders: dict[Path, list[Path]] = {}
    for path in house().values():
        folders.setdefault(path.parent, []).append(path)
    for folder, files in folders.items():
        assert len([path for path in files if path.name != "__init__.py"]) <= HEAP, f"{folder}: a heap"
        init = folder / "__init__.py"
        assert init in files, f"{folder} has no __init__.py"
        assert ast.get_docstring(parsed(init)), f"{init} does not say what belongs here"


def test_the_tree_can_be_checked_out_on_windows() -> None:
    reserved = set('<>:"|?*\\')
    tops = ("loratools", "benchmarks", "tools", "tests", "recipes", "docs", ".ci")
    for path in (path for top in tops for path in (ROOT / top, *(ROOT / top).rglob("*"))):
        if not {"__pycache__", "node_modules"} & set(path.parts):
            assert not path.is_symlink(), f"{path}: a symlink, which a Windows checkout turns into a text file"
            assert not reserved & set(path.name) and not path.name.endswith((".", " ")), f"{path}: no name for Windows"


def signatures(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, int]]:
    """(dotted name, number of parameters) of every function: ``self``, ``*args`` and ``**kwargs`` count one each."""
    for node in ast.iter_child_nodes(tree):
        inner = prefix
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{prefix}.{node.name}"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own = node.args
            both = (own.vararg, own.kwarg)
            yield inner, sum(map(len, (own.posonlyargs, own.args, own.kwonlyargs))) + sum(map(bool, both))
        yield from signatures(node, inner)


def test_no_function_takes_more_parameters_than_one_can_keep_in_mind() -> None:
    many = {
        name: count
        for module, path in house().items()
        for name, count in signatures(parsed(path), module)
        if count > PARAMETERS
    }
    worse = {name: count for name, count in many.items() if count > MANY_PARAMETERS.get(name, PARAMETERS)}
    assert not worse, f"hand an object over instead: {worse}"
    mended = MANY_PARAMETERS.keys() - many.keys()
    assert not mended, f"strike them from MANY_PARAMETERS: {sorted(mended)}"


def test_a_mistake_is_an_error_of_its_own_and_no_assertion() -> None:
    places = [
        f"{path}:{node.lineno}" for path in modules() for node in ast.walk(parsed(path)) if isinstance(node, ast.Assert)
    ]
    assert not places, f"raise an error of loratools/errors.py, or write code that needs no assertion: {places}"


def judged_by_words(tree: ast.AST) -> Iterator[int]:
    """Lines that look at the text of a caught error: ``"x" in str(error)``, ``str(error).startswith("x")``, ``re``."""
    for handler in ast.walk(tree):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None:
            continue
        text = f"str({handler.name})"
        for node in (inner for part in handler.body for inner in ast.walk(part)):
            compared = isinstance(node, ast.Compare) and text in map(ast.unparse, node.comparators)
            asked = (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and (
                    (
                        ast.unparse(node.func.value) == text
                        and node.func.attr in ("startswith", "endswith", "find", "index")
                    )
                    or (ast.unparse(node.func.value) == "re" and text in map(ast.unparse, node.args))
                )
            )
            if compared or asked:
                yield node.lineno  # type: ignore[attr-defined]


def test_errors_are_told_apart_by_what_they_are() -> None:
    places = [f"{path}:{line}" for path in modules() for line in judged_by_words(parsed(path))]
    assert not places, f"give the error a class or a field: {places}"


def test_the_formatter_decides_nearly_everywhere() -> None:
    marker = "# fmt" + ": skip"
    tops = ("loratools", "benchmarks", "tools", "tests")
    counts = [path.read_text(encoding="utf-8").count(marker) for top in tops for path in (ROOT / top).rglob("*.py")]
    assert sum(counts) <= SKIPPED_FORMATS


def test_the_check_sees_what_it_should() -> None:
    bad = ast.parse(
        "import os\nif True:\n    import torch\nclass A:\n    import numpy\ndef f():\n    import diffusers\n"
    )
    assert {name for name, _ in imported_at_import(bad)} == {"os", "torch", "numpy"}
    wide = ast.parse("class A:\n    def f(self, a, /, b, *c, d, **e):\n        def g(): pass\n")
    assert list(signatures(wide)) == [(".A.f", 6), (".A.f.g", 0)]
    words = "'x' in str(e)", "str(e).startswith('x')", "re.match('x', str(e))"
    worded = ast.parse("try: f()\nexcept E as e:\n    " + "\n    ".join(words))
    assert list(judged_by_words(worded)) == [3, 4, 5]
    typed = ast.parse("if TYPE_CHECKING:\n    import torch\n")
    assert not list(imported_at_import(typed))
