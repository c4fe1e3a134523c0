"""A Diffusers folder of another family before anything is loaded: what is missing, and what is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loratools.base.any_base import is_pipeline
from loratools.base.base_path import locate_base
from loratools.base.load import load_base
from loratools.base.pipelines.folder import PipelineFolder, quantisation
from loratools.base.pipelines.kinds import family_of_pipeline
from loratools.base.pipelines.plain_prompt import check_plain
from loratools.errors import BaseModelError, PromptError, UnavailableError

INDEX: dict[str, Any] = {
    "_class_name": "ZImagePipeline",
    "_diffusers_version": "0.42.1",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "Qwen3Model"],
    "tokenizer": ["transformers", "Qwen2Tokenizer"],
    "transformer": ["diffusers", "ZImageTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def folder(path: Path, **changes: Any) -> Path:
    """A folder of empty parts."""
    index = {**INDEX, **changes}
    for name, own in index.items():
        if isinstance(own, list) and own[0]:
            (path / name).mkdir(parents=True)
    (path / "model_index.json").write_text(json.dumps(index))
    return path


def test_a_folder_with_a_transformer_is_one(tmp_path: Path) -> None:
    assert is_pipeline(locate_base(folder(tmp_path / "z")))
    assert not is_pipeline(locate_base("pocket"))


def test_training_and_the_like_say_that_they_need_stable_diffusion(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="is a ZImagePipeline: grids, block effects and `blocks tune` draw"):
        load_base(folder(tmp_path / "z"), device="cpu")


def test_the_digest_is_over_every_part_of_the_index(tmp_path: Path) -> None:
    whole = folder(tmp_path / "z")
    (whole / "transformer/a.safetensors").write_bytes(b"one")
    (whole / "other").mkdir()
    before = locate_base(whole).digest()
    (whole / "other/a.safetensors").write_bytes(b"none of the model's")
    assert locate_base(whole).digest() == before
    (whole / "transformer/a.safetensors").write_bytes(b"two")
    assert locate_base(whole).digest() != before


@pytest.mark.parametrize(
    ("changes", "lost", "message"),
    [
        ({}, "text_encoder", "lacks its folder text_encoder/, which model_index.json names"),
        ({"text_encoder": [None, None]}, "", "has no text_encoder, so that no picture can be drawn"),
        ({"transformer_2": ["diffusers", "WanTransformer3DModel"]}, "", "has two transformers, for high and for low"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, changes: dict[str, Any], lost: str, message: str) -> None:
    path = folder(tmp_path / "z", **changes)
    if lost:
        (path / lost).rmdir()
    with pytest.raises(BaseModelError, match=message):
        PipelineFolder.read(path).check()


def test_parts_that_a_pipeline_can_do_without_may_be_missing(tmp_path: Path) -> None:
    PipelineFolder.read(folder(tmp_path / "z", text_encoder=[None, None])).check(optional=("text_encoder",))
    sd3 = folder(tmp_path / "sd3", _class_name="StableDiffusion3Pipeline", text_encoder_3=[None, None])
    PipelineFolder.read(sd3).check()


def test_weights_that_need_a_package_name_it(tmp_path: Path) -> None:
    path = folder(tmp_path / "z")
    (path / "transformer/config.json").write_text(json.dumps({"quantization_config": {"quant_method": "nowhere"}}))
    assert quantisation(path / "transformer") == "nowhere" and quantisation(path / "vae") is None
    with pytest.raises(UnavailableError, match="quantised by nowhere, which needs nowhere; install it"):
        PipelineFolder.read(path).check()


def test_a_pipeline_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="names no pipeline of diffusers"):
        PipelineFolder.read(folder(tmp_path / "z", _class_name=["pipeline", "Own"]))


def test_half_precision_variants_are_asked_for_where_there_is_nothing_else(tmp_path: Path) -> None:
    path = folder(tmp_path / "z")
    (path / "transformer/diffusion_pytorch_model.fp16.safetensors").touch()
    assert PipelineFolder.read(path).variant() == "fp16"
    (path / "transformer/diffusion_pytorch_model.safetensors").touch()
    assert PipelineFolder.read(path).variant() is None


@pytest.mark.parametrize(
    ("pipeline", "network", "family"),
    [
        ("FluxPipeline", "FluxTransformer2DModel", "flux"),
        ("ChromaPipeline", "ChromaTransformer2DModel", "chroma"),
        ("Flux2KleinPipeline", "Flux2Transformer2DModel", "flux2"),
        ("Cosmos2TextToImagePipeline", "CosmosTransformer3DModel", "cosmos-predict2"),
        ("OwnPipeline", "OwnTransformer2DModel", "unknown"),
    ],
)
def test_the_family_follows_from_the_network(pipeline: str, network: str, family: str) -> None:
    assert family_of_pipeline(pipeline, network) == family


@pytest.mark.parametrize("text", ["a (cat:1.2)", "(a, b: 0.8) c", "__hair__", "{a|b}", "<lora:x:1"])
def test_what_only_the_webuis_syntax_means_is_refused(text: str) -> None:
    with pytest.raises(PromptError):
        check_plain("ZImagePipeline", text)


@pytest.mark.parametrize("text", ["a cat (sleeping)", "ratio 16:9", r"miku \(vocaloid:2\)", "a [b] c", ""])
def test_plain_words_pass(text: str) -> None:
    check_plain("ZImagePipeline", text)
