"""Merges of files for one model, for different ones, and for bases that differ: refused, told, or simply summed."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open
from torch import Tensor

from loratools.adapter.architectures.header_words import MODEL, UNCERTAIN
from loratools.adapter.files.base_facts import DISAGREEMENT, VARIANT
from loratools.adapter.files.file import read
from loratools.blocks.presets import load_presets
from loratools.cli import cli
from loratools.errors import FormatError
from loratools.ops.analysis.analyze import analyze
from loratools.ops.merging.merge import merge_files, plan, verify
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.ops.merging.terms import Term, resolve_terms
from loratools.ops.style_removal import SubtractMethod
from loratools.ops.subtract import subtract_files
from tests.loras import save

W = 8
PROJ = "lora_unet_double_blocks_0_img_attn_proj"
TO_OUT = "transformer.transformer_blocks.0.attn.to_out.0"
GUIDANCE = "lora_unet_distilled_guidance_layer_layers_0_in_layer"
UNET = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"


def pair(stem: str, seed: int, rows: int = 1) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    down, up = ("lora_A.weight", "lora_B.weight") if "." in stem else ("lora_down.weight", "lora_up.weight")
    sizes = (2, 2048 if stem == UNET else W), (rows * W, 2)
    return {f"{stem}.{end}": torch.randn(*size, generator=random) for end, size in zip((down, up), sizes, strict=True)}


def file(path: Path, *stems: str, **words: str) -> Path:
    tensors: dict[str, Tensor] = {}
    for number, stem in enumerate(stems):
        tensors |= pair(stem, number + len(path.stem), 4 if "mlp_0" in stem else 1)
    return save(path, tensors, {key.replace("__", "."): text for key, text in words.items()})


def terms(text: str, folder: Path) -> list[Term]:
    return resolve_terms(parse_merge_string(text), lora_dirs=[folder], presets=load_presets())


def header(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as opened:
        return dict(opened.metadata())


def call(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Flux.1 that says so, the same without a word, Chroma in three ways, and an unlabelled file by Diffusers names."""
    file(tmp_path / "flux.safetensors", PROJ, ss_base_model_version="flux1")
    file(tmp_path / "bare.safetensors", PROJ)
    file(tmp_path / "dotted.safetensors", TO_OUT)
    file(tmp_path / "chroma.safetensors", PROJ, modelspec__architecture="chroma/lora")
    file(tmp_path / "chroma2.safetensors", PROJ, ss_base_model_version="chroma")
    file(tmp_path / "guided.safetensors", PROJ, GUIDANCE)
    return tmp_path


def test_chroma_and_flux_1_are_two_models(here: Path) -> None:
    for text in ("chroma:1,flux:1", "guided:1,flux:1", "flux:1,dotted:1,chroma:1"):
        with pytest.raises(FormatError, match=r"Chroma.*different model families cannot be merged|Flux\.1.*cannot be"):
            plan(terms(text, here))


def test_chroma_stays_chroma_in_a_merge(here: Path) -> None:
    report = merge_files(terms("chroma:1,chroma2:1", here), here / "out.safetensors")
    texts = header(report.path)
    assert not report.warnings and texts["modelspec.architecture"] == "chroma/lora"
    assert texts["ss_base_model_version"] == "chroma" and MODEL not in texts
    guided = merge_files(terms("chroma:1,guided:-0.5", here), here / "both.safetensors")
    assert guided.modules == 2 and read(guided.path).identity.model == "chroma"
    assert verify(guided.path, terms("chroma:1,guided:-0.5", here)).error < 1e-3


