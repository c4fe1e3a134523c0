"""From the page's socket to the file that its button writes: the picture on the screen is the file's."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from loratools.studio.context import Options
from loratools.studio.live.wish import PictureWish, SamplingWish
from tests.studio.live.conftest import Wishes
from tests.studio.live.test_painter import grid_pixels, pixels
from tests.studio.live.test_socket import next_frame
from tests.studio.served import served

PATIENCE = 180.0  # seconds that a job may take on a busy machine
SETTINGS = {"prompt": "1girl, red hair", "negative": "ink", "seed": 4, "steps": 5, "cfg": 6.0, "sampler": "Euler a"}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_the_resting_picture_of_the_socket_is_that_of_the_file_which_the_job_wrote(
    wishes: Wishes, tmp_path: Path, dtype: str
) -> None:
    opened = tmp_path / "opened"
    base = Path(shutil.copytree(wishes.base, opened / "tiny"))
    for path in wishes.loras:
        shutil.copy(path, opened / path.name)
    made = served(opened, options=Options(device="cpu"))
    with made.client:
        made.sign_in()
        ids = {own["name"]: own["id"] for own in made.client.get("/api/loras").json()}
        state = made.client.get("/api/state").json()
        bases = {own["name"]: own["id"] for own in state["bases"]}
        terms = [
            {"lora": ids["a"], "weight": 0.8, "vector": {"OUT05": 1.25, "IN01": 0.3, "BASE": 0.5, "OUT05/ff": -0.4}},
            {"lora": ids["b"], "weight": -0.4, "vector": "GP2", "te": 0.0},
        ]
        stack = {"terms": terms, "base": bases["tiny"]}
        with made.socket() as socket:
            for seq, quality in enumerate(("drag", "rest"), start=1):
                draw = {"type": "draw", "stream": 2, "seq": seq, "stack": stack, "settings": SETTINGS}
                socket.send_text(json.dumps({**draw, "quality": quality, "dtype": dtype}))
                frame, *_ = next_frame(socket)
                socket.send_text(json.dumps({"type": "ack", "stream": 2, "seq": seq}))
        to = {"root": state["roots"][0]["id"], "name": "final", "dtype": dtype}
        started = made.client.post("/api/write", json={"stack": stack, "to": to}).json()
        wait_for(made.client, started["job"])
    sampling = SamplingWish("1girl, red hair", "ink", 4, 5, 6.0, "Euler a")
    wish = PictureWish((), str(base), sampling, "rest")
    written = grid_pixels(str(base), opened / "final.safetensors", wish, tmp_path / "grid")
    assert not frame.preview and np.array_equal(pixels(frame), written)


def wait_for(client: object, job: str) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        jobs = client.get("/api/jobs").json()  # type: ignore[attr-defined]
        own = next(one for one in jobs if one["id"] == job)
        if own["state"] == "done":
            return
        assert own["state"] in ("waiting", "running") and time.monotonic() < end, own
        time.sleep(0.3)
