"""What a base's UNet sees in pictures: repeatable, one by one as in batches, for every size, and what it is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.measures.measure import Shown
from loratools.measures.probe.encoded import fit
from loratools.measures.probe.unet_features import UNetFeatures, _statistics
from tests.base.tiny_xl import save_tiny_xl
from tests.tiny import save_tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(save_tiny_base(tmp_path_factory.mktemp("base")), device="cpu")


def picture(seed: int, height: int = 64, width: int = 64) -> Shown:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return Shown(np.asarray(image), "", seed)


def test_a_picture_is_described_alone_as_among_others(base: Base) -> None:
    features = UNetFeatures(base)
    pictures = [picture(0), picture(1, 128, 64), picture(2), picture(3, 128, 64)]
    together = features(pictures)
    assert together.shape[0] == 4 and np.isfinite(together).all()
    for n, one in enumerate(pictures):
        assert features([one])[0] == pytest.approx(together[n], abs=1e-4)
    assert np.abs(together[0] - together[2]).mean() > 1e-3
    assert features([]).shape[0] == 0


def test_every_block_is_described_in_the_order_of_the_unet(base: Base) -> None:
    described = UNetFeatures(base).described([picture(0)])
    assert list(described.blocks) == ["down0", "down1", "down2", "down3", "mid", "up0", "up1", "up2", "up3"]
    widths = [16, 16, 32, 32, 32, 32, 32, 16, 16]
    assert [own.stop - own.start for own in described.blocks.values()] == [4 * width for width in widths]
    assert described.features.shape == (1, 4 * sum(widths))


def test_the_unet_is_left_without_hooks_and_unchanged(base: Base) -> None:
    before = {name: own.clone() for name, own in base.unet.state_dict().items()}
    UNetFeatures(base)([picture(0)])
    assert all(not module._forward_hooks for module in base.unet.modules())
    assert all(torch.equal(own, before[name]) for name, own in base.unet.state_dict().items())


def test_statistics_are_mean_spread_highest_and_lowest_sixteenth() -> None:
    values = torch.arange(64.0).reshape(1, 1, 8, 8)
    values = torch.cat([values, -3 * values], 1)
    got = _statistics(values)[0].reshape(4, 2)
    flat = np.arange(64.0)
    wanted = (flat.mean(), flat.std(), flat[-4:].mean(), flat[:4].mean())
    assert got[:, 0].numpy() == pytest.approx(wanted)
    assert got[:, 1].numpy() == pytest.approx((-3 * wanted[0], 3 * wanted[1], -3 * wanted[3], -3 * wanted[2]))


def test_sizes_that_fit_stay_and_others_become_about_the_bases(base: Base) -> None:
    assert fit(Image.new("RGB", (64, 128)), base).size == (64, 128)
    assert fit(Image.new("RGBA", (64, 64)), base).mode == "RGB"
    assert fit(Image.new("RGB", (1000, 1000)), base).size == (64, 64)
    wide = fit(Image.new("RGB", (999, 333)), base).size
    assert wide[0] > wide[1] and all(side % 64 == 0 for side in wide)
    assert fit(Image.new("L", (3, 5)), base).size == (64, 64)


def test_sdxl_is_described_too(tmp_path: Path) -> None:
    base = load_base(save_tiny_xl(tmp_path / "xl"), device="cpu")
    assert np.isfinite(UNetFeatures(base)([picture(0), picture(1)])).all()
