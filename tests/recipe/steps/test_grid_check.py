"""The labels of a grid's rows before they are there are those that the rows then have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from loratools.adapter.files.epoch_files import epochs, find_lora, is_run
from loratools.blocks.presets import load_presets
from loratools.preview.request.read_rows import NameLookup, distinct_labels, planned_labels
from loratools.preview.request.row_text import RowText
from tests.recipe.conftest import save_lora


def numbers(ref: str) -> list[int] | None:
    place = find_lora(ref)
    return [epoch.number for epoch in epochs(place)] if is_run(place) else None


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (["run", "a"], ["run@4", "run@5", "a"]),
        (["run@last", "run@4", " a:0.5:GP1 "], ["run@5", "run@4", "a:0.5:GP1"]),
        (["x/a.safetensors", "a"], ["x/a", None]),  # of one name, so their folders part them
        (["run@4-5", "a:1,run@4:1"], ["run@4-5", "a:1,run@4:1"]),
        (["x/run", "run"], ["x/run@4", None, "run@5"]),
    ],
)
def test_labels_are_known_ahead(here: Path, texts: Sequence[str], labels: Sequence[str | None]) -> None:
    for seed, name in enumerate(("a", "x/a", "run/run-000004", "run/run-000005", "x/run/run-000004")):
        save_lora(here / f"{name}.safetensors", seed)
    rows = [RowText.parse(text) for text in texts]
    planned = [planned_labels(row, numbers) for row in rows]
    ahead = distinct_labels(rows, find_lora, [[label for label, _ in own] for own in planned])
    opened = NameLookup(find_lora, lambda _: None, load_presets()).rows(rows)
    assert ahead == [row.label for row in opened]
    assert all(wanted in (None, label) for wanted, label in zip(labels, ahead, strict=True))
    for row, (_, names) in zip(opened, (one for own in planned for one in own), strict=True):
        for known, there in zip(names, row.names, strict=True):  # what a plan lets pass, a run finds
            assert known.names <= there.names and known.share == there.share
