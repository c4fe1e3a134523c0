"""A prompt becomes a picture in one way, whoever asks for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loratools.base.generate import PictureRequest, generate
from loratools.base.model import Base
from loratools.base.sampling.sample import Sampling, decode_pixels
from loratools.errors import GridError, PromptError
from tests.base.plain import plain_latents

REQUEST = PictureRequest("1girl, red hair", "hat", (64, 64), 3, 2, 4.0, "Euler a")


def test_a_plain_prompts_picture_is_the_pipelines(base: Base) -> None:
    """In a batch too, and each picture of its own seed: the same numbers as with plain conditionings."""
    prompts, seeds = ["1girl, red hair", "blue eyes", "hat"], [3, 4, 5]
    requests = [replace(REQUEST, prompt=prompt, seed=seed) for prompt, seed in zip(prompts, seeds, strict=True)]
    latents = plain_latents(base, prompts, seeds, Sampling(2, 4.0, "Euler a"), negative="hat", size=(64, 64))
    assert np.array_equal(generate(base, requests), decode_pixels(base, latents).numpy())


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("hat", "(hat:1.4)"),
        ("red hair", "[red hair:hat:1]"),
        ("red hair", "red hair AND blue eyes"),
        ("red hair, " * 40, "red hair, " * 40 + "hat"),
    ],
)
def test_the_webuis_syntax_counts(base: Base, one: str, two: str) -> None:
    pictures = generate(base, [replace(REQUEST, prompt=prompt, steps=3) for prompt in (one, two)])
    assert pictures.shape == (2, 64, 64, 3) and pictures.dtype == np.uint8
    assert not np.array_equal(*pictures)


@pytest.mark.parametrize(
    "change", [{"size": (64, 128)}, {"steps": 3}, {"cfg": 2.0}, {"sampler": "DDIM"}, {"noise": "webui-cpu"}]
)
def test_pictures_of_a_batch_are_sampled_alike(base: Base, change: dict[str, object]) -> None:
    with pytest.raises(GridError, match="must agree in size"):
        generate(base, [REQUEST, replace(REQUEST, **change)])  # type: ignore[arg-type]


def test_what_a_base_cannot_draw_is_an_error(base: Base) -> None:
    with pytest.raises(GridError, match="a size of 100x64 does not fit; width and height must be multiples of 8"):
        generate(base, [replace(REQUEST, size=(64, 100))])
    with pytest.raises(PromptError, match="clip skip 3 is outside"):
        generate(base, [replace(REQUEST, clip_skip=3)])
    with pytest.raises(GridError, match="no picture is asked for"):
        generate(base, [])
