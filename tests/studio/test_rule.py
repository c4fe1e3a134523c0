"""A symptom's rule on the page's own stack, what a button would do, and what a search measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loratools.blocks.presets import load_presets
from loratools.blocks.symptoms import symptoms
from loratools.recipe.edit.fix import fix
from loratools.studio.handlers import evidence
from loratools.studio.jobs.commands import Command
from tests.loras import lora_tensors, save
from tests.studio.served import Served, served

GP1, GP2 = ([*own.weights.values()] for name in ("GP1", "GP2") for own in load_presets()[name][:1])  # type: ignore[union-attr]
RECIPE = f"""\
base: pocket
blocks:
  A: {GP1}
  B: {GP2}
steps:
  final: {{merge: "style.safetensors:1:A, base.safetensors:-1:B", out: final.safetensors}}
"""


@pytest.fixture
def here(tmp_path: Path) -> Served:
    for seed, name in enumerate(("style", "base")):
        save(tmp_path / f"{name}.safetensors", lora_tensors(rank=2, seed=seed))
    (tmp_path / "mine.yaml").write_text(RECIPE)
    made = served(tmp_path).sign_in()
    made.studio.index.refresh()
    return made


def stack(here: Served, style: object = "GP1", base: object = "GP2") -> dict[str, Any]:
    ids = {own["name"]: own["id"] for own in here.client.get("/api/loras").json()}
    terms = [
        {"lora": ids["base"], "weight": -1.0, "vector": base},
        {"lora": ids["style"], "weight": 1.0, "vector": style},
    ]
    return {"terms": terms, "base": "pocket"}


def repaired(here: Served, given: dict[str, Any], symptom: str, turn: int = 0, **options: object) -> Any:
    body = {"symptom": symptom, "kind": "fix", "stack": given, "options": {"turn": turn, **options}}
    return here.client.post("/api/symptom", json=body)


@pytest.mark.parametrize("symptom", symptoms())
def test_the_rule_moves_a_stack_as_it_moves_a_recipe(here: Served, tmp_path: Path, symptom: str) -> None:
    given, turn = stack(here), 0
    for _ in range(3):
        try:
            edited = fix(tmp_path / "mine.yaml", [symptom])
        except Exception:
            break
        answer = repaired(here, given, symptom, turn).json()
        given, turn = answer["stack"], answer["turn"]
        assert (answer["job"], answer["says"][0]["text"]) == (None, edited.made[0].say)
        after = {"GP1": given["terms"][1], "GP2": given["terms"][0]}
        for change in edited.changes:
            if change.role in after:
                assert after[change.role]["vector"][change.block] == pytest.approx(float(change.after))
        if any(change.role == "strength" for change in edited.changes):
            assert [abs(term["weight"]) for term in given["terms"]] == [0.8, 0.8]
    assert turn > 0


def test_a_rule_never_goes_below_nothing_and_says_when_it_is_done(here: Served) -> None:
    given = stack(here, style=dict.fromkeys(load_presets()["GP1"][0].weights, 0.0))  # type: ignore[union-attr]
    answer = repaired(here, given, "clothes")
    assert answer.status_code >= 400 and "nothing more to try" in answer.json()["error"] and answer.json()["remedy"]
    low = repaired(here, stack(here), "clothes", step=5).json()["stack"]["terms"][1]["vector"]
    assert min(low.values()) == 0
    assert repaired(here, stack(here), "clothes", step=-1).status_code >= 400
    assert repaired(here, {"terms": [], "base": "pocket"}, "clothes").json()["error"] == "the stack is empty"


def test_a_stack_without_a_base_style_moves_the_other_alone(here: Served) -> None:
    given = stack(here)
    answer = repaired(here, {**given, "terms": given["terms"][1:]}, "hands").json()
    assert len(answer["stack"]["terms"]) == 1 and answer["stack"]["terms"][0]["vector"]["IN04"] == pytest.approx(0.8)


def test_a_dry_run_shows_the_command_and_does_nothing(here: Served, tmp_path: Path) -> None:
    state, recipe = here.client.get("/api/state").json(), here.client.get("/api/recipes").json()[0]["id"]
    before = (tmp_path / "mine.yaml").read_bytes()
    to_file = {"root": state["roots"][0]["id"], "name": "new"}
    shown = here.client.post("/api/write", json={"stack": stack(here), "to": to_file, "dry_run": True}).json()
    assert shown["job"] is None and shown["command"].startswith("loratools merge") and "final" in shown["step"]
    to_recipe = {"recipe": recipe, "vector": "A", "term": 1}
    body = {"stack": stack(here, style={"IN01": 0.123}), "to": to_recipe, "dry_run": True}
    assert "0.123" in here.client.post("/api/write", json=body).json()["says"][0]["text"]
    assert here.client.get("/api/jobs").json() == []
    assert (tmp_path / "mine.yaml").read_bytes() == before
    here.client.post("/api/write", json={**body, "dry_run": False})
    assert b"0.123" in (tmp_path / "mine.yaml").read_bytes()


@pytest.mark.parametrize("what", ["style.safetensors:1.0", "mine.yaml", "elsewhere/gone.safetensors"])
def test_a_search_names_the_lora_that_its_weights_are_of(here: Served, tmp_path: Path, what: str) -> None:
    path = next(tmp_path.rglob("*.safetensors"))
    given = what.replace("style.safetensors", str(path)).replace("elsewhere", str(tmp_path.parent))
    command = Command("tune", "t", ("blocks", "tune", given), tmp_path, True)
    record = here.studio.queue.add(command)
    expected = here.studio.roots.id_of(path) if what.startswith("style") else None
    assert evidence.searched_lora(here.studio, record) == expected


def test_a_search_says_what_it_measured(here: Served, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    command = Command("tune", "t", ("--version",), tmp_path, True, results=(folder,))
    record = here.studio.queue.add(command)
    address = f"/api/jobs/{record.id}/evidence"
    assert here.client.get(address).status_code == 404
    folder.mkdir()
    value = {"mean": 0.5, "standard_error": 0.01, "n": 8}
    told: dict[str, Any] = {
        "measures": {"hands": "lower"},
        "before": {"hands": value},
        "after": {"hands": {**value, "standard_error": None}},
        "held_out": {"pictures": 8},
        "search": {"pictures": 40},
        "vector": {"IN01": 0.5},
        "amount": None,
        "notes": ["kept"],
        "sheet": "sheet.png",
    }
    (folder / "tune.json").write_text(json.dumps(told))
    answer = here.client.get(address).json()
    assert answer["rows"] == [{"measure": "hands", "better": "lower", "before": "0.5 ± 0.01", "after": "0.5"}]
    assert answer["sentence"]["values"] == {"searched": 40, "held": 8}
    assert (answer["vector"], answer["picture"]) == ({"IN01": 0.5}, None)
    assert answer["notes"] == [{"key": "quoted", "values": {"text": "kept"}, "text": "kept"}]
    (folder / "tune.json").write_text(json.dumps({**told, "measures": 3}))
    assert "not as a search writes it" in here.client.get(address).json()["error"]
