"""The functions of `import loratools` at work: what they return, leave and refuse, and that they do so in silence."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file

import loratools as lt
from loratools import errors
from loratools.adapter.files.write_model import model_marks
from loratools.base.load import load_base
from loratools.tune.problem import effort
from loratools.tune.problem.effort import Effort
from tests.base.compvis import write_single_file
from tests.cli.test_cli import call
from tests.dataset.tagging.graphs import wd_tagger
from tests.recipe.conftest import MODULES

TERMS = "a:1:GP1,b:-1:GP2"
BRIGHT = """\
import numpy as np

def bright(images, prompts, seeds):
    return [float(np.asarray(image).mean()) for image in images]
"""
MEASURE = "measure_of_the_library"  # a module of the current folder
RECIPE = """\
version: 1
base: pocket
vars: {strength: 1.0}
steps:
  final: {merge: "a:${strength},b:-1", out: f.safetensors}
  whole: {merge: "a:1,b:1", out: w.safetensors}
"""


class Heard:
    """A progress callback that keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.calls.append((done, total))

    def check(self) -> None:
        """It rose to its end, and the end stayed where it was."""
        assert self.calls, "nothing was heard"
        done, totals = [one for one, _ in self.calls], {total for _, total in self.calls}
        assert done == sorted(done) and len(totals) == 1 and done[-1] == totals.pop()


def test_a_merge_to_a_file_is_the_commands(loras: Path) -> None:
    report = lt.merge(TERMS, "m.safetensors")
    assert report.path == Path("m.safetensors") and report.error < 5e-4 and "M00" in report.blocks
    assert call("merge", TERMS, "-o", "c.safetensors").exit_code == 0
    assert Path("c.safetensors").read_bytes()[-64:] == Path("m.safetensors").read_bytes()[-64:]
    assert lt.inspect("c.safetensors").model_hash == report.digest
    assert lt.verify("m.safetensors", TERMS).error < 5e-4
    assert call("merge", TERMS, "-o", "m.safetensors").exit_code == 0  # one may write over the other's
    assert lt.merge(TERMS, "c.safetensors").digest == report.digest


@pytest.mark.parametrize("rank", ["exact", 2, "error=0.3", "energy=0.9", "size=8KiB"])
@pytest.mark.parametrize("method", ["exact", lt.MergeMethod("ties", density=0.6), "slerp", "knots"])
def test_a_merge_in_memory_is_the_file(loras: Path, rank: str | int, method: Any) -> None:
    merged = lt.merge("a:1,b:-0.5", rank=rank, method=method)
    assert not list(loras.glob("*m.safetensors"))
    tensors = merged.state_dict()
    report = merged.write("m.safetensors")
    stored = load_file("m.safetensors")
    assert sorted(tensors) == sorted(stored) and all(torch.equal(tensors[key], stored[key]) for key in stored)
    assert set(merged) == set(lt.read("m.safetensors")) == set(MODULES) and merged.family == "sd1"
    assert max(merged.ranks.values()) == report.rank and merged.shapes[next(iter(merged))]
    for name, delta in lt.read("m.safetensors").items():
        exact = merged[name].dense()
        assert float((exact - delta.dense()).norm()) < 1e-3 * float(exact.norm())


def test_a_merge_in_memory_in_diffusers_style_is_the_converted_file(loras: Path) -> None:
    lt.merge("a:1,b:1", "m.safetensors", dtype="fp32")
    lt.convert("m.safetensors", "d.safetensors", to="diffusers")
    tensors, stored = lt.merge("a:1,b:1", dtype="fp32").state_dict("diffusers"), load_file("d.safetensors")
    assert sorted(tensors) == sorted(stored)
    assert all(torch.allclose(tensors[key], stored[key], atol=1e-6) for key in stored)


def test_names_are_found_in_one_folder_or_in_several(loras: Path) -> None:
    (loras / "x").mkdir()
    (loras / "a.safetensors").rename(loras / "x/a.safetensors")
    first = lt.merge("a:1,b:1", lora_dirs="x")
    assert set(first) == set(lt.merge("a:1,b:1", lora_dirs=[Path("x"), "."])) == set(MODULES)


def test_presets_may_be_a_mapping_a_path_or_a_name(loras: Path) -> None:
    numbers = [0.5] * 17
    (loras / "mine.yaml").write_text(f"MINE: {numbers}", encoding="utf-8")
    digests = {
        lt.merge("a:1:MINE", "m.safetensors", presets=presets, force=True).digest
        for presets in ({"MINE": numbers}, "mine.yaml", Path("mine.yaml"))
    }
    assert digests == {lt.merge("a:0.5", "half.safetensors").digest}


