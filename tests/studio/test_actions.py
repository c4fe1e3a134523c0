"""What the page's buttons do: write a stack, edit a recipe, repair a symptom, start jobs, vote."""

from __future__ import annotations

import json
import os
import shlex
import threading
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from loratools.errors import StudioError
from loratools.library.merging import merge
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.record.folder import write_grid
from loratools.preview.record.grid import Grid, Picture, RowInfo
from loratools.studio.api.stacks import Stack
from loratools.studio.jobs import spawn
from loratools.studio.jobs.commands import Command
from loratools.studio.measuring.client import Measurer
from loratools.studio.stacks import merge_string
from tests.loras import lora_tensors, save
from tests.studio.served import Served, served

NUMBERS = "1, 0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1"
RECIPE = f"""\
# kept
base: pocket
blocks:
  MINE: [{NUMBERS}]   # kept too
  LESS: [{NUMBERS}]
steps:
  final: {{merge: "style.safetensors:1:MINE, base.safetensors:-1:LESS", out: final.safetensors}}
"""


@pytest.fixture
def here(tmp_path: Path) -> Served:
    for seed, name in enumerate(("style", "base")):
        save(tmp_path / f"{name}.safetensors", lora_tensors(rank=2, seed=seed))
    (tmp_path / "mine.yaml").write_text(RECIPE)
    made = served(tmp_path).sign_in()
    made.studio.index.refresh()
    return made


def loras(here: Served) -> dict[str, str]:
    return {own["name"]: own["id"] for own in here.client.get("/api/loras").json()}


def stack(here: Served, **vectors: object) -> dict[str, object]:
    ids = loras(here)
    terms = [
        {"lora": ids["style"], "weight": 1.0, "vector": vectors.get("style")},
        {"lora": ids["base"], "weight": -1.0, "vector": vectors.get("base")},
    ]
    return {"terms": terms, "base": "pocket"}


def finished(here: Served, job: str, seconds: float = 120) -> dict[str, object]:
    end = time.monotonic() + seconds
    while True:
        here.studio.queue.look()
        content: dict[str, object] = here.client.get(f"/api/jobs/{job}").json()
        if content["state"] not in ("waiting", "running"):
            return content
        assert time.monotonic() < end, here.client.get(f"/api/jobs/{job}/log").json()
        time.sleep(0.1)


def test_a_stack_is_written_by_the_command_that_is_shown(here: Served, tmp_path: Path) -> None:
    root = here.client.get("/api/state").json()["roots"][0]["id"]
    vector = {"IN01": 0.5, "OUT03": 0.25}
    body = {"stack": stack(here, style=vector, base="GP2"), "to": {"root": root, "name": "mine"}}
    started = here.client.post("/api/write", json=body).json()
    job = finished(here, started["job"])
    assert (job["state"], job["error"]) == ("done", None)
    made = tmp_path / "mine.safetensors"
    words = shlex.split(started["command"])
    assert words[:2] == ["loratools", "merge"] and words[words.index("-o") + 1] == "mine.safetensors"
    expected = merge(words[2], lora_dirs=str(tmp_path)).write(tmp_path / "expected.safetensors")
    assert made.read_bytes()[-1000:] == (tmp_path / "expected.safetensors").read_bytes()[-1000:]
    assert expected.digest == merge(words[2], tmp_path / "again.safetensors", lora_dirs=str(tmp_path)).digest
    here.studio.index.refresh()
    assert (
        job["results"] == [] or loras(here)["mine"] in here.client.get(f"/api/jobs/{started['job']}").json()["results"]
    )
    assert yaml.safe_load(started["step"])["final"]["out"] == "mine.safetensors"
    again = here.client.post("/api/write", json=body)
    assert again.status_code == 409 and "overwrite" in again.json()["remedy"]


@pytest.mark.parametrize("name", ["", "../out", "a/b", "C:\\x", "nul", ".hidden"])
def test_a_file_is_written_into_a_root_and_nowhere_else(here: Served, name: str) -> None:
    root = here.client.get("/api/state").json()["roots"][0]["id"]
    answer = here.client.post("/api/write", json={"stack": stack(here), "to": {"root": root, "name": name}})
    assert answer.status_code in (400, 422)
    assert here.studio.queue.jobs() == []


