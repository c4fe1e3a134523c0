"""The effect of each block: on, off, averaged with spread, and written whole."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loratools.adapter.files.file import read
from loratools.base.model import Base
from loratools.errors import GridError
from loratools.preview.block_effect import Spread, analyze_effect, distance
from loratools.preview.request.request import SamplingRequest
from loratools.preview.sheet.strip import Column, write_strip
from tests.loras import Sizes, lora_tensors, save

SIZES = Sizes((16, 16, 32, 32), 16, 16)
HELD = [
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_v",
    "unet.up_blocks.3.attentions.2.transformer_blocks.0.ff.net.2",
]


def test_a_block_that_does_everything_and_one_that_does_nothing(base: Base, tmp_path: Path) -> None:
    tensors = lora_tensors(names=HELD, sizes=SIZES, rank=2, size=30.0)
    for key in tensors:
        if "mid_block" in key and "lora_up" in key:
            tensors[key] *= 0
    adapter = read(save(tmp_path / "x.safetensors", tensors))
    effect = analyze_effect(
        base,
        adapter,
        ["1girl", "smile"],
        out=tmp_path / "e",
        seeds=(1, 2),
        sampling=SamplingRequest(steps=2),
        label="x",
    )
    assert list(effect.blocks) == ["M00", "OUT11"] and effect.pictures == 4
    assert effect.blocks["M00"].alone == effect.blocks["M00"].missed == Spread(0, 0)
    assert effect.blocks["OUT11"].alone == effect.blocks["OUT11"].missed == Spread(1, 0)
    assert effect.whole.mean > 0 and effect.blocks["OUT11"].modules == 1
    record = json.loads((tmp_path / "e/effect.json").read_text())
    assert record == json.loads(json.dumps(effect.json(), allow_nan=False)) and "OUT11" in effect.text()
    with Image.open(tmp_path / "e/effect.png") as strip:
        assert strip.width > 200
    nudged = analyze_effect(
        base, adapter, ["1girl"], out=tmp_path / "n", seeds=(1,), sampling=SamplingRequest(steps=2), nudge=0.5
    )
    assert nudged.blocks["M00"].nudged == Spread(0, 0) and nudged.blocks["OUT11"].nudged is not None
    assert nudged.blocks["OUT11"].nudged.mean > 0 and "at ±0.5" in nudged.text()
    again = analyze_effect(
        base,
        adapter,
        ["1girl", "smile"],
        out=tmp_path / "e",
        seeds=(1, 2),
        sampling=SamplingRequest(steps=2),
        label="x",
    )
    assert again.rendered == 0 and again.blocks == effect.blocks


def test_a_lora_that_changes_nothing_is_an_error(base: Base, tmp_path: Path) -> None:
    tensors = {
        key: value * (0 if "lora_up" in key else 1)
        for key, value in lora_tensors(names=HELD, sizes=SIZES, rank=1).items()
    }
    with pytest.raises(GridError, match="changes no picture"):
        analyze_effect(
            base,
            read(save(tmp_path / "x.safetensors", tensors)),
            ["a"],
            out=tmp_path / "e",
            seeds=(1,),
            sampling=SamplingRequest(steps=1),
        )


def test_distance_is_the_root_mean_square(tmp_path: Path) -> None:
    for name, value in (("a", 0), ("b", 255), ("c", 51)):
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(tmp_path / f"{name}.png")
    assert distance(tmp_path / "a.png", tmp_path / "b.png") == 1 and distance(
        tmp_path / "a.png", tmp_path / "c.png"
    ) == pytest.approx(0.2)
    assert Spread.of([1, 2, 3]) == Spread(2, 1) and math.isclose(Spread.of([0.5]).spread, 0)
    columns = [Column(name, (tmp_path / f"{name}.png",), "note") for name in "ab"]
    write_strip(tmp_path / "s.png", "title", columns)
    with Image.open(tmp_path / "s.png") as strip:
        colors = strip.convert("RGB").getcolors(10**6)
    assert colors is not None and {(0, 0, 0), (255, 255, 255)} <= {color for _, color in colors}