def test_a_file_is_read_changed_and_written(loras: Path) -> None:
    adapter = lt.read("a.safetensors")
    halved = {name: delta.scaled(0.5) for name, delta in adapter.items()}
    written = lt.write(halved, "half.safetensors", family=adapter.family, dtype="fp32")
    assert written.error < 1e-6 and lt.verify("half.safetensors", "a:0.5").error < 1e-6
    assert lt.write(adapter, "copy.safetensors").path == Path("copy.safetensors")  # its own family and header
    assert lt.verify("copy.safetensors", "a:1").error < 5e-4
    with pytest.raises(lt.LoratoolsError, match="do not say which model"):
        lt.write(halved, "h.safetensors")


def test_vectors_are_parsed_converted_exported_and_explained(loras: Path) -> None:
    vector = lt.parse_vector("GP1", family="sd1")
    assert vector.weight("BASE") == 1.0 and len(vector.weights) == 17
    wide = lt.convert_vector(vector, 26, missing=0)
    assert len(wide) == 26 and sum(wide) == pytest.approx(sum(vector.weights.values()))
    assert lt.convert_vector(wide_text := ",".join(map(str, wide)), 17, drop=True) == list(vector.weights.values())
    assert wide_text and len(lt.convert_vector("GP1", "inspire-17", missing=1, drop=True)) == 17
    assert str(lt.export_vector("GP1", "prompt", name="ink")).startswith("<lora:ink:1:lbw=1,0.6,")
    assert "unet" in lt.export_vector(vector, "diffusers")
    rows = lt.explain_vector("GP1", lora="a.safetensors")
    assert rows[0].block == "BASE" and rows[0].part is not None and rows[0].part.modules == 1


def test_a_run_a_grid_and_a_recipe(loras: Path, tiny: Path, images: Path) -> None:
    heard, losses = Heard(), []
    settings = {"dim": 2, "batch_size": 2, "resolution": 64, "mixed_precision": "no"}
    run = lt.train(
        base=tiny,
        images=images,
        out="runs/ink",
        name="ink",
        epochs=2,
        settings=settings,
        device="cpu",
        on_progress=heard,
        on_epoch=lambda epoch: losses.append(epoch.loss),
    )
    heard.check()
    assert len(run.epochs) == 2 and losses == run.losses and heard.calls[-1] == (2, 2)
    assert [epoch.number for epoch in lt.epochs("runs/ink").epochs] == [1, 2]
    heard = Heard()
    sampling = lt.SamplingRequest(steps=1, size=(64, 64))
    grid = lt.render_grid(
        ["runs/ink", "a:0.5"], "grid", base=tiny, prompts="girl", weights=[0, 1], sampling=sampling, on_progress=heard
    )
    heard.check()
    assert grid.png.is_file() and [row.label for row in grid.grid.rows] == ["ink@1", "ink@2", "a:0.5"]
    assert lt.read_grid("grid").weights == (0, 1) and grid.rendered == 4


def test_a_grid_in_another_dtype_with_embeddings(loras: Path, tiny: Path) -> None:
    Path("ti").mkdir()
    torch.save({"x": torch.ones(16)}, "ti/badink.pt")
    shown: dict[str, Any] = {
        "prompts": "girl, badink",
        "weights": [1],
        "sampling": lt.SamplingRequest(steps=1, size=(64, 64)),
    }
    model = lt.ModelRequest(str(tiny), dtype="bf16", embeddings=Path("ti"))
    grid = lt.render_grid("a", "grid", base=model, device="cpu", **shown).grid
    assert grid.compute == "bfloat16 cpu" and grid.pictures[0].embeddings[0][0] == "badink"
    with pytest.raises(lt.LoratoolsError, match=r"the device is mps in `base` and cpu in `device`; give one"):
        lt.render_grid("a", "other", base=replace(model, device="mps"), device="cpu", **shown)
    with pytest.raises(lt.LoratoolsError, match="there is no folder of embeddings 'none'"):
        lt.render_grid("a", "other", base=replace(model, embeddings=Path("none")), device="cpu", **shown)


