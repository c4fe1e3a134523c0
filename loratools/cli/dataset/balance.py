"""``loratools dataset balance``"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from loratools.cli.app import Command, flag_speller
from loratools.cli.options import as_object, force_option, json_option, print_json

if TYPE_CHECKING:
    from loratools.dataset.balance.plan import Balance, BalanceRequest
    from loratools.dataset.tags.store import DatasetFolder


@dataclass(frozen=True)
class BalanceFlags:
    """What ``dataset balance`` is asked for, by the names of its options."""

    folder: str
    out: str | None
    rename: bool
    rule: str
    mirrored: bool
    factor: float | None
    steps: int
    epochs: int
    kinds: tuple[str, ...]
    others: Literal["fewest", "even"]
    yes: bool
    force: bool
    as_json: bool


@click.command("balance", cls=Command)
@click.argument("folder", type=click.Path())
@click.option("-o", "--out", type=click.Path(), help="A folder of N_name folders, or a training config (.yaml).")
@click.option("--rename", is_flag=True, help="Rename the folders where they are.")
@click.option(
    "--rule",
    type=click.Choice(["guide-004", "guide-003"]),
    default="guide-004",
    show_default=True,
    help="Main pictures to faces 4 to 1 and a sum; or so many steps in so many epochs.",
)
@click.option("--mirrored", is_flag=True, help="Training will show mirrored copies too: the sum's factor is 2, not 4.")
@click.option("--factor", type=float, help="Another factor of guide 004's sum.")
@click.option("--steps", type=int, default=3000, show_default=True, help="Of guide-003.")
@click.option("--epochs", type=int, default=10, show_default=True, help="Of guide-003.")
@click.option(
    "--kind", "kinds", multiple=True, metavar="NAME=KIND", help="A class is main, face, variants or other. Repeatable."
)
@click.option(
    "--others",
    type=click.Choice(["fewest", "even"]),
    default="fewest",
    show_default=True,
    help="The rest: as seldom as the sum allows, or each picture as often as a main one, below the faces.",
)
@click.option("--yes", is_flag=True, help="Rename without asking.")
@force_option
@json_option
@as_object(BalanceFlags)
def balance(flags: BalanceFlags) -> None:
    """Find out how often to show each class of pictures in FOLDER, by an exact search, and write it down.

    Classes are the numbered folders, as `dataset prepare` makes them: main pictures, faces, variants, others. Without
    -o and --rename nothing is written.

    \b
      loratools dataset balance pictures
      loratools dataset balance pictures -o training
      loratools dataset balance pictures -o ink.yaml --mirrored
      loratools dataset balance pictures --rename
    """
    from loratools.dataset.balance.plan import balance as find_plans
    from loratools.dataset.tags.store import DatasetFolder
    from loratools.progress import shown_progress

    if flags.out is not None and flags.rename:
        raise click.UsageError("-o writes elsewhere and --rename here; give one", click.get_current_context())
    folder = DatasetFolder.open(flags.folder)
    with shown_progress("looking for colour", "picture") as bar:
        plans = find_plans(folder, _request(flags), bar)
    spell = flag_speller()
    for warning in plans.warnings:
        click.echo(f"warning: {spell(warning)}", err=True)
    if not flags.as_json:
        click.echo(plans.text())
    written = _write(folder, plans, flags)
    if flags.as_json:
        print_json({**plans.json(), "written": written})
    elif written:
        click.echo("\n".join(written))
    else:
        click.echo("nothing was written; -o FOLDER, -o CONFIG.yaml or --rename writes the first plan")


def _request(flags: BalanceFlags) -> BalanceRequest:
    from loratools.dataset.balance.classes import KINDS
    from loratools.dataset.balance.plan import BalanceRequest

    kinds: dict[str, Any] = {}
    for text in flags.kinds:
        name, _, kind = text.rpartition("=")
        if not name or kind not in KINDS:
            raise click.BadParameter(
                f"'{text}' is not such as portraits=face; kinds are {', '.join(KINDS)}", param_hint="--kind"
            )
        kinds[name] = kind
    filled = flags.out is not None and not _is_config(flags.out)
    rule: Any = flags.rule
    return BalanceRequest(rule, flags.mirrored, flags.factor, flags.steps, flags.epochs, kinds, filled, flags.others)


def _is_config(out: str) -> bool:
    return Path(out).suffix.lower() in (".yaml", ".yml")


def _write(folder: DatasetFolder, plans: Balance, flags: BalanceFlags) -> list[str]:
    """Write the first plan as it is asked for; a line for each thing that was written."""
    from loratools.dataset.balance.write import (
        config_text,
        is_config_of_balance,
        planned_names,
        rename_folders,
        write_folders,
    )
    from loratools.errors import FileError
    from loratools.files import write_text
    from loratools.progress import shown_progress

    if flags.out is not None and _is_config(flags.out):
        out = Path(flags.out)
        text = config_text(folder, plans, out)
        if out.exists() and not flags.force and not is_config_of_balance(out.read_text("utf-8", "replace")):
            raise FileError(f"{out} holds more than this writes; name another file, or use `force=True`")
        write_text(out, text)
        return [f"{out}; loratools train {out} --base BASE trains on it"]
    if flags.out is not None:
        with shown_progress("copying", "picture") as bar:
            out = write_folders(folder, plans, Path(flags.out), force=flags.force, on_progress=bar)
        return [f"{out}; loratools train --base BASE --images {out} trains on it"]
    if not flags.rename:
        return []
    moves = planned_names(plans)
    lines = [f"{before.name} -> {after.name}" for before, after in moves]
    if not moves or not (flags.yes or _agreed(lines, flags)):
        return [] if moves else ["every folder has its name already"]
    with folder.writing():
        rename_folders(plans)
    return lines


def _agreed(lines: list[str], flags: BalanceFlags) -> bool:
    if flags.as_json or not sys.stdin.isatty():
        return False
    click.echo("\n".join(lines))
    return click.confirm("rename them?")
