"""Running recipes on a tiny base: caching, staleness, damage, interruption, overwriting, and the demo."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from loratools.adapter.files.file import read
from loratools.adapter.files.metadata import Provenance
from loratools.errors import FileError, HeldError, RecipeError
from loratools.files import locked, sha256
from loratools.pocket.judge import Reading
from loratools.preview.record.folder import read_grid
from loratools.recipe.demo.demo import run_demo
from loratools.recipe.plan.context import RunContext
from loratools.recipe.run.runner import make_planner, run_steps, state_of
from loratools.recipe.run.work_folder import WorkFolder
from loratools.train.callbacks.records import OnStep
from loratools.train.loop import TrainingLoop
from tests.recipe.conftest import MODULES, save_lora
from tests.tiny import save_tiny_base

RECIPE = """\
version: 1
base: tiny
blocks:
  MINE: [1, 0.6, 0.9, 0.9, 0.9, 0.6, 0.5, 0.4, 0.4, 0.6, 0.8, 1.0, 1.1, 1.1, 1.1, 1.1, 1.1]
steps:
  pictures: {draw: {style: ink, count: 2, size: 64}}
  style: {train: {images: pictures, epochs: 2, dim: 2, learning_rate: 1e-2}}
  base_style: {basestyle: {images_per_framing: 1, epochs: 1, dim: 2, steps: 1, sampler: Euler}}
  final: {merge: "style@2:1:MINE, base_style:-1:GP2", out: mine.safetensors}
  sheet:
    grid:
      {rows: [style, final], weights: "0,1", prompts: "1girl, smile", steps: 1, sampler: Euler, size: 64, judge: ink}
