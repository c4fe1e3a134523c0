"""What a run has of its epochs beside pictures: votes as ratings with errors, and validation losses by image."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from loratools.adapter.files.epoch_files import Epoch
from loratools.measures.votes.votes_file import Pair, Votes, standings
from loratools.tune.epochs.figures import clearly
from loratools.tune.epochs.logged import VoteRanking, validation_losses

Games = list[tuple[int, int, float]]


def test_ratings_are_those_of_the_page() -> None:
    rng = np.random.default_rng(0)
    games: Games = [(a, b, float(rng.choice((0, 0.5, 1)))) for a, b in itertools.permutations(range(4), 2)]
    pairs = tuple(Pair(str(a), str(b), points) for a, b, points in games)
    page = standings(Votes({str(n): {"adapter": str(n)} for n in range(4)}, {}, pairs), ["adapter"])
    ranking = VoteRanking.of(games, 4)
    for standing in page:
        assert ranking.score(int(standing.at[0])) == pytest.approx(standing.rating, abs=0.01)


def test_an_epoch_that_wins_every_time_leads_clearly_and_the_more_so_the_more_often() -> None:
    few, many = (VoteRanking.of([(1, 0, 1.0), (1, 2, 1.0)] * count, 3) for count in (3, 12))
    assert clearly(many.lead(1, 0), 6) and not clearly(few.lead(1, 0), 6)
    assert many.lead(0, 1).mean == -many.lead(1, 0).mean
    assert not clearly(many.lead(0, 2), 1) and many.lead(0, 2).mean == pytest.approx(0, abs=1e-6)


def test_an_epoch_that_nobody_judged_is_average_and_unsure() -> None:
    ranking = VoteRanking.of([(0, 1, 1.0)] * 10, 3)
    assert ranking.score(2) == 0 and ranking.own(2).standard_error > ranking.own(0).standard_error / 2
    assert not clearly(ranking.lead(0, 2), 6)


def write_log(folder: Path, *lines: dict[str, object]) -> list[Epoch]:
    (folder / "x.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return [Epoch(number, folder / f"x-{number:06d}.safetensors") for number in (1, 2)]


def test_validation_losses_are_paired_image_by_image(tmp_path: Path) -> None:
    def validation(step: int, one: float, two: float) -> dict[str, object]:
        return {"kind": "validation", "step": step, "loss": 0.0, "held_out": True, "images": {"a": one, "b": two}}

    ends = [{"kind": "epoch", "epoch": n, "step": 10 * n, "loss": 0.1} for n in (1, 2)]
    run = write_log(tmp_path, validation(0, 1.0, 3.0), *ends, validation(10, 0.5, 2.5), validation(20, 0.4, 2.4))
    losses = validation_losses(run)
    assert losses.held_out and losses.figure is not None
    assert losses.figure.own(0).mean == 1.5 and losses.figure.own(0).standard_error > 0.5
    lead = losses.figure.lead(1, 0)
    assert lead.mean == pytest.approx(0.1) and lead.standard_error == pytest.approx(0, abs=1e-12)
    assert validation_losses(write_log(tmp_path, *ends)).figure is None
    assert validation_losses(write_log(tmp_path, *ends, validation(10, 0.5, 2.5))).figure is None  # one epoch lacks it
