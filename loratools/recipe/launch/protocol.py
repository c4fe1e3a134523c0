"""How the processes of one launch agree over a recipe: one leads, the others follow, and files are all that they share.

The first process plans, holds the work folder, runs every step, writes and speaks. The others plan too, and then wait
for its word: in the steps that they can share they take part, and through all others they wait, for as long as that
takes. Collectives of torch.distributed would not do for that waiting: they give up after some minutes.

``WORK/.loratools/launch/XXXX`` is a folder of one launch alone. ``word.json`` in it is what the first process says
now, ``N.json`` what process N answers; ``lead`` and ``N`` are locks that each holds for as long as it lives, and that
the operating system drops however it ends. Whatever an earlier launch left behind misleads nobody: the first process
makes a new folder, and nobody heeds a word before the first process has named him in it.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from loratools.files import is_locked, write_text

PAUSE = 0.2  # seconds between looks at a file
ALL_HERE = 600.0  # seconds in which all processes of a launch have to find each other
COMES_BACK = 60.0  # seconds in which a process that failed in a step, or whose others did, is expected out of it


@dataclass(frozen=True)
class Word:
    """What the first process says.

    Args:
        number: one more than that of the word before.
        says: ``plan`` (read the recipe, and see whether the ``steps`` have these keys), ``share`` a step, ``rest`` (the
            step is over), or ``end``.
        launch: of which launch.
        heard: the processes that it has heard of, by number, each with the secret that it gave.
        step: to share, by name; ``resumes``: it goes on with earlier work.
        needed: no process can be done without in the step.
        failed: at the end, whether the run has.
    """

    number: int
    says: Literal["plan", "share", "rest", "end"]
    launch: str
    heard: dict[str, str] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)
    step: str = ""
    resumes: bool = False
    needed: bool = False
    failed: bool = False


@dataclass(frozen=True)
class Answer:
    """What another process says: the number of the last word that it has done all about, how many pictures it rendered
    in the step of that word, and what went wrong."""

    secret: str
    number: int = 0
    rendered: int = 0
    error: str = ""


class Place:
    """The folder of one launch."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.root, self.lead = folder, folder.parent, folder / "lead"

    def other(self, number: int) -> Path:
        """The lock of process ``number``."""
        return self._folder / str(number)

    def is_led(self) -> bool:
        """Whether its first process lives."""
        return is_locked(self.lead)

    def lives(self, number: int) -> bool:
        """Whether process ``number`` does."""
        return is_locked(self.other(number))

    def word(self) -> Word | None:
        """The word of the first process, if it has said one."""
        told = _read(self._folder / "word.json")
        return None if told is None else Word(**told)

    def say(self, word: Word) -> None:
        """Be the first process, and say ``word``."""
        write_text(self._folder / "word.json", json.dumps(asdict(word)))

    def answer(self, number: int) -> Answer | None:
        """The answer of process ``number``, if it has given one."""
        told = _read(self._folder / f"{number}.json")
        return None if told is None else Answer(**told)

    def give(self, number: int, answer: Answer) -> None:
        """Be process ``number``, and answer."""
        write_text(self._folder / f"{number}.json", json.dumps(asdict(answer)))


def root_of(work: Path) -> Path:
    """Where the folders of launches lie."""
    return work / ".loratools" / "launch"


def new_secret() -> str:
    """What tells a process from any other that had its number."""
    return secrets.token_hex(8)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or gone while it was read
        return None
    return found if isinstance(found, dict) else None
