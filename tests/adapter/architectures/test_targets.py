"""What loaders take of converted files: diffusers' own, ComfyUI's map by its rules, and the table that docs have."""

import re
from pathlib import Path

import pytest

from benchmarks.families.targets import line, measure
from tests.families import DECLARED

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[3] / "docs/adapters.md"


@pytest.mark.parametrize("family", DECLARED)
def test_the_target_s_loader_takes_every_key_with_equal_differences(tmp_path: Path, family: str) -> None:
    row = measure(family, tmp_path)
    for target in ("diffusers", "comfy", "kohya"):
        assert row.answers[target].right, f"{target}: {row.answers[target]}"
    paths = row.answers["checkpoint"]
    assert paths.right or paths.reason in ("none", "same names")
    assert without_figures(line(row)) in without_figures(PAGE.read_text(encoding="utf-8"))


def without_figures(text: str) -> str:
    """The text with rounding errors, which differ between machines, left out."""
    return re.sub(r"\b(?:\de-\d\d|0)(?= \|)", "right", text)
