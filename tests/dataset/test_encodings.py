"""Text that is not UTF-8: read where its encoding is sure, and said; else refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from loratools.cli.app import LazyGroup
from loratools.dataset.edits.translations import read_translations
from loratools.dataset.encodings import TextReader, codec_of, decide, unicode_encoding
from loratools.dataset.folder import FolderOptions
from loratools.dataset.scan import scan
from loratools.dataset.tables import table_rows
from loratools.errors import DatasetError, OptionError

CHINESE = ("1girl, 微笑, 蓝色头发", "站立, 白色背景，夜晚", "1boy, 黑发")
JAPANESE = ("笑顔, 青い髪", "少女、ツインテール", "白い背景")
RUSSIAN = ("улыбка, синие волосы", "девушка, белый фон", "Портрет, ночь")


@pytest.mark.parametrize(
    ("texts", "encoding"),
    [
        *((CHINESE, name) for name in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gbk")),
        *((JAPANESE, name) for name in ("utf-8", "utf-16", "shift-jis")),
        *((RUSSIAN, name) for name in ("utf-8", "utf-8-sig", "utf-16-le", "cp1251")),
        (("1girl, smile",), "utf-16-be"),
    ],
)
def test_captions_in_any_of_these_are_read_as_they_were_written(
    tmp_path: Path, texts: tuple[str, ...], encoding: str
) -> None:
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_bytes(text.encode(encoding))
    reader = TextReader()
    assert tuple(reader.read(tmp_path / f"{number}.txt") for number in range(len(texts))) == texts
    assert bool(reader.notes()) == (not encoding.startswith("utf-8"))
    named = TextReader(encoding)
    assert tuple(named.read(tmp_path / f"{number}.txt") for number in range(len(texts))) == texts


@pytest.mark.parametrize(
    ("texts", "encoding", "reason"),
    [
        (("蓝发",), "gbk", "may be big5 or euc-kr or gbk"),  # two letters that are common ones in three encodings
        (("미소, 파란 머리",), "euc_kr", "may be big5 or euc-kr or gbk"),
        (("微笑, 藍色頭髮",), "big5", "look like big5"),
        (("УЛЫБКА, ФОН",), "cp1251", "look like koi8-r"),
        (("улыбка, фон",), "koi8_r", "look like koi8-r"),
        (("café, fille",), "cp1252", "no encoding that is known for sure"),
        (("1girl，smile",), "gbk", "no encoding that is known for sure"),
    ],
)
def test_what_may_be_several_is_refused_until_it_is_named(
    tmp_path: Path, texts: tuple[str, ...], encoding: str, reason: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(texts[0].encode(encoding))
    with pytest.raises(DatasetError, match=rf"a\.txt is not UTF-8, and .*{reason}.*name its encoding"):
        TextReader().read(path)
    assert TextReader(encoding).read(path) == texts[0]


def test_a_short_caption_is_read_as_the_others_of_its_folder(tmp_path: Path) -> None:
    """``笑`` in GBK is a Russian letter in UTF-8, too, and ``微笑`` one that does not exist."""
    for number, text in enumerate((*CHINESE, "1girl, 笑", "微笑")):
        (tmp_path / f"{number}.txt").write_bytes(text.encode("gbk"))
    assert [TextReader().read(tmp_path / f"{number}.txt") for number in (3, 4)] == ["1girl, 笑", "微笑"]
    alone = tmp_path / "alone/0.txt"
    alone.parent.mkdir()
    alone.write_bytes("1girl, Ц".encode())
    assert TextReader().read(alone) == "1girl, Ц"


def test_one_broken_file_spoils_no_folder(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}.txt").write_bytes(CHINESE[number % 3].encode("gbk"))
    (tmp_path / "broken.txt").write_bytes(b"\xff\xff\x80, \xff")
    reader = TextReader()
    assert reader.read(tmp_path / "0.txt") == CHINESE[0]
    with pytest.raises(DatasetError, match=r"broken\.txt is not gbk"):
        reader.read(tmp_path / "broken.txt")


def test_names_of_encodings() -> None:
    assert codec_of("GBK") == codec_of("gb2312") == "gb18030" and codec_of(" auto ") == "auto"
    with pytest.raises(OptionError, match="there is no encoding 'klingon'; name one such as"):
        codec_of("klingon")
    assert decide([]).codec == "" and unicode_encoding(b"a\0\0b") is None


def test_training_and_the_commands_read_alike_and_say_it(tmp_path: Path) -> None:
    for number, text in enumerate(CHINESE):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_bytes(text.encode("gbk") + b"\r\n")
    found = scan([FolderOptions(path=tmp_path)], 0)
    assert [item.caption for item in found.items] == list(CHINESE)
    assert any("3 files in" in note and "read as gbk" in note for note in found.notes)
    with pytest.raises(DatasetError, match="is not utf-8"):
        scan([FolderOptions(path=tmp_path, encoding="utf-8")], 0)
    look = CliRunner().invoke(LazyGroup(), ["dataset", "look", str(tmp_path)])
    assert "are read as gbk" in look.output
    done = CliRunner().invoke(LazyGroup(), ["dataset", "import", str(tmp_path), "--encoding", "gbk"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "0.txt").read_text("utf-8") == f"{CHINESE[0]}\n"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\r\nc,d;e\r\n", [["a", "b"], ["c", "d;e"]]),
        ("a;0,5\nb;12,25\n", [["a", "0,5"], ["b", "12,25"]]),
        ("a\t0,5\tx;y\nb\t1\tz\n", [["a", "0,5", "x;y"], ["b", "1", "z"]]),
        ("alone\n", [["alone"]]),
    ],
)
def test_what_stands_between_cells(text: str, rows: list[list[str]]) -> None:
    assert table_rows(text) == rows


def test_translations_as_excel_saves_them(tmp_path: Path) -> None:
    path = tmp_path / "ru.csv"
    path.write_bytes("smile;улыбка\r\nblue_hair;синие волосы\r\n".encode("cp1251"))
    assert read_translations(path).shown("blue hair") == "blue hair (синие волосы)"
