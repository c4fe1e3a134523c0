"""What a command asks of a person in the terminal, or tells that a page asks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from loratools.cli.app import FAILED, Command
from loratools.errors import AnswersWantedError

if TYPE_CHECKING:
    from loratools.tune.asking.by_votes import Question


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """What is asked of a person is no mistake: it is said without ``error:``; nothing is tuned yet, so it is no success
    either."""
    try:
        yield
    except AnswersWantedError as wanted:
        click.echo(with_flags(str(wanted)))
        click.get_current_context().exit(FAILED)


def choose(question: Question) -> float | None:
    """Which side is better, asked here: 1 for the left one, 0.5, 0, or None to go on later."""
    click.echo(f"pair {question.done + 1} of {question.total}\n  l  {question.files[0]}\n  r  {question.files[1]}")
    answer = click.prompt("better: l, r, n (none), or q to go on later", type=click.Choice(["l", "r", "n", "q"]))
    return {"l": 1.0, "r": 0.0, "n": 0.5}.get(answer)


def with_flags(text: str) -> str:
    """``text`` with options as the running command's flags."""
    command = click.get_current_context().command
    return command.with_flags(text) if isinstance(command, Command) else text
