"""The contact sheet: one HTML file with every picture, in classes and groups, and what is to be mended at the top."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from loratools.dataset.facts.measure import side_by_side
from loratools.dataset.images import open_image
from loratools.dataset.look.report import LookReport, text_tags
from loratools.dataset.look.seen import SeenPicture
from loratools.dataset.tags.vocabulary import CLASSES
from loratools.errors import LoratoolsError
from loratools.files import write_text
from loratools.imaging.colours import GREY, INK, LINE, PAPER
from loratools.progress import OnProgress, counted

_SIDE = 128  # of a small picture, in pixels
_MOST_EMBEDDED = 1500  # small pictures in the file; with more of them it names the pictures where they lie
_TITLES = {"face": "Face close-ups", "main": "Main visual", "full": "Full body", "other": "No class"}


def write_sheet(path: Path, report: LookReport, on_progress: OnProgress | None = None) -> None:
    """Write the sheet of a report, whole or not at all.

    Raises:
        FileError: if it cannot be written.
    """
    sources = _sources(path, report.seen.pictures, on_progress)
    write_text(path, "".join(_page(report, sources)))


def _sources(path: Path, pictures: Sequence[SeenPicture], on_progress: OnProgress | None) -> Mapping[str, str]:
    """What each picture's ``src`` is: a small copy of it, or the file itself."""
    if len(pictures) > _MOST_EMBEDDED:
        return {one.file: _address(one.path, path) for one in pictures}
    paths = {one.path: one.file for one in pictures}
    sources = {}
    for picture, result in counted(side_by_side(_small, list(paths)), len(paths), on_progress):
        sources[paths[picture]] = "" if isinstance(result, LoratoolsError) else result
    return sources


def _address(picture: Path, sheet: Path) -> str:
    """Where a picture lies, from the sheet or as a whole address, with percent signs for what addresses cannot have."""
    try:
        return quote(picture.relative_to(sheet.resolve().parent).as_posix())
    except ValueError:
        return picture.as_uri()


def _small(path: Path) -> str:
    image = open_image(path)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=70)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def _page(report: LookReport, sources: Mapping[str, str]) -> Iterator[str]:
    seen = report.seen
    title = html.escape(seen.folder.folder.name)
    yield (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><meta name=viewport "
        f"content='width=device-width'><style>{_STYLE}</style><h1>{title}</h1>"
    )
    yield f"<pre>{html.escape(report.text().split('! ', 1)[0].rstrip())}</pre>"
    if report.warnings:
        yield f"<ul class=mend>{''.join(f'<li>{html.escape(one)}' for one in report.warnings)}</ul>"
    by_file = {one.file: one for one in seen.pictures}
    for name, groups in (("The same picture twice", seen.groups.duplicates), ("Variants", seen.groups.variants)):
        if groups:
            yield f"<h2>{name} <small>{len(groups)} groups</small></h2><div class=groups>"
            for group in groups:
                yield f"<div class=group>{''.join(_tile(by_file[file], sources) for file in seen.files(group))}</div>"
            yield "</div>"
    for kind in CLASSES:
        pictures = [one for one in seen.pictures if one.framing.name == kind]
        if pictures:
            yield f"<h2>{_TITLES[kind]} <small>{len(pictures)}</small></h2><div class=tiles>"
            yield from (_tile(one, sources) for one in pictures)
            yield "</div>"
    if seen.refused:
        yield "<h2>Cannot be read</h2><ul>"
        yield from (f"<li>{html.escape(reason)}" for reason in seen.refused.values())
        yield "</ul>"
    yield "</html>\n"


def _tile(one: SeenPicture, sources: Mapping[str, str]) -> str:
    """A picture with its size, what is special about it, and its tags on hovering."""
    facts = one.facts
    marks = {
        "alpha": facts.transparent,
        "grey": facts.grey,
        "moves": facts.animated,
        "text": bool(one.boxes and one.boxes.text) or bool(text_tags(one)),
        "no tags": not one.picture.tags and not one.picture.sentence,
        f"by {one.framing.witness}": True,
    }
    shown = "".join(f"<i>{name}</i>" for name, is_so in marks.items() if is_so)
    caption = html.escape(one.picture.caption(), quote=True)
    return (
        f'<figure title="{caption}"><img loading=lazy alt="" src="{sources.get(one.file, "")}">'
        f"<figcaption>{html.escape(one.file)}<br>{facts.size[0]}x{facts.size[1]} {shown}</figcaption></figure>"
    )


_STYLE = f"""
body{{background:{PAPER};color:{INK};font:14px/1.4 system-ui,sans-serif;margin:2em}}
h2 small,figcaption{{color:{GREY}}} pre{{white-space:pre-wrap}}
.mend li{{margin:.2em 0}} .tiles,.groups,.group{{display:flex;flex-wrap:wrap;gap:8px}}
.group{{border:1px solid {LINE};padding:6px;border-radius:6px}}
figure{{margin:0;width:{_SIDE}px}} img{{width:100%;height:{_SIDE}px;object-fit:contain;background:#fff}}
figcaption{{font-size:11px;overflow-wrap:anywhere}} i{{font-style:normal;border:1px solid {LINE};padding:0 3px;
border-radius:3px;margin-right:2px}}
"""
