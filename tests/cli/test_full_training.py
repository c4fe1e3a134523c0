"""A full training of the pocket base by the command line, to a LoRA, a grid, a merge and a checkpoint for others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

from loratools.adapter.files.file import read
from loratools.base.base_path import base_path
from loratools.cli import cli


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def drawn(pipeline: object) -> np.ndarray:
    settings = {"num_inference_steps": 2, "output_type": "np", "generator": torch.Generator().manual_seed(1)}
    return np.asarray(pipeline("1girl, smile", **settings).images)  # type: ignore[operator]


@pytest.mark.slow
def test_train_extract_grid_merge_and_a_checkpoint_that_diffusers_draws_the_same(tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    images = tmp_path / "images"
    images.mkdir()
    for number in range(2):
        values = np.random.default_rng(number).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        Image.fromarray(values).save(images / f"{number}.png")
        (images / f"{number}.txt").write_text("ink_style, 1girl, smile")
    out = tmp_path / "run"
    quick = ["--epochs", 1, "--batch-size", 2, "--device", "cpu", "--unet-lr", 1e-3, "--te-lr", 1e-3]
    for kind, end in (("checkpoint", "diffusers"), ("delta", "lora:4")):
        named = ["--name", f"ink-{kind}", "-o", out, "--save", kind, "--save-end", end]
        run("train", "--full", "--base", "pocket", "--images", images, *quick, *named)
    tuned, learnt = out / "ink-checkpoint-000001.safetensors", out / "ink-delta-000001.safetensors"
    everything = ["--rank", 4, "--conv", "--norms", "--biases"]
    run("extract", "--base", "pocket", "--tuned", tuned, "-o", tmp_path / "one.safetensors", *everything)
    run("extract", "--tuned", learnt, "-o", tmp_path / "two.safetensors", *everything)
    made = (tmp_path / "one.safetensors", tmp_path / "two.safetensors", out / "ink-delta-last.safetensors")
    one, two, end_file = map(read, made)
    assert set(one) == set(two) == set(end_file) and "unet.down_blocks.3.resnets.0.conv_shortcut" in one
    seen = ["--weights", "0,1", "--prompt", "1girl", "--steps", 1, "--device", "cpu", "--base", "pocket"]
    run("grid", tuned, learnt, tmp_path / "one.safetensors", *seen, "-o", tmp_path / "grid")
    assert len(list((tmp_path / "grid").rglob("*.png"))) >= 4
    for number, kind in enumerate(("checkpoint", "delta")):
        baked = tmp_path / f"baked{number}.safetensors"
        run("merge", f"{out}/ink-{kind}@1:1", "--into", "pocket", "-o", baked)
        wanted, got = load_file(tuned), load_file(baked)
        assert wanted.keys() == got.keys()
        assert all(torch.equal(wanted[key], got[key]) for key in wanted)
    given = {"local_files_only": True, "torch_dtype": torch.float32}
    pocket = str(base_path("pocket"))
    single = StableDiffusionPipeline.from_single_file(str(baked), config=pocket, **given)
    folder = StableDiffusionPipeline.from_pretrained(out / "ink-checkpoint-last", **given)
    plain = StableDiffusionPipeline.from_pretrained(pocket, **given)
    pictures = [drawn(each) for each in (single, folder, plain)]
    assert (pictures[0] == pictures[1]).all() and not (pictures[0] == pictures[2]).all()
