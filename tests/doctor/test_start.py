"""The scripts that make an environment and open the studio: the shell's is run, with stand-ins for what it calls."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(sys.platform == "win32", reason="a shell's script")
# stands for every Python: `-m venv` copies it, `-m pip` makes the command, `-m loratools.doctor` names an index
PYTHON = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$*" in
  *version_info*) [ "${VERSION:-3.12}" != 3.14 ] ;;
  "-m venv --clear .venv") rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  "-m loratools.doctor") echo "$INDEX" ;;
  *studio*) cp "$COMMAND" .venv/bin/loratools ;;
esac
"""
COMMAND = """#!/bin/sh
echo "loratools $*" >> "$CALLS"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a space and other scripts in its name, which has only the script."""
    folder = tmp_path / "my лора 工具"
    folder.mkdir()
    shutil.copy(ROOT / "start-studio.sh", folder)
    programs = dict.fromkeys(("python3.12", "python3.13", "python3.11", "python3", "python"), PYTHON)
    for name, text in {**programs, "command": COMMAND}.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    return folder


def start(checkout: Path, *arguments: str, **variables: str) -> tuple[int, str, list[str]]:
    """Its exit code, its errors, and what it called since."""
    calls = checkout.parent / "calls"
    calls.write_text("", encoding="utf-8")
    programs = checkout.parent / "bin"
    own = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "CALLS": str(calls),
        "COMMAND": str(programs / "command"),
        "INDEX": "cu126",
    }
    command = ["sh", str(checkout / "start-studio.sh"), *arguments]
    done = subprocess.run(
        command, cwd=checkout.parent, env={**own, **variables}, capture_output=True, encoding="utf-8", check=False
    )
    return done.returncode, done.stderr, calls.read_text(encoding="utf-8").splitlines()


@posix
def test_the_first_start_installs_and_the_second_only_opens(checkout: Path) -> None:
    code, errors, calls = start(checkout, "D:/my loras", "--port", "9000")
    assert (code, errors) == (0, "")
    index = "https://download.pytorch.org/whl/cu126"
    wanted = [f"python -m pip install torch --index-url {index}", "python -m pip install -e .[studio]"]
    assert [call for call in calls if " pip " in call] == wanted
    assert calls[-2:] == ["loratools doctor", "loratools studio D:/my loras --port 9000"]
    assert [call.strip() for call in start(checkout)[2]][1:] == ["loratools studio"]


@posix
def test_a_machine_that_takes_torchs_usual_build(checkout: Path) -> None:
    assert "python -m pip install torch" in start(checkout, INDEX="")[2]


@posix
def test_a_broken_environment_is_made_anew(checkout: Path) -> None:
    """The Python that it was made of is gone, or the installation was interrupted."""
    start(checkout)
    (checkout / ".venv/bin/python").unlink()
    assert any(" pip " in call for call in start(checkout)[2])
    (checkout / ".venv/bin/loratools").unlink()
    code, _, calls = start(checkout)
    assert code == 0 and any(" pip " in call for call in calls)


@posix
def test_no_python_that_fits(checkout: Path) -> None:
    code, errors, _ = start(checkout, VERSION="3.14")
    assert code == 1 and "Python 3.11 to 3.13 is needed" in errors and "PYTHON=" in errors


def test_the_batch_file_is_whole() -> None:
    """It is not run here: every label that is jumped to is there, quotes and brackets are closed, paths are quoted."""
    lines = (ROOT / "start-studio.bat").read_text(encoding="ascii").splitlines()
    labels = {line[1:] for line in lines if line.startswith(":")}
    assert {name for line in lines for name in re.findall(r"\bgoto (\w+)", line)} == labels
    for line in lines:
        assert line.count('"') % 2 == 0 and line.count("(") == line.count(")"), line
        assert line.count("%") % 2 == 0 or re.search(r"%%|%~|%\*", line), line
        assert "!" not in line  # of delayed expansion
    text = "\n".join(lines)
    assert 'pushd "%~dp0"' in text  # also on a share, where cd fails
    assert "set PYTHONUTF8=1" in text and text.count("|| goto failed") == 3
    fits = re.search(r'set "FITS=(.*)"', text)
    assert fits is not None and sys.version_info[:2] in ((3, 11), (3, 12), (3, 13))
    with pytest.raises(SystemExit) as ended:
        exec(fits[1])
    assert not ended.value.code


def test_the_builds_name_needs_nothing_installed() -> None:
    """-S -I: the standard library alone, as in an environment that was just made."""
    program = (
        f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); runpy.run_module('loratools.doctor', None, '__main__')"
    )
    command = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("", "cpu", "cu126", "cu128", "cu130", "rocm6.4")