"""


def judge(images: Sequence[Image.Image]) -> list[Reading]:
    """Brightness for style; always one fault."""
    return [
        Reading({"expression": "smile"}, {"ink": image.convert("L").getpixel((0, 0)) / 255}, {"hands": 1.5})  # type: ignore[operator]
        for image in images
    ]


@pytest.fixture
def folder(here: Path, tiny_base: Path) -> Path:
    (here / "tiny").symlink_to(tiny_base, target_is_directory=True)
    return here


def run(text: str, only: list[str] | None = None, context: RunContext | None = None) -> dict[str, bool]:
    """step -> whether it was cached."""
    Path("r.yaml").write_text(text, encoding="utf-8")
    planner = make_planner("r.yaml", Path("work"))
    ran = run_steps(planner.plan(only), Path("work"), context or RunContext(device="cpu", judge=judge))
    return {done.planned.name: done.cached for done in ran}


def stale(ran: dict[str, bool]) -> set[str]:
    return {name for name, cached in ran.items() if not cached}


def test_from_pictures_to_the_grid_and_then_from_the_cache(folder: Path) -> None:
    assert stale(run(RECIPE)) == {"pictures", "style", "base_style", "final", "sheet"}
    style, base, merged = (
        read(f"work/{name}")
        for name in ("style/style-000002.safetensors", "base_style/base_style-000001.safetensors", "mine.safetensors")
    )
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v"  # M00: 0.4 in MINE, 0.1 in GP2
    asked = 0.4 * style[name].dense(torch.float64) - 0.1 * base[name].dense(torch.float64)
    error = (merged[name].dense(torch.float64) - asked).norm() / asked.norm()
    assert error < 5e-4
    made = Provenance.from_metadata(merged.metadata)
    assert made is not None
    assert made.owner == "recipe:r:final"
    assert {entry["digest"] for entry in made.inputs} == {style.digest, base.digest}
    assert "loratools" in style.metadata and "loratools" in base.metadata
    assert set(made.ancestors) == {style.digest, base.digest}
    grid = read_grid(Path("work/sheet"))
    assert [row.label for row in grid.rows] == ["style@1", "style@2", "final"]
    scores = json.loads(Path("work/sheet/scores.json").read_text(encoding="utf-8"))
    assert [row["label"] for row in scores["rows"]] == ["style@1", "style@2", "final"]
    assert scores["base"]["obedience"] == 1.0 and scores["base"]["defects"] == 1.5
    assert all(row.note.startswith("style 0.") for row in grid.rows)

    merged_digest, first_cells = sha256("work/mine.safetensors"), _times("work/sheet/cells")
    assert stale(run(RECIPE)) == set()
    assert _times("work/sheet/cells") == first_cells

    edited = RECIPE.replace("MINE: [1,", "MINE: [0.5,")
    assert stale(run(edited)) == {"final", "sheet"}
    kept = {path: time for path, time in _times("work/sheet/cells").items() if "final" not in path}
    assert kept == {path: time for path, time in first_cells.items() if "final" not in path}
    assert sha256("work/mine.safetensors") != merged_digest

    assert stale(run(RECIPE, ["final"])) == set()  # what an edit replaced comes back
    assert sha256("work/mine.safetensors") == merged_digest

    Path("work/mine.safetensors").write_bytes(b"damaged")
    with pytest.raises(FileError, match="force=True"):  # it is no longer what the step wrote
        run(RECIPE, ["final"])
    Path("work/mine.safetensors").unlink()
    assert stale(run(RECIPE, ["final"])) == set()  # the cache has it
    assert sha256("work/mine.safetensors") == merged_digest
    Path("work/mine.safetensors").unlink()
    for kept in Path("work/.loratools/objects").rglob("result"):
        if kept.is_file():
            kept.write_bytes(b"damaged")
    assert stale(run(RECIPE, ["final"])) == {"final"}  # damage is seen, and made good
    assert sha256("work/mine.safetensors") == merged_digest


def test_an_interrupted_run_goes_on_and_gives_the_same_tensors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(RECIPE, ["style"])
    whole = [read(path).digest for path in sorted(Path("work/style").glob("*.safetensors"))]
    Path("work").rename("other")
    real, epochs = TrainingLoop._steps, []

    def one_epoch_only(self: TrainingLoop, number: int, on_step: OnStep | None) -> None:
        epochs.append(number)
        if number == 2 and epochs.count(2) == 1:
            raise KeyboardInterrupt
        real(self, number, on_step)

    monkeypatch.setattr(TrainingLoop, "_steps", one_epoch_only)
    with pytest.raises(KeyboardInterrupt):
        run(RECIPE, ["style"])
    planner = make_planner("r.yaml", Path("work"))
    states = {step.name: state_of(WorkFolder(Path("work")), step) for step in planner.plan(["style"])}
    assert states == {"pictures": "cached", "style": "unfinished"}
    assert stale(run(RECIPE, ["style"])) == {"style"}
    assert epochs == [1, 2, 2]
    assert [read(path).digest for path in sorted(Path("work/style").glob("*.safetensors"))] == whole


def test_a_failing_step_keeps_what_is_done(folder: Path) -> None:
    save_lora(folder / "a.safetensors", 1)
    text = (
        'base: tiny\nsteps:\n  one: {merge: "a:1"}\n'
        "  sheet: {grid: {rows: one, weights: 1, prompts: x, steps: 1, sampler: Euler, size: 64, judge: ink}}\n"
    )

    def broken(images: Sequence[Image.Image]) -> list[Reading]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        run(text, context=RunContext(device="cpu", judge=broken))
    cells = _times("work/sheet/cells")
    assert stale(run(text)) == {"sheet"}
    assert _times("work/sheet/cells") == cells


def test_the_shipped_judge_reads_the_pocket_only(folder: Path) -> None:
    save_lora(folder / "a.safetensors", 1)
    text = "base: tiny\nsteps: {sheet: {grid: {rows: a, prompts: x, judge: ink}}}\n"
    with pytest.raises(RecipeError, match="pocket base only"):
        run(text, context=RunContext(device="cpu"))
    assert not Path("work/sheet").exists()


@pytest.mark.parametrize(
    ("kind", "place"),
    [('{merge: "a:1"}', "one.safetensors"), ("{draw: {style: ink, count: 1}}", "one/mine.png")],
)
def test_foreign_files_are_not_overwritten(folder: Path, kind: str, place: str) -> None:
    save_lora(folder / "a.safetensors", 1)
    foreign = folder / "work" / place
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"mine")
    text = f"base: tiny\nsteps: {{one: {kind}}}\n"
    with pytest.raises(FileError, match="force=True"):
        run(text)
    assert foreign.read_bytes() == b"mine"
    assert stale(run(text, context=RunContext(device="cpu", force=True))) == {"one"}


def test_two_runs_at_once_are_refused(folder: Path) -> None:
    save_lora(folder / "a.safetensors", 1)
    with locked(folder / "work/.loratools/run"), pytest.raises(HeldError, match="another loratools process"):
        run('base: tiny\nsteps: {one: {merge: "a:1"}}\n')


def test_means_best_and_files_outside_the_work_folder(folder: Path) -> None:
    runs = folder / "runs/x"
    for number in (1, 2, 3, 4):
        save_lora(runs / f"x-{number:06d}.safetensors", number)
    losses = [{"kind": "epoch", "epoch": n, "loss": loss} for n, loss in ((1, 0.01), (2, 0.02), (3, 0.3), (4, 0.4))]
    (runs / "x.jsonl").write_text("\n".join(json.dumps(line) for line in [{"kind": "run"}, *losses]) + "\n{cut")
    text = 'base: tiny\nsteps: {mean: {merge: {terms: "runs/x@1-3:2", dtype: fp32}, out: OUT}, best: {merge: "runs/x@best"}}'  # noqa: E501
    out = folder / "elsewhere/mean.safetensors"
    run(text.replace("OUT", str(out)))
    parts = [read(runs / f"x-{number:06d}.safetensors") for number in (1, 2, 3)]
    mean, best = read(out), read("work/best.safetensors")
    for name in MODULES:
        asked = sum((part[name].dense(torch.float64) for part in parts), torch.zeros(())) * (2 / 3)
        assert (mean[name].dense(torch.float64) - asked).norm() <= 1e-6 * asked.norm()
        third = parts[2][name].dense(torch.float64)  # the lowest loss of the later half
        assert (best[name].dense(torch.float64) - third).norm() <= 5e-4 * third.norm()
    run(text.replace("OUT", str(out)).replace("1-3:2", "1-3:1"))
    assert out.exists()
    assert not list(Path("work/.loratools").glob("kept/mean*"))


def test_the_demo_prints_its_story_and_goes_on_from_what_is_there(folder: Path) -> None:
    text = RECIPE.replace("epochs: 2,", "epochs: 1,").replace("style@2", "style@1").replace("MINE", "GP1")
    Path("small.yaml").write_text(text, encoding="utf-8")
    for again in (False, True):
        lines: list[str] = []
        result = run_demo(
            Path("demo"), RunContext(device="cpu", judge=judge), lines.append, base="tiny", recipe=Path("small.yaml")
        )
        story = "\n".join(lines)
        assert all(f"\n{n}/5  " in story for n in range(1, 6))
        assert story.count("already there") == (5 if again else 0)
        assert "base alone" in story and "style@1" in story and "final" in story
        assert len(result.next) == 3
        assert all(f"  {own.why}\n    {own.command}" in story for own in result.next)
    facts = json.loads(Path("demo/demo.json").read_text(encoding="utf-8"))
    assert [step["cached"] for step in facts["steps"]] == [True] * 5
    assert facts["next"] == [own.command for own in result.next]
    assert facts["scores"]["style"] == "ink"
    assert Path(facts["files"]["sheet"]).is_file()
    assert Path("demo/small.yaml").read_text(encoding="utf-8") == text


SCORED = """\
base: tiny
steps:
  pictures: {draw: {style: ink, count: 3, size: 64}}
  sheet: {grid: {rows: a, weights: 1, prompts: smile, steps: 1, size: 64, judge: ink, embed: true, score: true,
                 score_images: pictures, held_out: kept}}
