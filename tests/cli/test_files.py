"""``inspect``, ``convert`` and ``--allow-unknown`` on files of every family."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open
from safetensors.torch import load_file

from loratools.adapter.files.file import read
from loratools.adapter.files.rewrite_header import rewrite_header
from loratools.adapter.header import read_header
from loratools.cli import cli
from tests.adapter.files.test_formats import STEM, Q, factors, flux_tensors, peft_folder, t
from tests.loras import lora_tensors, save

ROOT = Path(__file__).parents[2]


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def output_of(*words: str | Path) -> str:
    """The message of a command that must fail as a user's error."""
    done = call(*words)
    assert done.exit_code == 1 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr, done.output
    return done.stderr


def test_brief_needs_no_torch_and_says_what_the_whole_one_says(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", lora_tensors(rank=3, conv=True), {"ss_base_model_version": "sd_v1"})
    code = (
        "import json, sys\nfrom loratools.ops.analysis.describe import brief\n"
        f"print(json.dumps(brief({str(path)!r}).json()))\n"
        "heavy = {'torch', 'numpy', 'safetensors', 'diffusers', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    quick, whole = json.loads(done.stdout), json.loads(call("inspect", path, "--json").stdout)
    same = ("family", "scheme", "kind", "modules", "ranks", "rank_counts", "dtypes", "size", "metadata")
    assert {key: quick[key] for key in same} == {key: whole[key] for key in same}
    assert {n: b["modules"] for n, b in quick["blocks"].items()} == {
        n: b["modules"] for n, b in whole["blocks"].items()
    }
    assert quick["sha256"] is None and all(block["norm"] is None for block in quick["blocks"].values())
    assert "OUT11" in call("inspect", path, "--brief").stdout


def test_text_that_utf8_cannot_hold_is_carried_as_a_question_mark(tmp_path: Path) -> None:
    """Trainers cut comments in the middle of an emoji, and JSON holds the half that is left."""
    half = "a \\ud83d b"
    texts = {
        "ss_training_comment": json.loads(f'"{half}"'),
        "ss_tag_frequency": f'{{"{half}": {{"{half}": 1}}}}',
        "loratools": f'{{"version": "{half}", "step": {{"merge": "{half}"}}, "inputs": [], "ancestors": {{}}}}',
    }
    good = save(tmp_path / "good.safetensors", lora_tensors(rank=1, names=[Q]), {"ss_training_comment": "x"})
    data = good.read_bytes()
    header = read_header(good)
    entries = json.loads(data[8 : header.data_start]) | {"__metadata__": texts}
    raw = json.dumps(entries).encode()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data[header.data_start :])
    command = [sys.executable, "-m", "loratools", "inspect", str(path)]  # whose output is a real stream
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    for words in (
        ["inspect", path, "--json"],
        ["inspect", path, "--brief"],
        ["merge", f"{path}:1", "-o", tmp_path / "merged.safetensors", "--json"],
        ["convert", path, "--to", "diffusers", "-o", tmp_path / "converted.safetensors"],
        ["resize", path, "--rank", "1", "-o", tmp_path / "resized.safetensors"],
    ):
        result = call(*words)  # a stream in memory, which refuses what UTF-8 cannot hold as well
        assert result.exit_code == 0, (words[0], result.output)
    for name in ("merged", "converted", "resized"):
        with safe_open(tmp_path / f"{name}.safetensors", "pt") as file:
            assert file.metadata()["ss_training_comment"] == "a ? b"
    rewrite_header(path, tmp_path / "named.safetensors", {"modelspec.title": texts["ss_training_comment"]})
    with safe_open(tmp_path / "named.safetensors", "pt") as file:
        assert file.metadata()["ss_training_comment"] == file.metadata()["modelspec.title"] == "a ? b"


def test_inspect_imports_no_diffusers(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", lora_tensors(rank=1))
    code = (
        f"import sys\nfrom loratools.ops.analysis.describe import describe\ndescribe({str(path)!r})\n"
        "sys.exit('imported' if {'diffusers', 'transformers'} & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_flux_sd3_and_unknown_models_have_their_blocks(tmp_path: Path) -> None:
    flux = save(tmp_path / "flux.safetensors", flux_tensors())
    facts = json.loads(call("inspect", flux, "--json").stdout)
    assert (facts["family"], facts["scheme"]) == ("flux", "flux-61")
    assert {name: block["modules"] for name, block in facts["blocks"].items()} == {"D00": 9, "S00": 6, "OUT": 2}
    tensors = factors("diffusion_model.layers.3.q", 4, 4) | factors("diffusion_model.layers.12.q", 4, 4)
    facts = json.loads(call("inspect", save(tmp_path / "u.safetensors", tensors), "--json").stdout)
    assert facts["family"] == "unknown" and list(facts["blocks"]) == ["layers.03", "layers.12"]


def test_a_dora_is_described_without_its_base_but_not_merged(tmp_path: Path) -> None:
    path = save(tmp_path / "d.safetensors", lora_tensors(names=[Q]) | {f"{STEM}.dora_scale": t(16, 1)})
    facts = json.loads(call("inspect", path, "--json").stdout)
    assert facts["kind"] == "dora" and facts["needs_base"] == 1
    assert "needs a base" in call("inspect", path).stdout
    message = output_of("convert", path, "-o", tmp_path / "o.safetensors", "--to", "kohya")
    assert "is a DoRA" in message and "base" in message and not (tmp_path / "o.safetensors").exists()


def test_unknown_keys_are_fatal_unless_they_are_carried(tmp_path: Path) -> None:
    extra = {"bundle_emb.cat.clip_l": t(2, 8)}
    one = save(tmp_path / "a.safetensors", lora_tensors(names=[Q]) | extra)
    two = save(tmp_path / "b.safetensors", lora_tensors(names=[Q], seed=1))
    out = tmp_path / "o.safetensors"
    for words in (
        ["merge", f'"{one}":1,"{two}":-1', "-o", out],
        ["inspect", one],
        ["convert", one, "-o", out, "--to", "kohya"],
    ):
        out.unlink(missing_ok=True)
        assert "'bundle_emb.cat.clip_l'" in output_of(*words) and not out.exists()
        done = call(*words, "--allow-unknown")
        assert done.exit_code == 0, done.output
    assert torch.equal(load_file(out)["bundle_emb.cat.clip_l"], extra["bundle_emb.cat.clip_l"])
    other = save(tmp_path / "c.safetensors", lora_tensors(names=[Q]) | {"bundle_emb.cat.clip_l": t(2, 8, seed=5)})
    assert "differ in it" in output_of(
        "merge", f'"{one}":1,"{other}":1', "-o", tmp_path / "p.safetensors", "--allow-unknown"
    )


def test_merging_flux_files_keeps_what_they_share(tmp_path: Path) -> None:
    one = save(tmp_path / "a.safetensors", flux_tensors())
    two = save(tmp_path / "b.safetensors", {k: v + 0.1 if "alpha" not in k else v for k, v in flux_tensors(3).items()})
    out = tmp_path / "o.safetensors"
    done = call("merge", f'"{one}":1,"{two}":-0.5:D00=0.5,S00=1,OUT=1', "-o", out, "--missing", "1", "--dtype", "fp32")
    assert done.exit_code == 0, done.output
    assert load_file(out)["lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"].shape[0] == 5
    a, b, both = read(one), read(two), read(out)
    name = "transformer.transformer_blocks.0.attn.to_k"
    asked = a[name].dense() - 0.25 * b[name].dense()
    assert float((both[name].dense() - asked).norm() / asked.norm()) < 1e-6


def test_families_do_not_mix(tmp_path: Path) -> None:
    one, two = save(tmp_path / "a.safetensors", flux_tensors()), save(tmp_path / "b.safetensors", lora_tensors(rank=1))
    message = output_of("merge", f'"{one}":1,"{two}":1', "-o", tmp_path / "o.safetensors")
    assert "Flux" in message and "Stable Diffusion 1" in message and "cannot be merged" in message


def test_unknown_models_take_vectors_by_name_and_do_not_mix(tmp_path: Path) -> None:
    names = ("diffusion_model.layers.3.q", "diffusion_model.layers.12.q")
    one = save(tmp_path / "a.safetensors", factors(names[0], 4, 4) | factors(names[1], 4, 4))
    out = tmp_path / "o.safetensors"
    done = call("merge", f'"{one}":1:layers.3=0.5,layers.12=2', "-o", out, "--dtype", "fp32")
    assert done.exit_code == 0, done.output
    for name, factor in zip(names, (0.5, 2.0), strict=True):
        assert torch.allclose(read(out)[name].dense(), factor * read(one)[name].dense())
    message = output_of("merge", f'"{one}":1:layers.3=0.5,layers.13=2', "-o", out, "--missing", "1", "--force")
    assert "no module in block layers.13 (did you mean 'layers.12'?)" in message
    two = save(tmp_path / "b.safetensors", factors("lora_unet_blocks_0_q", 4, 4))
    assert "no module in common" in output_of("merge", f'"{one}":1,"{two}":1', "-o", out, "--force")


def test_norms_and_biases_merge(tmp_path: Path) -> None:
    norm = "lora_unet_mid_block_resnets_0_norm1"
    one = save(tmp_path / "a.safetensors", lora_tensors(names=[Q]) | {f"{norm}.w_norm": t(4), f"{norm}.b_norm": t(4)})
    two = save(tmp_path / "b.safetensors", lora_tensors(names=[Q]) | {f"{norm}.w_norm": t(4, seed=2)})
    out = tmp_path / "o.safetensors"
    done = call("merge", f'"{one}":1,"{two}":-0.5', "-o", out, "--dtype", "fp32")
    assert done.exit_code == 0, done.output
    assert torch.allclose(load_file(out)[f"{norm}.w_norm"], t(4) - 0.5 * t(4, seed=2))
    assert torch.equal(load_file(out)[f"{norm}.b_norm"], t(4))


def test_convert_says_what_it_did_and_reads_folders(tmp_path: Path) -> None:
    stem = f"base_model.model.{Q.removeprefix('unet.')}"
    tensors = factors(stem, 8, 8, down="lora_A.weight", up="lora_B.weight")
    folder = peft_folder(tmp_path / "unet", {"r": 2, "lora_alpha": 4}, tensors)
    out = tmp_path / "o.safetensors"
    done = call("convert", folder, "-o", out, "--to", "kohya", "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["family"], facts["style"], facts["dtype"], facts["modules"]) == ("sd1", "kohya", "fp32", 1)
    assert float(read(out)[Q].norm()) == pytest.approx(read(folder)[Q].norm(), rel=1e-6)
    assert call("inspect", out).exit_code == call("convert", folder, "-o", out, "--to", "kohya").exit_code == 0
    assert "was not written by this step" in output_of(
        "convert", out, "-o", folder / "adapter_model.safetensors", "--to", "kohya"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", "NAME", "--json"),
        ("analyze", "NAME", "--json"),
        ("convert", "NAME", "-o", "out.safetensors", "--to", "diffusers", "--json"),
        ("resize", "NAME", "-o", "out.safetensors", "--rank", "1", "--json"),
        ("edit-header", "NAME", "--title", "Ink", "-o", "out.safetensors", "--json"),
        ("explain", "NAME"),
        ("verify", "NAME", "o/ink@2", "--json"),
        ("merge", "NAME", "-o", "out.safetensors", "--json"),
        ("blocks", "show", "GP1", "--lora", "NAME", "--json"),
        ("blocks", "suggest", "NAME", "o/wash", "--json"),
        ("verify", "NAME", "o/ink@2", "--lora-dir", "o", "--json"),
    ],
    ids=" ".join,
)
def test_every_command_takes_a_run_and_its_epochs_and_names_several(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "o").mkdir()
    for number, name in enumerate(("ink-000001", "ink-000002", "wash-000001")):
        save(tmp_path / f"o/{name}.safetensors", lora_tensors(names=[Q], rank=2, seed=number))
    monkeypatch.chdir(tmp_path)

    def said(name: str) -> str:
        done = call(*(name if word == "NAME" else word for word in words))
        Path("out.safetensors").unlink(missing_ok=True)
        assert done.exit_code == (name == "o"), done.output
        return re.sub(r"(o.)?ink(-00000\d\.safetensors|-00000\d|@\w+)?|\"size\": \d+", "INK", done.output)

    by_path, first = said("o/ink-000002.safetensors"), said("o/ink-000001.safetensors")
    assert said("o/ink") == said("o/ink@last") == said("o/ink@2") == by_path
    assert said("o/ink@1") == first
    assert "error: o holds several runs (INK, wash); give one, such as INK" in said("o")
