"""The commands of the operations: subtract, resize, extract, analyze, soup, and merge's other ways."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from safetensors.torch import load_file, save_file

from loratools.adapter.files.checkpoint import open_checkpoint
from loratools.adapter.files.file import read
from loratools.cli.lora.merge import command
from loratools.ops.merging.methods.declared import METHODS, PARAMETERS
from tests.base.compvis import write_single_file
from tests.cli.test_cli import call
from tests.recipe.conftest import MODULES, save_lora
from tests.tiny import save_tiny_base


@pytest.fixture
def loras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with two LoRAs, ``a`` and ``b``, of one rank."""
    monkeypatch.chdir(tmp_path)
    save_lora(tmp_path / "a.safetensors", 1)
    save_lora(tmp_path / "b.safetensors", 2)
    return tmp_path


def json_of(*words: str | Path) -> dict[str, Any]:
    """What a command says as JSON."""
    done = call(*words, "--json")
    assert done.exit_code == 0, done.output
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def test_subtract(loras: Path) -> None:
    direct = json_of("subtract", "a", "b", "--blocks", "GP2", "-o", "s.safetensors")
    merged = json_of("merge", "a:1,b:-1:GP2", "-o", "m.safetensors")
    assert direct["digest"] == merged["digest"]
    assert {"cosine", "removed", "kept", "error"} <= set(direct["blocks"]["M00"])
    for mode in ("matched", "project", "soft"):
        value = json_of("subtract", "a:1:GP1", "b:0.5", "--mode", mode, "-o", f"{mode}.safetensors", "--rank", "2")
        assert value["rank"] == 2 and value["mode"] == mode
    dry = call("subtract", "a", "b", "--mode", "matched", "--dry-run")
    assert "energy removed" in dry.stdout and dry.exit_code == 0
    assert call("subtract", "a", "b").exit_code == 2
    before = (loras / "a.safetensors").read_bytes()
    refused = call("subtract", "a", "b", "-o", "a.safetensors")
    assert refused.exit_code == 1 and "--force" in refused.stderr
    assert (loras / "a.safetensors").read_bytes() == before
    assert call("subtract", "a", "b", "-o", "s.safetensors", "--blocks", "GP2").exit_code == 0  # its own result


def test_resize_and_analyze(loras: Path) -> None:
    value = json_of("resize", "a.safetensors", "-o", "r.safetensors", "--rank", "1")
    assert value["rank"] == 1 and value["blocks"]["M00"]["rank_before"] == 2
    assert call("resize", "a.safetensors", "-o", "r.safetensors", "--rank", "1").exit_code == 0
    assert "old rank" in call("resize", "a.safetensors", "-o", "e.safetensors").stdout
    one = json_of("analyze", "a.safetensors")
    assert set(one["blocks"]) == {"BASE", "IN01", "M00", "OUT11"}
    both = json_of("analyze", "a.safetensors", "a.safetensors", "--plot", "p.png")
    assert both["cosine"] == pytest.approx(1) and both["shared_start"] is True
    assert (loras / "p.png").is_file()
    assert "effective rank" in call("analyze", "a.safetensors", "b.safetensors").stdout


def test_soup_and_fractions(loras: Path) -> None:
    soup = json_of("soup", "a", "b", "-o", "s.safetensors", "--dtype", "fp32")
    assert soup["error"] < 1e-6
    merged = json_of("merge", "a:1/2,b:1/2", "-o", "m.safetensors", "--dtype", "fp32")
    assert soup["digest"] == merged["digest"]
    (loras / "run").mkdir()
    for number in (6, 7):
        save_lora(loras / f"run/ink-{number:06d}.safetensors", number)
    assert call("soup", "run@6-7", "-o", "e.safetensors", "--dtype", "fp32").exit_code == 0
    ema = json_of("soup", "run", "--ema", "--sigma-rel", "0.2", "-o", "ema.safetensors")
    assert sum(ema["weights"].values()) == pytest.approx(1) and list(ema["weights"]) == ["run@6", "run@7"]
    assert "weights: run@6" in call("soup", "run", "--gamma", "1", "-o", "g.safetensors").stdout
    narrow = call("soup", "run@6-7", "--sigma-rel", "0.4", "-o", "x.safetensors")
    assert narrow.exit_code == 1 and "at most 0.289" in narrow.stderr
    mean = sum(read(loras / f"run/ink-00000{n}.safetensors")[next(iter(MODULES))].dense() for n in (6, 7)) / 2
    assert torch.allclose(read("e.safetensors")[next(iter(MODULES))].dense(), torch.as_tensor(mean), atol=1e-6)


