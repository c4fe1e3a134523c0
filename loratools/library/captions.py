"""The captions of a folder of pictures: tagged, edited in bulk, and undone, as by ``loratools dataset``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.library.options import StrPath
from loratools.progress import OnProgress

if TYPE_CHECKING:
    from loratools.dataset.edits.edit import EditPlan, Undone
    from loratools.dataset.tagging.tag_folder import TagReport, TagRequest


def dataset_tag(
    folder: StrPath,
    request: TagRequest | StrPath | None = None,
    *,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
) -> TagReport:
    """Tag the pictures of a folder, or take another threshold for the tagger that looked at them last.

    Args:
        request: a tagger's file or hub id, or a ``TagRequest``, which has thresholds, places and a captioner too.
        dry_run: write no captions; probabilities are kept all the same.
        on_progress: of pictures shown to the tagger.
    Raises:
        DatasetError: if the folder cannot be read, or nothing looked at it yet and no tagger is named.
        LoratoolsError: for a tagger that cannot be had or does not fit its tags.
    """
    from loratools.dataset.tagging.tag_folder import TagRequest, tag_folder
    from loratools.dataset.tags.store import DatasetFolder

    asked = request if isinstance(request, TagRequest) else TagRequest(None if request is None else str(request))
    return tag_folder(DatasetFolder.open(folder), asked, dry_run=dry_run, on_progress=on_progress)


def dataset_edit(folder: StrPath, edit: Mapping[str, Any], *, where: str = "", dry_run: bool = False) -> EditPlan:
    """Edit the captions of a folder in bulk, and log it; ``dataset_undo`` takes it back.

    Args:
        edit: as a recipe has it: ``{"remove": "*hair"}``, ``{"trigger": "ink"}``, ``{"prune": ["junk"]}``.
        where: a filter such as ``face_focus and not smile`` or ``share>40%``.
        dry_run: only say what would change.
    Returns:
        The captions that change, before and after, and what could not be read or written (``notes``).
    Raises:
        OptionError: for an edit or a filter that cannot be read.
        DatasetError: if the folder or its log cannot be read.
        FileError: if a caption cannot be written.
    """
    from loratools.dataset.edits.edit import CaptionEditor
    from loratools.dataset.edits.written import read_edit
    from loratools.dataset.tags.store import DatasetFolder

    editor = CaptionEditor(DatasetFolder.open(folder))
    written = read_edit({**edit, "where": where} if where else edit)
    table = None if written.implications is None else Path(written.implications)
    asked = written.resolved(editor.folder.read().readable(), table)
    plan = editor.plan(asked)
    if not dry_run:
        editor.apply(asked, plan)
    return replace(plan, notes=(*plan.notes, *editor.notes))


def dataset_undo(folder: StrPath) -> Undone:
    """Take back the last edit of a folder's captions; those that were changed otherwise since then stay.

    Raises:
        OptionError: if there is nothing to undo.
        DatasetError: if the folder or its log cannot be read.
        FileError: if a caption cannot be written.
    """
    from loratools.dataset.edits.edit import CaptionEditor
    from loratools.dataset.tags.store import DatasetFolder

    return CaptionEditor(DatasetFolder.open(folder)).undo()
