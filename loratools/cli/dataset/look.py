"""``loratools dataset look``"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from loratools.cli.app import Command
from loratools.cli.options import device_option, json_option, print_json

F = TypeVar("F", bound=Callable[..., Any])


def detector_options(function: F) -> F:
    """``--detector``, ``--boxes`` and ``--device``: of every command that finds faces, bodies or text."""
    function = device_option(function)
    function = click.option(
        "--boxes", type=click.Path(), metavar="JSON", help='Boxes by hand: {"a.png": {"face": [[l, t, r, b]]}}.'
    )(function)
    return click.option(
        "--detector",
        "detectors",
        multiple=True,
        metavar="NAME",
        help="animeface, rapidocr, or face|head|halfbody|person|text=FILE.onnx (or a folder on the hub). Repeatable.",
    )(function)


def encoding_option(function: F) -> F:
    """``--encoding``: of every command that reads captions as others left them."""
    return click.option(
        "--encoding",
        default="auto",
        show_default=True,
        help="Of captions that are not Unicode: gbk, shift-jis, cp1251 ...; auto finds it where it is sure.",
    )(function)


@click.command("look", cls=Command)
@click.argument("folder", type=click.Path())
@click.option("--html", "sheet", type=click.Path(), metavar="FILE", help="Write a contact sheet to open in a browser.")
@click.option("--resolution", type=click.IntRange(64), default=512, show_default=True, help="At which you will train.")
@encoding_option
@detector_options
@json_option
def look(
    folder: str,
    sheet: str | None,
    resolution: int,
    encoding: str,
    detectors: tuple[str, ...],
    boxes: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Say what is in a folder of pictures: sizes, classes, copies, variants, text, tags, and what to mend.

    Nothing in the folder is changed. Classes (face close-up, main visual, full body) go by detectors where some are
    named, else by tags and ratio.

    \b
      loratools dataset look downloads --html look.html
      loratools dataset look downloads --detector animeface --detector rapidocr --json
    """
    from loratools.dataset.detect.detectors import open_detectors
    from loratools.dataset.look.look import look as look_at
    from loratools.dataset.look.sheet import write_sheet
    from loratools.progress import shown_progress

    known = open_detectors(detectors, Path(boxes) if boxes else None, device)
    with shown_progress("looking", "picture") as bar:
        report = look_at(folder, known, resolution=resolution, encoding=encoding, on_progress=bar)
    if sheet:
        with shown_progress("drawing", "picture") as bar:
            write_sheet(Path(sheet), report, bar)
    print_json(report.json()) if as_json else click.echo(report.text())
    if sheet and not as_json:
        click.echo(f"contact sheet: {sheet}")
