"""What the server says: keys that the page has in every language, and the verdict in such words."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

import loratools.studio
from loratools.adapter.files.epoch_files import epochs
from loratools.studio.api.words import english, failure, problem
from loratools.studio.handlers.answers import failed
from loratools.studio.handlers.verdict import numbers
from loratools.train.output.recorded_verdict import epoch_digest
from loratools.tune.epochs.reasons import Doubt, Why
from tests.loras import lora_tensors, save
from tests.studio.served import served

ROOM = Path(loratools.studio.__file__).parent
WORDS = ROOM / "page" / "words"
CALL = re.compile(r'\b(?:problem|words|failure|Refusal)\(\s*(?:\d+,\s*)?"([^"]+)"')
BY_NAME = {"job.gone"}  # keys that a constant holds
MADE = ("verdict.", "job.title.")  # how keys begin that are made of a kind


def holes(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("language", ["zh", "ru"])
def test_every_language_has_every_key_with_the_same_holes(language: str) -> None:
    own = json.loads((WORDS / f"{language}.json").read_text(encoding="utf-8"))
    assert {key: holes(text) for key, text in own.items()} == {key: holes(text) for key, text in english().items()}


def test_every_key_of_the_code_has_words_and_all_words_are_used() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in ROOM.rglob("*.py"))
    named = {*CALL.findall(code), *BY_NAME}
    assert named <= set(english())
    said = {key.removesuffix(".remedy") for key in english() if not key.startswith(MADE)}
    assert said == {key for key in named if not key.startswith(MADE)}


def test_every_reason_and_warning_of_a_verdict_has_words() -> None:
    assert {f"verdict.{own}" for own in (*get_args(Why), *get_args(Doubt))} <= set(english())


def test_a_failure_has_its_remedy_and_its_values() -> None:
    made = failure("name.windows", name="con")
    assert (made.error, made.remedy) == ("Windows keeps the name 'con' for itself", "choose another one")
    assert str(problem("vote.same")) == english()["vote.same"]
    with pytest.raises(KeyError):
        failure("name.windows")


@pytest.mark.parametrize(("given", "text"), [([3], "3"), ([1, 2, 3, 7, 9], "1-3, 7, 9"), ([2, 1, 4], "1-2, 4")])
def test_numbers_of_epochs_are_short(given: list[int], text: str) -> None:
    assert numbers(given) == text


def judged(folder: Path) -> dict[str, Any]:
    """A run of three epochs, and what a verdict for the second one holds."""
    for number in (1, 2, 3):
        save(folder / f"ink/ink-{number:06d}.safetensors", lora_tensors(rank=2, seed=number))
    figures = {"style": {"mean": 0.5, "standard_error": 0.1, "n": 8}}
    reasons = {
        1: ("behind", "has less style", "style"),
        2: ("recommended", "", ""),
        3: ("defects", "is worse", "hands"),
    }
    entries = [
        {"epoch": own.number, "digest": epoch_digest(own), "figures": figures}
        | dict(zip(("why", "reason", "decided_by"), reasons[own.number], strict=True))
        for own in epochs(folder / "ink/ink")
    ]
    return {
        "format": "loratools verdict 1",
        "epoch": 2,
        "sentence": "epoch 2: 3 is worse, 1 has less style",
        "epochs": entries,
        "warnings": ["no epoch is clearly better"],
        "warning_kinds": [{"kind": "no gain", "figure": "style"}],
        "base_defects": [{"figure": "hands", "epoch": 2, "base": {"mean": 0.2}, "own": {"mean": 0.3}}],
    }


def test_a_verdict_is_said_in_words_with_keys(tmp_path: Path) -> None:
    (tmp_path / "ink").mkdir()
    (tmp_path / "ink/ink.verdict.json").write_text(json.dumps(judged(tmp_path)))
    here = served(tmp_path).sign_in()
    here.studio.index.refresh()
    run = here.client.get("/api/runs").json()[0]["id"]
    verdict = here.client.get(f"/api/runs/{run}").json()["verdict"]
    assert [(own["key"], own["values"]) for own in verdict["says"]] == [
        ("verdict.behind", {"epochs": "1", "figure": "style"}),
        ("verdict.defects", {"epochs": "3", "figure": "hands"}),
        ("verdict.no gain", {"figure": "style"}),
        ("verdict.base", {"figure": "hands", "base": "0.20", "own": "0.30", "epoch": 2}),
    ]
    assert verdict["stale"] is None and verdict["epochs"][1]["note"]["key"] == "verdict.recommended"
    save(tmp_path / "ink/ink-000003.safetensors", lora_tensors(rank=2, seed=9))
    here.studio.index.refresh()
    assert here.client.get(f"/api/runs/{run}").json()["verdict"]["stale"]["key"] == "verdict.stale.other"


def test_an_earlier_versions_verdict_is_said_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "ink").mkdir()
    content = judged(tmp_path)
    del content["warning_kinds"], content["base_defects"]
    for own in content["epochs"]:
        del own["decided_by"]
    content["epochs"][0]["why"] = "ugly"
    (tmp_path / "ink/ink.verdict.json").write_text(json.dumps(content))
    here = served(tmp_path).sign_in()
    here.studio.index.refresh()
    run = here.client.get("/api/runs").json()[0]["id"]
    says = here.client.get(f"/api/runs/{run}").json()["verdict"]["says"]
    assert [own["key"] for own in says] == ["verdict.defects", "", ""]
    assert says[1]["text"] == "1: has less style" and says[2]["text"] == "no epoch is clearly better"


@pytest.mark.parametrize(
    ("code", "key"), [(errno.ENOSPC, "disk.full"), (errno.EDQUOT, "disk.full"), (errno.EIO, "disk")]
)
def test_a_full_disk_is_said_with_what_to_do(code: int, key: str) -> None:
    answer = json.loads(failed(OSError(code, "no")).body)
    assert answer["key"] == key and answer["error"] == english()[key].format(error="no")
    assert (answer["remedy"] is not None) == (key == "disk.full")
