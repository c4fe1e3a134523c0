"""A search by a person's choices, asked and answered in the page."""

from __future__ import annotations

import contextlib
import shlex
import threading
from pathlib import Path

import pytest
from PIL import Image

from loratools.studio.jobs.commands import Command
from loratools.tune.asking.round_page import Cell, PageContent, RoundPage
from tests.loras import lora_tensors, save
from tests.studio.served import Served, served

PAIRS = 8


@pytest.fixture
def here(tmp_path: Path) -> Served:
    save(tmp_path / "style.safetensors", lora_tensors(rank=2, seed=0))
    made = served(tmp_path).sign_in()
    made.studio.index.refresh()
    return made


def write_round(folder: Path, number: int) -> RoundPage:
    """A round of eight pairs of flat pictures."""
    page = RoundPage(folder / "votes" / f"round-{number}")
    page.folder.mkdir(parents=True)
    cells = []
    for n in range(2 * PAIRS):
        Image.new("RGB", (16, 16), (10 * n, number, 0)).save(page.folder / f"{n}.png")
        cells.append(Cell(f"k{n}", f"row {n // 2}", "left" if n % 2 == 0 else "right", f"{n}.png", ()))
    pairs = tuple((f"k{2 * n}", f"k{2 * n + 1}") for n in range(PAIRS))
    page.write(PageContent("t", (), tuple(cells), (16, 16), pairs, "which?"))
    return page


def test_pairs_are_asked_in_their_order_and_the_answers_are_those_that_the_search_reads(
    here: Served, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    record = here.studio.queue.add(Command("tune", "t", ("--version",), tmp_path, True, results=(folder,)))
    address = f"/api/jobs/{record.id}/round"
    assert here.client.get(address).status_code == 404
    write_round(folder, 1)
    page = write_round(folder, 10)
    write_round(folder, 9)
    asked = here.client.get(address).json()
    assert (asked["number"], asked["pairs"], asked["answered"], asked["enough"]) == (10, PAIRS, 0, False)
    assert here.client.get(f"/api/pictures/{asked['pair']['left_picture']}").status_code == 200
    for n, winner in enumerate(("left", "right", "none", "left", "left", "right")):
        pair = asked["pair"]
        assert (pair["left"], pair["right"]) == (f"k{2 * n}", f"k{2 * n + 1}")
        body = {"left": pair["left"], "right": pair["right"], "winner": winner}
        asked = here.client.post(address, json=body).json()
    assert (asked["answered"], asked["enough"]) == (6, True)
    votes = page.votes()
    assert votes is not None and [own.points for own in votes.pairs] == [1, 0, 0.5, 1, 1, 0]
    changed = {"left": "k0", "right": "k1", "winner": "right"}
    assert here.client.post(address, json=changed).json()["answered"] == 6
    strange = here.client.post(address, json={"left": "k0", "right": "k3", "winner": "left"})
    assert strange.status_code == 409 and strange.json()["remedy"]


def test_answers_of_two_tabs_at_once_are_both_kept(
    here: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    record = here.studio.queue.add(Command("tune", "t", ("--version",), tmp_path, True, results=(folder,)))
    page = write_round(folder, 1)
    reading, plain = threading.Barrier(2), RoundPage.votes

    def slow(self: RoundPage) -> object:
        votes = plain(self)
        with contextlib.suppress(threading.BrokenBarrierError):  # both have read before one writes, if they can
            reading.wait(0.1)
        return votes

    monkeypatch.setattr(RoundPage, "votes", slow)

    def answer(n: int) -> None:
        body = {"left": f"k{2 * n}", "right": f"k{2 * n + 1}", "winner": "left"}
        here.client.post(f"/api/jobs/{record.id}/round", json=body)

    tabs = [threading.Thread(target=answer, args=(n,)) for n in range(2)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    votes = plain(page)
    assert votes is not None and {own.left for own in votes.pairs} == {"k0", "k2"}


def test_such_a_search_has_a_folder_of_its_own(here: Served) -> None:
    lora = here.client.get("/api/loras").json()[0]["id"]
    stack = {"terms": [{"lora": lora}], "base": "pocket"}
    outs = []
    for measure in ([], ["votes"]):
        body = {"symptom": "hands", "kind": "tune", "stack": stack, "options": {"measure": measure}}
        started = here.client.post("/api/symptom", json=body)
        words = shlex.split(started.json()["command"])
        outs.append(words[words.index("-o") + 1])
        assert ("votes" in words) == bool(measure)
    assert outs[0] != outs[1]
