"""The first of several processes: it calls the others, its workers, to the steps that they can share."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from loratools.errors import FileError, LaunchError
from loratools.files import locked
from loratools.launch import Rank, launch_name
from loratools.recipe.launch import protocol
from loratools.recipe.launch.protocol import LaunchFolder, Message, Reply
from loratools.recipe.observer import RunObserver
from loratools.recipe.plan.context import Shared, Sharing, alone
from loratools.recipe.plan.step import Planned

_QUIET = 15.0  # seconds of waiting after which the user is informed
_END_TIMEOUT = 5.0  # seconds in which the workers see that the run is over


@contextlib.contextmanager
def leading(
    work: Path, rank: Rank, steps: Sequence[Planned], observer: RunObserver
) -> Iterator[Callable[[Planned], Sharing]]:
    """Wait for all processes of this launch; yields what makes the sharing of a step.

    The work folder has to be locked: files of earlier launches in it are deleted.

    Args:
        observer: its ``on_note`` is called for workers that are waited for, and for errors in one of them that the
            others made up for.
    Raises:
        LaunchError: if they do not all come, one plans other steps than this one, or one is gone when it is needed.
    """
    root = protocol.root_of(work)
    shutil.rmtree(root, ignore_errors=True)
    if rank.world == 1:
        yield lambda planned: alone
        return
    folder = LaunchFolder(root / protocol.new_token())
    with locked(folder.leader_lock):
        leader, failed = _Leader(folder, rank, steps, observer), True
        try:
            leader.wait_until_planned()
            yield lambda planned: partial(leader.share, planned.name, needed=planned.step_kind.shared == "required")
            failed = False
        finally:
            leader.end(failed=failed)
            if not leader.alive:  # a worker that has not seen the end yet will read it
                shutil.rmtree(root, ignore_errors=True)


class _Leader:
    """What the first process knows of its workers."""

    def __init__(self, folder: LaunchFolder, rank: Rank, steps: Sequence[Planned], observer: RunObserver) -> None:
        self._folder, self._world, self._observer = folder, rank.world, observer
        self._workers = range(1, rank.world)
        self._message = Message(0, "plan", launch_name(), steps={step.name: step.key for step in steps})

    @property
    def alive(self) -> list[int]:
        """The workers that are running."""
        return [number for number in self._workers if self._folder.worker_alive(number)]

    def wait_until_planned(self) -> None:
        """Wait until every worker has joined, and planned the same steps.

        Raises:
            LaunchError: if one does not.
        """
        self._post(action="plan")
        begun, informed = time.monotonic(), False
        while waiting := [number for number in self._workers if not self._finished(number)]:
            missing = [number for number in waiting if not self._has_joined(number)]
            if missing and not informed and time.monotonic() - begun > _QUIET:
                self._observer.on_note(
                    f"waiting for {self._name(missing[0])}, which has not come to {self._folder.root} yet"
                )
                informed = True
            if missing and time.monotonic() - begun > protocol.JOIN_TIMEOUT:
                raise LaunchError(
                    f"{self._name(missing[0])} has not come to {self._folder.root} in "
                    f"{protocol.JOIN_TIMEOUT / 60:.0f} minutes; start all by the same command, in a folder that they "
                    "share"
                )
            joined = [number for number in waiting if number not in missing]
            if gone := [n for n in joined if not self._folder.worker_alive(n) and not self._finished(n)]:
                raise LaunchError(f"{self._name(gone[0])} is gone; its own message says why")
            time.sleep(protocol.POLL)
        if errors := self._errors():
            raise LaunchError(errors[0])

    @contextlib.contextmanager
    def share(self, step: str, *, resumes: bool, needed: bool) -> Iterator[Shared]:
        """While entered, the workers take part in ``step``; left when they have come out of it, or are gone.

        Raises:
            LaunchError: if one is ``needed`` and is not there; or in place of an error that says just that another
                process stopped: what stopped that one.
        """
        if needed:
            self._require_all(step)
        self._post(action="share", step=step, resumes=resumes, needed=needed)
        shared = Shared()
        try:
            yield shared
        except Exception as error:
            self._post(action="rest")
            self._wait(protocol.RETURN_TIMEOUT)
            if isinstance(error, LaunchError) and (errors := self._errors()):
                raise LaunchError(errors[0]) from error
            raise
        self._post(action="rest")
        self._wait()
        shared.rendered = sum(reply.rendered for reply in self._replies().values())
        for text in self._errors():
            self._observer.on_note(
                f"the step '{step}' is whole, though the other processes had to do without one: {text}"
            )

    def end(self, *, failed: bool) -> None:
        """Tell the workers that the run is over, and give them a moment to leave."""
        with contextlib.suppress(FileError, OSError):  # then they see that this process is gone
            self._post(action="end", failed=failed)
        begun = time.monotonic()
        while self.alive and time.monotonic() - begun < _END_TIMEOUT:
            time.sleep(protocol.POLL)

    def _post(self, **values: Any) -> None:
        last = self._message
        self._message = replace(Message(last.number + 1, "rest", last.launch, last.joined, last.steps), **values)
        self._folder.post(self._message)

    def _has_joined(self, number: int) -> bool:
        """Whether a worker has joined; from its first reply on, its token is in every message."""
        reply = self._folder.reply(number)
        token = self._message.joined.get(str(number))
        if reply is not None and reply.token != token and self._folder.worker_alive(number):
            token = reply.token
            self._message = replace(self._message, joined={**self._message.joined, str(number): token})
            self._folder.post(self._message)
        return token is not None

    def _finished(self, number: int) -> bool:
        """Whether a worker has carried out the last message."""
        reply = self._folder.reply(number)
        if reply is None or reply.token != self._message.joined.get(str(number)):
            return False
        return reply.number >= self._message.number

    def _wait(self, timeout: float = float("inf")) -> None:
        """Until every worker that is running has carried out the last message, or ``timeout`` seconds are over."""
        begun = time.monotonic()
        while [n for n in self._workers if not self._finished(n) and self._folder.worker_alive(n)]:
            if time.monotonic() - begun > timeout:
                return
            time.sleep(protocol.POLL)

    def _require_all(self, step: str) -> None:
        self._wait(protocol.RETURN_TIMEOUT)
        for number in self._workers:
            alive = self._folder.worker_alive(number)
            if not alive or not self._finished(number):
                why = "does not come out of an earlier step" if alive else "is gone"
                raise LaunchError(
                    f"{self._name(number)} {why}, and the step '{step}' needs all of them; launch the "
                    "same again, and it goes on from here"
                )

    def _replies(self) -> dict[int, Reply]:
        """Of the workers that have carried out the last message."""
        replies = {number: self._folder.reply(number) for number in self._workers if self._finished(number)}
        return {number: reply for number, reply in replies.items() if reply is not None}

    def _errors(self) -> list[str]:
        """What went wrong in workers as they carried out the last message."""
        return [f"{self._name(number)}: {reply.error}" for number, reply in self._replies().items() if reply.error]

    def _name(self, number: int) -> str:
        return str(Rank(number, self._world))
