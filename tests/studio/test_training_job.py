"""A real training in the queue: paused and gone on with, it leaves the files of one that was not."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loratools.studio.api.jobs import Job
from tests.studio.served import Served, served

pytestmark = pytest.mark.slow
EPOCHS = 4


@pytest.fixture
def here(tmp_path: Path) -> Served:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(4):
        values = rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("1girl, red_hair")
    made = served(tmp_path).sign_in()
    made.studio.index.refresh()
    return made


def train(here: Served, name: str) -> str:
    state = here.client.get("/api/state").json()
    images = here.studio.roots.id_of(here.studio.roots.roots[0].path / "pictures")
    settings = {"epochs": EPOCHS, "dim": 4, "repeats": 3, "seed": 3}
    body = {"kind": "train", "base": "pocket", "images": images, "root": state["roots"][0]["id"], "name": name}
    answer = here.client.post("/api/jobs", json={**body, "more": settings})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def job(here: Served, job_id: str) -> Job:
    here.studio.queue.look()
    return Job.model_validate(here.client.get(f"/api/jobs/{job_id}").json())


def until(here: Served, job_id: str, what: Callable[[Job], bool], seconds: float = 400) -> Job:
    end = time.monotonic() + seconds
    while not what(shown := job(here, job_id)):
        assert time.monotonic() < end, here.client.get(f"/api/jobs/{job_id}/log").text
        assert shown.state != "failed", shown.error
        time.sleep(0.1)
    return shown


def test_a_training_pauses_stops_after_its_epoch_and_goes_on_to_the_byte(here: Served, tmp_path: Path) -> None:
    plain = train(here, "plain")
    until(here, plain, lambda own: own.state == "done")
    stopped = train(here, "ink")
    until(here, stopped, lambda own: own.state == "running" and own.progress.done >= 2)
    assert here.client.post(f"/api/jobs/{stopped}", json={"do": "pause"}).status_code == 200
    paused = until(here, stopped, lambda own: own.state == "paused")
    assert paused.progress.total == EPOCHS * 12 and paused.progress.unit == "step"
    here.client.post(f"/api/jobs/{stopped}", json={"do": "resume"})
    until(here, stopped, lambda own: own.state == "running" and own.progress.done >= 3)
    here.studio.index.refresh()
    [run] = [own for own in here.client.get("/api/runs").json() if own["name"] == "ink"]
    assert (run["state"], run["job"]) == ("running", stopped)
    here.client.post(f"/api/jobs/{stopped}", json={"do": "stop-after-epoch"})
    until(here, stopped, lambda own: own.state == "stopped")
    made = len(list((tmp_path / "ink").glob("*.safetensors")))
    assert 1 <= made < EPOCHS
    here.studio.index.refresh()
    assert here.client.get(f"/api/runs/{run['id']}").json()["state"] == "stopped"
    gone_on = here.client.post("/api/jobs", json={"kind": "resume", "run": run["id"]})
    assert gone_on.status_code == 200, gone_on.text
    until(here, gone_on.json()["id"], lambda own: own.state == "done")
    for number in range(1, EPOCHS + 1):
        one, other = (tmp_path / name / f"{name}-{number:06d}.safetensors" for name in ("plain", "ink"))
        assert tensors(one) == tensors(other), number


def tensors(path: Path) -> bytes:
    from loratools.adapter.header import read_header

    return path.read_bytes()[read_header(path).data_start :]
