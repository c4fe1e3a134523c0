"""A picture as the small one that a LoRA file's header carries (``modelspec.thumbnail``)."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

from loratools.errors import FileError

THUMBNAIL = "modelspec.thumbnail"  # the header's entry
SIDE = 256  # pixels of the longer side, as the ModelSpec recommends
MOST = 64 << 10  # bytes: every program that lists models reads this text with the header
_QUALITIES = (88, 75, 60, 45, 30)


def thumbnail_url(path: str | os.PathLike[str]) -> str:
    """The picture at ``path`` as ``data:image/jpeg;base64,...``: at most 256 pixels wide and high and 64 KiB.

    Rotation is applied, transparency becomes white, and no text of the file (such as its prompt) comes along.

    Raises:
        FileError: if it cannot be read, or is no picture.
    """
    from PIL import Image, ImageOps

    source = Path(path)
    try:
        with Image.open(source) as opened:
            turned = ImageOps.exif_transpose(opened).convert("RGBA")
    except FileNotFoundError as error:
        raise FileError(f"{source} does not exist; check the preview's name and folder") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FileError(f"{source} is no picture that can be read; give a PNG, JPG or WebP file") from error
    turned.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    picture = Image.new("RGB", turned.size, "white")
    picture.paste(turned, mask=turned.getchannel("A"))
    data = b""
    for quality in _QUALITIES:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality, optimize=True)
        data = stream.getvalue()
        if len(data) <= MOST:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"
