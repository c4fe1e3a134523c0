"""Commands that the pages of the documentation show, and what a page says of running them: for its tests, and for
``tools.pictures``.

A page says it in comments, which no reader sees, before the fenced block that they are about (several in one comment
are parted by `` | ``):

``<!-- run: scene NAME, ... -->``
    files that the block's commands need and no command of the page makes; see :mod:`tests.pages.scenes`
``<!-- run: file NAME -->``
    the block is no command: it is saved under this name
``<!-- run: with COMMAND: OPTIONS -->``
    options that are added to a command (``train``, ``blocks tune``) of the block, so that it takes seconds
``<!-- run: types TEXT -->``
    what is typed where a command asks
``<!-- run: exits CODE, REASON -->``
    the block's last command ends with another exit code than 0, as the page says
``<!-- run: skip, REASON -->``
    the block is not run, only parsed; :data:`tests.pages.test_commands.SKIPPED` holds how many there are
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHELLS = ("console", "sh", "bash")
_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_REMARK = re.compile(r"<!-- run: (?P<text>.*?) -->", re.DOTALL)
_WORDS = {"scene", "file", "with", "types", "exits", "skip"}


@dataclass(frozen=True)
class Remarks:
    """What a page says of one block.

    Attributes:
        added: options to add, by the command's words, such as ``{"blocks tune": ["--quick"]}``.
    """

    scenes: tuple[str, ...] = ()
    file: str = ""
    added: dict[str, list[str]] = field(default_factory=dict)
    typed: str = ""
    exit_code: int = 0
    skip: str = ""


@dataclass(frozen=True)
class Command:
    """One command of a page: ``words`` are its program and arguments, without comment and prompt sign."""

    line: int
    words: tuple[str, ...]

    @property
    def ours(self) -> tuple[str, ...] | None:
        """The arguments of ``loratools``, however it is started; None of another program's command."""
        words = list(self.words)
        if words[:2] == ["accelerate", "launch"]:
            words = words[2:]
        if words[:2] == ["-m", "loratools"] or words[:3] == ["python", "-m", "loratools"]:
            return tuple(words[words.index("loratools") + 1 :])
        return tuple(words[1:]) if words[0] == "loratools" else None

    def __str__(self) -> str:
        return shlex.join(self.words)


@dataclass(frozen=True)
class Block:
    """A fenced block: its commands if it is a shell's, and what the page says of running it."""

    line: int
    language: str
    text: str
    commands: tuple[Command, ...]
    remarks: Remarks


def pages() -> list[Path]:
    """README and all pages of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    """A page's name in tests and messages."""
    return page.relative_to(ROOT).as_posix()


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    """The fenced blocks of a page, in order.

    Raises:
        ValueError: for a remark that says nothing known.
    """
    text, end, found = page.read_text(encoding="utf-8"), 0, []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        remarks = _remarks(
            [part for remark in _REMARK.finditer(text, end, match.start()) for part in remark["text"].split(" | ")],
            page,
            line,
        )
        commands = () if remarks.file or match["language"] not in SHELLS else _commands(match["text"], line)
        found.append(Block(line, match["language"], match["text"], commands, remarks))
        end = match.end()
    if _REMARK.search(text, end):
        raise ValueError(f"{page}: a remark about running stands after the last block")
    return tuple(found)


def _remarks(texts: list[str], page: Path, line: int) -> Remarks:
    said: dict[str, str] = {}
    added: dict[str, list[str]] = {}
    scenes: list[str] = []
    for text in texts:
        word, _, rest = " ".join(text.split()).partition(" ")
        word = word.rstrip(",")
        if word not in _WORDS or not rest or word in said:
            raise ValueError(f"{page}, line {line}: '{text}' says nothing about running a block")
        if word == "with":
            command, _, options = rest.partition(": ")
            added[command] = shlex.split(options)
        elif word == "scene":
            scenes += rest.split(", ")
        else:
            said[word] = rest
    code = said.get("exits", "0, ").partition(", ")
    return Remarks(
        scenes=tuple(scenes),
        file=said.get("file", ""),
        added=added,
        typed=said.get("types", ""),
        exit_code=int(code[0]),
        skip=said.get("skip", ""),
    )


def _commands(text: str, first: int) -> tuple[Command, ...]:
    """Commands of a shell's block: where some lines begin with ``$``, the others are what is printed."""
    asked = any(line.startswith("$ ") for line in text.splitlines())
    found, begun, start = [], "", first
    for number, line in enumerate(text.splitlines(), first):
        if not begun:
            start = number
            if asked and not line.startswith("$ "):
                continue
            line = line.removeprefix("$ ")
        begun += line
        if begun.endswith("\\"):
            begun = begun[:-1]
            continue
        for part in begun.split(" && "):
            if words := shlex.split(part, comments=True):
                found.append(Command(start, tuple(words)))
        begun = ""
    return tuple(found)
