"""``loratools cache``"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loratools.cli.app import Command, Group
from loratools.cli.options import json_option, print_json, size_bytes
from loratools.errors import FileError

if TYPE_CHECKING:
    from loratools.recipe.run.cache import Cache, Entry


@click.group("cache", cls=Group)
def command() -> None:
    """List finished results of recipes that are kept, and remove the least recently used.

    DIR is a work folder (runs/NAME), or the folder that --cache named. Results that lie in the work folder itself are
    not touched; what is removed is made again when a recipe needs it.

    \b
      loratools cache ls runs/style
      loratools cache gc runs/style --max-size 2GiB --dry-run
    """


@command.command("ls", cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@json_option
def ls(folder: Path, as_json: bool) -> None:
    """List what is kept in DIR, the least recently used first.

    "alone" is what removing it would free: a large file that the work folder still holds takes its space once.
    """
    entries = _cache(folder).entries()
    if as_json:
        print_json([_facts(entry) for entry in entries])
        return
    _table(entries)
    click.echo(_total(entries))


@command.command("gc", cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--max-size", default="20GiB", show_default=True, metavar="SIZE", help="Such as 500MiB; 0 removes all.")
@click.option("--dry-run", is_flag=True, help="Say what would go.")
@json_option
def gc(folder: Path, max_size: str, dry_run: bool, as_json: bool) -> None:
    """Remove the least recently used results until the rest is within --max-size."""
    removed = _cache(folder).gc(size_bytes(max_size, "--max-size"), dry_run=dry_run)
    if as_json:
        print_json([_facts(entry) for entry in removed])
        return
    _table(removed)
    freed = sum(entry.alone for entry in removed)
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{len(removed)} {'result' if len(removed) == 1 else 'results'} {verb}, {_size(freed)} freed")


def _cache(folder: Path) -> Cache:
    from loratools.recipe.run.cache import Cache

    if not folder.is_dir():
        raise FileError(f"there is no folder {folder}; give a run's work folder, such as runs/style, or a cache's own")
    memory = folder / ".loratools"
    return Cache(memory if memory.is_dir() else folder)


def _table(entries: list[Entry]) -> None:
    from loratools.ops.text_table import table

    if not entries:
        return
    rows = [["step", "kind", "size", "alone", "last used"]]
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        name = entry.record.name if entry.record.done else f"{entry.record.name} (unfinished)"
        rows.append([name, entry.record.kind, _size(entry.size), _size(entry.alone), used])
    click.echo(table(rows, left=range(5)))


def _total(entries: list[Entry]) -> str:
    alone = sum(entry.alone for entry in entries)
    return f"{len(entries)} {'result' if len(entries) == 1 else 'results'}, {_size(alone)} that nothing else holds"


def _facts(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.identity,
        "step": entry.record.name,
        "kind": entry.record.kind,
        "done": entry.record.done,
        "size": entry.size,
        "alone": entry.alone,
        "used": entry.used,
        "key": entry.record.key,
    }


def _size(count: int) -> str:
    from loratools.recipe.run.estimate import size_text

    return size_text(count)