def test_an_uncertain_file_is_summed_and_told(here: Path) -> None:
    for text, family in (
        ("flux:1,bare:1", "flux"),
        ("flux:1,dotted:1", "flux"),
        ("bare:1,dotted:-0.5", "flux"),
        ("chroma:1,bare:1", "chroma"),
        ("guided:1,bare:1", "chroma"),
    ):
        asked = terms(text, here)
        report = merge_files(asked, here / "out.safetensors", force=True)
        assert len(report.warnings) == 1 and UNCERTAIN in report.warnings[0], text
        assert plan(asked).json()["warnings"] == list(report.warnings) and report.warnings[0] in plan(asked).text()
        texts = header(report.path)
        assert not {"modelspec.architecture", "ss_base_model_version"} & set(texts), text
        assert texts.get(MODEL) == UNCERTAIN
        assert asked[0].adapter.family == family and report.modules == (2 if "guided" in text else 1)
        assert verify(report.path, terms(text, here)).error < 1e-3


def test_files_of_families_with_the_same_names_are_told(tmp_path: Path) -> None:
    """Anima's and Cosmos-Predict2's blocks are the same."""
    block = "lora_unet_blocks_0_self_attn_q_proj"
    file(tmp_path / "a.safetensors", block)
    file(tmp_path / "b.safetensors", block, modelspec__architecture="anima-preview/lora")
    (warning,) = plan(terms("a:1,b:1", tmp_path)).warnings
    assert "a.safetensors could be for Anima or Cosmos-Predict2" in warning
    assert not plan(terms("b:1", tmp_path)).warnings and not plan(terms("a:1", tmp_path)).warnings


def test_one_file_alone_is_no_cause_for_a_warning(here: Path) -> None:
    assert not plan(terms("bare:1", here)).warnings and not plan(terms("bare:1,bare:-0.5", here)).warnings


def test_a_vector_means_the_blocks_of_what_the_files_are_read_as(here: Path) -> None:
    (flux, dotted) = terms("flux:1,dotted:1:D00=0.25", here)
    assert dotted.strength(TO_OUT) == 0.25 and flux.strength(TO_OUT) == 1


def test_two_sides_of_a_subtraction_and_of_a_comparison_are_read_alike(here: Path) -> None:
    report = subtract_files(
        terms("flux:1", here), terms("dotted:1", here), here / "out.safetensors", method=SubtractMethod()
    )
    assert report.written.modules == 1 and UNCERTAIN in report.json()["warnings"][0]
    assert analyze(here / "flux.safetensors", here / "dotted.safetensors").json()


def test_flux_2_of_two_sizes_is_refused_and_without_a_size_is_not(tmp_path: Path) -> None:
    for name, word in (("a", "flux_2_klein_4b"), ("b", "flux2"), ("c", "Flux.2-dev")):
        file(tmp_path / f"{name}.safetensors", PROJ, ss_base_model_version=word)
    assert not plan(terms("a:1,b:1", tmp_path)).warnings
    with pytest.raises(FormatError, match=r"Flux\.2 klein 4B.*Flux\.2 dev"):
        plan(terms("a:1,c:1", tmp_path))


# --- bases of one family that differ ---------------------------------------------------------------------------------


def sdxl(path: Path, **words: str) -> Path:
    return file(path, UNET, ss_base_model_version="sdxl_base_v1-0", **words)


def test_v_prediction_and_epsilon_are_told_everywhere(tmp_path: Path) -> None:
    v = sdxl(tmp_path / "noob.safetensors", modelspec__prediction_type="v", ss_zero_terminal_snr="True")
    e = sdxl(tmp_path / "illustrious.safetensors", modelspec__prediction_type="epsilon", ss_zero_terminal_snr="False")
    out = tmp_path / "m.safetensors"
    for words in (
        ("merge", f"{v}:1,{e}:-0.5"),
        ("soup", v, e),
        ("subtract", v, e),
        ("subtract", v, e, "--mode", "soft"),
    ):
        done = call(*words, "-o", out, "--force")
        assert done.exit_code == 0, done.output
        assert done.stderr.startswith("warning: ") and "v in noob.safetensors" in done.stderr
        assert "warning" not in done.stdout
        as_json = call(*words, "-o", out, "--force", "--json")
        assert "prediction type is epsilon in illustrious.safetensors" in json.loads(as_json.stdout)["warnings"][0]
        if "soft" not in words:
            assert json.loads(header(out)[DISAGREEMENT]) == {
                "prediction_type": {"epsilon": ["illustrious.safetensors"], "v": ["noob.safetensors"]},
                "zero_terminal_snr": {"False": ["illustrious.safetensors"], "True": ["noob.safetensors"]},
            }
    planned = call("merge", f"{v}:1,{e}:-0.5", "--dry-run")
    assert "warning: these LoRAs were trained on different kinds of base" in planned.stdout and not planned.stderr


