"""How the processes of one launch agree on a recipe's run, through files in the work folder.

The first process leads: it plans, locks the work folder, runs every step, writes and prints. The others are workers:
they plan too, then wait for messages. They take part in the steps that can be shared, and wait through all others, for
as long as those take; collectives of torch.distributed give up after some minutes, so they cannot wait like that.

``WORK/.loratools/launch/XXXX`` is the folder of one launch. In it ``message.json`` is the leader's last message and
``N.json`` the last reply of process N; ``leader`` and ``N`` are locks that each process holds as long as it lives, and
that the operating system drops however it ends. Files of earlier launches do no harm: the leader makes a new folder,
and a worker obeys no message before the leader has acknowledged it by the token of its own reply.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from loratools.files import is_locked, write_text

POLL = 0.2  # seconds between looks at a file
JOIN_TIMEOUT = 600.0  # seconds in which all processes of a launch have to join
RETURN_TIMEOUT = 60.0  # seconds in which a process has to leave a step that failed in it or in another


@dataclass(frozen=True)
class Message:
    """What the leader wants.

    Args:
        number: one more than that of the message before.
        action: ``plan`` (read the recipe, and check that the ``steps`` have these keys), ``share`` a step, ``rest``
            (the step is over), or ``end``.
        launch: the name of the launch.
        joined: the workers that the leader knows, by number, each with the token of its reply.
        steps: step name -> key.
        step: the one to share, by name; ``resumes``: it goes on with earlier work.
        needed: whether the step fails without any one of the processes.
        failed: at the end, whether the run has.
    """

    number: int
    action: Literal["plan", "share", "rest", "end"]
    launch: str
    joined: dict[str, str] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)
    step: str = ""
    resumes: bool = False
    needed: bool = False
    failed: bool = False


@dataclass(frozen=True)
class Reply:
    """What a worker has done.

    Args:
        token: tells it from any other process that had its number.
        number: that of the last message that it has carried out.
        rendered: how many pictures it rendered in the step of that message.
        error: what went wrong in it; empty if nothing did.
    """

    token: str
    number: int = 0
    rendered: int = 0
    error: str = ""


class LaunchFolder:
    """The folder of one launch."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.root, self.leader_lock = folder, folder.parent, folder / "leader"

    def worker_lock(self, number: int) -> Path:
        """The path that worker ``number`` locks."""
        return self._folder / str(number)

    def leader_alive(self) -> bool:
        """Whether the leader is running."""
        return is_locked(self.leader_lock)

    def worker_alive(self, number: int) -> bool:
        """Whether worker ``number`` is running."""
        return is_locked(self.worker_lock(number))

    def message(self) -> Message | None:
        """The leader's last message, if there is one."""
        values = _read(self._folder / "message.json")
        return None if values is None else Message(**values)

    def post(self, message: Message) -> None:
        """Publish a message, as the leader."""
        write_text(self._folder / "message.json", json.dumps(asdict(message)))

    def reply(self, number: int) -> Reply | None:
        """The last reply of worker ``number``, if there is one."""
        values = _read(self._folder / f"{number}.json")
        return None if values is None else Reply(**values)

    def post_reply(self, number: int, reply: Reply) -> None:
        """Reply, as worker ``number``."""
        write_text(self._folder / f"{number}.json", json.dumps(asdict(reply)))


def root_of(work: Path) -> Path:
    """Where the folders of launches lie."""
    return work / ".loratools" / "launch"


def new_token() -> str:
    """A random name."""
    return secrets.token_hex(8)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or deleted while it was read
        return None
    return values if isinstance(values, dict) else None
