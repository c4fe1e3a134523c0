"""The pocket base as one file with the original keys, and as a folder again: equal weights, equal pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from loratools.adapter.files.checkpoint import open_checkpoint
from loratools.adapter.files.metadata import Provenance
from loratools.adapter.files.write_model import write_checkpoint
from loratools.base.base_path import base_path
from loratools.base.load import load_base
from loratools.train.output.diffusers_folder import write_folder


@pytest.mark.slow
def test_file_and_folder_are_the_pocket_base_and_diffusers_draws_the_same(tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    file, folder = tmp_path / "pocket.safetensors", tmp_path / "folder"
    pocket, made = open_checkpoint(base_path("pocket")), Provenance({}, "t")
    write_checkpoint(pocket, file, {}, dtype=None, metadata={}, provenance=made)
    single, plain = load_base(file, device="cpu"), load_base("pocket", device="cpu")
    write_folder(single, open_checkpoint(file), {}, folder, dtype=torch.float16, owner="t", made={})
    again = load_base(folder, device="cpu")
    for part in ("unet", "vae", "text_encoder"):
        weights = [list(getattr(base, part).parameters()) for base in (plain, single, again)]
        assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*weights, strict=True)), part
    drawn = [
        StableDiffusionPipeline.from_pretrained(place, local_files_only=True, torch_dtype=torch.float32)(
            "1girl, smile", num_inference_steps=2, generator=torch.Generator().manual_seed(1), output_type="np"
        ).images
        for place in (folder, base_path("pocket"))
    ]
    assert (drawn[0] == drawn[1]).all()
