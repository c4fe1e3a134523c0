"""What the demo says of its own LoRA's defects, before it names the search that would mend them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loratools.recipe.demo.demo import is_learnt
from loratools.recipe.demo.next_commands import WorstDefect


def scores(final: Mapping[str, float], base: Mapping[str, float]) -> dict[str, Any]:
    first = {"label": "style@1", "faults": {"hands": 2.0, "chaos": 2.0}}
    return {"base": {"faults": base}, "rows": [first, {"label": "final", "faults": final}]}


def test_the_last_rows_worst_defect_is_counted_from_the_base() -> None:
    worst = WorstDefect.of(scores({"hands": 0.9, "chaos": 1.1}, {"hands": 0.1, "chaos": 0.6}))
    assert worst == WorstDefect("hands", 0.9, 0.1)
    assert "what this LoRA has most of is hands 0.90 of 3, the base's own 0.10" in worst.why


def test_a_sound_lora_is_not_said_to_need_a_search() -> None:
    worst = WorstDefect.of(scores({"hands": 0.2, "chaos": 0.1}, {"hands": 0.05, "chaos": 0.1}))
    assert worst is not None and "next to nothing to mend (hands 0.20 of 3, the base's own 0.05)" in worst.why


def test_without_scores_there_is_none() -> None:
    assert WorstDefect.of({}) is None


def test_a_style_that_is_not_learnt_yet_is_told_by_the_last_row() -> None:
    first, final = {"label": "style@1", "style": 1.0}, {"label": "final", "style": 0.01}
    assert not is_learnt({"rows": [first, final]}) and is_learnt({"rows": [final, first]}) and is_learnt({})
