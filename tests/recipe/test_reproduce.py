"""A file made again from its own header: the same digest from an empty cache, and honest words where it is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from loratools.adapter.files.file import read
from loratools.adapter.files.metadata import KEY, Provenance
from loratools.adapter.files.save import write
from loratools.cli import cli
from loratools.errors import RecipeError
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lineage import lineage_of
from loratools.recipe.reproduce import reproduce
from loratools.recipe.run.runner import make_planner, run_steps
from tests.recipe.conftest import save_lora

RECIPE = """\
version: 1
base: tiny
vars: {strength: 1}
blocks:
  MINE: [1, 0.6, 0.9, 0.9, 0.9, 0.6, 0.5, 0.4, 0.4, 0.6, 0.8, 1.0, 1.1, 1.1, 1.1, 1.1, 1.1]
steps:
  pictures: {draw: {style: ink, count: 2, size: 64}}
  style: {train: {images: pictures, epochs: 2, dim: 2, learning_rate: 1e-2}}
  final: {merge: "style@2:${strength}:MINE, other.safetensors:-1:GP2", out: mine.safetensors}
  unrelated: {resize: {lora: other.safetensors, rank: "1"}}
"""
CPU = RunContext(device="cpu")


@pytest.fixture
def folder(here: Path, tiny_base: Path) -> Path:
    (here / "tiny").symlink_to(tiny_base, target_is_directory=True)
    save_lora(here / "other.safetensors", seed=2)
    Path("r.yaml").write_text(RECIPE, encoding="utf-8")
    return here


def made(values: dict[str, str] | None = None, only: str = "final") -> Path:
    planner = make_planner("r.yaml", Path("work"), None, values)
    return run_steps(planner.plan([only]), Path("work"), CPU)[-1].planned.out


def command(*words: object) -> Result:
    return CliRunner().invoke(cli, ["reproduce", *(str(word) for word in words)])


def test_a_trained_and_merged_file_comes_back_bit_for_bit_without_its_cache(folder: Path) -> None:
    result = made({"strength": "0.7"})
    kept = folder / "kept.safetensors"
    shutil.copyfile(result, kept)
    lineage = lineage_of(kept)
    assert lineage is not None and lineage.step == "final"
    assert set(lineage.data["steps"]) == {"pictures", "style", "final"} and "vars" not in lineage.data
    assert "style@2:0.7:MINE" in lineage.data["steps"]["final"]["merge"]
    assert "other.safetensors" in lineage.inputs and len(lineage.inputs) >= 2  # and the base
    shutil.rmtree("work")
    Path("r.yaml").unlink()
    shown = command(kept, "--device", "cpu", "-o", "again.safetensors")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith(f"the same: digest {read(kept).digest}")
    assert read("again.safetensors").digest == read(kept).digest
    assert json.loads(command(kept, "--device", "cpu", "--json").stdout)["equal"] is True


def test_another_input_is_named_and_the_difference_measured(folder: Path) -> None:
    Path("r.yaml").write_text(RECIPE.replace("style@2:${strength}:MINE, ", ""), encoding="utf-8")
    Path("r.yaml").write_text(Path("r.yaml").read_text().replace("vars: {strength: 1}\n", ""), encoding="utf-8")
    result = made()
    before = {name: delta.dense() for name, delta in read(result).items()}
    save_lora(folder / "other.safetensors", seed=3)
    again = reproduce(result, CPU, out=folder / "new.safetensors")
    after = {name: delta.dense() for name, delta in read(folder / "new.safetensors").items()}
    square = sum(float((after[name] - before[name]).square().sum()) for name in before)
    assert not again.equal
    assert again.difference == pytest.approx((square / sum(float(d.square().sum()) for d in before.values())) ** 0.5)
    assert any("other.safetensors is not what it was" in note for note in again.notes)
    Path("other.safetensors").unlink()
    shown = command(result)
    assert shown.exit_code == 1 and "other.safetensors" in shown.stderr and "Traceback" not in shown.output


def test_lineage_changes_no_tensor_and_later_files_stay_small(folder: Path) -> None:
    alone = made(only="unrelated")
    provenance = json.loads(read(alone).metadata[KEY])
    assert provenance["recipe"]["data"]["steps"] == {
        "unrelated": {"resize": {"lora": "other.safetensors", "rank": "1"}}
    }
    assert all("recipe" not in ancestor for ancestor in provenance["ancestors"].values())
    assert read(alone).metadata["sshs_model_hash"] == read(alone).digest


def test_inline_merges_are_made_again_too(folder: Path) -> None:
    shown = CliRunner().invoke(cli, ["merge", "other:1:GP1", "-o", "inline.safetensors"])
    assert shown.exit_code == 0, shown.output
    assert command("inline.safetensors", "--device", "cpu").stdout.startswith("the same: digest ")
    shown = CliRunner().invoke(cli, ["resize", "other.safetensors", "--rank", "1", "-o", "slim.safetensors"])
    assert shown.exit_code == 0, shown.output
    assert command("slim.safetensors", "--device", "cpu").stdout.startswith("the same: digest ")


def test_files_without_a_recipe_are_refused_by_name(folder: Path) -> None:
    foreign = folder / "foreign.safetensors"
    write(dict(read("other.safetensors").items()), foreign, family="sd1", dtype=torch.float32)
    shown = command(foreign)
    assert shown.exit_code == 1 and "holds no recipe" in shown.stderr
    epoch = folder / "epoch.safetensors"
    trained = Provenance({"train": {"epoch": 1}}, "train:x")
    write(dict(read("other.safetensors").items()), epoch, family="sd1", dtype=torch.float32, provenance=trained)
    with pytest.raises(RecipeError, match="epoch of a training"):
        reproduce(epoch, CPU)


def test_epochs_and_what_is_selected_and_published_of_them_come_back(folder: Path) -> None:
    text = RECIPE[: RECIPE.index("  final:")].replace("vars: {strength: 1}\n", "")
    text += "  first: {select: {run: style, epoch: 1}}\n  mean: {select: {run: style, epoch: 1-2}}\n"
    Path("r.yaml").write_text(text + "  shown: {publish: {lora: first, preview: none}}\n", encoding="utf-8")
    planner = make_planner("r.yaml", Path("work"))
    run_steps(planner.plan(), Path("work"), CPU)
    for epoch in (1, 2):
        lineage = lineage_of(Path(f"work/style/style-{epoch:06d}.safetensors"))
        assert lineage is not None and lineage.step == "style" and set(lineage.data["steps"]) == {"pictures", "style"}
    assert Path("work/first.safetensors").read_bytes() == Path("work/style/style-000001.safetensors").read_bytes()
    for name in ("style/style-000002", "shown/shown", "mean"):
        assert reproduce(Path(f"work/{name}.safetensors"), CPU).equal, name
    assert read("work/style/style-000001.safetensors").digest != read("work/style/style-000002.safetensors").digest


def test_the_base_styles_epochs_hold_their_recipe(folder: Path) -> None:
    options = "images_per_framing: 1, steps: 1, size: [64, 64], sampler: Euler, resolution: 64, epochs: 1, dim: 2"
    Path("r.yaml").write_text(f"base: tiny\nsteps:\n  own: {{basestyle: {{{options}}}}}\n", encoding="utf-8")
    made(only="own")
    lineage = lineage_of(Path("work/own/own-000001.safetensors"))
    assert lineage is not None and (lineage.step, set(lineage.data["steps"])) == ("own", {"own"})


def test_a_foreign_file_is_not_overwritten_without_force(folder: Path) -> None:
    result = made(only="unrelated")
    before = Path("other.safetensors").read_bytes()
    refused = command(result, "-o", "other.safetensors")
    assert refused.exit_code == 1 and "--force" in refused.stderr
    assert Path("other.safetensors").read_bytes() == before
    itself = command(result, "-o", result)
    assert itself.exit_code == 1 and "the very file that is made again" in itself.stderr
    shutil.copyfile("other.safetensors", "foreign.safetensors")
    assert command(result, "-o", "foreign.safetensors", "--force", "--device", "cpu").exit_code == 0
    assert read("foreign.safetensors").digest == read(result).digest


def test_inline_merges_find_what_lies_beside_them(folder: Path) -> None:
    (folder / "loras").mkdir()
    save_lora(folder / "loras/deep.safetensors", seed=5)
    shown = CliRunner().invoke(cli, ["merge", "loras/deep.safetensors:1", "-o", "loras/inline.safetensors"])
    assert shown.exit_code == 0, shown.output
    assert command("loras/inline.safetensors", "--device", "cpu").stdout.startswith("the same: digest ")
    shutil.move("loras/inline.safetensors", "inline.safetensors")
    assert "--lora-dir" in command("inline.safetensors").stderr


@pytest.mark.parametrize("where", ["ABSOLUTE/mine.safetensors", "~/mine.safetensors"])
def test_what_steps_wrote_elsewhere_stays_as_it_is(folder: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is made anew in a folder of its own, and nothing lands where the recipe's author had it."""
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("USERPROFILE", str(folder / "home"))
    out = where.replace("ABSOLUTE", str(folder / "loras"))
    recipe = {"base": "tiny", "steps": {"m": {"merge": "other:0.5", "out": out}}}
    Path("r.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    result = made(only="m")
    assert not result.resolve().is_relative_to(folder / "work")
    kept = folder / "kept.safetensors"
    shutil.copyfile(result, kept)
    result.unlink()
    assert reproduce(kept, CPU).equal
    assert not result.exists()


def test_no_lora_file_starts_a_program(folder: Path) -> None:
    """Who reads a file of somebody else's does not expect that it runs a command."""
    tune = {"lora": "other", "symptom": "hands", "measure": "command=touch ran"}
    data = {"base": "tiny", "steps": {"t": {"tune": tune}}}
    lineage = {"name": "r", "step": "t", "key": "k", "data": data, "inputs": {}}
    write(
        dict(read("other.safetensors")),
        "evil.safetensors",
        family="sd1",
        provenance=Provenance({}, "r", recipe=lineage),
    )
    with pytest.raises(RecipeError, match=r"runs a program \(command=touch ran\), which no LoRA file may start"):
        reproduce(folder / "evil.safetensors", CPU)
    assert not Path("ran").exists()
