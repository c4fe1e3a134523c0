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
from loratools.adapter.files.write_model import write_checkpoint
from loratools.adapter.header import read_header
from loratools.base.load import load_base
from loratools.base.vae import checkpoint_tensors
from loratools.errors import BaseModelError, NeedsBaseError, RankError, RecipeError, TrainingError
from loratools.ops.analysis.describe import brief, describe
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
from loratools.train.output.diffusers_folder import write_folder
from loratools.train.output.state import load_state
from loratools.train.setup import setup_base, setup_trainable
from loratools.train.step.precision import Precision
from loratools.train.trainer import RunResult, dry_run, train
from tests.base.compvis import write_single_file
from tests.tiny import save_tiny_base

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


def test_a_checkpoint_has_the_vae_that_it_was_trained_with(
    make: Callable[..., TrainConfig], tiny: Path, tmp_path: Path
) -> None:
    """As sd-scripts' has: with the base's own VAE, the latents that the weights learnt from mean other pictures."""
    other = save_tiny_base(tmp_path / "other", seed=5)
    vae = write_single_file(other, tmp_path / "whole.safetensors")
    once = {"epochs": 1, "batch_size": 4, "te_lr": 0, "vae": str(vae), "save_end": "diffusers"}
    run = train(make(tmp_path / "a", **once), progress=False)
    wanted, own = (load_base(path, device="cpu").vae.state_dict() for path in (other, tiny))
    for path in (run.epochs[-1], tmp_path / "a/t-last"):
        held = load_base(path, config=str(tiny), device="cpu").vae.state_dict()
        assert held.keys() == own.keys()
        assert all(torch.equal(held[name], one) for name, one in wanted.items())
        assert not all(torch.equal(held[name], one) for name, one in own.items())
    before, after = load_file(write_single_file(tiny, tmp_path / "tiny.safetensors")), load_file(run.epochs[-1])
    assert set(after) == set(before) and read_header(run.epochs[-1]).metadata["ss_vae_name"] == vae.name
    assert not any("encoder.down" in name for name in read(run.epochs[-1]))  # it is no difference to the base


@pytest.mark.parametrize("way", ["folder", "original", "diffusers", "checkpoint"])
def test_the_vae_of_a_checkpoint_is_taken_from_any_form(way: str, tiny: Path, tmp_path: Path) -> None:
    wanted = {
        key: one
        for key, one in load_file(write_single_file(tiny, tmp_path / "whole.safetensors")).items()
        if key.startswith("first_stage_model.")
    }
    stored = {key.removeprefix("first_stage_model."): one for key, one in wanted.items()}
    vae = {"folder": tiny / "vae", "checkpoint": tmp_path / "whole.safetensors"}.get(way, tmp_path / "vae.safetensors")
    if way == "original":
        save_file({**stored, "loss.logvar": torch.zeros(1)}, vae)
    elif way == "diffusers":
        save_file(load_file(tiny / "vae/diffusion_pytorch_model.safetensors"), vae)
    held = checkpoint_tensors(vae)
    assert held.keys() == wanted.keys() and all(torch.equal(held[key], one) for key, one in wanted.items())
    if way == "folder":
        base = load_base(tiny, device="cpu")
        shutil.copytree(tiny, tmp_path / "copy")
        (tmp_path / "copy/vae/config.json").write_text("{}")
        write_folder(
            base,
            open_checkpoint(tmp_path / "copy"),
            {},
            tmp_path / "out",
            dtype=torch.float16,
            owner="t",
            made={},
            vae=vae,
        )
        assert (tmp_path / "out/vae/config.json").read_bytes() == (tiny / "vae/config.json").read_bytes()


def checkpoint_is_an_adapter(file: Path, learnt: Adapter, tiny: Path, out: Path) -> None:
    facts = brief(file)  # by its header alone, as lists of files ask for it
    whole = describe(file)
    assert (facts.modules, facts.scheme, facts.kind) == (len(read(file)), whole.scheme, whole.kind)
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


def test_files_can_become_smaller_ones_when_the_run_goes_on(make: Callable[..., TrainConfig], tmp_path: Path) -> None:
    """As the message of a full disk proposes; a rank that nothing has is refused before the first step."""
    with pytest.raises(RankError, match="save_end: lora:4000 is above what any matrix can have"):
        train(make(tmp_path, save_end="lora:4000"), progress=False)
    steps = {"epochs": 2, "batch_size": 4}
    train(make(tmp_path, **{**steps, "epochs": 1}), progress=False)
    result = train(make(tmp_path, save="lora:2", resume=True, **steps), progress=False)
    whole, small = ({key.partition(".")[0] for key in read_header(path).tensors} for path in result.epochs)
    assert "model" in whole and any(key.startswith("lora_unet_") for key in small)


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


def test_a_rate_of_ones_own_is_the_unets_over_a_presets() -> None:
    def rates(**given: Any) -> tuple[float, float]:
        return make_config({"base": "b", "images": "i", **given}, "test").learned_rates()

    assert rates(network_type="full", learning_rate=4e-6) == (4e-6, pytest.approx(2e-6))
    assert rates(preset="dreambooth-001", learning_rate="4e-6") == (4e-6, pytest.approx(2e-6))
    assert rates(preset="finetune-sdxl", learning_rate=1e-5) == (1e-5, 0)
    assert rates(network_type="full", learning_rate=4e-6, te_lr=0) == (4e-6, 0)
    assert rates(network_type="full", learning_rate=4e-6, unet_lr=1e-5) == (1e-5, pytest.approx(2e-6))


