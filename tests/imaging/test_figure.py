"""Plots: any alphabet in a name is drawn without a word on stderr, and an ending that is no format is a sentence."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from loratools.errors import FileError
from loratools.imaging.figure import new_figure, save_figure


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a", b"\x89PNG"), ("a.SVG", b"<?xml")])
def test_a_plot_is_written_in_silence_whatever_its_letters(tmp_path: Path, name: str, start: bytes) -> None:
    figure = new_figure(2, 1)
    figure.suptitle("стиль 风格 画风 ไทย")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        path = save_figure(figure, tmp_path / name)
    assert path.read_bytes().startswith(start) and len(list(tmp_path.iterdir())) == 1


def test_letters_fall_back_to_a_font_that_has_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import matplotlib
    from matplotlib.text import Text

    other = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSerif.ttf"  # in the place of the system's
    monkeypatch.setattr("loratools.imaging.figure.font_file", lambda sample: other if "画" in sample else None)
    figure = new_figure(2, 1)
    figure.suptitle("画")
    save_figure(figure, tmp_path / "a.png")
    assert next(text.get_fontfamily() for text in figure.findobj(Text)) == ["DejaVu Sans", "DejaVu Serif"]


def test_an_ending_that_is_no_format(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"a\.txt is no name for a plot; end it in \.png"):
        save_figure(new_figure(2, 1), tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())
