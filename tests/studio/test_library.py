"""What the page is shown of the files below the opened folders."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from PIL import Image

from loratools.studio.discover.run_log import Curve, RunLog
from tests.loras import lora_tensors, save
from tests.studio.served import Served, served


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studio")
    sd1_lora(folder / "style.safetensors")
    for number in (1, 2):
        sd1_lora(folder / f"runs/ink/ink-{number:06d}.safetensors")
        sd1_lora(folder / f"foreign/other-{number:06d}.safetensors")
    write_log(folder / "runs/ink/ink.jsonl", epochs=3, done=2)
    (folder / "broken.safetensors").write_bytes(b"no header")
    (folder / "notes.yaml").write_text("a: 1\n")
    (folder / "mine.yaml").write_text(
        "base: pocket\nblocks:\n  MINE: [1, 0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        'steps:\n  final: {merge: "style:1:MINE", out: final.safetensors}\n'
    )
    (folder / ".hidden").mkdir()
    sd1_lora(folder / ".hidden/secret.safetensors")
    Image.new("RGB", (300, 200), "red").save(folder / "a.png")
    return folder


@pytest.fixture(scope="module")
def here(folder: Path) -> Served:
    made = served(folder).sign_in()
    made.studio.index.refresh()
    return made


def sd1_lora(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, lora_tensors(rank=2, seed=seed))


def write_log(path: Path, *, epochs: int, done: int, steps: int = 4) -> None:
    lines: list[dict[str, object]] = [
        {
            "kind": "run",
            "owner": f"train:{path.stem}",
            "settings": {"epochs": epochs, "base": "pocket"},
            "steps": steps * epochs,
        }
    ]
    for epoch in range(1, done + 1):
        for step in range((epoch - 1) * steps + 1, epoch * steps + 1):
            lines.append({"kind": "step", "step": step, "epoch": epoch, "loss": 1 / step, "seconds": 0.5})
        lines.append({"kind": "validation", "epoch": epoch, "step": epoch * steps, "loss": 0.1 * epoch})
        lines.append({"kind": "epoch", "epoch": epoch, "step": epoch * steps, "loss": 0.2 * epoch})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_files_are_listed_with_what_their_headers_say(here: Served) -> None:
    listed = {own["path"]: own for own in here.client.get("/api/loras").json()}
    assert set(listed) == {
        "style.safetensors",
        "runs/ink/ink-000001.safetensors",
        "runs/ink/ink-000002.safetensors",
        "foreign/other-000001.safetensors",
        "foreign/other-000002.safetensors",
    }
    style, epoch = listed["style.safetensors"], listed["runs/ink/ink-000002.safetensors"]
    assert (style["family"], style["run"], style["name"]) == ("sd1", None, "style")
    assert epoch["epoch"] == 2
    runs = {own["name"]: own["id"] for own in here.client.get("/api/runs").json()}
    assert epoch["run"] == runs["ink"]


def test_no_answer_holds_a_path_of_this_machine(here: Served, folder: Path) -> None:
    for path in ("state", "loras", "runs", "grids", "recipes", "catalog"):
        assert str(folder) not in here.client.get(f"/api/{path}").text, path
    for kind in ("loras", "runs", "recipes"):
        for own in here.client.get(f"/api/{kind}").json():
            assert str(folder) not in here.client.get(f"/api/{kind}/{own['id']}").text


def test_a_lora_has_the_blocks_of_its_sliders(here: Served) -> None:
    style = next(own for own in here.client.get("/api/loras").json() if own["name"] == "style")
    detail = here.client.get(f"/api/loras/{style['id']}").json()
    names = [block["name"] for block in detail["scheme"]["blocks"]]
    assert len(names) in (17, 26) and names[0] == "BASE" and "M00" in names
    groups = {block["name"]: block["group"] for block in detail["scheme"]["blocks"]}
    assert (groups["BASE"], groups["IN01"], groups["M00"], groups["OUT03"]) == ("BASE", "IN", "MID", "OUT")


def test_runs_of_ours_and_of_others(here: Served) -> None:
    listed = {own["name"]: own for own in here.client.get("/api/runs").json()}
    assert (listed["ink"]["state"], listed["other"]["state"]) == ("stopped", "done")
    assert (listed["ink"]["step"], listed["ink"]["steps"], listed["ink"]["base"]) == (8, 12, "pocket")
    assert [own["number"] for own in listed["other"]["epochs"]] == [1, 2]
    detail = here.client.get(f"/api/runs/{listed['ink']['id']}").json()
    assert [point["at"] for point in detail["loss"]] == list(range(1, 9))
    assert detail["validation"] == [{"at": 1.0, "value": 0.1}, {"at": 2.0, "value": 0.2}]
    assert detail["rate"] == 2.0 and detail["verdict"] is None


@pytest.mark.parametrize(("path", "status"), [("loras", 404), ("runs", 404), ("grids", 404), ("recipes", 404)])
def test_what_is_unknown_is_one_sentence(here: Served, path: str, status: int) -> None:
    answer = here.client.get(f"/api/{path}/AAAAAAAAAAAAAAAAAAAAAA")
    assert answer.status_code == status
    assert answer.json()["error"] and "\n" not in answer.json()["error"]


def test_recipes_show_their_vectors(here: Served) -> None:
    listed = here.client.get("/api/recipes").json()
    assert [own["name"] for own in listed] == ["mine"]
    detail = here.client.get(f"/api/recipes/{listed[0]['id']}").json()
    assert detail["vectors"]["MINE"]["IN01"] == 0.5
    assert [(step["name"], step["kind"]) for step in detail["steps"]] == [("final", "merge")]
    assert detail["problem"] is None and not detail["undo"]


def test_the_state_says_what_a_page_begins_with(here: Served) -> None:
    state = here.client.get("/api/state").json()
    assert [base["id"] for base in state["bases"]] == ["pocket"]
    assert state["prompts"]["pocket"] and state["device"]["kind"] in ("cpu", "cuda", "mps")


def test_what_comes_changes_and_goes_is_an_event(tmp_path: Path) -> None:
    here = served(tmp_path).sign_in()
    index = here.studio.index
    index.refresh()
    before = here.studio.events.last
    sd1_lora(tmp_path / "new.safetensors")
    index.refresh()
    [event] = here.studio.events.after(before)
    assert event.event == "file" and event.data["ids"] == [here.client.get("/api/loras").json()[0]["id"]]
    index.refresh()
    assert len(here.studio.events.after(before)) == 1
    write_log(tmp_path / "r/a.jsonl", epochs=2, done=1)
    index.refresh()
    assert [own.event for own in here.studio.events.after(before)] == ["file", "run"]
    (tmp_path / "new.safetensors").unlink()
    index.refresh()
    assert here.client.get("/api/loras").json() == []
    assert here.studio.events.after(before)[-1].event == "file"


def test_files_whose_headers_are_read_later_than_others_are_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large folder a part is shown after a second; a page that has read that part has to hear of the rest."""
    from loratools.studio.discover import index as module

    monkeypatch.setattr(module, "_PUBLISHED", -1.0)
    for name in ("a", "b", "c"):
        sd1_lora(tmp_path / f"{name}.safetensors")
    here = served(tmp_path).sign_in()
    before = here.studio.events.last
    here.studio.index.refresh()
    told = {own for event in here.studio.events.after(before) for own in event.data["ids"]}
    names = {own["id"]: own["name"] for own in here.client.get("/api/loras").json()}
    assert {names[own] for own in told} == {"b", "c"}  # a was there before anybody could ask