def test_the_disagreement_survives_what_is_done_with_the_file(tmp_path: Path) -> None:
    sdxl(tmp_path / "v.safetensors", ss_v_parameterization="True")
    sdxl(tmp_path / "e.safetensors", ss_v_parameterization="False")
    sdxl(tmp_path / "e2.safetensors", ss_v_parameterization="False")
    out = merge_files(terms("v:1,e:1", tmp_path), tmp_path / "m.safetensors").path
    done = call("convert", out, "-o", tmp_path / "c.safetensors", "--to", "diffusers")
    assert done.exit_code == 0 and header(tmp_path / "c.safetensors")[DISAGREEMENT] == header(out)[DISAGREEMENT]
    assert "epsilon" in call("inspect", "--brief", tmp_path / "c.safetensors").stdout
    again = merge_files(terms("m:1,e2:1", tmp_path), tmp_path / "n.safetensors")
    assert again.warnings
    assert json.loads(header(again.path)[DISAGREEMENT])["prediction_type"] == {
        "epsilon": ["m.safetensors", "e2.safetensors"],
        "v": ["m.safetensors"],
    }


def test_what_the_files_agree_on_survives(tmp_path: Path) -> None:
    words = {"modelspec__prediction_type": "v", "ss_zero_terminal_snr": "True", "ss_v_parameterization": "True"}
    sdxl(tmp_path / "a.safetensors", ss_sd_model_name="a_lightning.safetensors", **words)
    sdxl(tmp_path / "b.safetensors", ss_sd_model_name="b-Lightning.safetensors", **words)
    report = merge_files(terms("a:1,b:1", tmp_path), tmp_path / "m.safetensors")
    texts = header(report.path)
    assert not report.warnings and DISAGREEMENT not in texts
    assert texts["modelspec.prediction_type"] == "v" and texts["ss_v_parameterization"] == "True"
    assert texts["ss_zero_terminal_snr"] == "True" and texts[VARIANT] == "lightning"
    resized = call("resize", report.path, "-o", tmp_path / "r.safetensors", "--rank", "2")
    assert resized.exit_code == 0 and header(tmp_path / "r.safetensors")[VARIANT] == "lightning"


@pytest.mark.parametrize("variant", ["flux1-schnell", "flux1-krea-dev", "flux1-dev-turbo", "flux1-kontext-dev"])
def test_a_variant_beside_the_full_model_is_told(tmp_path: Path, variant: str) -> None:
    common = {"ss_base_model_version": "flux1"}
    file(tmp_path / "a.safetensors", PROJ, **common, ss_sd_model_name="flux1-dev.safetensors")
    file(tmp_path / "b.safetensors", PROJ, **common, ss_sd_model_name=f"{variant}.safetensors")
    report = merge_files(terms("a:1,b:1", tmp_path), tmp_path / "m.safetensors")
    assert len(report.warnings) == 1 and "variant of the base is full in a.safetensors" in report.warnings[0]
    said = header(report.path).get("modelspec.architecture")
    assert said == (None if "schnell" in variant else "flux-1-dev/lora")  # a word of its own schnell has not


def test_a_recipe_tells_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sdxl(tmp_path / "v.safetensors", ss_v_parameterization="True")
    sdxl(tmp_path / "e.safetensors", ss_v_parameterization="False")
    (tmp_path / "r.yaml").write_text(
        'version: 1\nbase: pocket\nsteps:\n  m: {merge: "v.safetensors:1,e.safetensors:1"}\n'
    )
    for state in ("made", "cached"):
        done = call("run", "r.yaml")
        assert done.exit_code == 0, done.output
        assert "warning: the step 'm': these LoRAs were trained on different kinds of base" in done.stderr, state
