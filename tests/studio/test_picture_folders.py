"""Folders of pictures below the roots, and a training that the page starts from one."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from loratools.studio.discover.picture_folders import PictureCount, count
from tests.studio.served import Served, served


def pictures(folder: Path, names: str, captions: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names.split():
        Image.new("RGB", (64, 64), (90, 60, 30)).save(folder / name)
    for name in captions.split():
        (folder / name).write_text("1girl, ink_style")
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Served:
    root = tmp_path / "root"
    pictures(root / "ink", "a.png b.JPG c.webp", "a.txt b.txt other.txt")
    pictures(root / "faces/10_face", "a.png", "a.txt")
    pictures(root / "faces/2_body", "a.png b.png")
    pictures(root / "run/ink-samples", "e000001_00.png")
    pictures(root / "run/ink-verdict/cells", "x.png")
    pictures(root / "grid/cells", "x.png")
    (root / "grid/grid.json").write_text("{}")
    pictures(root / ".hidden", "a.png")
    outside = pictures(tmp_path / "outside", "secret.png")
    (root / "link").symlink_to(outside, target_is_directory=True)
    found = served(root).sign_in()
    found.studio.index.refresh()
    return found


def test_folders_are_listed_with_their_captions_and_what_loratools_drew_is_not(here: Served) -> None:
    listed = here.client.get("/api/folders").json()
    assert [(own["path"], own["pictures"], own["captions"]) for own in listed] == [("faces", 3, 1), ("ink", 3, 2)]


def test_new_pictures_are_an_event(here: Served) -> None:
    here.studio.index.refresh()
    before = here.studio.events.last
    pictures(here.studio.roots.roots[0].path / "ink", "d.png")
    here.studio.index.refresh()
    assert here.studio.events.last > before
    assert {own["path"]: own["pictures"] for own in here.client.get("/api/folders").json()} == {"faces": 3, "ink": 4}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a.txt", "b.safetensors"], None),
        (["a.png", "a.png.txt", "b.PNG", "b.caption"], PictureCount(2, 1)),
        (["a.png", "tune.json"], PictureCount(0, 0, drawn=True)),
    ],
)
def test_a_folder_is_counted_by_its_names(names: list[str], found: PictureCount | None) -> None:
    assert count(Path("x"), names) == found


def test_presets_say_where_they_are_from(here: Served) -> None:
    listed = {own["name"]: own for own in here.client.get("/api/presets").json()}
    assert "guide 004" in listed["style-004"]["source"] and listed["pocket-style"]["settings"]["dim"] == "16"


def request(here: Served, **changes: object) -> dict[str, object]:
    folder = next(own for own in here.client.get("/api/folders").json() if own["path"] == "ink")
    more = {"preset": "pocket-style", "epochs": 2}
    fields = {"kind": "train", "base": "pocket", "images": folder["id"], "root": folder["root"], "name": "mine"}
    return {**fields, "more": more, **changes}


def test_a_training_shows_its_command_and_is_queued_only_then(here: Served) -> None:
    shown = here.client.post("/api/jobs/command", json=request(here)).json()
    assert shown["command"] == (
        "loratools train --base pocket --images ink -o mine --name mine --set preset=pocket-style --set epochs=2"
    )
    assert "train:" in shown["step"] and shown["job"] is None and here.client.get("/api/jobs").json() == []
    job = here.client.post("/api/jobs", json=request(here)).json()
    assert job["command"] == shown["command"] and job["says"]["values"] == {"name": "mine"} and job["heavy"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"more": {"preset": "style-400"}}, "style-004"),
        ({"more": {"epochs": 0}}, "epochs"),
        ({"more": {"resolution": "big"}}, "resolution"),
        ({"more": {"images": "/etc"}}, "images"),
        ({"more": {"vae": "/etc/passwd"}}, "vae"),
        ({"name": "con"}, "Windows"),
        ({"name": "faces"}, "something is in it"),
        ({"images": "unknown"}, "nothing of this id"),
    ],
)
def test_settings_that_cannot_train_are_one_sentence_before_anything_is_queued(
    here: Served, changes: dict[str, object], text: str
) -> None:
    answer = here.client.post("/api/jobs/command", json=request(here, **changes))
    assert answer.status_code in (400, 404, 409, 422) and text in answer.json()["error"]
    assert "\n" not in answer.json()["error"] and here.client.get("/api/jobs").json() == []
