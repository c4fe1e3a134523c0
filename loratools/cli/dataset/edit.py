"""``loratools dataset edit``"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from loratools.cli.app import Group
from loratools.cli.options import json_option, print_json

if TYPE_CHECKING:
    from loratools.dataset.edits.edit import CaptionEditor, EditPlan
    from loratools.dataset.edits.log import Entry
    from loratools.dataset.edits.operations import AnyOperation
    from loratools.dataset.edits.translations import Translations

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class EditFlags:
    """What every edit is asked for beside its own options."""

    where: str
    translations: str | None
    dry_run: bool
    yes: bool
    as_json: bool


def edit_options(function: F) -> F:
    """``--where``, ``--translations``, ``--dry-run``, ``--yes`` and ``--json``"""
    function = json_option(function)
    function = click.option("--yes", is_flag=True, help="Do it without asking.")(function)
    function = click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")(function)
    function = click.option(
        "--translations", type=click.Path(), help="A CSV of tag,translation: tags are shown, and may be given, in both."
    )(function)
    return click.option(
        "--where",
        default="",
        metavar="FILTER",
        help="Only these: 'face_focus and not smile', 'share>40%', 'file:10_face/*'.",
    )(function)


@click.group("edit", cls=Group)
@click.argument("folder", type=click.Path())
@click.pass_context
def edit(ctx: click.Context, folder: str) -> None:
    """Edit the captions in FOLDER in bulk: shown before it is done, logged, and undone letter for letter.

    A filter joins tags with and, or, not and brackets. Beside tags it knows file:GLOB, the picture's tags, width,
    height, ratio, folder and group, and of the tag that is edited its share, count, score, category and source. Tags
    may hold * and ?.

    \b
      loratools dataset edit pictures remove "signature, *username"
      loratools dataset edit pictures remove "*hair" --where "share>40%"
      loratools dataset edit pictures prune --junk --overlaps --core 40%
      loratools dataset edit pictures trigger ink_style --yes
      loratools dataset edit pictures undo
    """
    ctx.obj = folder


@edit.command("add")
@click.argument("tags")
@click.option("--at", default="end", show_default=True, metavar="PLACE", help="front, end, or a number from 1.")
@edit_options
@click.pass_obj
def add(folder: str, /, tags: str, at: str, **flags: Any) -> None:
    """Add TAGS (apart by commas) where they are missing."""
    _edit(folder, {"kind": "add", "tags": tags, "at": at}, EditFlags(**flags))


@edit.command("remove")
@click.argument("tags")
@edit_options
@click.pass_obj
def remove(folder: str, /, tags: str, **flags: Any) -> None:
    """Remove TAGS (apart by commas; * and ? stand for any letters)."""
    _edit(folder, {"kind": "remove", "tags": tags}, EditFlags(**flags))


@edit.command("replace")
@click.argument("tags")
@click.argument("by")
@edit_options
@click.pass_obj
def replace(folder: str, /, tags: str, by: str, **flags: Any) -> None:
    """Put the tags BY in the place of TAGS."""
    _edit(folder, {"kind": "replace", "tags": tags, "by": by}, EditFlags(**flags))


@edit.command("move")
@click.argument("tags")
@click.option("--to", default="front", show_default=True, metavar="PLACE", help="front, end, or a number from 1.")
@edit_options
@click.pass_obj
def move(folder: str, /, tags: str, to: str, **flags: Any) -> None:
    """Move TAGS to a place; they keep the order in which they are given."""
    _edit(folder, {"kind": "move", "tags": tags, "at": to}, EditFlags(**flags))


@edit.command("sort")
@click.option(
    "--by",
    default="usual",
    show_default=True,
    type=click.Choice(["usual", "score", "name"]),
    help="usual: how many people, characters, then by score, else as they stand.",
)
@click.option("--keep", default=0, type=click.IntRange(0), metavar="N", help="The first N tags stay where they are.")
@edit_options
@click.pass_obj
def sort(folder: str, /, by: str, keep: int, **flags: Any) -> None:
    """Put the tags of each caption in order."""
    _edit(folder, {"kind": "sort", "by": by, "keep": keep}, EditFlags(**flags))


@edit.command("trigger")
@click.argument("word")
@click.option("--instead-of", default="", metavar="OLD", help="A word that it replaces.")
@edit_options
@click.pass_obj
def trigger(folder: str, /, word: str, instead_of: str, **flags: Any) -> None:
    """Put WORD at the front of every caption."""
    _edit(folder, {"kind": "trigger", "word": word, "instead_of": instead_of}, EditFlags(**flags))


@edit.command("prune")
@click.option("--junk", is_flag=True, help="Sites' own words: highres, commentary request, signature ...")
@click.option("--overlaps", is_flag=True, help="What another tag ends with: shirt beside white shirt.")
@click.option("--contradictions", is_flag=True, help="What cannot be: solo beside 2girls, skirts on a face crop.")
@click.option("--implications", type=click.Path(), metavar="FILE", help="A table: CSV of tag,implied tag or a JSON.")
@click.option("--core", metavar="SHARE", help="What a character always has, in more than 40%, say, of its pictures.")
@click.option("--character", default="", metavar="TAG", help="Whose core tags; all pictures' if left out.")
@click.option("--core-all", is_flag=True, help="With --core: clothes and all else too, not only how one looks.")
@click.option("--keep", default="", metavar="TAGS", help="Tags that stay in any case.")
@edit_options
@click.pass_obj
def prune(folder: str, /, **options: Any) -> None:
    """Take out tags that say nothing, or nothing new. Core tags are listed with their shares first."""
    from loratools.dataset.edits.operations import tag_list

    flags = EditFlags(**{name: options.pop(name) for name in EditFlags.__dataclass_fields__})
    asked = {name: True for name in ("junk", "overlaps", "contradictions") if options[name]}
    if not asked and not options["implications"] and not options["core"]:
        raise click.UsageError(
            "say what to prune: --junk, --overlaps, --contradictions, --implications FILE or --core SHARE",
            click.get_current_context(),
        )
    rules = {**asked, "character": options["character"], "keep": tag_list(options["keep"])}
    if options["implications"]:
        from loratools.dataset.edits.prune import read_implications

        rules["implications"] = read_implications(Path(options["implications"]))
    if options["core"]:
        rules["core"] = _core(folder, flags, options)
    _edit(folder, {"kind": "prune", "rules": rules}, flags)


@edit.command("undo")
@json_option
@click.pass_obj
def undo(folder: str, /, as_json: bool) -> None:
    """Take back the last edit or replay. Captions that were edited by hand since then stay as they are."""
    editor = _editor(folder, None)[0]
    done = editor.undo()
    for note in editor.notes:
        click.echo(f"warning: {note}", err=True)
    if as_json:
        print_json({"undone": done.entry.json(), "restored": done.restored, "kept": list(done.kept)})
        return
    click.echo(f"undone: {done.entry.text()}; {done.restored} captions are as they were")
    if done.kept:
        click.echo(f"{len(done.kept)} captions were changed since then and stay: {', '.join(done.kept[:5])}")


@edit.command("log")
@click.option("--as-recipe", is_flag=True, help="As the edits of a recipe's edit_tags step, without what was undone.")
@json_option
@click.pass_obj
def log(folder: str, /, as_recipe: bool, as_json: bool) -> None:
    """List what was done, oldest first."""
    editor = _editor(folder, None)[0]
    entries = editor.log.entries()
    if as_recipe:
        active = [entry.edit.json() for entry in editor.log.active() if entry.edit is not None]
        click.echo("\n".join(["edits:", *(f"  - {json.dumps(value, ensure_ascii=False)}" for value in active)]))
        return
    undone = {entry.undoes for entry in entries}
    if as_json:
        print_json([{**entry.json(), "undone": entry.id in undone} for entry in entries])
        return
    for entry in entries:
        click.echo(f"{entry.id:4d}  {entry.at}  {entry.changed} captions: {_short(entry, entry.id in undone)}")
    if not entries:
        click.echo(f"no edits in {editor.folder.root}")


@edit.command("replay")
@edit_options
@click.pass_obj
def replay(folder: str, /, **flags: Any) -> None:
    """Do all edits of the log again, on pictures that came after them."""
    asked = EditFlags(**flags)
    if asked.where:
        raise click.UsageError("a replay has the filters of its edits; leave --where out", click.get_current_context())
    editor, words = _editor(folder, asked.translations)
    plan, ids = editor.plan_replay()
    _show_and_do(editor, plan, asked, words, lambda: editor.replay(plan, ids))


def _short(entry: Entry, undone: bool) -> str:
    text = entry.text()
    return f"{text[:300]}{' ...' if len(text) > 300 else ''}{' (undone)' if undone else ''}"


def _editor(folder: str, translations: str | None) -> tuple[CaptionEditor, Translations]:
    from loratools.dataset.edits.edit import CaptionEditor
    from loratools.dataset.edits.translations import Translations, read_translations
    from loratools.dataset.tags.store import DatasetFolder

    words = Translations() if translations is None else read_translations(Path(translations))
    return CaptionEditor(DatasetFolder.open(folder), words.meant), words


def _core(folder: str, flags: EditFlags, options: dict[str, Any]) -> list[str]:
    """The core tags, which are shown with their shares."""
    from loratools.dataset.edits.prune import core_tags

    editor, words = _editor(folder, flags.translations)
    share = _share(options["core"])
    pictures = editor.folder.read().readable()
    core = core_tags(pictures, share, words.meant(options["character"]), features=not options["core_all"])
    if not flags.as_json:
        listed = ", ".join(f"{words.shown(name)} {value:.0%}" for name, value in core.items())
        click.echo(f"core tags: {listed or 'none'}")
    return list(core)


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise click.BadParameter(f"'{text}' is no share such as 40% or 0.4", param_hint="--core")
    return share


def _edit(folder: str, value: dict[str, Any], flags: EditFlags) -> None:
    """Show an edit, and do it."""
    from loratools.dataset.edits.log import Edit
    from loratools.dataset.edits.operations import operation_from_json

    editor, words = _editor(folder, flags.translations)
    for name in ("tags", "by"):
        if isinstance(value.get(name), str) and value["kind"] != "sort":
            value[name] = ",".join(words.meant(part.strip()) for part in value[name].split(","))
    operation: AnyOperation = operation_from_json(value)
    edit_ = Edit(operation, flags.where)
    plan = editor.plan(edit_)
    _show_and_do(editor, plan, flags, words, lambda: editor.apply(edit_, plan))


def _show_and_do(
    editor: CaptionEditor, plan: EditPlan, flags: EditFlags, words: Translations, do: Callable[[], Entry | None]
) -> None:
    for note in plan.notes:
        click.echo(f"warning: {note}", err=True)
    if not flags.as_json:
        click.echo("\n".join(plan.lines(words.shown)))
    done = None
    if plan.changes and not flags.dry_run and _agreed(flags):
        done = do()
    for note in editor.notes:
        click.echo(f"warning: {note}", err=True)
    if flags.as_json:
        print_json({**plan.json(), "edit": None if done is None else done.json()})
    elif done is not None:
        click.echo(f"done, as edit {done.id}; `undo` takes it back")
    elif plan.changes:
        click.echo("nothing was written" if flags.dry_run else "nothing was written; --yes does it")


def _agreed(flags: EditFlags) -> bool:
    """Whether to go on: asked for, or answered on a terminal."""
    if flags.yes:
        return True
    return not flags.as_json and sys.stdin.isatty() and click.confirm("do it?")
