"""The text inside a picture: generation parameters in PNG, JPEG, WebP and AVIF, as the WebUI and its kin write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.errors import FileError, FormatError

if TYPE_CHECKING:
    from PIL.Image import Exif

PICTURES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif")
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_COMFY_TAGS = (0x010E, 0x010F, 0x0110)  # where ComfyUI's WebP nodes put "workflow:{...}" and "prompt:{...}"
_ELSEWHERE: Mapping[str, str] = {  # a PNG's text chunk -> the program that reads it
    "workflow": "ComfyUI",
    "prompt": "ComfyUI",
    "invokeai_metadata": "InvokeAI",
    "sd-metadata": "InvokeAI",
    "Comment": "NovelAI or another program",
}
_REMEDY = "save it with the WebUI's parameters in it, or give them as text"


def picture_text(path: Path) -> str:
    """The generation parameters in a picture: PNG's ``parameters``, or the Exif comment of the other formats.

    Raises:
        FileError: if it is no picture.
        FormatError: if it holds none, or those of a program whose settings are not read.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()  # a PNG's texts may stand behind its pixels
            chunks = {str(key): value for key, value in image.info.items() if isinstance(value, str)}
            exif = image.getexif()
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise FileError(f"{path} cannot be read as a picture: {error}") from error
    text = chunks.get("parameters") or _comment(exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT, b""))
    if text.lstrip().startswith("{"):
        raise FormatError(f"{path} holds settings in JSON, of Fooocus or another program; {_REMEDY}")
    if not text.strip():
        if (program := _other_program(chunks, exif)) is not None:
            raise FormatError(f"{path} holds the settings of {program}, which are not read; {_REMEDY}")
        raise FormatError(f"{path} holds no generation parameters; it was saved without them, or by another program")
    return text


def _other_program(chunks: Mapping[str, str], exif: Exif) -> str | None:
    if any(str(exif.get(tag, "")).lower().startswith(("workflow:", "prompt:")) for tag in _COMFY_TAGS):
        return "ComfyUI"
    return next((program for key, program in _ELSEWHERE.items() if key in chunks), None)


def _comment(value: object) -> str:
    """Exif's UserComment: eight bytes name the encoding. UTF-16 is meant to be the most significant byte first; some
    programs write the other order."""
    if not isinstance(value, bytes):
        return str(value)
    name, body = value[:8], value[8:]
    if name.startswith(b"UNICODE"):
        return _utf16(body).strip("\0 ")
    if not name.startswith((b"ASCII", b"JIS")) and name.strip(b"\0"):
        body = value  # no name at all
    return body.decode("utf-8", "replace").strip("\0 ")


def _utf16(body: bytes) -> str:
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return body.decode("utf-16", "replace")
    is_little = body[1::2].count(0) > body[::2].count(0)  # the zeros of Latin letters stand behind them
    return body.decode("utf-16-le" if is_little else "utf-16-be", "replace")
