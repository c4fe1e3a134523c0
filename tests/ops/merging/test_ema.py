"""Power-function averages over epochs: the formula against its integral, and files against dense sums."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import loratools as lt
from loratools.errors import FileError, LoratoolsError, MergeStringError, OptionError, RecipeError
from loratools.ops.merging.ema import WIDEST, chosen_epochs, ema_weights, gamma_of, sigma_rel_of
from loratools.recipe.plan.context import RunContext
from loratools.recipe.run.runner import make_planner, run_steps
from tests.recipe.conftest import MODULES, save_lora


def integral(low: float, high: float, gamma: float, steps: int = 20000) -> float:
    """``integral s^gamma ds`` by the midpoint rule."""
    width = (high - low) / steps
    return sum((low + (i + 0.5) * width) ** gamma for i in range(steps)) * width


@pytest.mark.parametrize("gamma", [0.0, 1.0, 6.94, 16.97])
def test_a_weight_is_the_integral_over_the_epochs_time(gamma: float) -> None:
    for numbers, before in (([1, 2, 3, 4, 5], 0), ([2, 4, 8, 10], 0), ([4, 5, 6], 3)):
        parts = [integral(a / 10, b / 10, gamma) for a, b in pairwise([before, *numbers])]
        weights = ema_weights(numbers, gamma, before)
        assert weights == pytest.approx([part / sum(parts) for part in parts], rel=1e-5)
        assert sum(weights) == pytest.approx(1)
    mean = integral(0, 1, gamma + 1) / integral(0, 1, gamma)
    second = integral(0, 1, gamma + 2) / integral(0, 1, gamma)
    assert sigma_rel_of(gamma) == pytest.approx(math.sqrt(second - mean**2), rel=1e-4)  # the profile's own deviation


def test_widths_and_exponents_are_each_others() -> None:
    assert gamma_of(0.10) == pytest.approx(6.94, abs=0.01) and gamma_of(0.05) == pytest.approx(
        16.97, abs=0.01
    )  # EDM2's
    assert gamma_of() == gamma_of(0.1) and gamma_of(gamma=7) == 7
    for gamma in (0.0, 0.3, 5.0, 200.0):
        assert gamma_of(sigma_rel_of(gamma)) == pytest.approx(gamma, abs=1e-6)
    assert ema_weights([1, 2, 3, 4], 0.0) == pytest.approx([0.25] * 4) and pytest.approx(sigma_rel_of(0)) == WIDEST
    assert ema_weights(list(range(1, 11)), gamma_of(0.1))[-3:] == pytest.approx([0.111, 0.263, 0.567], abs=1e-3)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"sigma_rel": 0.3}, "sigma_rel 0.3 is out of range; it is above 0 and at most 0.289"),
        ({"sigma_rel": 0.0}, "sigma_rel 0 is out of range"),
        ({"sigma_rel": float("nan")}, "out of range"),
        ({"gamma": -0.5}, "gamma -0.5 is out of range"),
        ({"gamma": 3.0, "sigma_rel": 0.1}, "give one of them"),
    ],
)
def test_numbers_out_of_range_are_said(given: dict[str, float], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        gamma_of(**given)


def test_too_few_epochs_are_said() -> None:
    with pytest.raises(OptionError, match="needs two of them"):
        ema_weights([3], 1.0)
    with pytest.raises(OptionError, match=r"epoch 3 alone has 100\.00 % of the weight"):
        ema_weights([1, 2, 3], gamma_of(0.03))
    assert chosen_epochs([2, 4, 6, 8], "4-7", "run") == ([4, 6], 2)
    for selector, says in (("6", "is one epoch"), ("9-12", "it has 2 to 8"), ("best", "is one epoch")):
        with pytest.raises(FileError, match=says):
            chosen_epochs([2, 4, 6, 8], selector, "run")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose epochs are 2, 4, 5 and 10."""
    monkeypatch.chdir(tmp_path)
    for number in (2, 4, 5, 10):
        save_lora(tmp_path / f"runs/ink/ink-{number:06d}.safetensors", number)
    return tmp_path / "runs/ink"


def test_the_file_is_the_dense_average(run: Path) -> None:
    report = lt.soup(run, "e.safetensors", sigma_rel=0.2, dtype="fp32")
    weights = ema_weights([2, 4, 5, 10], gamma_of(0.2))
    assert list(report.weights.values()) == weights and "weights: " in report.text() and report.json()["weights"]
    known = [lt.read(run / f"ink-{number:06d}.safetensors") for number in (2, 4, 5, 10)]
    made = lt.read("e.safetensors")
    for module in MODULES:
        wanted = sum(w * one.delta(module, torch.float64).dense() for w, one in zip(weights, known, strict=True))
        assert float((made[module].dense() - wanted).norm()) < 1e-6 * float(torch.as_tensor(wanted).norm())
    part = lt.soup(f"{run}@4-5", "p.safetensors", gamma=1.0).weights
    assert list(part.values()) == pytest.approx([4 / 7, 3 / 7])  # 4^2 - 2^2 and 5^2 - 4^2 of 5^2 - 2^2
    assert lt.soup(run, "d.safetensors", ema=True).weights != report.weights
    for files, says in (([run, run], "of one run, and 2 are named"), (f"{run}@10", "is one epoch")):
        with pytest.raises((MergeStringError, FileError), match=says):
            lt.soup(files, "x.safetensors", ema=True)  # type: ignore[arg-type]
    with pytest.raises(LoratoolsError):
        lt.soup(run / "ink-000002.safetensors", "x.safetensors", ema=True)
    assert not Path("x.safetensors").exists() and "weights" not in lt.soup([f"{run}@2"], "s.safetensors").json()


def test_a_recipes_soup_takes_an_ema_of_a_run_and_of_a_training(run: Path) -> None:
    text = "base: pocket\nsteps:\n  e: {soup: {files: runs/ink, ema: true, sigma_rel: 0.2}}\n"
    Path("r.yaml").write_text(text, encoding="utf-8")
    (result,) = run_steps(make_planner("r.yaml", Path("work")).plan(), Path("work"), RunContext(device="cpu"))
    assert lt.read(result.planned.out).digest == lt.soup("runs/ink", "e.safetensors", sigma_rel=0.2).digest
    training = "  style: {train: {images: images, epochs: 3, dim: 2}}\n  w: {soup: {files: style, gamma: 1}}\n"
    pictures = "  images: {draw: {style: ink, count: 2, size: 64}}\n"
    Path("t.yaml").write_text(f"base: pocket\nsteps:\n{pictures}{training}", encoding="utf-8")
    planned = {one.name: one for one in make_planner("t.yaml", Path("work")).plan()}  # before there is a run
    assert [item.label for item in planned["w"].draft.inputs] == ["style@1", "style@2", "style@3"]
    weights = [term["weight"] for term in planned["w"].draft.options["terms"]]
    assert weights == pytest.approx([1 / 9, 3 / 9, 5 / 9])
    for wrong, says in (
        ("{files: [runs/ink, runs/ink], ema: true}", "epochs of one run; name one"),
        ("{files: runs/ink, sigma_rel: 0.5}", "sigma_rel 0.5 is out of range"),
        ("{files: runs/ink@4, ema: true}", "is one epoch"),
        ("{files: e, ema: true}", "is no training|needs itself|circle"),
    ):
        Path("w.yaml").write_text(f"base: pocket\nsteps:\n  e: {{soup: {{files: runs/ink}}}}\n  w: {{soup: {wrong}}}\n")
        with pytest.raises(RecipeError, match=says):
            make_planner("w.yaml", Path("work")).plan()