def test_other_ways_to_merge(loras: Path) -> None:
    ties = json_of("merge", "a:1,b:1", "-o", "t.safetensors", "--method", "ties", "--density", "0.7")
    assert ties["distance"]["error"] > 0.01
    compat = json_of("merge", "a:0.5", "-o", "c.safetensors", "--compat", "supermerger")
    assert compat["distance"]["error"] == pytest.approx(0.5, rel=1e-3)
    assert "away from it" in call("merge", "a:0.5", "-o", "c.safetensors", "--compat", "supermerger").stdout
    assert json_of("merge", "a:0.5", "-o", "l.safetensors", "--compat", "lbw")["distance"]["error"] < 5e-4
    assert json_of("merge", "a:1,b:-1", "-o", "n.safetensors", "--match-norm")["error"] < 5e-4
    for method in METHODS:
        made = json_of("merge", "a:1,b:0.5:te=0.5", "-o", f"{method}.safetensors", "--method", method)
        assert ("distance" in made) == (method != "exact")
    drawn = [
        json_of("merge", "a:1,b:1", "-o", "d.safetensors", "--method", "dare", "--seed", seed, "--force")["digest"]
        for seed in "778"
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    alone = call("merge", "a:1", "-o", "x.safetensors", "--method", "slerp")
    assert alone.exit_code == 1 and "slerp is made of two LoRAs, and the merge has 1; add one" in alone.stderr
    wrong = call("merge", "a:1,b:1", "-o", "x.safetensors", "--method", "ties", "--density", "2")
    assert wrong.exit_code == 1 and "density 2 is out of range" in wrong.stderr
    dry = call("merge", "a:1,b:1", "--dry-run", "--method", "dare")
    assert dry.exit_code == 0 and "not their sum: DARE of density 0.9 and seed 0" in dry.stdout
    assert "not their sum" not in call("merge", "a:1,b:1", "--dry-run").stdout
    assert call("merge", "a:1", "--dry-run", "--method", "karcher").exit_code == 1
    assert not Path("x.safetensors").exists()
    for words in (
        ("--density", "0.5"),
        ("--method", "ties", "--seed", "1"),
        ("--compat", "lbw", "--match-norm"),
        ("--into", "x", "--rank", "3"),
    ):
        assert call("merge", "a:1", "-o", "x.safetensors", *words).exit_code == 2


def test_edit_header(loras: Path) -> None:
    before = read("a.safetensors").digest
    value = json_of(
        "edit-header", "a.safetensors", "--title", "Ink", "--trigger", "one", "--trigger", "two", "--tags", "s"
    )
    assert value["digest"] == before == read("a.safetensors").digest and value["written"]
    texts = read("a.safetensors").metadata
    assert texts["modelspec.title"] == "Ink" and texts["modelspec.trigger_phrase"] == "one, two"
    assert json_of("inspect", "a.safetensors")["metadata"]["sshs_model_hash"] == before
    other = call(
        "edit-header", "a.safetensors", "--set", "ss_clip_skip=2", "--remove", "modelspec.tags", "-o", "n.safetensors"
    )
    assert other.exit_code == 0 and "ss_clip_skip" in other.stdout and "tensors as they were" in other.stdout
    assert "modelspec.tags" in read("a.safetensors").metadata and "modelspec.tags" not in read("n.safetensors").metadata
    refused = call("edit-header", "a.safetensors", "--title", "x", "-o", "b.safetensors")
    assert refused.exit_code == 1 and "--force" in refused.stderr
    assert call("edit-header", "a.safetensors", "--set", "ss_x").exit_code == 2
    nothing = call("edit-header", "a.safetensors")
    assert nothing.exit_code == 1 and "nothing to change" in nothing.stderr


def test_flags_and_choices_of_merge_are_the_registrys() -> None:
    options = {option.name: option for option in command.params if isinstance(option, click.Option)}
    choice = options["method"].type
    assert isinstance(choice, click.Choice) and list(choice.choices) == list(METHODS)
    assert set(PARAMETERS) <= set(options) and command.help is not None
    assert all(re.search(rf"^ *{method} ", command.help, re.MULTILINE) for method in METHODS)


def test_into_a_model_and_back_out_of_it(loras: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = write_single_file(save_tiny_base(tmp_path_factory.mktemp("t") / "tiny"), loras / "base.safetensors")
    name = "unet.mid_block.attentions.0.proj_in"
    shape = open_checkpoint(base).shapes[f"{name}.weight"]
    stem = "lora_unet_mid_block_attentions_0_proj_in"
    torch.manual_seed(0)
    up, down = torch.randn(shape[0], 2, 1, 1), torch.randn(2, *shape[1:])
    factors = {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down}
    save_file(factors, loras / "one.safetensors")
    value = json_of("merge", "one:0.5", "--into", "base.safetensors", "-o", "model.safetensors")
    assert value["modules"] == 1
    assert set(load_file(base)) == set(load_file("model.safetensors"))
    out = json_of(
        "extract",
        "--base",
        "base.safetensors",
        "--tuned",
        "model.safetensors",
        "-o",
        "x.safetensors",
        "--rank",
        "2",
        "--dtype",
        "fp32",
    )
    assert out["modules"] == 1 and out["error"] < 1e-5
    wanted = 0.5 * read("one.safetensors")[name].dense()
    assert torch.allclose(read("x.safetensors")[name].dense(), wanted, atol=1e-4)
    save_file({**factors, f"{stem}.lora_up.weight": torch.randn(shape[0] + 1, 2, 1, 1)}, loras / "wide.safetensors")
    refused = call("merge", "wide:1", "--into", "base.safetensors", "-o", "y.safetensors")
    assert refused.exit_code == 1 and "base.safetensors" in refused.stderr and not (loras / "y.safetensors").exists()
    assert call("merge", "one:1", "--into", "a.safetensors", "-o", "y.safetensors").exit_code == 1