@pytest.mark.parametrize(
    "vector",
    [
        'GP1,"/etc/passwd":1',
        "1:te=0",
        "GP1:te=0.5",
        '1,1:unet=2,"x":1',
        "GP1\n,other:1",
        "nothing",
        {"XX": 1.0},
        {"OUT05/a,b:1": 0.5},
        {'OUT05/"x"': 0.5},
        {"OUT05/": 0.5},
        {"XX/attn": 0.5},
        "ALL,OUT05/:te=0.5",
    ],
)
def test_a_vector_cannot_be_the_rest_of_a_merge_string(here: Served, vector: object) -> None:
    answer = here.client.post("/api/stack/explain", json={"stack": stack(here, style=vector)})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("vector", "text"),
    [
        (None, None),
        ({}, None),
        ({"IN01": 1.0}, None),
        ("GP1", "GP1"),
        ({"BASE": 0.5}, ",".join(["0.5", *["1"] * 16])),
        ("IN01=0.5,*=1", None),
        ({"OUT05/attn1": 0.5}, ",".join([*["1"] * 17, "OUT05/attn1=0.5"])),
        ("ALL,OUT05/attn1  ff=0.5", ",".join([*["1"] * 17, "OUT05/attn1 ff=0.5"])),
    ],
)
def test_a_stack_as_a_merge_string(here: Served, vector: object, text: str | None) -> None:
    made = merge_string(Stack.model_validate(stack(here, style=vector)), here.studio.roots)
    style, base = parse_merge_string(made)
    assert Path(style.ref).name == "style.safetensors" and base.weight == -1.0
    if text is not None or vector in (None, {}, {"IN01": 1.0}):
        assert style.vector_text == text
    merge(made)  # it can be read


def test_norms_of_a_stack_and_what_changed(here: Served) -> None:
    whole = here.client.post("/api/stack/explain", json={"stack": stack(here)}).json()
    assert sum(whole["shares"].values()) == pytest.approx(1)
    assert whole["heat"] is None
    body = {"stack": stack(here), "other": stack(here, style={"OUT03": 0.0}, base={"OUT03": 0.0})}
    heat = {own["block"]: own for own in here.client.post("/api/stack/explain", json=body).json()["heat"]}
    assert heat["OUT03"]["change"] == pytest.approx(1) and heat["OUT03"]["cosine"] is None
    assert heat["IN01"]["change"] == pytest.approx(0, abs=1e-3) and heat["IN01"]["cosine"] == pytest.approx(1)
    gone = here.client.post("/api/stack/explain", json={"stack": {"terms": [], "base": "pocket"}})
    assert gone.status_code == 400
    here.studio.measurer.close()