@pytest.mark.parametrize("call_it", [
    lambda heard: lt.merge("a:1,b:1", "o.safetensors", on_progress=heard),
    lambda heard: lt.merge("a:1,b:1", "o.safetensors", rank="error=0.1", on_progress=heard),
    lambda heard: lt.merge("a:1,b:1", "o.safetensors", rank="size=9KiB", on_progress=heard),
    lambda heard: lt.soup(["a", "b"], "o.safetensors", rank=1, on_progress=heard),
    lambda heard: lt.subtract("a", "b", on_progress=heard),
    lambda heard: lt.subtract("a", "b", "o.safetensors", on_progress=heard),
    lambda heard: lt.subtract("a", "b", "o.safetensors", mode="project", rank="energy=0.9", on_progress=heard),
    lambda heard: lt.resize("a.safetensors", "o.safetensors", rank=1, on_progress=heard),
    lambda heard: lt.convert("a.safetensors", "o.safetensors", to="diffusers", on_progress=heard),
])  # fmt: skip
def test_progress_rises_to_its_end(loras: Path, call_it: Callable[[Heard], object]) -> None:
    heard = Heard()
    call_it(heard)
    heard.check()


def test_progress_where_a_base_is_needed(loras: Path, tiny: Path) -> None:
    single = write_single_file(tiny, loras / "base.safetensors")
    lt.merge("a:1").write_into(single, "into.safetensors")
    recipe = loras / "r.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    settings = {"dim": 1, "mixed_precision": "no", "epochs": 1, "images_per_framing": 1, "steps": 1}
    for call_it in (
        lambda heard: lt.extract("into.safetensors", "x.safetensors", base=single, rank=2, on_progress=heard),
        lambda heard: lt.basestyle(tiny, "runs/b", settings=settings, device="cpu", on_progress=heard),
        lambda heard: lt.run_recipe(recipe, base=tiny, jobs=2, on_progress=heard),
    ):
        heard = Heard()
        call_it(heard)
        heard.check()


