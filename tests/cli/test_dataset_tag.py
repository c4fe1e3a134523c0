"""``loratools dataset tag`` as a person runs it."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result
from PIL import Image

from loratools.cli.app import LazyGroup
from tests.dataset.tagging.graphs import wd_tagger


def run(*words: object) -> Result:
    return CliRunner().invoke(LazyGroup(name="loratools"), ["dataset", "tag", *map(str, words)])


def test_tag_then_another_threshold_then_undo(tmp_path: Path) -> None:
    model = wd_tagger(tmp_path / "wd-swinv2-tagger-v3")
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (8, 8), "blue").save(folder / "a.png")
    caption = folder / "a.txt"
    result = run(folder, "--tagger", model)
    assert result.exit_code == 0 and "1 captions written" in result.output
    assert caption.read_text() == "1girl, blue hair, long hair\n"
    shown = run(folder, "--threshold", "precise", "--dry-run", "--json")
    assert json.loads(shown.stdout)["captions"] == 1 and caption.read_text() == "1girl, blue hair, long hair\n"
    run(folder, "--threshold", "precise", "--rating", "last", "--exclude", "*girl")
    assert caption.read_text() == "blue hair, rating:general\n"
    caption.write_text("mine")
    assert "--existing append or --existing replace is for them" in run(folder, "--threshold", "0.5").output
    wrong = run(folder, "--threshold", "strict")
    assert wrong.exit_code == 1 and "--threshold strict" in str(wrong.exception) + wrong.output
