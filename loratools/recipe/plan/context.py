"""What a run of steps is given from outside: the device, permission to overwrite, bars, and the judge."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image

    from loratools.pocket.judge import Reading

Judging = Callable[[Sequence["Image"]], Sequence["Reading"]]  # pictures -> what is read in each


def shipped_judge(images: Sequence[Image]) -> Sequence[Reading]:
    """The pocket's own judge."""
    from loratools.pocket import judge

    return judge.shipped_judge(images)


@dataclass
class Shared:
    """What came of sharing a step: how many pictures the other processes rendered."""

    rendered: int = 0


class Sharing(Protocol):
    """What a step enters around the part of it in which further processes may take part, if there are any."""

    def __call__(self, *, resumes: bool, needed: bool) -> contextlib.AbstractContextManager[Shared]:
        """``resumes``: earlier work is there to go on from; ``needed``: no process can be done without."""


def alone(*, resumes: bool, needed: bool) -> contextlib.AbstractContextManager[Shared]:
    """Sharing with nobody."""
    return contextlib.nullcontext(Shared())


@dataclass(frozen=True)
class Session:
    """How steps are run; nothing here changes their results.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        force: overwrite files that the step did not write.
        progress: bars on stderr, if that is a terminal.
        resume: unfinished work of the same step and key is there to go on from.
        judge: reads tags, style and defects from pictures.
        share: with the other processes of a launch.
    """

    device: str = "auto"
    force: bool = False
    progress: bool = False
    resume: bool = False
    judge: Judging = shipped_judge
    share: Sharing = alone


@contextlib.contextmanager
def bar(session: Session, what: str, total: int) -> Iterator[Callable[[int], object]]:
    """A progress bar on stderr, if the session wants one; yields what advances it."""
    if not session.progress:
        yield lambda count: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=what, file=sys.stderr, disable=None, leave=False) as shown:
        yield shown.update
