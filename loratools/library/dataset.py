"""Folders of pictures: looked at, imported, prepared and balanced, as by ``loratools dataset``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.library.options import OneOrMore, StrPath, several
from loratools.progress import OnProgress

if TYPE_CHECKING:
    from loratools.dataset.balance.plan import Balance, BalanceRequest
    from loratools.dataset.detect.detectors import Detectors
    from loratools.dataset.look.report import LookReport
    from loratools.dataset.prepare.options import PrepareOptions
    from loratools.dataset.prepare.report import PrepareReport
    from loratools.dataset.sidecars.import_folder import ImportReport


def dataset_look(
    folder: StrPath,
    html: StrPath | None = None,
    *,
    detectors: OneOrMore = (),
    boxes: StrPath | None = None,
    resolution: int = 512,
    encoding: str = "auto",
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> LookReport:
    """Say what lies in a folder of pictures: sizes, classes, copies, variants, text, tags, and what to mend.

    Args:
        html: a contact sheet to write; nothing else is written.
        detectors: ``animeface``, ``rapidocr``, or ``face|head|halfbody|person|text=FILE.onnx``.
        boxes: a JSON file of boxes by hand.
        resolution: at which will be trained, in pixels.
        encoding: of captions that are not Unicode; ``auto`` finds it where it is sure.
        device: of detectors.
    Raises:
        DatasetError: if the folder or its record cannot be read.
        LoratoolsError: for a detector that cannot be had.
    """
    from loratools.dataset.look.look import look
    from loratools.dataset.look.sheet import write_sheet

    known = _detectors(detectors, boxes, device)
    report = look(folder, known, resolution=resolution, encoding=encoding, on_progress=on_progress)
    if html is not None:
        write_sheet(Path(html), report)
    return report


def dataset_import(
    folder: StrPath,
    *,
    keep: Iterable[str] = (),
    again: bool = False,
    dry_run: bool = False,
    encoding: str = "auto",
    on_progress: OnProgress | None = None,
) -> ImportReport:
    """Read what downloaders and taggers left beside pictures, and write clean captions and the folder's record.

    Args:
        keep: categories that stay in captions: ``artist``, ``meta``, ``rating``, ``model``, ``quality``.
        again: read the sidecars of pictures anew that were imported already.
        dry_run: write nothing.
        encoding: of sidecars that are not Unicode; ``auto`` finds it where it is sure.
    Raises:
        DatasetError: if the folder or its record cannot be read.
        FileError: if something cannot be written; what was written until then is whole.
    """
    from loratools.dataset.sidecars.import_folder import import_folder

    return import_folder(
        folder, several(keep), again=again, dry_run=dry_run, encoding=encoding, on_progress=on_progress
    )


def dataset_prepare(
    folder: StrPath,
    out: StrPath,
    options: PrepareOptions | None = None,
    *,
    detectors: OneOrMore = (),
    boxes: StrPath | None = None,
    upscaler: StrPath | None = None,
    encoding: str = "auto",
    device: str = "auto",
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> PrepareReport:
    """Make a set of training pictures; originals are only read, and a second run works on what is new alone.

    Args:
        out: the folder of the set.
        options: resolution, most ratio, crops, what becomes of text.
        detectors, boxes: as for ``dataset_look``.
        upscaler: a super-resolution model's file; Lanczos by default.
        encoding: of sidecars that are not Unicode; ``auto`` finds it where it is sure.
        device: of detectors and the upscaler.
        force: write into a folder that holds something else.
    Returns:
        What came of every original; pictures that failed are its ``problems``, and tried again by the next call.
    Raises:
        DatasetError: if the folder, its record or the manifest cannot be read.
        FileError: if ``out`` is not ours to write, or cannot be written.
    """
    from loratools.dataset.prepare.enlarge import open_upscaler
    from loratools.dataset.prepare.run import prepare

    known = _detectors(detectors, boxes, device)
    model = None if upscaler is None else open_upscaler(str(upscaler), device)
    return prepare(folder, out, options, known, model, encoding=encoding, force=force, on_progress=on_progress)


def dataset_balance(
    folder: StrPath,
    out: StrPath | None = None,
    request: BalanceRequest | None = None,
    *,
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> Balance:
    """Find how often to show each class of a prepared folder, by an exact search.

    Args:
        out: a folder of ``N_name`` folders to write by the best plan; None only searches.
        request: the rule, mirrored copies, steps, and what classes are.
        force: overwrite a folder that was not written here.
    Raises:
        DatasetError: if the folder cannot be read, or has no numbered folders.
        OptionError: if no plan is possible.
        FileError: if ``out`` cannot be written.
    """
    from loratools.dataset.balance.plan import BalanceRequest, balance
    from loratools.dataset.balance.write import write_folders
    from loratools.dataset.tags.store import DatasetFolder

    opened = DatasetFolder.open(folder)
    plans = balance(opened, request or BalanceRequest(), on_progress)
    if out is not None:
        write_folders(opened, plans, Path(out), force=force)
    return plans


def _detectors(names: OneOrMore, boxes: StrPath | None, device: str) -> Detectors:
    from loratools.dataset.detect.detectors import open_detectors

    return open_detectors(several(names), None if boxes is None else Path(boxes), device)
