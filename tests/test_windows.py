"""What would break on Windows, read from the sources and the tree: nobody runs the suite there at each change."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

from loratools.file_names import bad_signs, is_reserved

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "loratools"
_ASKS = ("platform", "os.name", "system", "hasattr", "windows")  # in a condition
_LONGEST = 140  # characters of a path in the tree: 260 less the folder that somebody unpacks it in
_POSIX_ONLY = {"fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "posix", "syslog"}
_POSIX_CALLS = {
    "fork",
    "forkpty",
    "mkfifo",
    "mknod",
    "getuid",
    "geteuid",
    "getgid",
    "setuid",
    "setsid",
    "getpgid",
    "killpg",
    "symlink",
    "chown",
    "fchown",
    "lchown",
    "fchmod",
    "nice",
    "getloadavg",
    "statvfs",
    "uname",
    "waitid",
    "sched_getaffinity",
    "sched_setaffinity",
    "posix_fallocate",
    "posix_fadvise",
    "sendfile",
    "sync",
    "openpty",
}
# os.kill ends the process there, whatever the number; a name that is taken cannot be renamed to
_OTHER_CALLS = {"os.kill": "ends the process", "os.rename": "refuses a name that is taken: os.replace"}
_POSIX_SIGNAL_CALLS = {"alarm", "setitimer", "pthread_kill", "sigwait", "pause", "siginterrupt", "pthread_sigmask"}
_POSIX_ARGUMENTS = {"preexec_fn", "start_new_session", "pass_fds", "umask", "process_group"}  # of subprocess
_POSIX_SIGNALS = {"SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGQUIT", "SIGCHLD", "SIGPIPE"}
_TEXT_METHODS = {"read_text": 0, "write_text": 1}  # and which argument an encoding would be


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if not {"weights", "node_modules"} & set(path.parts))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree(path)))


def called(node: ast.Call) -> str:
    """The last name of what is called: ``run`` of ``subprocess.run``."""
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def found(kind: str, path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {kind}"


def guarded(path: Path) -> set[int]:
    """Lines under an ``if`` or ``try`` that asks for the platform, or for whether the name is there."""
    lines: set[int] = set()
    for node in nodes(path):
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
    for node in nodes(path):
        if not isinstance(node, ast.Call):
            continue
        named = {keyword.arg for keyword in node.keywords}
        name = called(node)
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
    for node in nodes(path):
        if getattr(node, "lineno", 0) in safe:
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (found(f"import {name}", path, node) for name in names if name in _POSIX_ONLY)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "os" and node.attr in _POSIX_CALLS:
                yield found(f"os.{node.attr}", path, node)
            if node.value.id == "signal" and node.attr in _POSIX_SIGNALS | _POSIX_SIGNAL_CALLS:
                yield found(f"signal.{node.attr}", path, node)
            if reason := _OTHER_CALLS.get(f"{node.value.id}.{node.attr}"):
                yield found(f"{node.value.id}.{node.attr} {reason}", path, node)
        elif isinstance(node, ast.keyword) and node.arg in _POSIX_ARGUMENTS and isinstance(node.value, ast.Constant):
            yield found(f"{node.arg}=", path, node)
        elif isinstance(node, ast.Constant) and str(node.value).startswith(("/tmp", "/dev/", "/var/", "~/")):
            yield found(f"the path {node.value!r}", path, node)


def held_or_misnamed(path: Path) -> Iterator[str]:
    """Files that another handle keeps from being opened, replaced or deleted, and names that are impossible there."""
    for node in nodes(path):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        delete = named.get("delete")
        if name == "NamedTemporaryFile" and not (isinstance(delete, ast.Constant) and delete.value is False):
            yield found("a NamedTemporaryFile, which nothing else can open by its name", path, node)
        if name in ("memmap", "mmap", "from_file") or ("mmap" in named and ast.unparse(named["mmap"]) == "True"):
            yield found("a mapped file, which cannot be replaced or deleted for as long as it is", path, node)
        if name == "strftime" and node.args and "%-" in ast.unparse(node.args[-1]):
            yield found("%- of strftime", path, node)
        if "shell" in named and ast.unparse(named["shell"]) == "True":
            yield found("shell=True, whose quotes differ", path, node)


def colours_and_locales(path: Path) -> Iterator[str]:
    """What would make a log unreadable, or a number depend on the country: nothing of ours prints or parses so."""
    for node in nodes(path):
        if isinstance(node, ast.Constant) and "\x1b" in str(node.value):
            yield found("an escape code", path, node)
        elif isinstance(node, ast.Call) and called(node) in ("style", "secho") and "click" in ast.unparse(node.func):
            yield found("a colour", path, node)
        elif isinstance(node, ast.Import) and any(alias.name == "locale" for alias in node.names):
            yield found("import locale", path, node)
        elif isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr):
            kind = node.format_spec.values[-1]
            if isinstance(kind, ast.Constant) and str(kind.value).endswith("n"):
                yield found("a number by the locale", path, node)


def float64_on_a_device(path: Path) -> Iterator[str]:
    """Apple's GPUs have no float64: a tensor comes to the CPU before it is made one."""
    for node in nodes(path):
        if isinstance(node, ast.Call) and called(node) == "cpu" and isinstance(node.func, ast.Attribute):
            before = node.func.value
            if isinstance(before, ast.Call) and (called(before) == "double" or "float64" in ast.unparse(before)):
                yield found(".double().cpu(), the wrong way round for Apple's GPUs", path, node)


CHECKS = [text_without_encoding, posix_alone, held_or_misnamed, colours_and_locales, float64_on_a_device]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
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
        ("os.kill(number, 0)", posix_alone),
        ("os.rename(a, b)", posix_alone),
        ("signal.alarm(3)", posix_alone),
        ("subprocess.Popen(['a'], start_new_session=True)", posix_alone),
        ("with tempfile.NamedTemporaryFile() as file: pass", held_or_misnamed),
        ("np.memmap(path)", held_or_misnamed),
        ("torch.load(path, mmap=True)", held_or_misnamed),
        ("day.strftime('%-d')", held_or_misnamed),
        ("subprocess.run('a b', shell=True)", held_or_misnamed),
        ("print('\\x1b[31mred')", colours_and_locales),
        ("click.secho('red', fg='red')", colours_and_locales),
        ("import locale", colours_and_locales),
        ("print(f'{loss:.3n}')", colours_and_locales),
        ("losses.double().cpu()", float64_on_a_device),
        ("losses.to(torch.float64).cpu()", float64_on_a_device),
    ],
)
def test_the_lint_finds_what_it_is_for(text: str, check: object, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ast.parse(text)
    monkeypatch.setattr(f"{__name__}.tree", lambda _: module)
    monkeypatch.setattr(f"{__name__}.nodes", lambda _: list(ast.walk(module)))
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
    return is_reserved(part) or bool(bad_signs(part)) or part.endswith((".", " "))