def test_a_folder_that_predicts_v_says_so_as_one_file_too(loras: Path, tiny: Path) -> None:
    shutil.copytree(tiny, loras / "v")
    config = loras / "v/scheduler/scheduler_config.json"
    said = {**json.loads(config.read_text()), "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    config.write_text(json.dumps(said))
    lt.merge("a:1").write_into("v", "v.safetensors")
    config.write_text(json.dumps({**said, "prediction_type": "epsilon", "rescale_betas_zero_snr": False}))
    single = load_base("v.safetensors", device="cpu", config="v")
    assert single.prediction == "v_prediction" and single.zero_snr
    lt.merge("a:1").write_into(tiny, "plain.safetensors")
    assert load_base("plain.safetensors", device="cpu", config="v").prediction == "epsilon"
    assert model_marks("sdxl", velocity=True, zero_snr=True) == ("v_pred", "ztsnr")
    assert model_marks("sd1", velocity=True, zero_snr=True) == () == model_marks("sdxl", velocity=False, zero_snr=True)


def test_a_recipe_tells_its_observer_and_writes_its_report(loras: Path) -> None:
    class Steps(lt.RunObserver):
        names: ClassVar[list[str]] = []

        def on_done(self, result: lt.StepResult) -> None:
            self.names.append(result.planned.name)

    recipe = loras / "r.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    made = lt.run_recipe(recipe, "work", values={"strength": 0.5}, observer=Steps())
    assert [step.cached for step in made] == [False, False] and Steps.names == ["final", "whole"]
    assert (loras / "work/report.html").is_file() and (loras / "work/run.json").is_file()
    assert lt.verify("work/f.safetensors", "a:0.5,b:-1").error < 5e-4
    (again,) = lt.run_recipe(recipe, "work", only="final", values={"strength": 0.5})
    assert again.cached and again.planned.name == "final"
    assert lt.reproduce("work/f.safetensors", folder=loras).equal


def test_an_exception_of_the_callback_stops_the_work_and_leaves_nothing(loras: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise StopIteration if done == 99 else KeyError("enough")

    threads = torch.get_num_threads()
    for rank in ("exact", "error=0.1"):
        with pytest.raises(KeyError, match="enough"):
            lt.merge("a:1,b:1", "o.safetensors", rank=rank, on_progress=stop)
    assert [path.name for path in sorted(loras.iterdir())] == ["a.safetensors", "b.safetensors"]
    assert torch.get_num_threads() == threads


def test_nothing_is_ever_printed(
    loras: Path, tiny: Path, images: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    single = write_single_file(tiny, loras / "base.safetensors")
    recipe = loras / "r.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    (loras / f"{MEASURE}.py").write_text(BRIGHT, encoding="utf-8")
    small = Effort(
        prompts=2,
        held_out=2,
        pool=4,
        shots=2,
        population=3,
        screening=9,
        generations=1,
        checks=1,
        fresh=2,
        strengths=(0.7,),
    )
    monkeypatch.setattr(effort, "QUICK", small)
    settings = {"dim": 1, "resolution": 64, "mixed_precision": "no", "epochs": 1}
    own = {"images_per_framing": 1, "steps": 1}
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: dict(lt.read("a.safetensors")),
        "write": lambda: lt.write(lt.read("a.safetensors"), "w.safetensors"),
        "inspect": lambda: lt.inspect("a.safetensors").text(),
        "analyze": lambda: lt.analyze("a.safetensors", "b.safetensors").text(),
        "merge": lambda: (lt.merge(TERMS, "m.safetensors").text(), lt.merge(TERMS).plan().text()),
        "soup": lambda: lt.soup(["a", "b"], "soup.safetensors"),
        "verify": lambda: lt.verify("m.safetensors", TERMS).text(),
        "subtract": lambda: lt.subtract("a", "b", "s.safetensors").text(),
        "resize": lambda: lt.resize("a.safetensors", "r.safetensors", rank=1).text(),
        "convert": lambda: lt.convert("a.safetensors", "c.safetensors", to="diffusers").text(),
        "edit_header": lambda: lt.edit_header("a.safetensors", "e.safetensors", title="T").text(),
        "extract": lambda: (
            lt.merge("a:1").write_into(single, "into.safetensors"),
            lt.extract("into.safetensors", "x.safetensors", base=single, rank=2).text(),
        ),
        "dataset_look": lambda: lt.dataset_look("images").text(),
        "dataset_import": lambda: lt.dataset_import("images").text(),
        "dataset_prepare": lambda: lt.dataset_prepare("images", "set", lt.PrepareOptions(resolution=64)).text(),
        "dataset_tag": lambda: lt.dataset_tag("set", lt.TagRequest(str(wd_tagger(loras / "wd")))).text(),
        "dataset_edit": lambda: lt.dataset_edit("set", {"trigger": "ink"}).lines(),
        "dataset_undo": lambda: lt.dataset_undo("set"),
        "dataset_balance": lambda: lt.dataset_balance("set").text(),
        "parse_vector": lambda: lt.parse_vector("GP1"),
        "convert_vector": lambda: lt.convert_vector("GP1", 26, missing=0),
        "export_vector": lambda: lt.export_vector("GP1", "lbw"),
        "explain_vector": lambda: lt.explain_vector("GP1", lora="a.safetensors"),
        "train": lambda: lt.train(base=tiny, images=images, out="runs/t", settings=settings, device="cpu"),
        "epochs": lambda: lt.epochs("runs/t").text(),
        "judge_epochs": lambda: lt.judge_epochs(
            "runs/t", base=tiny, prompts="girl", seeds=[1, 2], sampling=lt.SamplingRequest(steps=1), device="cpu"
        ),
        "tune": lambda: lt.tune(
            "a:1",
            "tuned",
            base=tiny,
            symptoms="hands",
            measures=f"python={MEASURE}:bright",
            prompts=["girl", "girl, smile", "girl, hat", "girl, ink style"],
            options=lt.TuneOptions(seeds=[1], quick=True, lowest=0.0, highest=1.4, batch=4),
            sampling=lt.SamplingRequest(steps=1, size=(64, 64)),
            device="cpu",
        ),
        "tune_further": lambda: lt.tune_further(calls["tune"](), "picks", base=tiny, device="cpu"),
        "basestyle": lambda: lt.basestyle(tiny, "runs/b", settings={**settings, **own}, device="cpu"),
        "render_grid": lambda: lt.render_grid(
            "a", "grid", base=tiny, prompts=["girl"], weights="0,1", sampling=lt.SamplingRequest(steps=1)
        ),
        "read_grid": lambda: lt.read_grid("grid"),
        "run_recipe": lambda: lt.run_recipe(recipe, "runs/r", base=tiny, values={}),
        "explain": lambda: lt.explain("m.safetensors"),
        "reproduce": lambda: lt.reproduce("runs/r/f.safetensors", folder=loras),
    }
    face = {name: getattr(lt, name) for name in lt.__all__}  # lt.train and lt.tune are callable modules
    assert set(calls) == {name for name, part in face.items() if callable(part) and not inspect.isclass(part)}
    for name, own_call in calls.items():
        own_call()
        out, err = capfd.readouterr()
        assert out == err == "", f"{name} prints: {out}{err}"


_A = "a.safetensors"


@pytest.mark.parametrize(
    ("kind", "words", "call_it"),
    [
        (errors.FileError, "no LoRA 'nix'", lambda: lt.merge("nix:1", "o.safetensors")),
        (errors.FileError, "nix.safetensors", lambda: lt.read("nix.safetensors")),
        (errors.FileError, "nix.safetensors", lambda: lt.inspect(Path("nix.safetensors"))),
        (errors.BlockError, "did you mean 'GP1'", lambda: lt.merge("a:1:GP1x")),
        (errors.BlockError, "did you mean 'GP1'", lambda: lt.parse_vector("GP11")),
        (errors.FileError, "presets file 'nix.yaml'", lambda: lt.merge("a:1", presets="nix.yaml")),
        (errors.RankError, "rank 'much' is not understood", lambda: lt.merge("a:1", rank="much")),
        (errors.RankError, "rank 0", lambda: lt.resize(_A, "o.safetensors", rank=0)),
        (errors.RankError, "above what any module", lambda: lt.resize(_A, "o.safetensors", rank=10**6)),
        (errors.OptionError, "dtype 'fp61'.*did you mean 'fp16'", lambda: lt.merge("a:1", dtype="fp61")),
        (errors.OptionError, "dtype 'fp61'", lambda: lt.convert(_A, "o.safetensors", to="kohya", dtype="fp61")),
        (errors.OptionError, "to 'khoya'.*did you mean 'kohya'", lambda: lt.convert(_A, "o.safetensors", to="khoya")),
        (errors.OptionError, "no merge method 'tie'", lambda: lt.merge("a:1", method="tie")),
        (errors.OptionError, "mode 'hard'", lambda: lt.subtract("a", "b", mode="hard")),
        (errors.OptionError, "tool 'a1111'", lambda: lt.export_vector("GP1", "a1111")),
        (errors.OptionError, "style 'peft'", lambda: lt.merge("a:1").state_dict("peft")),
        (errors.FileError, "end it in .safetensors", lambda: lt.merge("a:1", "out.ckpt")),
        (errors.FileError, "exists and", lambda: lt.merge("b:1", _A)),
        (errors.MergeStringError, "stands where the weight", lambda: lt.merge("a:x")),
        (errors.MergeStringError, "nothing to average", lambda: lt.soup([], "o.safetensors")),
        (errors.GridError, "no row", lambda: lt.render_grid([], "g", base="pocket", prompts="girl")),
        (errors.PromptError, "no prompt", lambda: lt.render_grid("a", "g", base="pocket", prompts=[])),
        (errors.GridError, "weight", lambda: lt.render_grid("a", "g", base="pocket", prompts="girl", weights="x")),
        (errors.GridError, "weights is empty", lambda: lt.render_grid("a", "g", base="x", prompts="girl", weights=[])),
        (errors.GridError, "seeds is empty", lambda: lt.render_grid("a", "g", base="x", prompts="girl", seeds=[])),
        (errors.GridError, "no axis .w.", lambda: lt.render_grid("a", "g", base="x", prompts="", axes={"w": "cfg: 4"})),
        (errors.BaseModelError, "nix", lambda: lt.render_grid("a", "g", base="nix", prompts="girl")),
        (errors.FileError, "grid.json", lambda: lt.read_grid("nowhere")),
        (errors.RecipeError, "no recipe", lambda: lt.run_recipe("nix.yaml")),
        (errors.RecipeError, "'images' is missing", lambda: lt.train(base="pocket")),
        (errors.RecipeError, "epohcs", lambda: lt.train(base="pocket", images=".", settings={"epohcs": 3})),
        (errors.FileError, "nowhere", lambda: lt.epochs("nowhere")),
        (errors.RecipeError, "recipe", lambda: lt.reproduce(_A)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_mistake_is_one_sentence_without_flags(
    loras: Path, kind: type[Exception], words: str, call_it: Callable[[], object]
) -> None:
    before = sorted(path.name for path in loras.iterdir())
    with pytest.raises(kind, match=words) as caught:
        call_it()
    message = re.sub("`loratools [^`]*`", "", str(caught.value))  # a command to type
    assert "--" not in message and "\n" not in message.strip(), message
    assert sorted(path.name for path in loras.iterdir()) == before
