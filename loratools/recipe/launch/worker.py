"""All but the first of several processes: they take part in the steps that it calls them to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from loratools.errors import FileError, LaunchError, LoratoolsError
from loratools.files import locked
from loratools.launch import Rank, launch_name
from loratools.recipe.launch import protocol
from loratools.recipe.launch.protocol import Answer, Place, Word
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.step import Planned

Plan = Callable[[], Sequence[Planned]]


def follow(work: Path, rank: Rank, plan: Plan, context: RunContext) -> None:
    """Take part in a run of steps, until its first process ends it; nothing is written or said but in those steps.

    Args:
        work: the work folder, which all processes share.
        plan: finds the steps; called when the first process has.
    Raises:
        LaunchError: if the first process does not come, is gone, or tells that the run has failed.
        LoratoolsError: of a step that failed here, where the others do not come out of it.
    """
    with _found(protocol.root_of(work), rank) as (place, secret):
        _Other(place, rank, secret, context).go(plan)


@contextlib.contextmanager
def _found(root: Path, rank: Rank) -> Iterator[tuple[Place, str]]:
    """The place of this launch, once its first process has heard of this one; and the secret that it was told."""
    begun = time.monotonic()
    while time.monotonic() - begun <= protocol.ALL_HERE:
        for folder in _folders(root):
            place, secret = Place(folder), protocol.new_secret()
            word = place.word()
            if word is None or word.launch != launch_name() or not place.is_led():
                continue
            with contextlib.ExitStack() as held:
                try:
                    held.enter_context(locked(place.other(rank.rank)))
                    place.give(rank.rank, Answer(secret))
                except (FileError, OSError):  # another launch's of the same name, or one that is being swept away
                    continue
                if _heard(place, rank, secret):
                    yield place, secret
                    return
        time.sleep(protocol.PAUSE)
    raise LaunchError(
        f"the first process of this launch has not come to {root} in {protocol.ALL_HERE / 60:.0f} minutes; start all "
        "by the same command, in a folder that they share"
    )


def _folders(root: Path) -> list[Path]:
    with contextlib.suppress(OSError):  # not there yet, or being swept
        return sorted(root.iterdir())
    return []


def _heard(place: Place, rank: Rank, secret: str) -> bool:
    """Whether the first process names this one, before it is gone."""
    while True:
        led, word = place.is_led(), place.word()
        if word is not None and word.heard.get(str(rank.rank)) == secret:
            return True
        if not led:
            return False
        time.sleep(protocol.PAUSE)


class _Other:
    """One process that follows."""

    def __init__(self, place: Place, rank: Rank, secret: str, context: RunContext) -> None:
        self._place, self._rank, self._secret = place, rank, secret
        self._session = replace(context, progress=False)
        self._steps: dict[str, Planned] = {}

    def go(self, plan: Plan) -> None:
        """Heed one word after another, to the last."""
        answer, stuck = Answer(self._secret), ""
        while (word := self._next(answer.number, stuck)).says != "end":
            rendered, error = self._heeded(word, plan, answer)
            stuck = error if word.needed else ""
            answer = Answer(self._secret, word.number, rendered, error)
            self._place.give(self._rank.rank, answer)
        if word.failed:
            raise LaunchError("the run has failed, and the first process of this launch says why")

    def _heeded(self, word: Word, plan: Plan, before: Answer) -> tuple[int, str]:
        """How many pictures were rendered, and what went wrong, in the step that ``word`` is about."""
        if word.says == "rest":  # the step may have been over before it was seen
            return (before.rendered, before.error) if word.number == before.number + 1 else (0, "")
        try:
            return (self._plan(plan, word.steps) if word.says == "plan" else self._take_part(word)), ""
        except LoratoolsError as error:
            return 0, str(error)
        except Exception as error:
            return 0, f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:400]}"

    def _next(self, before: int, stuck: str) -> Word:
        """The word after that of number ``before``.

        Where this process failed, the others may wait for it for ever: if they do not come out of the step that it got
        ``stuck`` in, it ends, and then the launcher ends them.
        """
        begun = time.monotonic()
        while True:
            led, word = self._place.is_led(), self._place.word()
            if word is not None and word.number > before:
                return word
            if not led:
                raise LaunchError(
                    "the first process of this launch is gone; launch the same again to go on from what is done"
                )
            if stuck and time.monotonic() - begun > protocol.COMES_BACK:
                raise LaunchError(f"{self._rank}: {stuck}")
            time.sleep(protocol.PAUSE)

    def _plan(self, plan: Plan, keys: Mapping[str, str]) -> int:
        self._steps = {step.name: step for step in plan()}
        for name, key in keys.items():
            if name not in self._steps or self._steps[name].key != key:
                raise LaunchError(
                    f"the step '{name}' reads other things here than in the first process; all need the "
                    "same recipe and the same files"
                )
        for step in self._steps.values():
            if step.draft.check is not None:
                step.draft.check(self._session)
        return 0

    def _take_part(self, word: Word) -> int:
        step = self._steps[word.step]
        return step.draft.assist(step.out, replace(self._session, resume=word.resumes)) if step.draft.assist else 0
