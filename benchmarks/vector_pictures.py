"""Pictures of one LoRA under random block vectors, with the base's own and the whole LoRA's.

Kept as one ``.npz`` a LoRA, since drawing them takes minutes on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.defect_loras import DefectLora
from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.blocks.scheme import SD1_17
from loratools.files import replacing
from loratools.measures.measure import Shown
from loratools.ops.merging.terms import Term
from loratools.pocket.draw.stylebook import STYLES
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
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of jobs under vectors: ``pixels`` (vectors, jobs, h, w, 3), ``vectors`` (vectors, 17)."""

    vectors: npt.NDArray[np.float64]
    pixels: npt.NDArray[np.uint8]
    jobs: tuple[tuple[str, int], ...]

    def shown(self, vectors: Sequence[int] | None = None) -> list[Shown]:
        """Those of some vectors (all, if None), vector by vector."""
        chosen = range(len(self.vectors)) if vectors is None else vectors
        return [Shown(self.pixels[n, m], *job) for n in chosen for m, job in enumerate(self.jobs)]


def random_vectors(count: int, seed: int) -> npt.NDArray[np.float64]:
    """(count, 17): the whole LoRA, then a third plain strengths, the others random by block around a strength."""
    rng = np.random.default_rng(seed)
    strengths = rng.uniform(0.2, 1.2, count)
    vectors = np.clip(strengths[:, None] + rng.normal(0, 0.35, (count, len(BLOCKS))), 0, 1.4)
    vectors[::3] = strengths[::3, None]
    vectors[0] = 1.0
    return vectors


def pictures(
    lora: DefectLora,
    vectors: npt.NDArray[np.float64],
    jobs: Sequence[tuple[str, int]],
    file: Path,
    device: str = "auto",
) -> Pictures:
    """Draw every job under every vector, or read them from ``file``; an all-zero vector is the base itself."""
    tag = STYLES[lora.style].tag
    asked = tuple((f"{tag}, {prompt}", seed) for prompt, seed in jobs)
    if file.is_file():
        with np.load(file) as kept:
            if np.array_equal(kept["vectors"], vectors):
                return Pictures(vectors, kept["pixels"], asked)
    base = load_base("pocket", device=device)
    settings = SamplingSettings(12, base.defaults.cfg, "DDIM", base.resolution)
    stacks = vector_stacks(
        [Term(read(lora.file), 1.0)], [dict(zip(BLOCKS, map(float, own), strict=True)) for own in vectors]
    )
    with PopulationRenderer(base, EngineOptions(batch=_BATCH)) as renderer:
        drawn = renderer.draw(stacks, [PictureJob(prompt, seed, settings) for prompt, seed in asked])
        pixels = np.stack([each.pixels for each in drawn])
    pixels = pixels.reshape(len(vectors), len(asked), *pixels.shape[1:])
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part, part.open("wb") as stream:
        np.savez(stream, vectors=vectors, pixels=pixels)
    return Pictures(vectors, pixels, asked)


def jobs_of(prompts: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """Every prompt with every seed."""
    return [(prompt, seed) for prompt in prompts for seed in seeds]
