"""Training all weights of a base, from its config to its files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from loratools.adapter.files.checkpoint import open_checkpoint
from loratools.adapter.files.file import Adapter, read
from loratools.adapter.files.metadata import Provenance
from loratools.adapter.header import read_header
from loratools.base.load import load_base
from loratools.errors import BaseModelError, NeedsBaseError, RecipeError, TrainingError
from loratools.ops.merging.combine import combine
from loratools.ops.merging.merge import into_provenance
from loratools.ops.merging.merge_into import merge_into
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.ops.merging.terms import resolve_terms
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import make_config
from loratools.train.network.block_rates import BlockRates
from loratools.train.network.full import FullWeights, exact_weights, named_parameters
from loratools.train.optim.param_groups import parameter_groups
from loratools.train.output.state import load_state
from loratools.train.trainer import RunResult, train

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]
QUICK = {
    "network_type": "full",
    "preset": "full",
    "epochs": 2,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "unet_lr": 1e-3,
    "te_lr": 1e-3,
    "device": "cpu",
    "name": "t",
}


@pytest.fixture(scope="module")
def make(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrainConfig]:
    """A quick full training on the tiny base; ``make(OUT, **settings)``."""
    import numpy as np
    from PIL import Image

    images = tmp_path_factory.mktemp("full") / "images"
    images.mkdir()
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(values).save(images / f"{number}.png")
        (images / f"{number}.txt").write_text(f"1girl, smile, tag{number}")

    def config(out: Path, **settings: Any) -> TrainConfig:
        given = {**QUICK, "base": str(tiny), "images": str(images), "out": str(out), **settings}
        return make_config(given, "test")

    return config


def weights(result: RunResult) -> dict[str, torch.Tensor]:
    state = load_state(result.state)
    assert state is not None
    return state.network


def test_sd_scripts_696_kohya_2695_stopping_the_text_encoder_goes_on_to_the_end(
    make: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    """In sd-scripts ``stop_text_encoder_training`` ends the run with a TypeError at that step."""
    settings = make(tmp_path, epochs=5, batch_size=4, stop_text_encoder_training=0.4, save="delta")
    result = train(settings, progress=False)
    assert result.steps == 5 == len(result.epochs)
    files = [read(result.epochs[step - 1]) for step in (1, 2, 3, 5)]
    text = next(name for name in files[0] if name.endswith("layers.0.self_attn.q_proj"))
    unet = "unet.conv_in"
    one, two, three, five = ([file[name].dense() for name in (text, unet)] for file in files)
    assert not torch.equal(one[0], two[0])
    assert torch.equal(two[0], three[0]) and torch.equal(three[0], five[0])
    assert not torch.equal(two[1], three[1]) and not torch.equal(three[1], five[1])


@pytest.mark.slow  # bf16 is slow on a CPU
def test_a_killed_run_goes_on_to_the_same_bytes(
    make: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bf16 weights, which are rounded at random, an average, and a step within the backward pass."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    average = {"ema": 0.9, "batch_size": 4, "save": "delta", "save_end": "lora:2"}
    drawn = {"weights": "bf16", "max_grad_norm": 0, **average}
    whole = train(make(tmp_path / "whole", **drawn), progress=False)

    class Killed(Exception):
        pass

    def kill(record: Any) -> None:
        if record.step == 1:
            raise Killed

    settings = make(tmp_path / "killed", **drawn)
    with pytest.raises(Killed):
        train(settings, progress=False, on_step=kill)
    result = train(settings.model_copy(update={"resume": True}), progress=False)
    names = ["t-000001.safetensors", "t-000002.safetensors", "t-last.safetensors"]
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name
    assert result.losses == whole.losses
    assert {held.dtype for held in weights(result).values()} == {torch.bfloat16}


def test_checkpoint_delta_and_folder_are_one_result(
    make: Callable[..., TrainConfig], tiny: Path, tmp_path: Path
) -> None:
    """A checkpoint is the base plus the delta, to the byte; what is not trained is the base's own, to the byte."""
    once = {"epochs": 1, "batch_size": 4}
    whole = train(make(tmp_path / "a", te_lr=0, save_end="diffusers", **once), progress=False)
    delta = train(make(tmp_path / "b", te_lr=0, save="delta", **once), progress=False)
    tuned, base, learnt = open_checkpoint(whole.epochs[-1]), open_checkpoint(tiny), read(delta.epochs[-1])
    assert tuned.family == "sd1" and set(tuned) == set(base)
    for name in base:
        changed = name if base[name].dim() == 1 else name.removesuffix(".weight")
        if name.startswith("text_encoder"):
            assert changed not in learnt and torch.equal(tuned[name], base[name])
        else:
            wanted = (base[name] + learnt[changed].dense().reshape(base[name].shape)).half()
            assert torch.equal(tuned[name], wanted), name
    assert {tuned.dtype("unet.conv_in.weight"), tuned.dtype("unet.conv_out.bias")} == {"F16"}
    assert tuned.dtype("text_encoder.text_model.final_layer_norm.weight") == "F32"
    single = load_base(whole.epochs[-1], config=str(tiny), device="cpu")
    folder, before = load_base(tmp_path / "a" / "t-last", device="cpu"), load_base(tiny, device="cpu")
    for part in ("unet", "vae", "text_encoder"):
        for one, two in zip(getattr(single, part).parameters(), getattr(folder, part).parameters(), strict=True):
            assert torch.equal(one, two)
    for one, two in zip(single.vae.parameters(), before.vae.parameters(), strict=True):
        assert torch.equal(one, two)
    checkpoint_is_an_adapter(whole.epochs[-1], learnt, tiny, tmp_path)
    texts = read_header(whole.epochs[-1]).metadata
    assert texts["modelspec.architecture"] == "stable-diffusion-v1" and "ss_network_module" not in texts
    made = Provenance.from_metadata(texts)
    assert made is not None and made.owner == "train:t" and made.inputs[0]["digest"] == before.digest
    assert texts["modelspec.hash_sha256"].startswith("0x")


