"""What is handed out names files, not the folders of the machine that they lay in: those hold a person's name at least.

Absolute paths lose their folders, in the header's JSON of how the file was made, in a picture's texts and in the card;
relative ones, which say something of the recipe alone, stay. Tensors and pixels are not touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from loratools.adapter.files.metadata import KEY

_HOME = re.compile(r"~[\\/]")
_FOLDERS = re.compile(
    r"""(?<![^\s,"'=(\[])                          # a word of its own
    (?:[A-Za-z]:[\\/] | \\\\ | ~[\\/] | /)         # C:\ or a server's \\ or the home folder's ~/ or /
    (?:[^\\/:*?"'<>|,\n]+[\\/])+""",
    re.VERBOSE,
)


def public_text(text: str) -> str:
    """``text`` with the last part of each absolute path alone: a path, or a merge string with paths in it."""
    if ":" not in text[2:] and "\n" not in text:
        for path in (PureWindowsPath(text), PurePosixPath(text)):
            if path.is_absolute() or _HOME.match(text):
                return path.name or text
    return _FOLDERS.sub("", text)


def public_values(value: Any) -> Any:
    """JSON values with every text, and every name of a table, made public."""
    match value:
        case str():
            return public_text(value)
        case dict():
            return {public_text(str(key)): public_values(item) for key, item in value.items()}
        case list():
            return [public_values(item) for item in value]
    return value


def public_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """A header's texts: how the file was made by its JSON, and of other trainers' entries those that are a path."""
    texts = {key: _path_alone(text) if key.startswith("ss_") else text for key, text in metadata.items()}
    return texts | ({KEY: _public_json(metadata[KEY])} if KEY in metadata else {})


def make_picture_public(path: Path) -> None:
    """Rewrite the PNG at ``path`` where a text in it names folders of this machine."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    with Image.open(path) as image:
        image.load()
        texts = {str(key): str(text) for key, text in image.info.items() if isinstance(text, str)}
        public = {key: _public_json(text) for key, text in texts.items()}
        if public == texts:
            return
        info = PngInfo()
        for key, text in public.items():
            info.add_text(key, text)
        image.save(path, format="PNG", pnginfo=info)


def _public_json(text: str) -> str:
    """A text that is JSON, value by value; any other as :func:`public_text` has it."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return public_text(text)
    public = public_values(values)
    return text if public == values else json.dumps(public, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _path_alone(text: str) -> str:
    is_path = PureWindowsPath(text).is_absolute() or PurePosixPath(text).is_absolute()
    return public_text(text) if is_path and "\n" not in text else text
