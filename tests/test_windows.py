"""What would break on Windows, read from the sources and the tree: nobody runs the suite there at each change."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "loratools"
_RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(1, 10))}
_ASKS = ("platform", "os.name", "system", "hasattr", "windows")  # in a condition
_LONGEST = 140  # characters of a path in the tree: 260 less the folder that somebody unpacks it in
_POSIX_ONLY = {"fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "posix", "syslog"}
_POSIX_CALLS = {"fork", "forkpty", "mkfifo", "getuid", "geteuid", "setsid", "killpg", "symlink", "chown", "nice"}
_POSIX_SIGNALS = {"SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGQUIT", "SIGCHLD", "SIGPIPE"}
_TEXT_METHODS = {"read_text": 0, "write_text": 1}  # and which argument an encoding would be


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if not {"weights", "node_modules"} & set(path.parts))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def found(kind: str, path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {kind}"


def guarded(path: Path) -> set[int]:
    """Lines under an ``if`` or ``try`` that asks for the platform, or for whether the name is there."""
    lines: set[int] = set()
    for node in ast.walk(tree(path)):
        asks = isinstance(node, ast.Try)
        if isinstance(node, ast.If | ast.IfExp):
            asks = any(
                word in ast.unparse(node.test) for word in ("platform", "os.name", "system", "hasattr", "windows")
            )
        elif isinstance(node, ast.With):
            asks = any("suppress(" in ast.unparse(item) and "Import" in ast.unparse(item) for item in node.items)
        if asks:
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))  # type: ignore[attr-defined]
    return lines


def text_without_encoding(path: Path) -> Iterator[str]:
    """Text is UTF-8 everywhere; Windows' own code page is read where none is named."""
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        named = {keyword.arg for keyword in node.keywords}
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in _TEXT_METHODS and isinstance(node.func, ast.Attribute):
            click = ast.unparse(node.func.value) == "formatter"  # click's method of that name
            if "encoding" not in named and len(node.args) <= _TEXT_METHODS[name] and not click:
                yield found(f"{name} without encoding=", path, node)
        elif isinstance(node.func, ast.Name) and name == "open" and "encoding" not in named:
            mode = (
                node.args[1] if len(node.args) > 1 else next((k.value for k in node.keywords if k.arg == "mode"), None)
            )
            if not (isinstance(mode, ast.Constant) and "b" in str(mode.value)) and not isinstance(mode, ast.Name):
                yield found("open without encoding=", path, node)
        elif (
            name in ("run", "Popen", "check_output")
            and {"text", "universal_newlines"} & named
            and "encoding" not in named
        ):
            yield found("a process's text without encoding=", path, node)


def posix_alone(path: Path) -> Iterator[str]:
    """Modules, calls and signals that Windows lacks, where nothing asks before."""
    safe = guarded(path)
    for node in ast.walk(tree(path)):
        if getattr(node, "lineno", 0) in safe:
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (found(f"import {name}", path, node) for name in names if name in _POSIX_ONLY)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "os" and node.attr in _POSIX_CALLS:
                yield found(f"os.{node.attr}", path, node)
            if node.value.id == "signal" and node.attr in _POSIX_SIGNALS:
                yield found(f"signal.{node.attr}", path, node)
        elif isinstance(node, ast.Constant) and str(node.value).startswith(("/tmp", "/dev/", "/var/", "~/")):
            yield found(f"the path {node.value!r}", path, node)


@pytest.mark.parametrize("check", [text_without_encoding, posix_alone], ids=lambda check: check.__name__)
def test_nothing_in_the_sources_needs_another_system(check: object) -> None:
    assert [line for path in sources() for line in check(path)] == []  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("open('x')", text_without_encoding),
        ("open('x', 'w')", text_without_encoding),
        ("path.read_text()", text_without_encoding),
        ("path.write_text('a')", text_without_encoding),
        ("subprocess.run(['a'], text=True)", text_without_encoding),
        ("import fcntl", posix_alone),
        ("os.fork()", posix_alone),
        ("os.kill(1, signal.SIGKILL)", posix_alone),
        ("folder = '/tmp/x'", posix_alone),
    ],
)
def test_the_lint_finds_what_it_is_for(text: str, check: object, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ast.parse(text)
    monkeypatch.setattr(f"{__name__}.tree", lambda _: module)
    assert list(check(PACKAGE / "x.py"))  # type: ignore[operator]


def test_names_of_the_tree_are_possible_everywhere() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    ).stdout.split("\0")
    names = [name for name in listed if name] or [path.relative_to(ROOT).as_posix() for path in sources()]
    wrong = [name for name in names for part in PurePosixPath(name).parts if _impossible(part)]
    assert wrong == []
    assert [name for name in names if len(name) > _LONGEST] == []
    assert len({name.lower() for name in names}) == len(names)  # Windows and macOS tell no case apart


def test_the_scripts_that_start_the_studio_have_their_systems_lines() -> None:
    """cmd.exe misreads labels in a file with bare line feeds; sh misreads carriage returns."""
    batch, shell = ((ROOT / f"start-studio.{end}").read_bytes() for end in ("bat", "sh"))
    assert batch.count(b"\r\n") == batch.count(b"\n") > 10 and b"\r" not in shell
    attributes = (ROOT / ".gitattributes").read_text(encoding="utf-8")
    assert "*.bat text eol=crlf" in attributes and "*.sh text eol=lf" in attributes


def _impossible(part: str) -> bool:
    stem = part.split(".")[0].lower()
    return stem in _RESERVED or part.endswith((".", " ")) or any(mark in part for mark in '<>:"\\|?*')
