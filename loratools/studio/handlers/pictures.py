"""``GET /api/pictures/{id}?size=256``: pictures below the roots, as themselves or small, kept by the browser for ever.

What is sent was decoded here and written anew, or begins with the bytes of a PNG, JPEG or WebP: nothing that a browser
could run (SVG, HTML) leaves as what it claims to be.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from loratools.errors import FileError
from loratools.files import write_bytes
from loratools.studio.api.words import problem
from loratools.studio.context import Studio
from loratools.studio.handlers.answers import get

_MAGIC = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
_SIZES = (64, 128, 256, 384, 512, 768, 1024)
_MOST_PIXELS = 100_000_000
_QUALITY = 82  # of small WebPs
_FOR_EVER = {"cache-control": "private, max-age=31536000, immutable"}
_NOT_A_PICTURE = 415


def picture(studio: Studio, request: Request) -> Response:
    """The bytes of a picture, or a WebP of it that is at most ``size`` pixels wide and high."""
    path = studio.roots.picture(request.path_params["id"])
    kind = picture_type(path)
    size = request.query_params.get("size")
    if size is None:
        return FileResponse(path, media_type=kind, headers={**_FOR_EVER, "content-disposition": "inline"})
    if not (size.isascii() and size.isdigit() and int(size) in _SIZES):
        raise problem("picture.size", sizes=", ".join(map(str, _SIZES)))
    return Response(_small(studio, path, int(size)), media_type="image/webp", headers=_FOR_EVER)


def picture_type(path: Path) -> str:
    """The media type that a file's first bytes say.

    Raises:
        StudioError: if it is no PNG, JPEG or WebP, whatever its name is.
    """
    head = b""
    if path.is_file():  # not a pipe, which would never end
        with open(path, "rb") as stream:
            head = stream.read(12)
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return "image/webp"
    raise problem("picture.type", status=_NOT_A_PICTURE, name=path.name)


def _small(studio: Studio, path: Path, size: int) -> bytes:
    """The picture in small, kept in the studio's hidden folder by the file's path and stamp."""
    facts = path.stat()
    key = hashlib.sha256(f"{path}\0{facts.st_mtime_ns}\0{facts.st_size}\0{size}".encode()).hexdigest()[:32]
    kept = studio.state_folder / "thumbnails" / key[:2] / f"{key}.webp"
    try:
        return kept.read_bytes()
    except OSError:
        content = _shrunk(path, size)
    try:
        write_bytes(kept, content)
    except FileError:  # a full disk: it is made again next time
        return content
    return content


def _shrunk(path: Path, size: int) -> bytes:
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as opened:
            if opened.width * opened.height > _MOST_PIXELS:
                raise problem("picture.large", name=path.name, width=opened.width, height=opened.height)
            opened.draft("RGB", (size, size))
            shown = opened.convert("RGBA" if "A" in opened.getbands() else "RGB")
            shown.thumbnail((size, size))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise problem("picture.unreadable", status=_NOT_A_PICTURE, name=path.name) from error
    stream = io.BytesIO()
    shown.save(stream, "WEBP", quality=_QUALITY)
    return stream.getvalue()


ROUTES: list[Route] = [get("/api/pictures/{id}", picture)]