def checkpoint_is_an_adapter(file: Path, learnt: Adapter, tiny: Path, out: Path) -> None:
    """An epoch's checkpoint is read as what it differs by; added to the base as a folder it is the checkpoint again."""
    tuned = read(file)
    assert set(tuned) == set(learnt) and set(tuned.kinds.values()) == {"tuned"} and tuned.dense == set(tuned)
    name = "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    one, two = tuned[name].dense().flatten(), learnt[name].dense().flatten()
    assert float(torch.nn.functional.cosine_similarity(one, two, dim=0)) > 0.99
    (term,) = resolve_terms(parse_merge_string(f"{file}:1"), [], presets={})
    merged = out / "merged.safetensors"
    report = merge_into(combine([term]), tiny, merged, provenance=into_provenance([term], tiny, "t"))
    assert report.modules == len(tuned) and set(load_file(merged)) == set(load_file(file))
    again, base = open_checkpoint(merged), open_checkpoint(tiny)
    assert torch.equal(again[f"{name}.weight"], base[f"{name}.weight"] + tuned[name].dense())
    moved = out / "moved.safetensors"
    shutil.copyfile(file, moved)
    with pytest.raises(NeedsBaseError, match=r"moved.safetensors is a whole checkpoint, .* make a LoRA of it with"):
        read(moved)[name]
    assert torch.equal(read(moved, base)[name].dense(), tuned[name].dense())


