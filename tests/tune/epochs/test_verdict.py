"""The whole verdict on a tiny base: what is drawn, written and read again, and what work that was stopped leaves."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL.Image import Image

from loratools.adapter.files.epoch_files import epochs
from loratools.base.model import Base
from loratools.errors import FileError, FormatError, LoratoolsError, PromptError
from loratools.measures.request import parse_measures
from loratools.preview import session as session_module
from loratools.preview.request.request import SamplingRequest
from loratools.preview.session import Session
from loratools.train.output.epoch_report import best_epoch
from loratools.train.output.recorded_verdict import read_verdict, stale_note
from loratools.tune.epochs import verdict
from loratools.tune.epochs.evaluation_set import EvaluationRequest
from loratools.tune.epochs.reasons import RULED_OUT
from loratools.tune.epochs.result import EpochVerdict
from loratools.tune.epochs.verdict import VerdictRequest, default_seeds, epoch_verdict

MODULE = sys.modules[epoch_verdict.__module__]  # a text would find the function `loratools.tune` in its way


def request(run: Path, base: Path, **given: object) -> VerdictRequest:
    sampling = SamplingRequest(steps=1, sampler="Euler", size=(64, 64), cfg=1.0)
    quick = {"sampling": sampling, "seeds": (1, 2), "device": "cpu", "material": EvaluationRequest(("1girl",))}
    return VerdictRequest(run, str(base), **{**quick, **given})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def looked_at(trained: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EpochVerdict]:
    """A run with its verdict, made once for those that only read it."""
    folder = Path(shutil.copytree(trained / "runs/ink", tmp_path_factory.mktemp("looked at") / "ink"))
    return folder, epoch_verdict(request(folder, tiny))


@pytest.fixture
def judged(looked_at: tuple[Path, EpochVerdict], tmp_path: Path) -> Path:
    """A copy of its folder."""
    return Path(shutil.copytree(looked_at[0], tmp_path / "judged"))


def test_a_verdict_holds_its_evidence_and_is_what_best_reads(run: Path, tiny: Path) -> None:
    notes: list[str] = []
    done: list[tuple[int, int]] = []
    verdict = epoch_verdict(
        request(run, tiny, material=EvaluationRequest()),
        on_note=notes.append,
        on_picture=lambda count, whole: done.append((count, whole)),
    )
    written = json.loads((run / "ink.verdict.json").read_text(encoding="utf-8"))
    assert written["epoch"] == verdict.decision.epoch == best_epoch(run)
    assert written["sentence"].startswith(f"epoch {written['epoch']}: ")
    assert [own["epoch"] for own in written["epochs"]] == [1, 2, 3]
    assert written["prompts_from"] == "captions of 2 held-out and 2 training pictures" and len(written["prompts"]) == 4
    assert all("tag" in prompt and "\\(x\\)" in prompt for prompt in written["prompts"])
    assert written["base"]["digest"] and written["settings"]["steps"] == 1 and written["seeds"] == [1, 2]
    loss = written["epochs"][0]["figures"]["validation loss"]
    assert loss["n"] == 2 and loss["from_base"]["mean"] == pytest.approx(
        loss["mean"] - written["figures"]["validation loss"]["base"]["mean"]
    )
    diversity = written["epochs"][1]["figures"]["diversity"]
    assert diversity["n"] == 8 and diversity["standard_error"] >= 0
    chosen = written["epochs"][written["epoch"] - 1]
    assert chosen["why"] == "recommended" and chosen["figures"]["diversity"]["from_recommended"] is None
    assert done and done[-1][0] == done[-1][1]
    for name in ("grid.html", "grid.png", "epochs.png", "figures.png"):
        assert (run / "ink-verdict" / name).stat().st_size > 0
    assert verdict.drawn.rendered >= 4 * 8  # the base once, three epochs


@pytest.mark.slow
def test_runs_of_one_process_share_the_base(run: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = session_module.load_any_base

    def note(name: str, **options: Any) -> Base:
        loaded.append(name)
        return load(name, **options)

    monkeypatch.setattr(session_module, "load_any_base", note)
    monkeypatch.setattr("loratools.base.any_base.load_any_base", note)
    other = run.parent / "other"
    shutil.copytree(run, other)
    with Session() as session:
        epoch_verdict(request(other, tiny, seeds=(3, 4)), session=session)
        shared = epoch_verdict(request(run, tiny), session=session)
        assert len(loaded) == 1
    text = (run / "ink.verdict.json").read_text(encoding="utf-8")
    shutil.rmtree(run / "ink-verdict")
    (run / "ink.verdict.json").unlink()
    alone = epoch_verdict(request(run, tiny))
    assert len(loaded) == 2 and alone.drawn.rendered == shared.drawn.rendered > 0
    assert (run / "ink.verdict.json").read_text(encoding="utf-8") == text


def test_pictures_are_drawn_once_and_the_same_verdict_comes_again(run: Path, tiny: Path) -> None:
    first = epoch_verdict(request(run, tiny))
    text = (run / "ink.verdict.json").read_text(encoding="utf-8")
    again = epoch_verdict(request(run, tiny))
    assert first.drawn.rendered > 0 == again.drawn.rendered
    assert (run / "ink.verdict.json").read_text(encoding="utf-8") == text
    cells = sorted((run / "ink-verdict/cells").rglob("*.png"))
    for path in cells[::2]:
        path.unlink()
    (run / "ink.verdict.json").unlink()
    resumed = epoch_verdict(request(run, tiny))
    assert resumed.drawn.rendered == len(cells[::2])
    assert (run / "ink.verdict.json").read_text(encoding="utf-8") == text


@pytest.mark.slow
def test_a_failure_leaves_the_old_verdict_and_the_pictures(
    run: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch_verdict(request(run, tiny))
    before = (run / "ink.verdict.json").read_bytes()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verdict, "measure_epochs", fail)
    with pytest.raises(KeyboardInterrupt):
        epoch_verdict(request(run, tiny, seeds=(1, 2, 3)))
    assert (run / "ink.verdict.json").read_bytes() == before
    monkeypatch.undo()
    assert epoch_verdict(request(run, tiny, seeds=(1, 2, 3))).drawn.rendered == 0


def test_a_verdict_goes_stale_with_its_files(judged: Path) -> None:
    run, chosen = judged, best_epoch(judged)
    shortlisted = 2 if chosen != 2 else 3
    _record(run, shortlisted)  # a verdict for an epoch of our choice
    assert best_epoch(run) == shortlisted and stale_note(run) == ""
    other = next(n for n in (1, 2, 3) if n != shortlisted)
    moved = run / f"ink-{other:06d}.safetensors"
    kept = moved.read_bytes()
    moved.unlink()
    assert best_epoch(run) == shortlisted  # an epoch that was looked at and deleted changes nothing
    moved.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    files = epochs(run)
    recorded = read_verdict(files)
    assert recorded is not None and recorded.stale(files) == f"epoch {other} is another file now"
    assert stale_note(run).startswith(f"ink.verdict.json does not hold any more (epoch {other} is another file now)")
    moved.write_bytes(kept)
    shutil.copy(moved, run / "ink-000004.safetensors")
    files = epochs(run)
    assert recorded.stale(files) == "epoch 4 is new"
    (run / "ink-000004.safetensors").unlink()
    (run / f"ink-{shortlisted:06d}.safetensors").unlink()
    assert "is gone" in recorded.stale(epochs(run))


def test_an_edited_header_changes_nothing(judged: Path) -> None:
    from loratools.adapter.header import encode_header, read_header

    recorded = read_verdict(epochs(judged))
    path = judged / "ink-000001.safetensors"
    header, whole = read_header(path), path.read_bytes()
    path.write_bytes(encode_header({**header.metadata, "title": "x"}, header.tensors) + whole[header.data_start :])
    assert recorded is not None and not recorded.stale(epochs(judged))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}', '{"format": "loratools verdict 1"}'])
def test_what_is_no_verdict_is_named_with_the_remedy(run: Path, tiny: Path, text: str) -> None:
    (run / "ink.verdict.json").write_text(text, encoding="utf-8")
    for call in (lambda: best_epoch(run), lambda: epoch_verdict(request(run, tiny))):
        with pytest.raises(FormatError, match=r"ink.verdict.json is no verdict over epochs.*delete it"):
            call()
    assert not (run / "ink-verdict").exists()


def test_what_is_no_verdict_is_replaced_if_asked_to(run: Path, tiny: Path) -> None:
    (run / "ink.verdict.json").write_text("{", encoding="utf-8")
    assert epoch_verdict(request(run, tiny, force=True)).decision.epoch == best_epoch(run)


def test_a_foreign_run_needs_prompts_and_says_what_it_lacks(foreign: Path, tiny: Path) -> None:
    with pytest.raises(PromptError, match=r"another trainer wrote it.*give `prompts=FILE`"):
        epoch_verdict(request(foreign, tiny, material=EvaluationRequest()))
    verdict = epoch_verdict(request(foreign, tiny))
    assert {own.name for own in verdict.figures}.isdisjoint({"validation loss", "nearest"})
    assert any(text.startswith("copy risk: ") for text in verdict.measured.missing)
    assert best_epoch(foreign) == verdict.decision.epoch and verdict.files.name == "f"


def test_a_foreign_run_with_its_pictures(foreign: Path, trained: Path, tiny: Path) -> None:
    verdict = epoch_verdict(request(foreign, tiny, material=EvaluationRequest(images=(trained / "images",))))
    assert "nearest" in {own.name for own in verdict.figures} and len(verdict.measured.copied) == 3
    assert verdict.material.source == "captions of 4 training pictures"
    assert "no picture is held out" in verdict.material.notes[-1]


def test_training_pictures_that_are_gone(run: Path, trained: Path, tiny: Path) -> None:
    images = trained / "images"
    images.rename(trained / "elsewhere")
    try:
        with pytest.raises(PromptError, match=r"training pictures cannot be read.*`prompts=FILE`"):
            epoch_verdict(request(run, tiny, material=EvaluationRequest()))
        verdict = epoch_verdict(request(run, tiny))
        assert any("training_images=DIR" in text for text in verdict.measured.missing)
        assert "validation loss" in {own.name for own in verdict.figures}  # the log has it all the same
    finally:
        (trained / "elsewhere").rename(images)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"weight": 0.0}, "a weight of 0 compares nothing"),
        ({"weight": float("nan")}, "a weight of nan compares nothing"),
        ({"measures": parse_measures(["python=no_such_module:f"])}, "'no_such_module' cannot be imported"),
        ({"measures": parse_measures(["judge"])}, "the judge reads pictures of the pocket base alone"),
        ({"measures": parse_measures(["like=none", "unlike=none"])}, "none"),
        ({"measures": parse_measures(["votes"])}, "no votes to measure by.*grid.html"),
        ({"material": EvaluationRequest(("x",), held_out=(Path("none"),))}, "no folder none; `held_out=`"),
    ],
    ids=["weight 0", "no weight", "module", "judge", "marks", "votes", "folder"],
)
def test_what_cannot_be_done_is_said_before_anything_is_drawn(
    run: Path, tiny: Path, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(LoratoolsError, match=says):
        epoch_verdict(request(run, tiny, **given))
    assert not (run / "ink-verdict").exists()


def test_a_run_of_one_epoch(run: Path, tiny: Path) -> None:
    for number in (2, 3):
        (run / f"ink-{number:06d}.safetensors").unlink()
    verdict = epoch_verdict(request(run, tiny, seeds=(1,)))
    assert verdict.decision.sentence == "epoch 1: the run has no other"
    assert any("one seed shows none" in text for text in verdict.measured.missing)


def test_others_folders_are_left_alone(run: Path, tiny: Path) -> None:
    folder = run / "ink-verdict"
    folder.mkdir()
    (folder / "grid.json").write_text("{}", encoding="utf-8")
    with pytest.raises(FileError, match="exists"):
        epoch_verdict(request(run, tiny))
    assert isinstance(epoch_verdict(request(run, tiny, force=True)), EpochVerdict)


def test_votes_count(run: Path, tiny: Path) -> None:
    cells = {f"k{n}": {"at": {"adapter": f"ink@{n}", "weight": "1"}} for n in (1, 2, 3)}
    pairs = [{"left": "k2", "right": other, "won": "left"} for other in ("k1", "k3") for _ in range(12)]
    votes = {"format": "loratools votes 1", "cells": cells, "stars": {}, "pairs": pairs}
    path = run / "votes.json"
    path.write_text(json.dumps(votes), encoding="utf-8")
    verdict = epoch_verdict(request(run, tiny, votes=path))
    assert verdict.votes is not None and len(verdict.votes.games) == 24 and verdict.votes.score(1) > 0
    reasons = verdict.decision.reasons
    assert reasons[1].why in ("votes", *RULED_OUT)
    shutil.copy(path, run / "ink-verdict/votes.json")
    asked = parse_measures(["votes"])
    assert epoch_verdict(request(run, tiny, measures=asked)).votes is not None  # the pictures' own page exported them
    path.write_text(json.dumps({**votes, "pairs": []}), encoding="utf-8")
    with pytest.raises(FileError, match="no choice between two epochs of ink"):
        epoch_verdict(request(run, tiny, votes=path))


class TwoColours:
    """Stands in for a CLIP: a picture's mean colour, and a prompt's wish for red."""

    name = "CLIP"

    def images(self, images: Sequence[Image]) -> torch.Tensor:
        colours = torch.stack([torch.tensor(np.asarray(image, dtype=np.float32).mean((0, 1))) for image in images])
        return torch.nn.functional.normalize(colours, dim=1)

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0, 0.0]]).repeat(len(texts), 1)


@pytest.mark.slow
def test_a_clip_says_how_prompts_are_obeyed(run: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = epoch_verdict(request(run, tiny))
    assert without.measured.obedience is None and any("score_model=DIR" in text for text in without.measured.missing)
    monkeypatch.setattr(MODULE, "load_features", lambda folder: TwoColours())
    verdict = epoch_verdict(request(run, tiny, model=run))
    figure = verdict.measured.obedience
    assert figure is not None and figure.name == "prompt"
    pixels = verdict.drawn.epochs[1][0].pixels.astype(np.float64).mean((0, 1))
    assert figure.values[1, 0] == pytest.approx(pixels[0] / np.linalg.norm(pixels), abs=1e-5)


def test_closeness_without_a_judge_is_by_what_the_base_sees(looked_at: tuple[Path, EpochVerdict]) -> None:
    verdict = looked_at[1]
    figure = verdict.measured.closeness
    assert figure is not None and figure.name == "style" and figure.base is not None
    assert figure.base.mean() == pytest.approx(0, abs=1e-6) and np.isfinite(figure.values).all()
    assert verdict.decision.reasons[1].figure in ("", "style", "0.9 test", "copies", "diversity")


def test_a_measure_that_tells_nothing_is_told(run: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every epoch the same: a note, for there may well be no defect at all. Of one epoch nothing: an error."""
    (run / "epochs_measure.py").write_text(
        "def constant(images, prompts, seeds):\n    return [1.0] * len(images)\n"
        "def blind(images, prompts, seeds):\n    return [None if 3 < n < 6 else n for n in range(len(images))]\n"
    )
    monkeypatch.chdir(run)
    sys.modules.pop("epochs_measure", None)
    asked = request(run, tiny, measures=parse_measures(["python=epochs_measure:constant"]))
    told = epoch_verdict(asked).measured.missing
    assert any("constant: 1 for every picture of every epoch and of the base" in note for note in told)
    with pytest.raises(LoratoolsError, match="'blind' could tell of no picture of epoch 2"):
        epoch_verdict(replace(asked, measures=parse_measures(["python=epochs_measure:blind"])))


def test_seeds_by_default_make_about_as_many_pictures() -> None:
    assert (default_seeds(8), default_seeds(1), default_seeds(100)) == ((1, 2, 3, 4), tuple(range(1, 9)), (1, 2))


def _record(run: Path, epoch: int) -> None:
    path = run / "ink.verdict.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "epoch": epoch}), encoding="utf-8")