"""


def test_a_grid_is_scored_by_what_a_step_drew_and_by_a_folder(folder: Path) -> None:
    save_lora(folder / "a.safetensors", 0)
    (folder / "kept").mkdir()
    Image.new("RGB", (64, 64), (200, 30, 30)).save("kept/1.png")
    assert stale(run(SCORED)) == {"pictures", "sheet"}
    grid = read_grid(Path("work/sheet"))
    names = [[score.name for score in own] for own in grid.scores.values()]
    assert names == [["from base (pixels)", "held-out (pixels)", "nearest (pixels)"]] * 2
    assert grid.rows[0].note.startswith("style 0.")  # the other judgement stands beside them
    assert "data:image" in Path("work/sheet/grid.html").read_text(encoding="utf-8")  # and the page is still embedded
    assert stale(run(SCORED)) == set()
    Image.new("RGB", (64, 64), (30, 30, 200)).save("kept/1.png")
    assert stale(run(SCORED)) == {"sheet"}
    assert read_grid(Path("work/sheet")).scores != grid.scores
    plain = SCORED.replace("score: true", "score: false").replace("score_images: pictures, held_out: kept", "most: 9")
    assert stale(run(plain)) == {"sheet"} and not read_grid(Path("work/sheet")).scores


def test_another_vae_renders_every_picture_anew(folder: Path, hub: Callable[[str, Path], Path]) -> None:
    save_lora(folder / "a.safetensors", 0)
    hub("owner/vae", save_tiny_base(folder / "other", seed=5) / "vae")
    text = "base: tiny\nsteps: {sheet: {grid: {rows: a, weights: 1, prompts: smile, steps: 1, size: 64}}}\n"
    assert stale(run(text)) == {"sheet"}
    own = {path.name: path.read_bytes() for path in Path("work/sheet/cells").rglob("*.png")}
    assert stale(run(text + "vae: owner/vae\n")) == {"sheet"}
    other = {path.name: path.read_bytes() for path in Path("work/sheet/cells").rglob("*.png")}
    assert own.keys() == other.keys() and all(own[name] != other[name] for name in own)
    assert stale(run(text + "vae: owner/vae\n")) == set()


def _times(folder: str) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in Path(folder).rglob("*.png")}


def test_a_work_folder_is_the_same_however_it_is_named_and_only_its_own_leftovers_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, place = folder / "r.yaml", folder / "runs/r"
    save_lora(folder / "a.safetensors", 0)
    recipe.write_text("version: 1\nbase: tiny\nsteps: {m: {merge: 'a:0.5'}, s: {resize: {lora: m, rank: 1}}}\n")

    def cached(work: Path) -> list[bool]:
        return [done.cached for done in run_steps(make_planner(recipe, work).plan(), work, RunContext(device="cpu"))]

    left, foreign = place / ".m.safetensors.k1ll3d.part", place / ".other.bin.x.part"
    place.mkdir(parents=True)
    for path in (left, foreign):
        path.write_bytes(b"half")
    assert cached(Path("runs/r")) == [False, False] and cached(place) == [True, True]
    assert not left.exists() and foreign.exists()  # of a killed write of this step; and somebody else's
    monkeypatch.chdir(folder / "runs")
    assert cached(Path("r")) == [True, True]
