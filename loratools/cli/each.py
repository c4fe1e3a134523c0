"""Commands that take one file, over many: ``--each FOLDER``, a pattern, or several names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from loratools.cli.app import fail_usage
from loratools.cli.options import print_json

if TYPE_CHECKING:
    from loratools.ops.batch import BatchReport
    from loratools.progress import OnProgress

F = TypeVar("F", bound=Callable[..., Any])


def each_option(function: F) -> F:
    """``--each``: of every command that takes one file."""
    return click.option(
        "--each",
        "folders",
        multiple=True,
        metavar="FOLDER",
        help="Every .safetensors file in this folder, with a summary; -o is then a folder. Repeatable.",
    )(function)


def batch_of(names: Sequence[str], folders: Sequence[str], what: str = "IN") -> tuple[Path, ...] | None:
    """The files of a batch; None where one file is named, as ever. No file at all is a usage error.

    Args:
        what: how the command calls its file.
    """
    from loratools.ops.batch import find_files, is_pattern

    if not names and not folders:
        fail_usage(f"missing argument '{what}': name a file, or a folder of them with --each")
    one = len(names) == 1 and not folders and (Path(names[0]).expanduser().exists() or not is_pattern(names[0]))
    return None if one else find_files(names, folders)


def run_each(work: Callable[[OnProgress], BatchReport], count: int, as_json: bool) -> None:
    """Do a batch under a progress bar, print its summary, and end in an error where files failed.

    Args:
        work: the batch, which is told whom to tell how far it is.
    """
    from loratools.progress import tqdm_bar

    with tqdm_bar(total=count, unit="file", leave=False) as bar:

        def on_progress(done: int, total: int) -> None:
            bar.update(done - bar.n)

        report = work(on_progress)
    print_json(report.json()) if as_json else click.echo(report.text())
    report.check()


def out_folder(out: str | None) -> str:
    """``-o`` of a batch that writes; a usage error without it."""
    if out is None:
        fail_usage("where to? give -o FOLDER: every file goes there under its own name")
    return out
