"""The style method's rules, by block name, and how several symptoms combine."""

from __future__ import annotations

import pytest

from loratools.blocks.scheme import SD1_17
from loratools.blocks.symptoms import Symptom, combine_steps, find_symptom, symptoms
from loratools.errors import BlockError

HANDS = {"IN04", "IN05", "IN07", "IN08"}
DEEP = {"IN07", "IN08", "M00", "OUT03", "OUT04", "OUT05"}
EARLY = {"IN02", "IN04", "IN05"}
LAST = {"OUT07", "OUT08", "OUT09", "OUT10", "OUT11"}


def moves(name: str, step: int) -> dict[tuple[str, str], int]:
    return find_symptom(name).steps[step].directions()


def spots(role: str, blocks: set[str], by: int) -> dict[tuple[str, str], int]:
    return {(role, block): by for block in blocks}


def test_the_rules_are_the_guides() -> None:
    assert list(symptoms()) == ["style", "limbs", "hands", "face", "clothes", "chaos"]
    assert moves("style", 0) == {("GP2", "BASE"): 1}
    assert moves("style", 1) == spots("GP1", LAST, 1) | spots("GP2", LAST, 1)
    assert moves("limbs", 0) == {("GP1", "BASE"): -1} and moves("limbs", 1) == spots("GP1", DEEP, -1)
    assert moves("hands", 0) == spots("GP1", HANDS, -1) | spots("GP2", HANDS, -1)
    assert moves("face", 0) == spots("GP1", DEEP, 1) and moves("clothes", 0) == spots("GP1", EARLY, -1)
    assert moves("chaos", 0) == spots("GP1", EARLY, -1) and find_symptom("chaos").steps[1].strength == 0.8
    assert moves("chaos", 2) == spots("GP2", set(SD1_17.names), 1)


def test_the_last_step_is_made_again_or_ends_the_list() -> None:
    assert find_symptom("hands").step_at(9) == find_symptom("hands").steps[0]
    assert find_symptom("limbs").step_at(5) == find_symptom("limbs").steps[1]
    assert find_symptom("Chaos").step_at(4) is None


def both(*chosen: tuple[str, int]) -> tuple[Symptom, ...]:
    return tuple(find_symptom(name) for name, _ in chosen)


def test_what_agrees_moves_once_and_what_disagrees_stays_and_is_said() -> None:
    limbs, face, hands, clothes = (find_symptom(name) for name in ("limbs", "face", "hands", "clothes"))
    torn = combine_steps([(limbs, limbs.steps[1]), (face, face.steps[0])])
    assert not torn.moves
    (conflict,) = torn.conflicts
    assert conflict.startswith("limbs lowers and face raises GP1 IN07 IN08 M00 OUT03 OUT04 OUT05")
    shared = combine_steps([(hands, hands.steps[0]), (clothes, clothes.steps[0])])
    assert shared.moves == spots("GP1", HANDS | EARLY, -1) | spots("GP2", HANDS, -1) and not shared.conflicts
    assert "hands and clothes both move GP1 IN04 IN05: moved once" in shared.notes
    part = combine_steps([(hands, hands.steps[0]), (face, face.steps[0])])
    assert ("GP1", "IN07") not in part.moves and part.moves["GP1", "M00"] == 1 and part.moves["GP1", "IN04"] == -1


def test_one_symptom_alone_says_what_it_shares_with_others() -> None:
    hands = find_symptom("hands")
    notes = combine_steps([(hands, hands.steps[0])]).notes
    assert any("GP1 IN07 IN08 with face, which raises them the opposite way" in note for note in notes)
    assert any("GP1 IN07 IN08 with limbs, which moves them the same way" in note for note in notes)
    assert any("GP1 IN04 IN05 with clothes, which moves them the same way" in note for note in notes)


def test_an_unknown_symptom_is_answered_with_the_nearest() -> None:
    with pytest.raises(BlockError, match=r"no symptom 'hand' \(did you mean 'hands'\?\); there are style"):
        find_symptom("hand")