def test_what_a_header_says_of_a_run_makes_its_config_again(make: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = make(tmp_path, weights="bf16", stop_text_encoder_training=0.4, block_lr={"M00": 0.5}, save="lora:4")
    again = make_config(config.settings() | {"device": "cpu", "out": str(tmp_path)}, "the run's header")
    assert again.settings() == config.settings() and "dim" not in config.settings()


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


def test_what_belongs_to_a_setting_of_a_preset_goes_with_it(make: Callable[..., TrainConfig], tmp_path: Path) -> None:
    """As docs/training.md proposes: ``--preset dreambooth-001 --weights bf16``, whose own fp16 is of fp32 weights."""
    guide = make(tmp_path, preset="dreambooth-001")
    assert (guide.mixed_precision, guide.weights) == ("fp16", "fp32")
    assert make(tmp_path, preset="dreambooth-001", weights="bf16").mixed_precision is None
    sdxl = make(tmp_path, preset="finetune-sdxl")
    assert make(tmp_path, preset="finetune-sdxl", optimizer="adafactor").optimizer_args == sdxl.optimizer_args
    assert not make(tmp_path, preset="finetune-sdxl", optimizer="AdamW").optimizer_args
    with pytest.raises(RecipeError, match="leave mixed_precision out, or set it to bf16"):
        make(tmp_path, preset="dreambooth-001", weights="bf16", mixed_precision="fp16")


@pytest.mark.parametrize("kind", [{}, {"network_type": "lora", "preset": "default", "dim": 2}])
def test_a_text_encoder_alone_cannot_be_stopped(
    kind: dict[str, Any], make: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    for run in (train, dry_run):
        with pytest.raises(TrainingError, match="the text encoder alone is trained, and stop_text_encoder_training"):
            run(make(tmp_path, unet_lr=0, stop_text_encoder_training=0.5, **kind))


def test_what_a_base_is_trained_to_predict_is_what_its_files_and_samples_say(
    make: Callable[..., TrainConfig], tiny: Path, tmp_path: Path
) -> None:
    """A base whose file does not say that it predicts v was trained so, and drawn as if it predicted the noise."""
    settings = make(
        tmp_path, epochs=1, batch_size=4, prediction="v_prediction", zero_terminal_snr=True, save_end="diffusers"
    )
    drawn = setup_base(settings).scheduler_config  # of the run's own samples
    assert (drawn["prediction_type"], drawn["rescale_betas_zero_snr"]) == ("v_prediction", True)
    result = train(settings, progress=False)
    folder = load_base(tmp_path / "t-last", device="cpu")
    assert folder.scheduler_config == drawn and load_base(tiny, device="cpu").prediction == "epsilon"
    single = load_base(result.epochs[-1], config=str(tiny), device="cpu")
    assert single.prediction == "v_prediction" and single.zero_snr
    again = setup_base(make(tmp_path, base=str(tmp_path / "t-last")))  # such a base needs neither option
    assert again.prediction == "v_prediction" and again.zero_snr and not again.notes
    other = setup_base(make(tmp_path, base=str(tmp_path / "t-last"), prediction="epsilon"))
    assert other.prediction == "epsilon" and not other.zero_snr
    assert "the base says that it predicts v, and `prediction: epsilon` is asked for" in other.notes[0]


def test_a_checkpoint_can_carry_the_keys_by_which_others_know_it(tiny: Path, tmp_path: Path) -> None:
    made, base = Provenance({}, "t"), open_checkpoint(tiny)
    plain, marked = tmp_path / "plain.safetensors", tmp_path / "marked.safetensors"
    write_checkpoint(base, plain, {}, dtype=None, metadata={}, provenance=made)
    write_checkpoint(base, marked, {}, dtype=None, metadata={}, provenance=made, marks=("v_pred", "ztsnr"))
    without, own = load_file(plain), load_file(marked)
    assert set(own) - set(without) == {"v_pred", "ztsnr"} and own["v_pred"].numel() == 0
    assert all(torch.equal(own[key], value) for key, value in without.items())
    assert set(open_checkpoint(marked)) == set(base)


def test_an_average_of_bf16_weights_is_saved_finer_than_they_are(make: Callable[..., TrainConfig], tiny: Path) -> None:
    """Rounded to bf16, every average change below half of a last place was lost from the files."""
    settings = make(Path("unused"), weights="bf16", ema=0.9)
    base = load_base(tiny, device="cpu", dtype="bf16")
    trained = setup_trainable(settings, base, Precision("bf16", torch.device("cpu")))
    network, ema = trained.network, trained.ema
    assert isinstance(network, FullWeights) and ema is not None
    name = "unet.conv_in.weight"
    start, held = network.start[name], network.masters[name].held
    ema.load([mean + 0.2 * mean.abs() * 2**-8 for mean in ema.state()])  # a fifth of a last place, or two
    assert not network.difference(name).any()
    with trained.saved_weights():
        learnt = network.difference(name)
        assert float(learnt.mean()) == pytest.approx(0.2 * float(start.abs().mean()) * 2**-8, rel=0.01)
        assert float((held.float() == start).float().mean()) > 0.9  # what samples are drawn with
    assert not network.difference(name).any()