def test_a_base_folder_is_called_by_its_whole_name(tmp_path: Path) -> None:
    for name in ("sd-v1.4", "sd-v1.5"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    here = served(tmp_path).sign_in()
    here.studio.index.refresh()
    assert [own["name"] for own in here.client.get("/api/state").json()["bases"]] == ["pocket", "sd-v1.4", "sd-v1.5"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_in_a_folder_holds_nothing_up(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.safetensors", "c.jsonl", "d.png", "grid.json"):
        os.mkfifo(tmp_path / name)
    here = served(tmp_path).sign_in()
    here.studio.index.refresh()
    assert here.client.get("/api/recipes").json() == here.client.get("/api/grids").json() == []
    made = here.studio.roots.picture_id(tmp_path / "d.png")
    assert here.client.get(f"/api/pictures/{made}").status_code == 415


def test_headers_are_read_once_and_kept_over_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from loratools.studio.discover import index as module

    sd1_lora(tmp_path / "a.safetensors")
    reads: list[Path] = []
    plain = module.read_facts
    monkeypatch.setattr(module, "read_facts", lambda path: (reads.append(path), plain(path))[1])
    for _ in range(2):
        index = served(tmp_path).studio.index
        index.refresh()
        index.refresh()
        assert [own.facts.family for own in index.now.loras] == ["sd1"]
    assert len(reads) == 1
    time.sleep(0.01)
    sd1_lora(tmp_path / "a.safetensors", seed=2)
    index.refresh()
    assert len(reads) == 2


def test_pictures_are_sent_small_and_kept_for_ever(here: Served, folder: Path) -> None:
    made = here.studio.roots.picture_id(folder / "a.png")
    whole = here.client.get(f"/api/pictures/{made}")
    assert whole.content == (folder / "a.png").read_bytes() and whole.headers["content-type"] == "image/png"
    small = here.client.get(f"/api/pictures/{made}", params={"size": 64})
    assert small.headers["content-type"] == "image/webp" and "immutable" in small.headers["cache-control"]
    for size in ("63", "-1", "x", "1e9", "²"):
        assert here.client.get(f"/api/pictures/{made}", params={"size": size}).status_code == 400


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.svg", b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'),
        ("x.png", b"<html><script>alert(1)</script>"),
        ("x.html", b"<html>"),
        ("x.jpg", b""),
        ("x.webp", b"RIFF\0\0\0\0WAVE"),
    ],
)
def test_nothing_that_a_browser_could_run_is_sent_as_a_picture(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    here = served(tmp_path).sign_in()
    made = here.studio.roots.picture_id(tmp_path / name)
    for size in (None, 64):
        answer = here.client.get(f"/api/pictures/{made}", params={} if size is None else {"size": size})
        assert answer.status_code == 415 and answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("body", "preset"),
    [
        ({"text": "GP1"}, "GP1"),
        ({"text": "gp1"}, "GP1"),
        ({"text": "NAME:1,0.6,0.9,0.9,0.9,0.6,0.5,0.4,0.4,0.6,0.8,1,1.1,1.1,1.1,1.1,1.1"}, "GP1"),
        ({"text": "IN=0.5,OUT03=0.2"}, None),
        ({"text": "GP1,IN05-OUT05/attn=0,OUT05/attn1=0.5,in04/ff=0.2"}, None),
    ],
)
def test_vectors_are_read_and_written(here: Served, body: dict[str, object], preset: str | None) -> None:
    answer = here.client.post("/api/vector", json=body).json()
    assert answer["preset"] == preset
    again = here.client.post("/api/vector", json={"weights": answer["weights"]}).json()
    assert again["weights"] == answer["weights"] and again["preset"] == preset
    text = here.client.post("/api/vector", json={"text": answer["texts"]["short"]}).json()
    assert text["weights"] == answer["weights"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": "GP9"},
        {"text": "1,2,3"},
        {"text": "GP1", "weights": {}},
        {"weights": {"IN99": 1}},
        {"text": 1},
        {"weights": {"IN01": "x"}},
        {"weights": {"IN01": float("inf")}},
        {"other": 1},
        [],
    ],
)
def test_a_vector_that_cannot_be_read_says_what_is_wrong(here: Served, body: object) -> None:
    answer = here.client.post("/api/vector", content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]


def test_a_log_is_read_as_it_grows_and_anew_when_it_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_log(path, epochs=3, done=1)
    log = RunLog(path)
    assert log.refresh() and (log.step, log.finished) == (4, False)
    assert not log.refresh()
    with path.open("a") as stream:
        stream.write('{"kind": "step", "step": 5, "epoch": 2, "loss": 0.5, "sec')
        stream.flush()
        assert not log.refresh()
        stream.write('onds": 1.0}\n')
    assert log.refresh() and log.step == 5
    fresh = tmp_path / "b.jsonl"
    write_log(fresh, epochs=3, done=3)
    fresh.replace(path)
    assert log.refresh() and (log.step, log.finished) == (12, True)
    assert [at for at, _ in log.loss.all()] == list(range(1, 13))


def test_a_curve_keeps_a_bounded_number_of_points_whose_mean_is_that_of_all() -> None:
    curve = Curve()
    for step in range(100_000):
        curve.add(step, float(step))
    points = curve.all()
    assert 1_000 <= len(points) <= 2_001
    assert points[-1][0] == 99_999 and abs(points[0][1] - (curve.each - 1) / 2) < 1e-9
