"""Ways of writing captions that would be learnt as text are named, with their number, an example and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from loratools.train.config.read import make_config
from loratools.train.data.read import read_dataset
from loratools.train.dry_run.caption_advice import caption_advice


def warned(folder: Path, **settings: object) -> list[str]:
    config = make_config({"base": "x", "images": str(folder), **settings}, "test")
    return list(caption_advice(config, read_dataset(config, (64, 64))))


@pytest.mark.parametrize(
    ("caption", "part"),
    [
        (r"ink, hatsune_miku_\(vocaloid\), smile", r"1 caption holds escaped brackets ('hatsune_miku_\(vocaloid\)' of"),
        ("1girl，smile", "holds full-width commas ('1girl，smile' of"),
        ("1girl、smile, a", "holds full-width commas"),
        ("1girl, (smile:1.2)", "holds weights ('(smile:1.2)' of"),
        ("1girl, <lora:x:1>", "holds <lora:...> tags"),
        ("1girl, don&#039;t", "holds HTML entities"),
        ("1girl long_hair blue_eyes smile", "has tags apart by spaces and no commas"),
    ],
)
def test_a_habit_is_named(caption: str, part: str, pictures: Callable[..., Path]) -> None:
    folder = pictures(count=2)
    (folder / "01.txt").write_text(caption, encoding="utf-8")
    (text,) = warned(folder)
    assert part in text and "01.png'" in text.replace(")", "'")
    (folder / "00.txt").write_text(caption, encoding="utf-8")
    assert warned(folder)[0].startswith("2 captions ")


@pytest.mark.parametrize(
    "caption",
    ["1girl, smile", "a girl (smiling) with long hair", ":), ^_^, k-on!", "ratio (16:9 screen), 1girl", "a_b c d"],
)
def test_plain_captions_are_not(caption: str, pictures: Callable[..., Path]) -> None:
    folder = pictures(count=1)
    (folder / "00.txt").write_text(caption, encoding="utf-8")
    assert warned(folder) == []


def test_what_a_setting_understands_is_not(pictures: Callable[..., Path]) -> None:
    folder = pictures(count=1)
    (folder / "00.txt").write_text(r"miku_\(vocaloid\), (smile:1.2)")
    assert warned(folder, weighted_captions=True) == []
    (folder / "00.txt").write_text("1girl，smile", encoding="utf-8")
    assert warned(folder, caption_separator="，") == []
