"""Text of captions and sidecars in the encodings that people's files have: detected where that is sure, else refused.

UTF-8 and UTF-16 say themselves what they are. Older encodings do not: a caption in GBK also decodes as Windows-1251, to
letters that nobody wrote. So a folder's files are judged together: an encoding is taken if nearly all of their letters
are common ones in it, and no other gives common letters as well; which one it was is said, with an example.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from loratools.dataset.folder import files_in
from loratools.errors import DatasetError, OptionError

AUTO: Final = "auto"
TEXT_EXTENSIONS: Final = (".txt", ".caption", ".tags", ".tag", ".cap", ".captions", ".json", ".jsonl", ".csv")
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_COMMON: Final = 0.9  # of the letters: an encoding in which as many are common ones may be meant
_DOUBT: Final = 0.6  # and if in another as many are, it is not known which is meant
_FEWEST: Final = 2  # letters beyond ASCII that tell anything
_EXAMPLE: Final = 40  # characters
_SAMPLE: Final = 200  # files of a folder that are judged
_OTHER_NAMES: Final = {
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "shift-jis": "cp932",
    "shift_jis": "cp932",
    "sjis": "cp932",
}
_RUSSIAN = re.compile(r"(?<![^\W\d_])[А-ЯЁ]?[а-яё]+(?![^\W\d_])")  # a word of Cyrillic letters alone, not in capitals
_KANA = re.compile(r"[\u3041-\u3096\u30a1-\u30fa\u30fc\u3005]")
_FULL_WIDTH = re.compile(r"[\u3000-\u3002\u300a-\u3011\uff01-\uff5e\u2014\u2018-\u201d\u2026\u30fb]")


@dataclass(frozen=True)
class _Legacy:
    """An encoding that does not say itself what it is.

    Attributes:
        name: for people; ``codec`` for Python.
        common: how many of a text's letters beyond ASCII are common ones.
        read: whether it is taken; else it is only known as what others may be mistaken for.
    """

    name: str
    codec: str
    common: Callable[[str], int]
    read: bool = True


def _in_rows(codec: str, first: int, last: int) -> Callable[[str], int]:
    """Counts the characters whose first byte in ``codec`` is one of the rows that common ones are in."""

    def count(text: str) -> int:
        encoded = (char.encode(codec, "ignore") for char in text if ord(char) > 127)
        return sum(len(each) == 2 and first <= each[0] <= last for each in encoded)

    return count


def _japanese(text: str) -> int:
    return len(_KANA.findall(text)) + _in_rows("cp932", 0x88, 0x98)(text)


def _russian(text: str) -> int:
    return sum(len(word) for word in _RUSSIAN.findall(text))


_LEGACY: Final = (
    _Legacy("gbk", "gb18030", _in_rows("gb2312", 0xB0, 0xD7)),
    _Legacy("shift-jis", "cp932", _japanese),
    _Legacy("cp1251", "cp1251", _russian),
    _Legacy("big5", "big5", _in_rows("big5", 0xA4, 0xC6), read=False),
    _Legacy("euc-kr", "euc_kr", _in_rows("euc_kr", 0xB0, 0xC8), read=False),
    _Legacy("koi8-r", "koi8_r", _russian, read=False),
)


def codec_of(name: str) -> str:
    """Python's name of an encoding, or ``auto``.

    Raises:
        OptionError: if there is none of that name.
    """
    plain = name.strip().lower()
    if plain == AUTO:
        return AUTO
    try:
        return codecs.lookup(_OTHER_NAMES.get(plain, plain)).name
    except LookupError:
        raise OptionError(
            f"there is no encoding '{name}'; name one such as utf-8, utf-16, gbk, shift-jis or cp1251, or auto"
        ) from None


def unicode_encoding(data: bytes) -> str | None:
    """The Unicode encoding that bytes are in, by their mark, or by what only it has; None if they are in none."""
    if data.isascii() and b"\0" not in data:
        return "utf-8"
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    if b"\0" in data:
        even, odd = data[::2].count(0), data[1::2].count(0)
        return None if len(data) % 2 or (even and odd) else "utf-16-le" if odd else "utf-16-be"
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if any(unicodedata.category(char) == "Cn" for char in set(text) if char > "\x7f") else "utf-8"


def _may_be_older(data: bytes) -> bool:
    """Whether bytes may be UTF-8 by chance: all letters beyond ASCII have two bytes, as ``笑`` in GBK is ``Ц`` too."""
    return not data.isascii() and max(data) < 0xE0


@dataclass
class TextReader:
    """Reads text files of folders; each folder's older encoding is found once, and what is read later is not seen.

    Attributes:
        encoding: of files that are not Unicode; ``auto`` finds it.
    """

    encoding: str = AUTO
    _codec: str = field(init=False, default=AUTO)
    _folders: dict[Path, _Found] = field(init=False, default_factory=dict)
    _read_as: dict[tuple[Path, str], list[tuple[Path, str]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._codec = codec_of(self.encoding)

    def read(self, path: Path) -> str:
        """The text of a file.

        Raises:
            DatasetError: if it cannot be read, or it is not known what its encoding is.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DatasetError(f"{path} cannot be read ({error.strerror or error})") from error
        return self.decoded(path, data)

    def decoded(self, path: Path, data: bytes) -> str:
        """The text of a file that was read.

        Raises:
            DatasetError: as :meth:`read`.
        """
        encoding = unicode_encoding(data)
        if encoding is None:
            encoding = self._codec if self._codec != AUTO else self._of_folder(path)
        elif encoding == "utf-8" and _may_be_older(data):
            older = self._codec if self._codec != AUTO else self._found(path).codec
            if any(each.codec == older and _share(each, [data], 1) >= _COMMON for each in _LEGACY):
                encoding = older
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            raise DatasetError(
                f"{path} is not {_shown(encoding)} (byte {error.start}); save it as UTF-8, or name its encoding"
            ) from error
        if encoding not in ("utf-8", "utf-8-sig"):
            self._read_as.setdefault((path.parent, _shown(encoding)), []).append((path, text))
        return text

    def notes(self) -> tuple[str, ...]:
        """A sentence for each folder whose files were read as something else than UTF-8, with an example."""
        sentences = []
        for (folder, name), files in self._read_as.items():
            path, text = max(files, key=lambda one: len(one[1].encode("utf-8")) - len(one[1]))
            example = " ".join(text.split())[:_EXAMPLE]
            count = len({file for file, _ in files})
            several = f"{count} files in {folder} are" if count > 1 else f"{path} is"
            sentences.append(
                f"{several} read as {name} ({path.name}: {example}); name another encoding if that is wrong"
            )
        return tuple(sentences)

    def _found(self, path: Path) -> _Found:
        found = self._folders.get(path.parent)
        if found is None:
            found = self._folders[path.parent] = _find(path)
        return found

    def _of_folder(self, path: Path) -> str:
        found = self._found(path)
        if found.codec:
            return found.codec
        raise DatasetError(f"{path} is not UTF-8, and {found.reason}; save it as UTF-8, or name its encoding")


