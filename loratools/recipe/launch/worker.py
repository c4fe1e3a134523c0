"""All but the first of several processes: they take part in the steps that the leader calls them to."""

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
from loratools.recipe.launch.protocol import LaunchFolder, Message, Reply
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.step import Planned

Plan = Callable[[], Sequence[Planned]]


def follow(work: Path, rank: Rank, plan: Plan, context: RunContext) -> None:
    """Take part in a run of steps until its leader ends it; nothing is written or printed but in shared steps.

    Args:
        work: the work folder, which all processes share.
        plan: returns the steps; called when the leader has planned its own.
    Raises:
        LaunchError: if the leader does not come, is gone, or says that the run has failed.
        LoratoolsError: of a step that failed here, where the others do not come out of it.
    """
    with _joined(protocol.root_of(work), rank) as (folder, token):
        _Worker(folder, rank, token, context).run(plan)


@contextlib.contextmanager
def _joined(root: Path, rank: Rank) -> Iterator[tuple[LaunchFolder, str]]:
    """The folder of this launch and this worker's token, once the leader has acknowledged it."""
    begun = time.monotonic()
    while time.monotonic() - begun <= protocol.JOIN_TIMEOUT:
        for path in _folders(root):
            folder, token = LaunchFolder(path), protocol.new_token()
            message = folder.message()
            if message is None or message.launch != launch_name() or not folder.leader_alive():
                continue
            with contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(locked(folder.worker_lock(rank.rank)))
                    folder.post_reply(rank.rank, Reply(token))
                except (FileError, OSError):  # another launch's of the same name, or one that is being deleted
                    continue
                if _acknowledged(folder, rank, token):
                    yield folder, token
                    return
        time.sleep(protocol.POLL)
    raise LaunchError(
        f"the first process of this launch has not come to {root} in {protocol.JOIN_TIMEOUT / 60:.0f} minutes; start "
        "all by the same command, in a folder that they share"
    )


def _folders(root: Path) -> list[Path]:
    with contextlib.suppress(OSError):  # not there yet, or being deleted
        return sorted(root.iterdir())
    return []


def _acknowledged(folder: LaunchFolder, rank: Rank, token: str) -> bool:
    """Wait until the leader's message holds this worker's token; False if the leader ends before that."""
    while True:
        alive, message = folder.leader_alive(), folder.message()
        if message is not None and message.joined.get(str(rank.rank)) == token:
            return True
        if not alive:
            return False
        time.sleep(protocol.POLL)


class _Worker:
    """One process that follows the leader."""

    def __init__(self, folder: LaunchFolder, rank: Rank, token: str, context: RunContext) -> None:
        self._folder, self._rank, self._token = folder, rank, token
        self._context = replace(context, progress=False)
        self._steps: dict[str, Planned] = {}

    def run(self, plan: Plan) -> None:
        """Carry out one message after another, to the last."""
        reply, failure = Reply(self._token), ""
        while (message := self._next(reply.number, failure)).action != "end":
            rendered, error = self._carry_out(message, plan, reply)
            failure = error if message.needed else ""
            reply = Reply(self._token, message.number, rendered, error)
            self._folder.post_reply(self._rank.rank, reply)
        if message.failed:
            raise LaunchError("the run has failed, and the first process of this launch says why")

    def _carry_out(self, message: Message, plan: Plan, last: Reply) -> tuple[int, str]:
        """How many pictures were rendered in the message's step, and what went wrong in it."""
        if message.action == "rest":  # the step may have been over before this worker saw its message
            return (last.rendered, last.error) if message.number == last.number + 1 else (0, "")
        try:
            return (self._plan(plan, message.steps) if message.action == "plan" else self._take_part(message)), ""
        except LoratoolsError as error:
            return 0, str(error)
        except Exception as error:
            return 0, f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:400]}"

    def _next(self, number: int, failure: str) -> Message:
        """Wait for the message after that of ``number``.

        Where a needed step failed in this process (``failure``), the others may wait for it for ever: if they do not
        come out of the step, this process ends, and then the launcher ends them.
        """
        begun = time.monotonic()
        while True:
            alive, message = self._folder.leader_alive(), self._folder.message()
            if message is not None and message.number > number:
                return message
            if not alive:
                raise LaunchError(
                    "the first process of this launch is gone; launch the same again to go on from what is done"
                )
            if failure and time.monotonic() - begun > protocol.RETURN_TIMEOUT:
                raise LaunchError(f"{self._rank}: {failure}")
            time.sleep(protocol.POLL)

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
                step.draft.check(self._context)
        return 0

    def _take_part(self, message: Message) -> int:
        step = self._steps[message.step]
        if step.draft.assist is None:
            return 0
        return step.draft.assist(step.out, replace(self._context, resume=message.resumes))
