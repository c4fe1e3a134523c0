"""Obedience by the base: its losses, prompt by prompt, against the training step's own arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loratools.base.model import Base
from loratools.base.prompt.conditioning import condition
from loratools.base.sampling.noise import initial_latents
from loratools.measures.measure import Shown, take
from loratools.measures.probe.encoded import PictureEncoder, encoded
from loratools.measures.probe.obedience import TIMESTEPS, Obedience
from loratools.train.step.objective import noise_schedule
from tests.measures.probe.conftest import look


def test_it_is_the_share_of_the_loss_that_the_prompt_takes_away(tiny: Base) -> None:
    picture = look(1, prompt="girl, blue eyes")
    latents = encoded(tiny, [picture])[0].latents
    shares = []
    for t in TIMESTEPS:
        abar = noise_schedule(tiny.scheduler_config).abar[t]
        noise = initial_latents("cpu", t, (64, 64), tiny.vae_scale_factor)
        seen = abar.sqrt() * latents + (1 - abar).sqrt() * noise
        with torch.no_grad():
            own, none = (
                (tiny.unet(seen, t, encoder_hidden_states=condition(tiny, [text]).hidden).sample - noise)
                .square()
                .mean()
                for text in (picture.prompt, "")
            )
        shares.append(float(1 - own / none))
    got = take(Obedience(tiny, PictureEncoder(tiny)), [picture]).values
    assert got == pytest.approx([np.mean(shares)], abs=1e-5) and got[0] != 0


def test_pictures_together_are_as_alone_and_without_a_prompt_nothing_is_said(tiny: Base) -> None:
    measure = Obedience(tiny, PictureEncoder(tiny))
    assert (measure.name, measure.better) == ("obedience", "higher")
    wide = Shown(np.zeros((64, 128, 3), dtype=np.uint8), "red hat", 3)
    pictures = [look(1), look(2, prompt=""), wide, look(4, prompt="smile"), look(5)]
    together = measure(pictures)
    assert np.isnan(together).tolist() == [False, True, False, False, False]
    assert [float(measure([own])[0]) for own in pictures] == pytest.approx(together.tolist(), abs=1e-4, nan_ok=True)


def test_pictures_are_encoded_once_for_all_readers(tiny: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    from loratools.measures.probe import encoded as module
    from loratools.measures.probe.unet_features import UNetFeatures

    calls: list[int] = []
    original = module.encoded
    monkeypatch.setattr(module, "encoded", lambda base, own: calls.append(len(own)) or original(base, own))
    encode = PictureEncoder(tiny)
    pictures = [look(1), look(2)]
    Obedience(tiny, encode)(pictures)
    UNetFeatures(tiny, encode=encode)(pictures)
    assert calls == [2]
