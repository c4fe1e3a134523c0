"""Ways that train, on a tiny base with the real trainer: what is learnt from, what is kept, how they stop and go on."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.errors import TuneError
from loratools.measures.build import MeasureSet
from loratools.measures.estimate import Estimate
from loratools.measures.measure import Better, Shown
from loratools.measures.request import parse_measures
from loratools.ops.merging.terms import Term
from loratools.preview.request.request import SamplingRequest
from loratools.train import trainer
from loratools.tune import run as tune_run
from loratools.tune import tuning
from loratools.tune.problem.effort import Effort
from loratools.tune.problem.goals import Goals
from loratools.tune.problem.request import TuneRequest
from loratools.tune.problem.then import ThenEffort
from loratools.tune.progress import TuneProgress
from loratools.tune.report.columns import HeldOut
from loratools.tune.report.result import TuneResult
from loratools.tune.report.verdict import Verdict
from loratools.tune.then import chain, workplace
from tests.loras import lora_tensors, save

SMALL = Effort(
    prompts=2,
    held_out=2,
    pool=4,
    shots=2,
    population=3,
    screening=9,
    generations=1,
    checks=1,
    fresh=2,
    strengths=(0.7,),
)
LED = parse_measures(("python=math:fsum",))  # stands for those that the tests put in its place
PROMPTS = ("1girl, smile", "1girl, red hair", "1girl, hat", "1girl, ink style")


@dataclass(frozen=True)
class Defect:
    """Every second seed's picture is bad under the LoRA, and none of the base's, whatever it looks like."""

    base: frozenset[bytes]
    name: str = "defect"
    better: Better = "lower"

    def __call__(self, pictures: Sequence[Shown]) -> np.ndarray:
        return np.array(
            [0.0 if self._is_base(own) else float(own.seed % 2) + own.pixels.mean() / 1e4 for own in pictures]
        )

    def _is_base(self, picture: Shown) -> bool:
        return picture.pixels.tobytes() in self.base


@pytest.fixture
def follow(trained: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr(tune_run, "write_both", lambda result: None)
    monkeypatch.setattr(ThenEffort, "of", staticmethod(lambda effort: ThenEffort(20, 2, 4, 6, 2, 2, 8)))

    def measures(_: object, context: object) -> MeasureSet:
        base = frozenset(own.pixels.tobytes() for own in context.base_pictures)  # type: ignore[attr-defined]
        return MeasureSet((Defect(base),))

    monkeypatch.setattr(tuning, "build_measures", measures)
    base = load_base(tiny, device="cpu")

    def run(  # type: ignore[no-untyped-def]
        out: str = "out", on_progress=None, seeds: tuple[int, ...] = (1,), then: tuple[str, ...] = ("picks",)
    ) -> TuneResult:
        request = TuneRequest(
            ("hands",),
            PROMPTS,
            LED,
            seeds=seeds,
            effort=SMALL,
            then=then,
            sampling=SamplingRequest(steps=1, size=(64, 64), sampler="DDIM"),
        )
        term = Term(read(trained / "runs/ink/ink-000003.safetensors"), 1.0, label="ink")
        return tuning.tune(base, [term], request, tmp_path / out, on_progress=on_progress)

    return run


def test_picks_are_chosen_trained_on_and_reported(follow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    heard: list[TuneProgress] = []
    result = follow(on_progress=heard.append, seeds=(1, 2))
    (way,) = json.loads((tmp_path / "out/tune.json").read_text())["then"]
    assert (way["candidates"], way["good"], way["kept"]) == (20, 12, 6)
    assert way["training_pictures"] == {"known": 2, "kept": 2}, "the LoRA's header leads to them; two were held out"
    assert len(way["epochs"]) == 2 and way["epochs"][way["epoch"] - 1] == min(way["epochs"])
    folder = tmp_path / "out/then/1-picks"
    captions = [path.read_text().strip() for path in sorted((folder / "picks").glob("*.txt"))]
    assert len(captions) == 6 and max(map(captions.count, captions)) <= 3
    assert not set(captions) & {shot.prompt for shot in result.held.shots}
    assert len(list((folder / "training").glob("*.png"))) == 2
    start, last = read(folder / "start.safetensors"), read(folder / "run/picks-000002.safetensors")
    assert set(start) == set(last) and start.ranks == last.ranks and start.digest != last.digest
    assert json.loads(last.metadata["loratools"])["step"]["train"]["network_weights"].endswith("start.safetensors")
    assert way["helped"] == (result.answer == "1-picks") and "epoch" in way["reason"]
    assert [one.done for one in heard] == sorted(one.done for one in heard) and heard[-1].done == heard[-1].total
    assert {"picks", "training"} <= {one.stage for one in heard}

    def nothing(*_: object, **__: object) -> None:
        raise AssertionError("it is all there")

    monkeypatch.setattr(trainer, "setup_run", nothing)
    monkeypatch.setattr(workplace.PopulationRenderer, "draw", nothing)
    again = follow(seeds=(1, 2))
    assert again.json()["then"] == result.json()["then"]


@pytest.mark.slow
def test_ctrl_c_while_it_trains_keeps_the_search_and_the_next_run_goes_on(follow, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    whole = follow("whole", seeds=(1, 2))
    pressed = False

    def press(progress: TuneProgress) -> None:
        nonlocal pressed
        if progress.stage == "training" and not pressed:
            pressed = True
            signal.raise_signal(signal.SIGINT)

    stopped = follow(on_progress=press, seeds=(1, 2))
    assert pressed and not stopped.finished and not stopped.then and stopped.file.is_file()
    done = follow(seeds=(1, 2))
    assert done.finished and done.then[0].facts == whole.then[0].facts
    one, other = (read(tmp_path / name / "then/1-picks/run/picks-000002.safetensors") for name in ("out", "whole"))
    assert one.digest == other.digest


def test_too_few_good_pictures_train_nothing(follow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(
        Defect, "__call__", lambda own, shown: np.array([float(not own._is_base(one)) for one in shown])
    )
    monkeypatch.setattr(tune_run, "check_it_varies", lambda measured: None)
    result = follow()
    assert "only 0 of 40 pictures are good" in result.then[0].reason and not (tmp_path / "out/then").exists()


@pytest.mark.slow
def test_a_defect_lora_is_the_difference_of_two_trainings_in_amounts_by_block(follow, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = follow(then=("defect-lora",), seeds=(1, 2))
    (way,) = json.loads((tmp_path / "out/tune.json").read_text())["then"]
    folder = tmp_path / "out/then/1-defect-lora"
    counts = [len(list((folder / name).glob("*.png"))) for name in ("good", "bad")]
    assert way["pairs"] == 6 and counts == [6, 6]
    captions = [[path.read_text() for path in sorted((folder / name).glob("*.txt"))] for name in ("good", "bad")]
    assert captions[0] == captions[1], "pairs of one prompt each"
    good, bad = (read(folder / f"run/{name}-000002.safetensors") for name in ("good", "bad"))
    defect, sound = read(folder / "defect.safetensors"), read(folder / "sound.safetensors")
    for name in defect:
        wanted = bad[name].dense() - good[name].dense()
        near = 2e-3 * float(wanted.abs().max())
        assert torch.allclose(defect[name].dense(), wanted, rtol=0, atol=near)
        assert torch.allclose(sound[name].dense(), -wanted, rtol=0, atol=near)
    assert len(way["totals"]) == 4 and way["totals"][way["subtracted"]] == min(way["totals"].values())
    assert result.then[0].terms and way["figures"]["defect"]["n"] == 4
    if way["subtracted"] == "by amounts by block":
        assert set(way["amounts"]) == set(result.space.names)


@pytest.mark.slow
def test_a_search_follows_only_what_changed(follow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def taken(held: HeldOut, goals: Goals, _: object, columns: tuple[str, str], __: float) -> Verdict:
        return Verdict(columns[0], Estimate(-1.0, 0.1, 4), True, ())

    monkeypatch.setattr(chain, "judge_answer", taken)
    result = follow(then=("picks", "search", "search"), seeds=(1, 2))
    picks, search, last = result.then
    assert picks.helped and search.helped and search.before == "1-picks" and result.answer == "2-search"
    assert not last.column and "nothing has changed since the last search" in last.reason
    assert set(search.facts["vector"]) == set(result.space.names)
    assert [term.adapter.path.name for term in search.terms] == [f"picks-{picks.facts['epoch']:06d}.safetensors"]


def test_what_no_training_goes_on_from_is_refused_before_anything_is_drawn(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = lora_tensors("sd1", rank=1)
    name = next(key for key in tensors if key.endswith("attn1_to_q.lora_down.weight")).removesuffix(".lora_down.weight")
    whole = save(tmp_path / "whole.safetensors", {**without(tensors, name), f"{name}.diff": torch.ones(4, 4)})
    request = TuneRequest(("hands",), PROMPTS, LED, effort=SMALL, then=("picks",))
    term = Term(read(whole), 1.0, label="whole")
    with pytest.raises(TuneError, match=r"from which no training goes on; leave .*`loratools resize"):
        tuning.tune(load_base(tiny, device="cpu"), [term], request, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def without(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in tensors.items() if not key.startswith(f"{name}.")}
