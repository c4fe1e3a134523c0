"""diffusers' own LoRA loader, given the same file, makes our preview's picture; and the comparison can tell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from loratools.adapter.algebra.lowrank import Delta, LowRank
from loratools.adapter.files.file import read
from loratools.adapter.files.save import write
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.patching.patch import Patcher
from loratools.base.quiet import quiet
from loratools.base.sampling.sample import Sampling, decode
from loratools.base.sampling.samplers import find_sampler
from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from loratools.ops.merging.merge import combine, merge_files
from loratools.ops.merging.terms import Term
from loratools.pocket import weights_folder
from loratools.train.config.read import make_config
from loratools.train.trainer import train
from tests.base.patching.test_patch import random_deltas
from tests.base.plain import noise, plain_latents

PROMPTS, NEGATIVE, SEEDS = ["1girl, red hair, smile", "full body, blue eyes"], "bad hands", (11, 12)
SAMPLER, STEPS, CFG = "DDIM", 8, 3.0  # strong guidance on few steps multiplies float32 rounding itself past the bar
TOLERANCE = 0.1 / 255
POCKET = pytest.param("pocket", marks=pytest.mark.slow)
BASES = ["tiny", *([POCKET] if (weights_folder() / "model_index.json").is_file() else [])]


@pytest.fixture(scope="module", params=BASES)
def pair(request: pytest.FixtureRequest, folder: Path) -> tuple[Base, Any]:
    """Our base and diffusers' pipeline on the same weights, both float32 on the CPU."""
    place = folder if request.param == "tiny" else weights_folder()
    base = load_base(place, device="cpu", dtype="fp32")
    with quiet():
        from diffusers import StableDiffusionPipeline

        pipe = StableDiffusionPipeline.from_pretrained(place, torch_dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = find_sampler(SAMPLER).scheduler(base.scheduler_config)
    return base, pipe


def ours(base: Base, deltas: Mapping[str, Delta], weight: float = 1.0) -> np.ndarray:
    with Patcher(base).applied(deltas, weight):
        made = plain_latents(base, PROMPTS, SEEDS, Sampling(STEPS, CFG, SAMPLER), negative=NEGATIVE)
    return decode(base, made).permute(0, 2, 3, 1).numpy()


def theirs(base: Base, pipe: Any, file: Path, scale: float = 1.0) -> np.ndarray:
    with quiet():
        pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name="x")
        pipe.set_adapters(["x"], [scale])
    try:
        latents = torch.cat([noise(seed, base.resolution) for seed in SEEDS])
        images = pipe(
            PROMPTS,
            negative_prompt=[NEGATIVE] * len(PROMPTS),
            num_inference_steps=STEPS,
            guidance_scale=CFG,
            latents=latents,
            output_type="np",
        ).images
    finally:
        pipe.unload_lora_weights()
    return np.asarray(images)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def mild(base: Base, seed: int, ranks: tuple[int, ...] = (3,)) -> dict[str, LowRank]:
    """Random differences on every target, small enough for a real base to stay a picture; ranks in turn.

    Larger ones turn a trained base into a chaotic map, which blows float32 rounding up past any tolerance.
    """
    by_rank = [random_deltas(base, seed=seed, rank=rank) for rank in ranks]
    return {name: by_rank[n % len(ranks)][name].scaled(0.15) for n, name in enumerate(by_rank[0])}


@pytest.mark.parametrize("ranks", [(4,), (2, 5)], ids=["one rank", "mixed ranks"])
def test_a_file_of_ours_gives_the_same_picture(pair: tuple[Base, Any], ranks: tuple[int, ...], tmp_path: Path) -> None:
    base, pipe = pair
    file = tmp_path / "style.safetensors"
    write(mild(base, 1, ranks), file, family="sd1", dtype=torch.float32)
    adapter = read(file)
    picture, wanted = ours(base, adapter), theirs(base, pipe, file)
    assert difference(picture, wanted) < TOLERANCE
    assert difference(ours(base, adapter, -0.5), theirs(base, pipe, file, -0.5)) < TOLERANCE

    unet_only = {name: adapter[name] for name in adapter if name.startswith("unet.")}
    assert difference(picture, theirs(base, pipe, file, 0.9)) > TOLERANCE
    assert difference(ours(base, unet_only), wanted) > TOLERANCE
    assert difference(ours(base, adapter, 0.0), wanted) > 10 * TOLERANCE


def test_a_trained_file_with_its_own_alpha_does_too(pair: tuple[Base, Any], tmp_path: Path) -> None:
    base, pipe = pair
    file = tmp_path / "epoch-000001.safetensors"
    write(mild(base, 2), file, family="sd1", dtype=torch.float16, alpha=1.0)
    assert difference(ours(base, read(file)), theirs(base, pipe, file)) < TOLERANCE
    assert difference(ours(base, read(file), 0.9), theirs(base, pipe, file)) > TOLERANCE


def test_an_epoch_that_was_trained_and_its_merge_do_too(pair: tuple[Base, Any], folder: Path, tmp_path: Path) -> None:
    """The whole chain on real files: train two short runs, merge their last epochs as the guide does."""
    base, pipe = pair
    epochs = {}
    for name, colour in (("style", "navy"), ("plain", "white")):
        (tmp_path / name).mkdir()
        Image.new("RGB", base.resolution, colour).save(tmp_path / name / "1.png")
        (tmp_path / name / "1.txt").write_text("1girl, smile", encoding="utf-8")
        place = str(folder) if base.name == folder.name else str(weights_folder())
        settings = {"base": place, "images": str(tmp_path / name)}
        epochs[name] = train(
            make_config({**settings, "out": str(tmp_path / "runs"), "name": name, "epochs": 1, "repeats": 4, "dim": 4,
                         "alpha": 2, "batch_size": 1, "learning_rate": 2e-3, "lr_scheduler": "constant",
                         "device": "cpu"}, "test"), progress=False,
        ).epochs[-1]  # fmt: skip
    picture = theirs(base, pipe, epochs["style"])
    assert difference(ours(base, read(epochs["style"])), picture) < TOLERANCE
    assert difference(ours(base, {}), picture) > TOLERANCE  # it changes something
    presets = load_presets()
    gp1, gp2 = (parse_vector(name, presets, "sd1") for name in ("GP1", "GP2"))
    terms = [Term(read(epochs["style"]), 1.0, gp1), Term(read(epochs["plain"]), -1.0, gp2)]
    merged = tmp_path / "merged.safetensors"
    merge_files(terms, merged, dtype=torch.float32)
    merge = theirs(base, pipe, merged)
    assert difference(ours(base, combine(terms)), merge) < TOLERANCE
    assert difference(picture, merge) > TOLERANCE


def test_a_merged_file_does_too_and_equals_the_live_stack(pair: tuple[Base, Any], tmp_path: Path) -> None:
    base, pipe = pair
    for name, seed in (("style", 1), ("plain", 3)):
        write(mild(base, seed), tmp_path / f"{name}.safetensors", family="sd1", dtype=torch.float16)
    terms = [Term(read(tmp_path / "style.safetensors"), 1.0), Term(read(tmp_path / "plain.safetensors"), -0.6)]
    merged = tmp_path / "merged.safetensors"
    merge_files(terms, merged, dtype=torch.float32)
    picture = theirs(base, pipe, merged)
    assert difference(ours(base, read(merged)), picture) < TOLERANCE
    assert difference(ours(base, terms[0].adapter), picture) > TOLERANCE
