"""What the server says: keys that the page has in every language, and the verdict in such words."""

from __future__ import annotations

import ast
import errno
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

import loratools.studio
from loratools.adapter.files.epoch_files import epochs
from loratools.studio.api.base import Wire
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
BY_NAME = {"job.gone", "job.code", "job.unstarted", "quoted"}  # keys that a constant or an argument holds
MADE = ("verdict.", "job.title.", "how.", "governs.", "request.")  # how keys begin that are made of a kind
# the texts of answers that are data: names, paths, ids, commands, what a person or a file wrote. A text that the server
# or the library made is Words.
# A TrainPreset's source is a citation; a Symptom has words in the page by its name; a Verdict's sentence is not shown.
_DATA = """
Block: group kinds name
BaseInfo: family name
Device: name
Root: name
Catalog: samplers
EvidenceRow: after before better measure
ExplainAnswer: shares
Evidence: lora picture vector
HeatCell: block
GridCell: key picture
Grid: name path prompts root rows
Job: command kind results step title
Lora: family name path root run trigger
LoraDetail: metadata
LogLine: text
MarkAnswer: picture
Pair: left left_picture right right_picture
PictureFolder: name path root
Preset: name weights
Progress: note unit
Recipe: name path root
RecipeDetail: base text vectors
RecipeStep: kind name text
Run: base job name path root
RunEpoch: lora
Sample: picture prompt
Scheme: family
Standing: row
Started: command job step
State: prompts version
Stack: base
Term: lora vector
VectorTexts: lbw numbers short
VectorAnswer: preset weights
VerdictEpoch: figures
Event: data
TrainPreset: name settings source
Symptom: help name steps
Verdict: sentence
PictureSettings: negative prompt sampler
Words: key text values
Failure: error key remedy values
Note: key text values
Failed: error key remedy values
"""
DATA = {name: set(fields.split()) for name, _, fields in (line.partition(": ") for line in _DATA.split("\n"))}
SENT = re.compile("(Request|Options|Target|Job|Settings|Session|RoundVote)$")  # what the page sends
LANG = ROOM / "page" / "src" / "lang" / "en.json"


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


def models(of: type[Wire] = Wire) -> Iterator[type[Wire]]:
    for own in of.__subclasses__():
        yield own
        yield from models(own)


def test_every_text_of_an_answer_is_words_or_known_to_be_data() -> None:
    from loratools.studio.api import schema

    assert schema.__doc__  # it imports every model
    for model in models():
        known = set().union(*(DATA.get(own.__name__, set()) for own in model.__mro__)) | {"id"}
        if SENT.search(model.__name__) and model.__name__ not in DATA:
            continue
        texts = {
            name
            for name, own in model.model_fields.items()
            if re.search(r"\bstr\b", str(own.annotation)) and "Literal" not in str(own.annotation)
        }
        assert texts <= known, f"{model.__name__}: make {texts - known} Words, or say in DATA that it is data"


def test_no_sentence_is_made_without_a_key() -> None:
    """Nothing but ``words.py`` makes an error or a sentence of bare text; the start of the server is a terminal's."""
    bare = {"StudioError", "Failure", "Words", "Failed", "Note"}
    for path in sorted(ROOM.rglob("*.py")):
        if path.name in ("words.py", "messages.py", "fake.py") or "node_modules" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            assert name not in bare, f"{path.name}:{node.lineno}: {name}(...) has no key; use problem, words or quoted"
            assert name != "plain" or not isinstance(node.args[0], ast.Constant), f"{path.name}:{node.lineno}: no data"


def test_what_bars_and_searches_say_has_words() -> None:
    """Units and stages come from the commands, measures from the judge: the page has words for all."""
    shown = json.loads(LANG.read_text(encoding="utf-8"))
    package = ROOM.parent
    code = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py") if "studio" not in path.parts}
    units = {own.rstrip("s") for text in code.values() for own in re.findall(r'\bunit="(\w+)"', text)}
    assert units and {f"unit.{own}" for own in units} <= set(shown)
    stages = {own for text in code.values() for own in re.findall(r'\bdesc="(\w+)"', text)}
    assert stages and {f"note.{own}" for own in stages} <= set(shown)
    from loratools.blocks.symptoms import symptoms
    from loratools.measures.judged import OTHERS

    assert {f"figure.{own}" for own in (OTHERS, "style", "tags", *symptoms())} <= set(shown)


def test_what_every_block_governs_has_words() -> None:
    table = yaml.safe_load((ROOM.parent / "blocks" / "knowledge.yaml").read_text(encoding="utf-8"))

    def said(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            assert None not in node.values(), f"a comma without quotes cuts {node}"
            yield from ([node["governs"]] if "governs" in node else [])
            for own in node.values():
                yield from said(own)

    own = {f"governs.{text}" for text in said(table)}
    assert own == {key for key in english() if key.startswith("governs.")}


@pytest.mark.parametrize(
    ("code", "text"),
    [(None, "no longer answers"), (-9, "for lack of memory"), (-11, "signal 11"), (3221225495, "exit code 3221225495")],
)
def test_how_a_process_ended_is_said(code: int | None, text: str) -> None:
    from loratools.studio.live.renderer import _how

    made = failure("live.often", **_how(code))
    assert text in made.error and {"how"} <= set(made.values)


def test_a_value_that_does_not_fit_a_field_is_said_in_words(tmp_path: Path) -> None:
    here = served(tmp_path).sign_in()
    root = here.client.get("/api/state").json()["roots"][0]["id"]
    stack = {"terms": [], "base": "pocket"}
    answer = here.client.post("/api/write", json={"stack": stack, "to": {"root": root, "name": "x" * 121}})
    assert answer.status_code == 422
    assert answer.json()["key"] == "request.long" and answer.json()["values"]["bound"] == 120
    other = here.client.post("/api/write", json={"stack": stack, "to": 3}).json()
    assert other["key"] == "request" and other["error"].startswith("the request is not as it should be at to")


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
    assert [own["key"] for own in says] == ["verdict.defects", "quoted", "quoted"]
    assert says[1]["text"] == "1: has less style" and says[2]["text"] == "no epoch is clearly better"


@pytest.mark.parametrize(
    ("code", "key"), [(errno.ENOSPC, "disk.full"), (errno.EDQUOT, "disk.full"), (errno.EIO, "disk")]
)
def test_a_full_disk_is_said_with_what_to_do(code: int, key: str) -> None:
    answer = json.loads(bytes(failed(OSError(code, "no")).body))
    assert answer["key"] == key and answer["error"] == english()[key].format(error="no")
    assert (answer["remedy"] is not None) == (key == "disk.full")
