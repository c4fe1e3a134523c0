from __future__ import annotations

import json
from pathlib import Path

import pytest

from loratools.dataset.caption_metadata import find_listed


def test_listed_pictures_are_looked_for_beside_the_list_and_then_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here/both.png", "here/own.png", "there/both.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "here")
    file = tmp_path / "there/list.json"
    file.write_text(json.dumps({"both": {"tags": "a"}, "own.png": {"tags": "b"}}))
    assert find_listed(file, ",") == {tmp_path / "there/both.png": "a", Path("own.png"): "b"}
