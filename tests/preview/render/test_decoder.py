"""Latents wait for others to be decoded with; the first of a drawing do not."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch

from loratools.base.model import Base
from loratools.preview.plan.jobs import Stack
from loratools.preview.render.decoder import Decoder
from tests.preview.render.test_engine import jobs


def test_the_first_pictures_of_a_drawing_are_decoded_at_once(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later ones are collected, as on a GPU, where as many at once are quicker."""
    monkeypatch.setattr(Decoder, "_wide", property(lambda own: own.at_once))
    made = jobs(tmp_path, [Stack()], seeds=(1, 2, 3))
    decoder = Decoder(base, lambda *models: contextlib.nullcontext(), lambda: None, lambda text: None)
    for _drawing in range(2):
        seen = []
        for part in (made[:3], made[3:], made[:3], made[3:]):
            decoder.add(part, torch.zeros(len(part), 4, 8, 8))
            if decoder.full:
                seen.append([len(batch.jobs) for batch in decoder.flush()])
            else:
                seen.append([])
        assert seen == [[3], [], [], [8, 1]]
        decoder.drop()
