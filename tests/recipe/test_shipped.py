"""Every recipe that ships, run on the pocket base by the command line at its smallest settings, and again;
what several of them have in common is made once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from loratools.adapter.files.epoch_files import epochs
from loratools.adapter.files.file import read
from loratools.adapter.header import read_header
from loratools.recipe.shipped import RECIPES
from loratools.yamlio import load_yaml
from tests.cli.test_cli import call

SMALL = {"pictures": "4", "epochs": "2", "repeats": "1", "drawn": "1", "steps": "1"}
NUMBERS = {"count": "4", "epochs": "1", "images_per_framing": "1", "weights": "0:1:1", "seeds": "1"}
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem != "from-kohya")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def smaller(text: str) -> str:
    """A recipe without variables, which reads like the guide, with small numbers in place of its own."""
    for key, value in NUMBERS.items():
        text = re.sub(rf"\b{key}: ([\d:.]+|\[1, 2\])", f"{key}: {value}", text)
    text = re.sub(r"style@\d", "style@1", re.sub(r", repeats: \d+", "", text))
    return text.replace("preset: pocket-style", "preset: pocket-style, repeats: 1").replace(
        "judge: ink", "judge: ink\n      steps: 1"
    )


def run(name: str, cache: Path) -> set[str]:
    """The states of all steps."""
    text = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")
    known = load_yaml(text).data.get("vars")
    if known is None:
        Path(f"{name}.yaml").write_text(smaller(text), encoding="utf-8")
    values = [f"--set={key}={value}" for key, value in SMALL.items() if key in (known or ())]
    done = call("run", f"{name}.yaml", "-o", "work", "--device", "cpu", "--cache", cache, *values)
    assert done.exit_code == 0, done.output
    return {step["state"] for step in json.loads(Path("work/run.json").read_text(encoding="utf-8"))["steps"]}


def rows(folder: Path = Path("work/sheet")) -> list[str]:
    return [row["label"] for row in json.loads((folder / "grid.json").read_text(encoding="utf-8"))["rows"]]


def distance(one: Path, other: Path, part: str = "", weight: float = 1) -> float:
    """``|other - weight * one| / |weight * one|`` over the modules whose name begins with ``part``."""
    first, second = read(one), read(other)
    apart, whole = 0.0, 0.0
    for name in (name for name in first if name.startswith(part)):
        asked = weight * first[name].dense(torch.float64)
        stored = second[name].dense(torch.float64) if name in second else torch.zeros_like(asked)
        apart += float((stored - asked).norm() ** 2)
        whole += float(asked.norm() ** 2)
    return (apart / whole) ** 0.5


def check_style() -> None:
    assert rows() == ["style@1", "final"]
    merged = read("work/my_style.safetensors")
    parts = [read(f"work/{name}/{name}-000001.safetensors") for name in ("style", "base_style")]
    module = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"  # M00: 0.4 in GP1, 0.1 in GP2
    asked = 0.4 * parts[0][module].dense(torch.float64) - 0.1 * parts[1][module].dense(torch.float64)
    assert (merged[module].dense(torch.float64) - asked).norm() < 1e-3 * asked.norm()


def check_fix_hands() -> None:
    assert rows() == ["final", "one_step", "two_steps"]
    mid = "unet.down_blocks.2.attentions.0.transformer_blocks.0.attn1.to_q"  # IN07 stands among positions 4 to 7
    norms = [read(f"work/{name}.safetensors")[mid].norm() for name in rows()]
    assert norms[0] > norms[1] > norms[2]


def check_epoch_grid() -> None:
    assert rows() == ["style@1", "style@2", "mean"]
    best, published = read("work/best.safetensors"), read("work/my_style/my_style.safetensors")
    assert best.digest == published.digest
    assert published.metadata["modelspec.trigger_phrase"].startswith("ink_style, 1girl")
    assert {path.name for path in Path("work/my_style").iterdir()} >= {"my_style.png", "my_style.json", "README.md"}


def check_block_sweep() -> None:
    assert rows()[:2] == ["style@2", "style:1:NO_TEXT"] and len(rows()) == 6


def check_slim() -> None:
    final = Path("work/final.safetensors")
    for name, error in (("one", 0.01), ("five", 0.05), ("twenty", 0.2)):
        assert distance(final, Path(f"work/{name}.safetensors")) <= error + 1e-3
    sizes = [Path(f"work/{name}.safetensors").stat().st_size for name in ("final", "one", "five", "twenty")]
    assert sizes == sorted(sizes, reverse=True)
    assert Path("work/small.safetensors").stat().st_size <= 2**20


def check_two_loras() -> None:
    assert rows() == ["style@2", "character@2", "plain", "matched", "shared"]
    captions = [path.read_text(encoding="utf-8") for path in Path("work/drawings").glob("*.txt")]
    assert len(captions) == 4 and all(text.startswith("mika, ") and "pink_hair" in text for text in captions)


def check_into_checkpoint() -> None:
    style, back = Path("work/style/style-000002.safetensors"), Path("work/back.safetensors")
    assert distance(style, back, "unet.", 0.8) <= 0.011  # as the recipe asks, and the rounding of the checkpoint


CHECKS: dict[str, Callable[[], None]] = {
    "style": check_style,
    "style-quick": check_style,
    "fix-hands": check_fix_hands,
    "epoch-grid": check_epoch_grid,
    "block-sweep": check_block_sweep,
    "slim": check_slim,
    "two-loras": check_two_loras,
    "into-checkpoint": check_into_checkpoint,
}


def test_every_shipped_recipe_is_run_here() -> None:
    assert set(NAMES) == set(CHECKS)  # from-kohya has its own test


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_runs_and_then_comes_from_the_cache(here: Path, cache: Path, name: str) -> None:
    assert "made" in run(name, cache)
    CHECKS[name]()
    assert run(name, cache) == {"cached"}


def test_another_trainers_run_is_looked_at_and_published(here: Path, cache: Path) -> None:
    run("epoch-grid", cache)
    for epoch in epochs("work/style"):  # as sd-scripts leaves a run: nothing of ours in the header, the last unnumbered
        texts = {key: text for key, text in read_header(epoch.path).metadata.items() if key.startswith("ss_")}
        name = "ink-000001" if epoch.number == 1 else "ink"
        Path("kohya_run").mkdir(exist_ok=True)
        save_file(load_file(epoch.path), Path("kohya_run") / f"{name}.safetensors", texts)
    Path("work").rename("other")
    assert "made" in run("from-kohya", cache)
    assert rows() == ["kohya_run@1", "kohya_run@2", "final"]
    side = json.loads(Path("work/my_style/my_style.json").read_text(encoding="utf-8"))
    assert side["activation text"].startswith("ink_style, 1girl") and side["preferred weight"] == 0.75
    assert run("from-kohya", cache) == {"cached"}
    assert "`ink.safetensors` x 1, blocks BASE 1" in Path("work/my_style/README.md").read_text(encoding="utf-8")