def test_of_many_questions_about_norms_the_oldest_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    measurer, asked, free = Measurer(), list[str](), threading.Event()

    def answer(self: Measurer, question: dict[str, str]) -> dict[str, object]:
        asked.append(question["stack"])
        free.wait(10)
        return {"shares": {}}

    monkeypatch.setattr(Measurer, "_ask", answer)
    outcomes: dict[int, str] = {}

    def ask(number: int) -> None:
        try:
            measurer.ask(str(number))
            outcomes[number] = "answered"
        except StudioError as error:
            outcomes[number] = str(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for number, thread in enumerate(threads):
        thread.start()
        while measurer._newest <= number:
            time.sleep(0.001)
    free.set()
    for thread in threads:
        thread.join(10)
    assert outcomes[0] == outcomes[11] == "answered"
    assert sum(own == "answered" for own in outcomes.values()) == 1 + 5
    measurer.close()


@pytest.mark.parametrize(("vector", "term", "line"), [("MINE", 0, 3), ("LESS", 1, 4)])
def test_numbers_go_into_the_recipe_and_back(here: Served, tmp_path: Path, vector: str, term: int, line: int) -> None:
    recipe = here.client.get("/api/recipes").json()[0]["id"]
    numbers = {"IN01": 0.75, "OUT11": 0.5, "OUT05/attn1": 0.25}
    own = {"style": numbers, "base": numbers}
    body = {"stack": stack(here, **own), "to": {"recipe": recipe, "vector": vector, "term": term}}
    done = here.client.post("/api/write", json=body).json()
    assert done["job"] is None and f"{vector} IN01 0.5 -> 0.75" in done["says"][0]["text"]
    lines = (tmp_path / "mine.yaml").read_text().splitlines()
    assert "0.75, 1, 1" in lines[line] and lines.pop(line + 1) == "    OUT05/attn1=0.25]" + "   # kept too" * (
        term == 0
    )
    assert [n for n, (a, b) in enumerate(zip(RECIPE.splitlines(), lines, strict=True)) if a != b] == [line]
    detail = here.client.get(f"/api/recipes/{recipe}").json()
    assert detail["undo"] and detail["vectors"][vector]["OUT11"] == 0.5
    assert detail["vectors"][vector]["OUT05/attn1"] == 0.25
    assert here.client.post(f"/api/recipes/{recipe}/undo", json={}).json()["undo"] is False
    assert (tmp_path / "mine.yaml").read_text() == RECIPE


def test_a_vector_that_the_recipe_lacks_is_named(here: Served) -> None:
    recipe = here.client.get("/api/recipes").json()[0]["id"]
    body = {"stack": stack(here), "to": {"recipe": recipe, "vector": "OTHER"}}
    answer = here.client.post("/api/write", json=body)
    assert answer.status_code == 422 and "MINE, LESS" in answer.json()["error"]


def test_a_symptom_is_repaired_by_the_guides_rule(here: Served, tmp_path: Path) -> None:
    recipe = here.client.get("/api/recipes").json()[0]["id"]
    done = here.client.post("/api/symptom", json={"symptom": "hands", "kind": "fix", "recipe": recipe}).json()
    assert (
        done["command"] == "loratools blocks fix mine.yaml --symptom hands"
        and "MINE IN04 1 -> 0.9" in done["says"][0]["text"]
    )
    assert (tmp_path / "mine.yaml").read_text() != RECIPE
    assert (
        here.client.post("/api/symptom", json={"symptom": "ears", "kind": "fix", "recipe": recipe}).status_code == 422
    )


def test_a_search_is_a_job_and_runs_no_program_of_the_page(here: Served) -> None:
    body: dict[str, object] = {"symptom": "hands", "kind": "tune", "stack": stack(here)}
    started = here.client.post("/api/symptom", json=body).json()
    words = shlex.split(started["command"])
    assert words[:3] == ["loratools", "blocks", "tune"] and "--quick" in words and "hands" in words
    here.client.post(f"/api/jobs/{started['job']}", json={"do": "remove"})
    for measure in ("command=rm -rf /", "python=os:system"):
        assert here.client.post("/api/symptom", json={**body, "options": {"measure": [measure]}}).status_code == 422


def test_every_other_search_has_a_folder_of_its_own_and_the_same_one_goes_on(here: Served, tmp_path: Path) -> None:
    def search(**options: object) -> str:
        body = {"symptom": "hands", "kind": "tune", "stack": stack(here), "options": options}
        started = here.client.post("/api/symptom", json=body).json()
        here.client.post(f"/api/jobs/{started['job']}", json={"do": "stop"})
        words = shlex.split(started["command"])
        return words[words.index("-o") + 1]

    first = search()
    assert search() == first and search(budget="5m") == first, "more time is no other search"
    others = [search(parts="kinds"), search(seeds=[5]), search(prompts=["1girl", "1boy"])]
    assert len({first, *others}) == 4 and search(seeds=[5]) == others[1]
    record = here.studio.queue.jobs()[0]
    later = record.created + 60
    for path in tmp_path.rglob("*.safetensors"):
        os.utime(path, (later, later))
    assert search() not in {first, *others}, "another file is another search"


def test_a_search_that_waits_for_answers_is_paused_and_goes_on(
    here: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawn, "PROCESS", "tests.studio.obedient_job")
    out = tmp_path / "tuned"
    job = here.studio.queue.add(Command("tune", "t", ("ask", str(out)), tmp_path, True, results=(out,))).id
    shown = finished(here, job)
    assert (shown["state"], shown["asks"], shown["error"]) == ("paused", True, None)
    for left, right in (("key0", "key1"), ("key1", "key2"), ("key2", "key3")):
        body = {"left": left, "right": right, "winner": "right"}
        assert here.client.post(f"/api/jobs/{job}/round", json=body).status_code == 200
    here.client.post(f"/api/jobs/{job}", json={"do": "resume"})
    shown = finished(here, job)
    assert (shown["state"], shown["asks"]) == ("done", False)


@pytest.mark.parametrize("prompt", ["prompts.txt", "mine.yaml", "/etc/passwd", "."])
def test_a_prompt_is_no_file_that_the_command_would_read(here: Served, prompt: str) -> None:
    body = {"symptom": "hands", "kind": "tune", "stack": stack(here), "options": {"prompts": [prompt]}}
    assert here.client.post("/api/symptom", json=body).status_code == 400
    root = here.client.get("/api/state").json()["roots"][0]["id"]
    grid = {"kind": "grid", "base": "pocket", "rows": [loras(here)["style"]], "prompts": [prompt], "root": root}
    assert here.client.post("/api/jobs", json={**grid, "name": "g"}).status_code == 400


def test_a_training_is_checked_when_it_is_added(here: Served, tmp_path: Path) -> None:
    root = here.client.get("/api/state").json()["roots"][0]["id"]
    (tmp_path / "pictures").mkdir()
    body: dict[str, object] = {"kind": "train", "base": "pocket", "root": root, "name": "ink"}
    body["images"] = here.studio.roots.id_of(tmp_path / "pictures")
    assert here.client.post("/api/jobs", json={**body, "more": {"epochs": -1}}).status_code == 422
    assert here.client.post("/api/jobs", json={**body, "more": {"network_weights": "/etc/passwd"}}).status_code == 400
    assert here.client.post("/api/jobs", json={**body, "more": {"out": "/tmp"}}).status_code == 400
    for setting in ("epochs", "unet_lr", "alpha"):
        refused = here.client.post("/api/jobs", json={**body, "more": {setting: "many"}}).json()
        assert refused["key"] == "setting.number" and refused["values"] == {"setting": setting, "text": "many"}
    added = here.client.post("/api/jobs", json={**body, "more": {"epochs": 2, "unet_lr": 1e-4}}).json()
    assert "--set epochs=2" in added["command"] and added["state"] == "waiting" and added["position"] == 1
    assert yaml.safe_load(added["step"])["ink"]["train"]["epochs"] == 2
    assert here.client.get("/api/jobs").json()[0]["id"] == added["id"]


def test_grids_have_cells_blind_pairs_and_stars(here: Served, tmp_path: Path) -> None:
    folder = tmp_path / "grid"
    (folder / "cells").mkdir(parents=True)
    rows = tuple(RowInfo(f"style@{n}", f"digest{n}") for n in (1, 2, 3))
    pictures = []
    for row in range(3):
        for seed in (1, 2):
            name = f"cells/{row}-{seed}.png"
            Image.new("RGB", (16, 16), (row * 40, seed, 0)).save(folder / name)
            pictures.append(Picture(row, 1.0, 0, seed, name, f"key{row}{seed}"))
    settings = SamplingSettings(steps=2, cfg=1.0, sampler="Euler", size=(16, 16), negative="", clip_skip=1)
    write_grid(
        folder, Grid("t", "sheet", "pocket", "d", "fp32", rows, (1.0,), ("a",), (1, 2), settings, tuple(pictures))
    )
    here.studio.index.refresh()
    [listed] = here.client.get("/api/grids").json()
    detail = here.client.get(f"/api/grids/{listed['id']}").json()
    assert [cell["epoch"] for cell in detail["cells"]] == [1, 1, 2, 2, 3, 3]
    assert here.client.get(f"/api/pictures/{detail['cells'][0]['picture']}").status_code == 200
    seen, pair = set(), detail["pair"]
    for _ in range(6):
        left, right = pair["left"], pair["right"]
        assert left[3] != right[3] and left[4] == right[4]  # other rows, one seed
        seen.add(frozenset((left, right)))
        winner = "left" if left[3] > right[3] else "right"
        answer = here.client.post(
            "/api/votes", json={"grid": listed["id"], "left": left, "right": right, "winner": winner}
        )
        pair = answer.json()["pair"]
    assert len(seen) == 6  # each pair once
    assert [own["row"] for own in answer.json()["standings"]] == ["style@3", "style@2", "style@1"]
    votes = json.loads((folder / "votes.json").read_text())
    assert votes["format"] == "loratools votes 1" and len(votes["pairs"]) == 6
    marked = {"picture": detail["cells"][3]["picture"], "stars": 4}
    assert here.client.post("/api/marks", json=marked).json()["stars"] == 4
    assert here.client.get(f"/api/grids/{listed['id']}").json()["cells"][3]["stars"] == 4
    here.client.post("/api/marks", json={**marked, "stars": 0})
    assert here.client.get(f"/api/grids/{listed['id']}").json()["cells"][3]["stars"] == 0
    wrong = {"grid": listed["id"], "left": "key01", "right": "nokey", "winner": "left"}
    assert here.client.post("/api/votes", json=wrong).status_code == 400


def test_events_come_over_the_socket_and_again_from_the_last_one_seen(here: Served) -> None:
    last = here.client.get("/api/state").json()["last_event"]
    with here.socket() as socket:
        socket.send_json({"type": "watch", "after": last})
        here.studio.events.add("file", {"ids": ["a"]})
        first = socket.receive_json()
        assert (first["event"], first["data"]) == ("file", {"ids": ["a"]})
    here.studio.events.add("file", {"ids": ["b"]})
    with here.socket() as socket:
        socket.send_json({"type": "watch", "after": first["id"]})
        assert socket.receive_json()["data"] == {"ids": ["b"]}
    with here.socket() as socket:
        socket.send_json({"type": "watch", "after": 5})  # of an earlier start of the server
        assert socket.receive_json()["event"] == "reset"