def test_a_delta_whose_base_is_gone_loses_nothing(
    make: Callable[..., TrainConfig], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    mine, away = tmp_path / "mine", tmp_path / "away"
    shutil.copytree(tiny, mine)

    def take_away(record: Any) -> None:
        if record.step == 1:
            mine.rename(away)

    settings = make(tmp_path / "a", base=str(mine), epochs=1, batch_size=4, save="delta")
    with pytest.raises(
        TrainingError,
        match=r"mine.* cannot be read any more .*put it back and go on with `resume=True`: the state is saved",
    ):
        train(settings, progress=False, on_step=take_away)
    away.rename(mine)
    result = train(settings.model_copy(update={"resume": True}), progress=False)
    whole = train(make(tmp_path / "b", base=str(mine), epochs=1, batch_size=4, save="delta"), progress=False)
    assert result.epochs[0].read_bytes() == whole.epochs[0].read_bytes()


def test_an_extract_says_its_error_by_block(make: Callable[..., TrainConfig], tmp_path: Path) -> None:
    heard: list[Any] = []
    result = train(make(tmp_path, epochs=1, batch_size=4, save="lora:4"), progress=False, on_epoch=heard.append)
    (line,) = [json.loads(text) for text in result.log.read_text().splitlines() if '"file"' in text]
    assert line["kind"] == "file" and 0 < line["error"] < 1 and {"IN01", "M00", "OUT11"} <= set(line["blocks"])
    assert heard[0].metrics["error of the LoRA"] == line["error"]
    kinds = set(read(result.epochs[0]).kinds.values())
    assert kinds >= {"lora", "norm", "bias"}


def test_rates_parts_and_blocks(make: Callable[..., TrainConfig], tiny: Path, tmp_path: Path) -> None:
    base = load_base(tiny, device="cpu")
    settings = make(tmp_path, unet_lr=1e-4, te_lr=5e-5, block_lr={"IN00": 0.5, "M00": 0, "OUT03-OUT11": 2}, clip_skip=2)
    network = FullWeights(base, settings, exact_weights(base))
    rates = {id(p): group["lr"] for group in parameter_groups(network, settings) for p in group["params"]}
    by_name = {name: rates[id(master.leaf)] for name, master in network.masters.items()}
    assert by_name["unet.conv_in.bias"] == 5e-5 and by_name["unet.up_blocks.1.resnets.0.norm1.weight"] == 2e-4
    assert by_name["unet.time_embedding.linear_1.weight"] == 1e-4 == by_name["unet.conv_out.weight"]
    assert not any(name.startswith("unet.mid_block") for name in by_name)
    assert by_name["text_encoder.text_model.embeddings.token_embedding.weight"] == 5e-5
    assert by_name["text_encoder.text_model.final_layer_norm.weight"] == 5e-5
    assert not any(".layers.1." in name for name in by_name)  # clip skip 2 reads the states before the last layer
    assert sum(network.sizes.values()) == sum(master.live.numel() for master in network.masters.values())
    alone = make(tmp_path, unet_lr=0)
    names = FullWeights(base, alone, exact_weights(base)).names
    assert set(names) == {name for name, _ in named_parameters(base) if name.startswith("text_encoder")}


def test_the_23_numbers_of_sd_scripts() -> None:
    rates = BlockRates("sdxl", ",".join(str(number) for number in range(23)))
    wanted = {
        "unet.time_embedding.linear_1.weight": 0,
        "unet.add_embedding.linear_2.bias": 0,
        "unet.conv_in.weight": 1,
        "unet.down_blocks.0.resnets.0.norm1.weight": 2,
        "unet.down_blocks.2.attentions.1.proj_in.weight": 9,
        "unet.mid_block.resnets.0.conv1.weight": 10,
        "unet.mid_block.attentions.0.norm.weight": 11,
        "unet.mid_block.resnets.1.conv1.weight": 12,
        "unet.up_blocks.0.resnets.0.conv1.weight": 13,
        "unet.up_blocks.2.resnets.2.conv2.bias": 21,
        "unet.conv_norm_out.weight": 22,
        "unet.conv_out.bias": 22,
        "text_encoder.text_model.final_layer_norm.bias": 1.0,
    }
    assert {name: rates.factor(name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 8}, r"'dim' is a LoRA's, and all weights are trained here; leave it out, or write save: lora:32"),
        ({"preset": "style-004"}, r"style-004 has a LoRA's numbers, .*dreambooth-001, finetune-sdxl"),
        ({"conv_dim": 4}, "conv_dim is for a LoRA; leave it out of a full training"),
        ({"base_adapters": "a.safetensors:1"}, "base_adapters is for a LoRA; add them to the base first"),
        ({"fused_backward_pass": "on", "mixed_precision": "fp16"}, "the loss scaling of fp16 needs all gradients"),
        (
            {"fused_backward_pass": "on", "gradient_accumulation": 2},
            "gradient_accumulation keeps gradients; set it to 1",
        ),
        ({"fused_backward_pass": "on", "optimizer": "Prodigy"}, "Prodigy needs all gradients at once; use Adafactor"),
        ({"weights": "bf16", "optimizer": "Prodigy"}, "Prodigy cannot move bf16 weights one by one"),
        ({"weights": "bf16", "mixed_precision": "no"}, "weights: bf16 computes in bf16, not no"),
        ({"save": "lora"}, "'lora' is no kind of file; write checkpoint, delta, lora:64 or lora:error=0.05"),
        ({"save": "diffusers"}, "an epoch's file cannot be a folder; write save_end: diffusers"),
        ({"network_type": "lora", "preset": "default", "save": "delta"}, "save is for network_type full"),
    ],
)
def test_mistakes_are_one_sentence(
    settings: dict[str, Any], message: str, make: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        make(tmp_path, **settings)


def test_a_base_in_8_bits_is_refused(make: Callable[..., TrainConfig], tiny: Path, tmp_path: Path) -> None:
    coarse = tmp_path / "coarse"
    shutil.copytree(tiny, coarse)
    file = coarse / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    save_file({**state, "conv_in.weight": state["conv_in.weight"].to(torch.float8_e4m3fn)}, file)
    with pytest.raises(BaseModelError, match=r"holds weights of 8 bits \(F8_E4M3\), too coarse to train all of"):
        train(make(tmp_path, base=str(coarse)), progress=False)
