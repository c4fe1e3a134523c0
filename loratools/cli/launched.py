"""``--processes`` and ``--launch`` of a command that all processes run together: ``train``, ``grid``, ``basestyle``."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from loratools.cli.app import GIVEN, INTERRUPTED, fail_usage, words_of

_OPTIONS = ("--processes", "--launch")


def launched(
    processes: str | None, launch: str | None, device: str, out: str, *, finish_alone: bool = False, go_on: str = ""
) -> bool:
    """Run the current command in the processes that its options ask for.

    Args:
        out: a folder that all machines of a launcher's command share.
        finish_alone: see :meth:`~loratools.launch.jobs.Jobs.run`.
        go_on: what the same command needs besides, to go on after it was interrupted.
    Returns:
        False if this process is to run it by itself. Otherwise the command is done.
    Raises:
        LoratoolsError: of the process that failed first.
    """
    from loratools.launch.jobs import running
    from loratools.launch.launcher import make_launcher

    launcher = make_launcher(processes, launch, device)
    if not launcher.several:
        return False
    context = click.get_current_context()
    arguments = [*words_of(context), *_without(context.meta[GIVEN], _OPTIONS)]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(out) / ".loratools" / "launch" if launcher.command else Path(scratch) / "launch"
        try:
            with running(root, launcher) as jobs:
                done = jobs.run(
                    f"{__name__}:run_command",
                    {"arguments": arguments},
                    launcher.slots,
                    finish_alone=finish_alone,
                    prints=True,
                )
        except KeyboardInterrupt:
            click.echo(f"interrupted; what is finished stays, run the same command again{go_on} to go on", err=True)
            context.exit(INTERRUPTED)
    for text in done.failed:
        click.echo(f"it is whole, though the other processes had to do without one: {text}", err=True)
    if done.value["usage"]:
        fail_usage(done.value["usage"])
    context.exit(done.value["code"])
    return True


def run_command(arguments: Sequence[str]) -> dict[str, Any]:
    """Run ``loratools ARGUMENTS`` as one of the processes that were launched for it.

    Returns:
        The exit code, and the message of a mistake in the arguments.
    """
    from loratools.cli import cli

    try:
        code = cli.main(list(arguments), standalone_mode=False)
    except click.UsageError as error:
        return {"code": 2, "usage": error.format_message()}
    except click.Abort:  # click's word for Ctrl-C
        raise KeyboardInterrupt from None
    return {"code": code if isinstance(code, int) else 0, "usage": ""}


def _without(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    """The arguments without these options and their values."""
    kept: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word in options:
            next(rest, None)
        elif not word.startswith(tuple(f"{option}=" for option in options)):
            kept.append(word)
    return kept
