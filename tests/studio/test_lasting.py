"""The short mode of the benchmark that wears the server out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.studio.lasting import lasts


@pytest.mark.slow
def test_drags_jobs_lost_connections_and_kills_lose_nothing(tmp_path: Path) -> None:
    figures = {figure.name: figure for figure in lasts(tmp_path, torch.device("cpu"), tiny=True)}
    missed = [figure.text() for figure in figures.values() if figure.met is False]
    assert not missed
    assert figures["drags"].value == 1_000
