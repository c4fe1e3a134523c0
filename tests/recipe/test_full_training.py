"""A full training in a recipe: its epochs are rows of a grid, terms of a merge, and become a checkpoint again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.recipe.plan.context import RunContext
from loratools.recipe.run.runner import make_planner, run_steps

RECIPE = """
base: tiny
steps:
  full:  {train: {images: images, network_type: full, unet_lr: 1e-3, te_lr: 0, epochs: 2, batch_size: 4, save: SAVE}}
  lora:  {merge: {terms: "full@2:1", rank: 4}}
  sheet: {grid: {rows: [full, lora], weights: "0,1", prompts: girl, steps: 1, sampler: Euler}}
  soup:  {soup: {files: full@1-2, rank: 4}}
  baked: {merge_into: {terms: "lora:1", into: tiny}}
"""


@pytest.mark.parametrize("save", ["delta", pytest.param("checkpoint", marks=pytest.mark.slow)])
def test_a_full_run_to_a_lora_a_grid_a_merge_and_a_checkpoint(save: str, here: Path, tiny_base: Path) -> None:
    (here / "tiny").symlink_to(tiny_base, target_is_directory=True)
    Path("images").mkdir()
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(values).save(f"images/{number}.png")
        Path(f"images/{number}.txt").write_text("girl, smile")
    Path("r.yaml").write_text(RECIPE.replace("SAVE", save), encoding="utf-8")
    planner = make_planner("r.yaml", Path("work"))
    done = {each.planned.name: each for each in run_steps(planner.plan(None), Path("work"), RunContext(device="cpu"))}
    assert set(done) == {"full", "lora", "sheet", "soup", "baked"}
    assert set(read("work/full/full-000002.safetensors").kinds.values()) <= {"diff", "norm", "bias", "tuned"}
    assert max(read("work/lora.safetensors").ranks.values()) == 4
    assert len(list(Path("work/sheet").glob("**/*.png"))) >= 5
    baked, plain = load_file("work/baked.safetensors"), load_base("tiny", device="cpu")
    loaded = load_base("work/baked.safetensors", config="tiny", device="cpu")
    assert any(key.startswith("first_stage_model.decoder.up.3.block") for key in baked)
    assert not torch.equal(loaded.unet.conv_in.weight, plain.unet.conv_in.weight)
    for one, two in zip(loaded.vae.parameters(), plain.vae.parameters(), strict=True):
        assert torch.equal(one, two)
