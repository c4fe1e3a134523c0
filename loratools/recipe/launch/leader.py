"""The first of several processes: it calls the others to the steps that they can share."""

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
from loratools.recipe.launch.protocol import Answer, Place, Word
from loratools.recipe.plan.context import Shared, Sharing, alone
from loratools.recipe.plan.step import Planned

Tell = Callable[[str], object]
_SILENT = 15.0  # seconds after which it is told that somebody is waited for
_LEAVE = 5.0  # seconds in which the others see that all is over


@contextlib.contextmanager
def leading(
    work: Path, rank: Rank, steps: Sequence[Planned], on_note: Tell | None = None
) -> Iterator[Callable[[str], Sharing]]:
    """Gather all processes of this launch; yields what makes the sharing of a step, by the step's name.

    The work folder has to be held: what earlier launches left there goes.

    Args:
        on_note: told of whom it waits for, and of what went wrong in another process and was made up for.
    Raises:
        LaunchError: if they do not all come, one finds other than this one has, or one is gone when it is needed.
    """
    root = protocol.root_of(work)
    shutil.rmtree(root, ignore_errors=True)
    if rank.world == 1:
        yield lambda name: alone
        return
    place = Place(root / protocol.new_secret())
    with locked(place.lead):
        lead, failed = _Lead(place, rank, steps, on_note), True
        try:
            lead.gather()
            yield lambda name: partial(lead.share, name)
            failed = False
        finally:
            lead.end(failed=failed)
            if not lead.living:  # who has not seen the end yet will
                shutil.rmtree(root, ignore_errors=True)


class _Lead:
    """What the first process knows of the others."""

    def __init__(self, place: Place, rank: Rank, steps: Sequence[Planned], on_note: Tell | None) -> None:
        self._place, self._world, self._on_note = place, rank.world, on_note
        self._others = range(1, rank.world)
        self._word = Word(0, "plan", launch_name(), steps={step.name: step.key for step in steps})

    @property
    def living(self) -> list[int]:
        """The other processes that live."""
        return [number for number in self._others if self._place.lives(number)]

    def gather(self) -> None:
        """Wait until every process has found this one, and the same steps.

        Raises:
            LaunchError: if one does not.
        """
        self._say(says="plan")
        begun, told = time.monotonic(), False
        while waiting := [number for number in self._others if not self._done(number)]:
            strangers = [number for number in waiting if not self._hears(number)]
            if strangers and not told and time.monotonic() - begun > _SILENT:
                self._note(f"waiting for {self._name(strangers[0])}, which has not come to {self._place.root} yet")
                told = True
            if strangers and time.monotonic() - begun > protocol.ALL_HERE:
                raise LaunchError(
                    f"{self._name(strangers[0])} has not come to {self._place.root} in "
                    f"{protocol.ALL_HERE / 60:.0f} minutes; start all by the same command, in a folder that they share"
                )
            if gone := [n for n in waiting if n not in strangers and not self._place.lives(n) and not self._done(n)]:
                raise LaunchError(f"{self._name(gone[0])} is gone; its own message says why")
            time.sleep(protocol.PAUSE)
        if errors := self._errors():
            raise LaunchError(errors[0])

    @contextlib.contextmanager
    def share(self, step: str, *, resumes: bool, needed: bool) -> Iterator[Shared]:
        """While entered, the others take part in ``step``; left when they have come out of it, or are gone.

        Raises:
            LaunchError: if one is ``needed`` and is not there; or in place of an error that says just that another
                process stopped: what stopped that one.
        """
        if needed:
            self._need_all(step)
        self._say(says="share", step=step, resumes=resumes, needed=needed)
        shared = Shared()
        try:
            yield shared
        except Exception as error:
            self._say(says="rest")
            self._wait(protocol.COMES_BACK)
            if isinstance(error, LaunchError) and (errors := self._errors()):
                raise LaunchError(errors[0]) from error
            raise
        self._say(says="rest")
        self._wait()
        shared.rendered = sum(answer.rendered for answer in self._answers().values())
        for text in self._errors():
            self._note(f"the step '{step}' is whole, though the other processes had to do without one: {text}")

    def end(self, *, failed: bool) -> None:
        """Let the others go, and give them a moment to."""
        with contextlib.suppress(FileError, OSError):  # then they see that this process is gone
            self._say(says="end", failed=failed)
        begun = time.monotonic()
        while self.living and time.monotonic() - begun < _LEAVE:
            time.sleep(protocol.PAUSE)

    def _note(self, text: str) -> None:
        if self._on_note is not None:
            self._on_note(text)

    def _say(self, **what: Any) -> None:
        said = Word(self._word.number + 1, "rest", self._word.launch, self._word.heard, self._word.steps)
        self._word = replace(said, **what)
        self._place.say(self._word)

    def _hears(self, number: int) -> bool:
        """Whether that process has come; from its first answer on it is named in every word."""
        answer = self._place.answer(number)
        known = self._word.heard.get(str(number))
        if answer is not None and answer.secret != known and self._place.lives(number):
            known = answer.secret
            self._word = replace(self._word, heard={**self._word.heard, str(number): known})
            self._place.say(self._word)
        return known is not None

    def _done(self, number: int) -> bool:
        """Whether that process has done all about the last word."""
        answer = self._place.answer(number)
        heard = answer is not None and answer.secret == self._word.heard.get(str(number))
        return heard and answer is not None and answer.number >= self._word.number

    def _wait(self, limit: float = float("inf")) -> None:
        """Until every process that lives has done all about the last word, or ``limit`` seconds are over."""
        begun = time.monotonic()
        while [number for number in self._others if not self._done(number) and self._place.lives(number)]:
            if time.monotonic() - begun > limit:
                return
            time.sleep(protocol.PAUSE)

    def _need_all(self, step: str) -> None:
        self._wait(protocol.COMES_BACK)
        for number in self._others:
            if not self._place.lives(number) or not self._done(number):
                why = "does not come out of an earlier step" if self._place.lives(number) else "is gone"
                raise LaunchError(
                    f"{self._name(number)} {why}, and the step '{step}' needs all of them; launch the "
                    "same again, and it goes on from here"
                )

    def _answers(self) -> dict[int, Answer]:
        """Of those that have done all about the last word."""
        found = {number: self._place.answer(number) for number in self._others if self._done(number)}
        return {number: answer for number, answer in found.items() if answer is not None}

    def _errors(self) -> list[str]:
        """What went wrong in the others about the last word."""
        return [f"{self._name(number)}: {answer.error}" for number, answer in self._answers().items() if answer.error]

    def _name(self, number: int) -> str:
        return str(Rank(number, self._world))
