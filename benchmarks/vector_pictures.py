"""Pictures of one LoRA under random block vectors, with the base's own and the whole LoRA's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loratools.adapter.files.file import read
from loratools.base.model import Base
from loratools.blocks.scheme import SD1_17
from loratools.ops.merging.terms import Term
from loratools.preview.plan.vector_stacks import vector_stacks
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.population import PictureJob, PopulationRenderer
from loratools.preview.request.options import EngineOptions

BLOCKS = SD1_17.names
SEARCH_PROMPTS = (
    "1girl, cowboy_shot, blue_hair, twintails, green_eyes, white_clothes, sailor_collar, waving, smile, grass",
    "1girl, full_body, red_hair, long_hair, blue_eyes, black_clothes, dress, arms_up, open_mouth, sunset",
    "1girl, full_body, brown_hair, ponytail, brown_eyes, blue_clothes, hoodie, spread_arms, smile, indoors",
    "1girl, cowboy_shot, black_hair, short_hair, red_eyes, red_clothes, t-shirt, peace_sign, wink, simple_background",
)
TEST_PROMPTS = (
    "1girl, full_body, green_hair, long_hair, red_eyes, yellow_clothes, t-shirt, waving, open_mouth, indoors",
    "1girl, cowboy_shot, pink_hair, ponytail, blue_eyes, red_clothes, hoodie, arms_up, smile, city",
    "1girl, full_body, black_hair, twintails, green_eyes, blue_clothes, sailor_collar, peace_sign, smile, grass",
    "1girl, cowboy_shot, brown_hair, short_hair, brown_eyes, white_clothes, dress, spread_arms, wink, sunset",
)
SEARCH_SEEDS, TEST_SEEDS = (1, 2), (101, 102)
_BATCH = 64


def random_vectors(count: int, seed: int) -> npt.NDArray[np.float64]:
    """(count, 17): the whole LoRA, then a third plain strengths, the others random by block around a strength."""
    rng = np.random.default_rng(seed)
    strengths = rng.uniform(0.2, 1.2, count)
    vectors = np.clip(strengths[:, None] + rng.normal(0, 0.35, (count, len(BLOCKS))), 0, 1.4)
    vectors[::3] = strengths[::3, None]
    vectors[0] = 1.0
    return vectors


def draw_vectors(
    base: Base, lora: Path, vectors: npt.NDArray[np.float64], jobs: Sequence[tuple[str, int]]
) -> npt.NDArray[np.uint8]:
    """(vectors, jobs, h, w, 3): every job (prompt, seed) under every vector; all zeros are the base itself."""
    settings = SamplingSettings(12, base.defaults.cfg, "DDIM", base.resolution)
    named = [dict(zip(BLOCKS, map(float, own), strict=True)) for own in vectors]
    stacks = vector_stacks([Term(read(lora), 1.0)], named)
    with PopulationRenderer(base, EngineOptions(batch=_BATCH)) as renderer:
        drawn = renderer.draw(stacks, [PictureJob(prompt, seed, settings) for prompt, seed in jobs])
        pixels = np.stack([each.pixels for each in drawn])
    return pixels.reshape(len(vectors), len(jobs), *pixels.shape[1:])


def jobs_of(prompts: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """Every prompt with every seed."""
    return [(prompt, seed) for prompt in prompts for seed in seeds]