@dataclass(frozen=True)
class _Found:
    """The encoding of a folder's files that are not Unicode; empty, with the reason, where it is not sure."""

    codec: str
    reason: str = ""


def _find(path: Path) -> _Found:
    """The encoding of the files beside ``path``, itself among them, that are not Unicode."""
    files = [file for file in files_in(path.parent) if file.suffix.lower() in TEXT_EXTENSIONS]
    texts = [data for file in (path, *files) if (data := _bytes_of(file)) and unicode_encoding(data) is None]
    return decide(texts[:_SAMPLE])


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def decide(texts: Sequence[bytes]) -> _Found:
    """The one encoding in which texts make sense."""
    shares: Mapping[str, float] = {each.name: share for each in _LEGACY if (share := _share(each, texts)) >= _DOUBT}
    best = max(shares, key=lambda name: shares[name], default="")
    if not best or shares[best] < _COMMON:
        return _Found("", "its bytes are of no encoding that is known for sure")
    if len(shares) > 1:
        return _Found("", f"its bytes may be {' or '.join(sorted(shares))}")
    found = next(each for each in _LEGACY if each.name == best)
    return _Found(found.codec) if found.read else _Found("", f"its bytes look like {best}")


def _share(legacy: _Legacy, texts: Sequence[bytes], fewest: int = _FEWEST) -> float:
    """Of the letters beyond ASCII, how many are common ones; 0 where more than one text in ten is none at all."""
    letters = common = broken = 0
    for data in texts:
        try:
            text = data.decode(legacy.codec)
        except UnicodeDecodeError:
            broken += 1
            continue
        letters += sum(ord(char) > 127 for char in text) - len(_FULL_WIDTH.findall(text))
        common += legacy.common(_FULL_WIDTH.sub(" ", text))
    if letters < fewest or broken * 10 > len(texts):
        return 0.0
    return common / letters


def _shown(codec: str) -> str:
    return next((each.name for each in _LEGACY if each.codec == codec), codec)
