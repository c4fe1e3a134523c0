"""Code pages of Windows, pipes, NO_COLOR and narrow terminals: every command says all it has to, without colours."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli import odd_paths
from tests.cli.odd_paths import SET

ROOT = Path(__file__).parents[2]
CODE = """
import json, sys
from loratools.cli import main
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["loratools", *words]
    try:
        main()
    except SystemExit as end:
        codes.append(end.code or 0)
open("codes.json", "w").write(json.dumps(codes))
"""
COMMANDS = [
    ["--help"],
    ["merge", "--help"],
    ["blocks", "show", "GP1"],
    ["blocks", "list"],
    ["doctor"],
    ["inspect", "стиль 1.safetensors", "基 😀 [b].safetensors"],
    ["inspect", "基 😀 [b].safetensors", "--json"],
    ["analyze", "стиль 1.safetensors", "基 😀 [b].safetensors"],
    ["merge", '"стиль 1":1:GP1,"基 😀 [b]":-1', "-o", "итог 结果.safetensors", "--force"],
    ["merge", '"нет 无 😀":1', "-o", "x.safetensors"],
    ["epochs", "run, 运行"],
    ["run", "рецепт 😀.yaml"],
    ["explain", "runs/рецепт 😀/итог 结果.safetensors"],
    ["blocks", "fix", "рецепт 😀.yaml", "--symptom", "hands", "--dry-run"],
    ["dataset", "look", SET],
    ["dataset", "edit", SET, "add", "улыбка 😀", "--dry-run"],
    ["dataset", "balance", SET],
    ["recipe", "steps"],
    ["train", "--images", SET, "--base", "нет 无"],
]
FAILING = {9: 1, 18: 1}  # positions of the commands whose mistake is the point


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return odd_paths.make(tmp_path)


def environment(**own: str) -> Mapping[str, str]:
    plain = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(ROOT.parent), "PATH": os.environ["PATH"]}
    return plain | {"TERM": "xterm-256color", "FORCE_COLOR": "1"} | own


def check(folder: Path) -> None:
    """All commands ended as they should: doctor as it likes."""
    codes = json.loads((folder / "codes.json").read_text(encoding="utf-8"))
    wanted = [FAILING.get(place, 0) for place in range(len(COMMANDS))]
    assert [code for place, code in enumerate(codes) if place != 4] == [c for p, c in enumerate(wanted) if p != 4]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["cp1251", "cp936", "utf-8"])
def test_code_pages_of_pipes(here: Path, page: str) -> None:
    """A letter that the code page lacks becomes a question mark, and nothing else is lost."""
    words = [sys.executable, "-X", "utf8=0", "-c", CODE, json.dumps(COMMANDS)]
    own = environment(PYTHONIOENCODING=page, NO_COLOR="1")
    done = subprocess.run(words, cwd=here, env=own, capture_output=True, check=False)
    out, err = done.stdout.decode(page), done.stderr.decode(page)
    check(here)
    assert "\x1b" not in out + err and "Traceback" not in err and "looks like a bug" not in err
    assert "стиль 1" in out
    assert "基 " in out if page in ("cp936", "utf-8") else "基 " not in out


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 20])
def test_a_narrow_terminal(here: Path, columns: int) -> None:
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(
        theirs,
        termios.TIOCSWINSZ,
        b"\x18\0" + columns.to_bytes(2, "little") + b"\0\0\0\0",
    )
    words = [sys.executable, "-c", CODE, json.dumps(COMMANDS)]
    process = subprocess.Popen(
        words, cwd=here, env=environment(NO_COLOR="1"), stdout=theirs, stderr=theirs, stdin=theirs
    )
    os.close(theirs)
    pieces = []
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while piece := os.read(ours, 65536):
            pieces.append(piece)
    os.close(ours)
    process.wait()
    said = b"".join(pieces).decode("utf-8")
    check(here)
    assert "\x1b[3" not in said and "\x1b[1" not in said and "Traceback" not in said


def test_json_keeps_names_that_stdout_cannot_show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from loratools.cli.options import print_json

    class Page:
        encoding = "cp1251"

        @staticmethod
        def write(text: str) -> int:
            return len(text)

    value = {"имя": "基 😀"}
    print_json(value)
    assert "基 😀" in capsys.readouterr().out
    monkeypatch.setattr("loratools.cli.options.sys.stdout", Page)
    shown: list[str] = []
    monkeypatch.setattr("loratools.cli.options.click.echo", shown.append)
    print_json(value)
    assert shown[0].isascii() and json.loads(shown[0]) == value
