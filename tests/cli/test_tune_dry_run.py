"""``loratools blocks tune --dry-run``: what it says is what the tune then does, and it loads and writes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from loratools.base.load import load_base
from loratools.cli import cli
from loratools.recipe.plan.context import RunContext
from loratools.recipe.tune_merge import make_needed
from loratools.train.dry_run.estimate import activations
from loratools.tune import run
from loratools.tune.progress import TuneProgress
from tests.cli.test_tune import QUICK, RECIPE, call, here, own

__all__ = ["here"]  # the fixture: a tiny base, two LoRAs, a recipe and a measure in the current folder


def contents(folder: Path) -> dict[str, bytes | None]:
    """All files but locks, which are empty, and left by whatever looks at a recipe to edit it."""
    paths = (path for path in folder.rglob("*") if path.suffix != ".lock")
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def said(*words: str | Path) -> dict[str, Any]:
    done = call(*words, "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["first"] == []
    return dict(content["tune"])


def save_one_module(path: Path, name: str, width: int) -> None:
    factors = {"lora_down.weight": torch.ones(2, width), "lora_up.weight": torch.ones(width, 2)}
    save_file({f"lora_unet_{name}.{factor}": own for factor, own in factors.items()}, path)


def forbid_loading(patched: pytest.MonkeyPatch) -> None:
    for name in ("diffusers.ModelMixin.from_pretrained", "transformers.PreTrainedModel.from_pretrained"):
        patched.setattr(name, None)


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_loading(monkeypatch)


def test_a_file_is_tuned_as_its_dry_run_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("a", *QUICK, *own(here), "--prompts", "prompts.txt")
    with monkeypatch.context() as patched:
        forbid_loading(patched)
        before = contents(here)
        planned, text = said(*words), call(*words, "--dry-run").output
        assert contents(here) == before, "something was written"
    assert planned["state"] == "new" and "out holds no tune; a new one begins" in text
    assert "nothing was loaded or written (--dry-run)" in text and "writes: tuned.safetensors, tune.json" in text
    assert planned["tuned"] == "a at weight 1" and planned["beside"] == []
    assert planned["time"] is None and "the tune says it after its first pictures" in text

    heard: list[TuneProgress] = []
    clock = run.Clock
    monkeypatch.setattr(run, "Clock", lambda **given: clock(**{**given, "on_progress": heard.append}))
    done = call(*words)
    assert done.exit_code == 0, done.output
    assert "that the search never saw" in done.output and "vector: " in done.output
    content = json.loads((here / "out/tune.json").read_text())
    assert set(content["vector"]) == {"BASE", "IN01", "M00", "OUT11"} and "bright" in content["before"]
    assert len(content["held_out"]["prompts"]) == 2 and content["held_out"]["seeds"] == [2]
    merged = CliRunner().invoke(cli, ["inspect", "out/tuned.safetensors", "--json"])
    assert merged.exit_code == 0 and json.loads(merged.stdout)["modules"] == 4

    assert planned["pictures"]["total"] == heard[0].total
    assert planned["numbers"]["names"] == list(content["vector"]) and planned["method"] == content["search"]["method"]
    assert planned["prompts"]["report"] == 2 and planned["prompts"]["report_seeds"] == [2]
    assert planned["prompts"]["seeds"] == content["search"]["seeds"]
    assert planned["pictures"]["held_out"] == content["held_out"]["pictures"]
    drawn = [name for name in ("base", "before", "guide", "strength", "after") if content[name] is not None]
    assert planned["pictures"]["columns"] == len(drawn)
    drawings = {"sheet.png", "frontier.png"}  # which the fixture leaves out
    assert all((here / "out" / name).exists() for name in {*planned["files"]} - drawings)

    there = said(*words)
    assert there["state"] == "goes on" and there["pictures"]["there"] == heard[-1].done
    assert "that are there" in there["time"]["basis"]
    assert f"goes on ({heard[-1].done:,} of " in call(*words, "--dry-run").output
    again = call(*words, "--json")
    assert json.loads(again.stdout)["vector"] == content["vector"]


def test_another_tune_in_the_folder_is_told_as_the_tune_tells_it(here: Path) -> None:
    words = ("a", *QUICK, *own(here), "--prompts", "prompts.txt")
    (here / "out/search").mkdir(parents=True)
    (here / "out/search/key.json").write_text(json.dumps({"version": 1, "key": "0" * 64, "owner": "blocks tune b"}))
    planned, done = call(*words, "--dry-run"), call(*words)
    assert planned.exit_code == done.exit_code == 1 and planned.output == done.output
    assert "holds another search, of blocks tune b" in done.output and "--force" in done.output
    before = contents(here)
    assert said(*words, "--force")["state"] == "begins anew" and contents(here) == before


@pytest.mark.parametrize(
    ("name", "width", "message"),
    [
        ("mid_block_attentions_0_proj_in", 999, "the adapter was made for a base of other widths"),
        ("down_blocks_2_attentions_1_transformer_blocks_9_attn1_to_q", 32, "it was made for another base family"),
    ],
)
def test_a_lora_of_another_base_is_refused_before_the_folder_is_made(
    here: Path, name: str, width: int, message: str
) -> None:
    save_one_module(here / "other.safetensors", name, width)
    words = ("other", *QUICK, *own(here), "--prompts", "prompts.txt")
    planned, done = call(*words, "--dry-run"), call(*words)
    assert planned.exit_code == done.exit_code == 1 and planned.output == done.output
    assert message in done.output and not (here / "out").exists()


def test_memory_is_that_of_grids_and_trainings(here: Path) -> None:
    """The weights are those of the loaded base; activations are a training's of as many latent positions."""
    shutil.move(here / "tiny", here / "pocket-like")
    words = ("a", "--base", "pocket-like", *QUICK[2:], "--prompts", "prompts.txt", "--measure", "marks")
    planned = said(*words, "--method", "gradient", "--batch-size", "3", "--size", "64x128")
    base = load_base(here / "pocket-like", device="cpu")
    models = (base.unet, base.vae, *base.text_encoders)
    weights = sum(parameter.nbytes for model in models for parameter in model.parameters())
    assert weights < planned["memory"]["weights"] < 2 * weights
    positions = 2 * 3 * (64 // 8) * (128 // 8)
    assert planned["memory"]["gradient"] == activations(base, positions, 4, checkpoints=False)
    assert planned["drawing"]["size"] == [64, 128]
    half = said(*words, "--method", "gradient", "--batch-size", "3", "--size", "64x128", "--dtype", "bf16")
    assert all(2 * half["memory"][name] == planned["memory"][name] for name in ("weights", "drawing", "gradient"))
    assert said(*words)["memory"]["gradient"] is None


def test_questions_come_first(here: Path, unloaded: None) -> None:
    words = ("a", *QUICK, "--prompts", "prompts.txt", "--measure")
    for measure, what in (("marks", "stars for pictures"), ("votes", "which of two sides is better")):
        text = call(*words, measure, "--dry-run").output
        assert f"asks first: {what}, on a page of some of " in text and f"{measure}/ into out" in text
        assert "by which it was measured; --method gradient asks for it" in text


def test_a_recipe_is_told_with_what_is_made_first(here: Path, unloaded: None) -> None:
    words = ("r.yaml", "--symptom", "hands", "--quick", "-o", "out", *own(here))
    before = contents(here)
    text = call(*words, "--amount", "--dry-run").output
    assert "moves: 4 numbers" in text and "  and what the subtracted LoRA's weight is multiplied by" in text
    assert "tuned: a at weight 1" in text and "prompts: those of the recipe's first grid" in text
    assert "edits: the vector in r.yaml" in text and contents(here) == before
    assert "1 steps of DDIM" in text and "by 1 steps of Euler" in text
    steps = '  slim: {resize: {lora: a, rank: 1}}\n  final: {merge: "slim:1:GP1, b:-1:GP2"}'
    (here / "r.yaml").write_text(RECIPE.replace('  final: {merge: "a:1:GP1, b:-1:GP2"}', steps), encoding="utf-8")
    done = call(*words, "--dry-run")
    assert done.exit_code == 0 and "first: the tune makes slim, which the merge reads" in done.output
    assert json.loads(call(*words, "--dry-run", "--json").stdout) == {"first": ["slim"], "tune": None}
    assert not (here / "runs").exists()
    context = RunContext("cpu")
    make_needed(Path("r.yaml"), context)
    assert Path("runs/r/slim.safetensors").is_file() and not Path("runs/r/final.safetensors").exists()
    assert "tuned: slim at weight 1" in call(*words, "--dry-run").output


def test_a_search_that_no_gradient_can_lead_is_refused_in_the_same_words(here: Path) -> None:
    words = ("a", *QUICK, *own(here), "--prompts", "prompts.txt", "--method", "gradient")
    planned, done = call(*words, "--dry-run"), call(*words)
    assert planned.exit_code == 1 and planned.output == done.output and "use --method pictures" in done.output


def test_the_pocket_has_a_time_and_other_sizes_have_none(here: Path, unloaded: None) -> None:
    words = ("a", "--base", "pocket", *QUICK[2:6], "--quick", "-o", "out", "--prompts", "prompts.txt")
    width = load_base("pocket", device="cpu", weights=False).unet.config.block_out_channels[-1]
    save_one_module(here / "a.safetensors", "mid_block_attentions_0_proj_in", width)
    planned = said(*words)
    assert planned["method"] == "gradient" and planned["time"]["least"] < planned["time"]["most"]
    assert planned["time"]["least"] == pytest.approx(0.15 * planned["pictures"]["total"])
    assert "idle CPU cores" in planned["time"]["basis"]
    assert said(*words, "--size", "64")["time"] is None
    longer = said(*words, "--then", "picks")
    assert longer["pictures"]["later"][0][0] == "picks" and longer["time"]["least"] > planned["time"]["least"]
    assert "it ends with the best so far after 10 minutes" in call(*words, "--budget", "10m", "--dry-run").output
