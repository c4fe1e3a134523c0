"""A tiny base, pictures whose style and defect are patterns, and features that see these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.measures.measure import Shown
from tests.tiny import save_tiny_base


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(save_tiny_base(tmp_path_factory.mktemp("tiny")), device="cpu")


def look(seed: int, stripes: float = 0.0, grain: float = 0.0, prompt: str = "girl, red hair") -> Shown:
    """A blurred picture of random colours; ``stripes``, the style, are broad bands, ``grain``, the defect, is fine."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(90, 166, (4, 4, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC)).astype(np.float64)
    rows, columns = np.mgrid[:64, :64]
    pixels += 70 * stripes * np.sign(np.sin(rows * np.pi / 8 + rng.uniform(0, 6)))[..., None]
    pixels += 70 * grain * np.where((rows + columns) % 4 < 2, 1, -1)[..., None]
    return Shown(np.clip(pixels, 0, 255).astype(np.uint8), prompt, seed)


def patterns(pictures: Sequence[Shown]) -> np.ndarray:
    """(n, 36): what a trained UNet would see and the tiny one's random weights do not: bands, grain and colours."""
    rows = []
    for picture in pictures:
        pixels = picture.pixels.astype(np.float64) / 255
        bands = pixels.mean(1).std(0), pixels[:, ::2].mean(1).std(0), pixels[:, 1::2].mean(1).std(0)
        grain = [np.abs(pixels[:, step:] - pixels[:, :-step]).mean((0, 1)) for step in (2, 6, 10, 14)]
        colours = np.asarray(picture.image.resize((2, 2)), dtype=np.float64) / 255
        rows.append(np.concatenate([*bands, *grain, colours.ravel(), colours[0, 0]]))
    return np.array(rows).reshape(len(rows), 36)


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures by the base see patterns."""

    def features(*_: Any, **__: Any) -> Any:
        return patterns

    monkeypatch.setattr("loratools.measures.probe.unet_features.UNetFeatures", features)
