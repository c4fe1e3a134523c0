"""Which files measures read or are made of, and what they hold: a search goes on only by the same ones."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path

from loratools.digests import file_digest
from loratools.line_program import command_files
from loratools.measures.own_function import module_file
from loratools.measures.request import MARKED, MeasureRequest


def sources_of(requests: Sequence[MeasureRequest]) -> list[Path]:
    """The files and folders that measures read or are made of, as far as they are there: folders of marked pictures, a
    votes file, the file of a function's module, and the files that a command line names."""
    paths: list[Path] = []
    for request in requests:
        if request.kind in MARKED and request.source:
            paths.append(Path(request.source))
        elif request.kind == "python":
            paths += [path for path in (module_file(request.source),) if path is not None]
        elif request.kind == "command":
            paths += command_files(request.source)
    return paths


def digest_of_sources(requests: Sequence[MeasureRequest], training: Path | None = None) -> str:
    """sha256 of all files that measures learn from or are made of, empty without any; it changes when a picture is
    marked anew, or a measure of one's own is edited.

    That is what :func:`sources_of` names (of a votes file, whose cells' keys stand for their pictures, the file alone),
    and the folder of training pictures. What cannot be read counts as nothing; building the measures says so.
    """
    sources = sources_of(requests)
    sources += [] if training is None else [training]
    if not sources:
        return ""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(b"\n\n")
        files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        for file in files:
            with contextlib.suppress(OSError):
                own = file_digest(file)
                name = file.relative_to(source).as_posix() if source.is_dir() else file.name
                digest.update(f"{name}\n{own}\n".encode())
    return digest.hexdigest()
