"""A recipe of a training, a base style, merges and a grid, on a tiny base."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratools.recipe.plan.step import Planned
from loratools.recipe.run.runner import make_planner

VECTOR = "[1.0, 0.6, 0.9, 0.9, 0.9, 0.6, 0.5, 0.4, 0.4, 0.6, 0.8, 1.0, 1.1, 1.1, 1.1, 1.1, 1.1]"
RECIPE = f"""\
version: 1
base: tiny
blocks:
  GP1: {VECTOR}
steps:
  pictures: {{draw: {{style: ink, count: 2, size: 64}}}}
  style: {{train: {{images: pictures, epochs: 3, dim: 2, learning_rate: 1e-3}}}}
  base_style: {{basestyle: {{images_per_framing: 1, epochs: 2, dim: 2}}}}
  final: {{merge: "style@2:1:GP1, base_style:-1:GP2"}}
  mean: {{merge: "style@1-3:0.5"}}
  sheet: {{grid: {{rows: [style, final], weights: "0:1:0.5", prompts: p.txt, size: 64}}}}
"""


@pytest.fixture
def folder(here: Path, tiny_base: Path) -> Path:
    (here / "tiny").symlink_to(tiny_base, target_is_directory=True)
    (here / "p.txt").write_text("1girl\n", encoding="utf-8")
    return here


def plan(folder: Path, text: str = RECIPE, wanted: list[str] | None = None) -> dict[str, Planned]:
    (folder / "r.yaml").write_text(text, encoding="utf-8")
    return {step.name: step for step in make_planner(folder / "r.yaml", folder / "work").plan(wanted)}
