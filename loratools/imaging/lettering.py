"""Text on sheets: a font that has the characters, lines that wrap, and measures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

_WORDS = re.compile(r"(?<=\s)(?=\S)")
_PARTS = re.compile(r"(?<=[\-_/.,+])")  # where a word that is too long may break, such as a file's name
_WIDE_FONTS = (  # system fonts with Chinese, Japanese and Korean, the best first
    "NotoSansCJK",
    "NotoSansSC",
    "SourceHanSans",
    "msyh",
    "simhei",
    "PingFang",
    "Hiragino",
    "YuGoth",
    "wqy-",
    "DroidSansFallback",
    "Arial Unicode",
)


@dataclass(frozen=True)
class Lettering:
    """A font of ``size`` pixels that has the characters of ``sample``."""

    size: int
    sample: str = ""

    @cached_property
    def font(self) -> Any:
        """Pillow's built-in font if it suffices, DejaVu for other alphabets, a system font for Chinese and kin."""
        from PIL import ImageFont

        path = font_file(self.sample)
        return ImageFont.truetype(str(path), self.size) if path else ImageFont.load_default(self.size)

    @property
    def line(self) -> int:
        """Distance between two lines, in pixels."""
        return round(self.size * 1.3)

    def width(self, text: str) -> int:
        """Pixels that one line of ``text`` takes."""
        return int(self.font.getlength(text) + 0.999)

    def wrap(self, text: str, width: int, most: int = 0) -> list[str]:
        """``text`` in lines of at most ``width`` pixels: broken after spaces, a word that is too long after one of
        ``- _ / . , +`` or, without one, anywhere.

        Args:
            most: lines at most, the last one then ending in an ellipsis; 0 for no limit.
        """
        lines = [line for part in text.split("\n") for line in self._wrap_line(part, width)]
        if most and len(lines) > most:
            last = lines[most - 1]
            while last and self.width(last + "…") > width:
                last = last[:-1]
            lines = [*lines[: most - 1], last + "…"]
        return lines

    def _wrap_line(self, text: str, width: int) -> list[str]:
        lines, line = [], ""
        for piece in self._pieces(text, width):
            if line and self.width((line + piece).rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            line += piece
            while self.width(line.rstrip()) > width and len(line) > 1:
                cut = next(n for n in range(len(line) - 1, 0, -1) if n == 1 or self.width(line[:n]) <= width)
                lines.append(line[:cut])
                line = line[cut:]
        return [*lines, line.rstrip()] if line.strip() or not lines else lines

    def _pieces(self, text: str, width: int) -> list[str]:
        """Words, each with the space after it; a word wider than a line in pieces."""
        pieces = []
        for word in _WORDS.split(text):
            pieces += _PARTS.split(word) if self.width(word.rstrip()) > width else [word]
        return pieces


def font_file(sample: str) -> Path | None:
    """A font file with the characters of ``sample``; None where Pillow's built-in font has them all.

    Chinese, Japanese and Korean need a font of the system; without one DejaVu shows boxes.
    """
    if all(character.isascii() or character in "·‘’“”…" for character in sample):
        return None
    import matplotlib
    from matplotlib.font_manager import findSystemFonts

    if any(ord(character) >= 0x2E80 for character in sample):
        installed = sorted(Path(name) for name in findSystemFonts())
        for name in _WIDE_FONTS:
            for path in installed:
                if name.lower() in path.name.lower():
                    return path
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
