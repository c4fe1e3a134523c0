from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from loratools.base import single_file
from loratools.base.base_path import base_digest
from loratools.base.load import load_base, pick_device
from loratools.base.model import Base
from loratools.base.prompt.conditioning import condition
from loratools.base.sampling.samplers import find_sampler
from loratools.base.text_model import build_text_encoder, canonical, flat, load_tokenizer
from loratools.errors import BaseModelError, LoratoolsError
from loratools.files import sha256
from loratools.pocket.architecture import scheduler_config
from loratools.train.step.objective import noise_schedule
from tests.base.compvis import to_compvis, write_single_file
from tests.base.tiny_xl import save_tiny_xl


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(value, other[name]) for name, value in a.state_dict().items())


def test_a_folder_loads_with_the_weights_of_its_files(base: Base, folder: Path) -> None:
    stored = load_file(folder / "text_encoder/model.safetensors")
    live = {flat(name): value for name, value in base.text_encoder.state_dict().items()}
    assert stored
    for name, value in stored.items():
        assert torch.equal(live[flat(name)], value), name
    unet = load_file(folder / "unet/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(base.unet.state_dict()[name], value) for name, value in unet.items())
    assert (base.family, base.resolution, base.dtype, base.prediction) == ("sd1", (64, 64), torch.float32, "epsilon")
    assert base.name == "tiny" and len(base.digest) == 64
    assert not any(p.requires_grad for part in base.components().values() for p in part.parameters())


def test_text_encoders_load_with_and_without_the_text_model_level(folder: Path, base: Base, tmp_path: Path) -> None:
    stored = load_file(folder / "text_encoder/model.safetensors")
    assert all(name.startswith("text_model.") for name in stored)
    for rename in (flat, canonical):
        state = {rename(name): value for name, value in stored.items()}
        model = build_text_encoder(folder / "text_encoder", state, torch.float32, "x")
        assert same_weights(model, base.text_encoder)


def test_loading_is_silent(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_base(folder, device="cpu")
    assert capfd.readouterr() == ("", "")


def test_a_single_file_loads_offline_to_the_same_model(folder: Path, base: Base, tmp_path: Path) -> None:
    file = write_single_file(folder, tmp_path / "model-x.safetensors")
    loaded = load_base(file, device="cpu", config=folder)
    assert same_weights(loaded.unet, base.unet)
    assert same_weights(loaded.vae, base.vae)
    assert same_weights(loaded.text_encoder, base.text_encoder)
    assert torch.equal(condition(loaded, ["red hair"]).hidden, condition(base, ["red hair"]).hidden)
    assert loaded.name == "model-x" and loaded.digest == sha256(file) == base_digest(file)


def outlines(base: Base) -> list[tuple[str, str, torch.Size, torch.dtype]]:
    """Every parameter's part, name, shape and type."""
    parts = {**base.components(), "vae": base.vae}
    return [
        (part, name, own.shape, own.dtype) for part, model in parts.items() for name, own in model.named_parameters()
    ]


def test_a_base_without_weights_is_the_same_but_for_the_numbers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_single_file(folder, tmp_path / "model-x.safetensors")
    torch.save(load_file(file), tmp_path / "model-x.ckpt")
    for source in (folder, save_tiny_xl(tmp_path / "xl"), file, tmp_path / "model-x.ckpt"):
        config = None if source.is_dir() else folder
        whole = load_base(source, device="cpu", dtype="fp16", config=config)
        with monkeypatch.context() as patched:
            patched.setattr("diffusers.ModelMixin.from_pretrained", None)
            patched.setattr("safetensors.torch.load_file", None)
            empty = load_base(source, device="cpu", dtype="fp16", config=config, weights=False)
        assert outlines(empty) == outlines(whole), source
        assert all(own.is_meta for part in (*empty.components().values(), empty.vae) for own in part.parameters())
        for name in ("family", "resolution", "device", "dtype", "defaults", "digest", "name", "source", "prediction"):
            assert getattr(empty, name) == getattr(whole, name), (source, name)


def test_a_ckpt_loads_and_one_with_code_is_refused(folder: Path, base: Base, tmp_path: Path) -> None:
    file = write_single_file(folder, tmp_path / "x.safetensors")
    torch.save({"state_dict": load_file(file), "global_step": 3}, tmp_path / "x.ckpt")
    assert same_weights(load_base(tmp_path / "x.ckpt", device="cpu", config=folder).unet, base.unet)
    torch.save({"state_dict": load_file(file), "hook": Path("x")}, tmp_path / "evil.ckpt")
    with pytest.raises(BaseModelError, match=r"run code; convert it to \.safetensors"):
        load_base(tmp_path / "evil.ckpt", device="cpu", config=folder)


def test_a_sidecar_or_a_key_tells_v_prediction(folder: Path, tmp_path: Path) -> None:
    file = write_single_file(folder, tmp_path / "v.safetensors")
    sidecar = tmp_path / "v.yaml"
    sidecar.write_text("model:\n  params:\n    parameterization: 'v'\n")
    assert load_base(file, device="cpu", config=folder).prediction == "v_prediction"
    sidecar.write_text("model: 3")
    with pytest.raises(BaseModelError, match=r"v\.yaml"):
        load_base(file, device="cpu", config=folder)
    assert single_file.prediction_of(file, {"v_pred": torch.zeros(0)}) == "v_prediction"


@pytest.mark.parametrize(
    ("keys", "header", "said"),
    [
        ((), {}, ("epsilon", False)),
        (("v_pred",), {}, ("v_prediction", False)),
        (("v_pred", "ztsnr"), {}, ("v_prediction", True)),
        (("ztsnr",), {}, ("epsilon", False)),  # as in ComfyUI: a noise prediction cannot begin at pure noise
        ((), {"modelspec.prediction_type": "v"}, ("v_prediction", False)),
        ((), {"modelspec.prediction_type": "v", "ss_zero_terminal_snr": "True"}, ("v_prediction", True)),
        ((), {"modelspec.prediction_type": "v", "modelspec.zero_terminal_snr": "true"}, ("v_prediction", True)),
        (("ztsnr",), {"ss_v_parameterization": "True"}, ("v_prediction", True)),
        (("v_pred",), {"modelspec.prediction_type": "epsilon"}, ("v_prediction", False)),
        ((), {"modelspec.prediction_type": "epsilon", "ss_zero_terminal_snr": "True"}, ("epsilon", False)),
    ],
)
def test_what_others_files_say_of_their_noise_is_what_is_drawn_by(
    keys: tuple[str, ...], header: dict[str, str], said: tuple[str, bool], tmp_path: Path
) -> None:
    state = {key: torch.zeros(0) for key in (*keys, "weight")}
    save_file(state, tmp_path / "v.safetensors", header)
    config = single_file.scheduler_facts(tmp_path / "v.safetensors", state, scheduler_config())
    sampler = find_sampler("Euler a").make_scheduler(config, 4)
    assert sampler.config.prediction_type == said[0] and (sampler.alphas_cumprod[-1] < 1e-7) == said[1]
    schedule = noise_schedule(config)
    assert schedule.prediction == said[0] and (schedule.abar[-1] == 0) == said[1]


def test_a_base_that_begins_at_pure_noise_has_pictures_of_its_own_keys(folder: Path, tmp_path: Path) -> None:
    file = write_single_file(folder, tmp_path / "v.safetensors")
    save_file({**load_file(file), "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, file)
    loaded = load_base(file, device="cpu", config=folder)
    assert (loaded.prediction, loaded.zero_snr) == ("v_prediction", True)
    assert loaded.drawn_by == f"{loaded.digest} zero-snr"


@pytest.mark.parametrize(("width", "family"), [(768, "sd1"), (1024, "sd2"), (2048, "sdxl")])
def test_the_family_is_seen_from_the_context_width(width: int, family: str) -> None:
    block = 4 if family == "sdxl" else 1
    key = f"model.diffusion_model.input_blocks.{block}.1.transformer_blocks.0.attn2.to_k.weight"
    assert single_file.family_of(Path("x"), {key: torch.zeros(320, width)}) == family


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_shipped_configs_build_models_of_the_known_size(family: str) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    sizes = {"sd1": (859520964, 123060480), "sd2": (865910724, 340387840), "sdxl": (2567463684, 123060480)}
    folder = single_file.CONFIGS / family
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder, subfolder="unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder, subfolder="vae"))
        text = CLIPTextModel(CLIPTextConfig(**json.loads((folder / "text_encoder/config.json").read_text())))
    assert (unet.num_parameters(), text.num_parameters()) == sizes[family]
    assert vae.num_parameters() == 83653863
    if family == "sdxl":
        with torch.device("meta"):
            second = CLIPTextModelWithProjection(
                CLIPTextConfig(**json.loads((folder / "text_encoder_2/config.json").read_text()))
            )
        assert second.num_parameters() == 694659840


def test_the_shipped_vocabulary_is_clips() -> None:
    tokenizer = load_tokenizer(single_file.CONFIGS / "sd1/tokenizer")
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert len(tokenizer) == 49408
    padded = tokenizer("a", padding="max_length").input_ids
    assert len(padded) == 77 and padded[-1] == 49407
    second = load_tokenizer(single_file.CONFIGS / "sdxl/tokenizer_2")
    assert second("a", padding="max_length").input_ids[-3:] == [0, 0, 0]


def test_open_clip_names_and_fused_projections_are_converted() -> None:
    torch.manual_seed(0)
    fused = torch.randn(12, 4)
    out = single_file.from_open_clip(
        {
            "transformer.resblocks.3.attn.in_proj_weight": fused,
            "transformer.resblocks.3.attn.in_proj_bias": fused[:, 0],
            "transformer.resblocks.3.mlp.c_fc.weight": torch.ones(2),
            "transformer.resblocks.3.ln_2.bias": torch.ones(3),
            "positional_embedding": torch.ones(77, 4),
            "ln_final.weight": torch.ones(4),
            "text_projection": torch.arange(8.0).reshape(4, 2),
            "logit_scale": torch.ones(()),
        }
    )
    layer = "text_model.encoder.layers.3."
    assert torch.equal(out[layer + "self_attn.k_proj.weight"], fused[4:8])
    assert torch.equal(out[layer + "self_attn.v_proj.bias"], fused[8:, 0])
    assert out[layer + "mlp.fc1.weight"].shape == (2,) and out[layer + "layer_norm2.bias"].shape == (3,)
    assert out["text_projection.weight"].tolist() == [[0.0, 2.0, 4.0, 6.0], [1.0, 3.0, 5.0, 7.0]]
    assert "text_model.embeddings.position_embedding.weight" in out and not any("logit" in name for name in out)


def test_the_digest_follows_the_contents_not_the_place(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    (copy / "README.md").write_text("not read by loading")
    assert base_digest(copy) == base_digest(folder)
    path = copy / "scheduler/scheduler_config.json"
    path.write_text(path.read_text().replace("epsilon", "v_prediction"))
    assert base_digest(copy) != base_digest(folder)


def test_a_folder_may_say_how_it_likes_to_be_sampled(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "own")
    (copy / "loratools.json").write_text('{"steps": 12, "cfg": 4}')
    defaults = load_base(copy, device="cpu").defaults
    assert (defaults.steps, defaults.cfg, defaults.sampler) == (12, 4.0, "DPM++ 2M Karras")


def bad_inputs(folder: Path, tmp: Path) -> dict[str, tuple[Path | str, str]]:
    """What is given as a base -> (path, part of the message)."""
    lora = tmp / "lora.safetensors"
    save_file({"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": torch.zeros(4, 8)}, lora)
    other = tmp / "other.safetensors"
    save_file({"weight": torch.zeros(4)}, other)
    unet_only = tmp / "unet.safetensors"
    save_file({"model.diffusion_model.x": torch.zeros(4)}, unet_only)
    average = tmp / "average.safetensors"
    kept = (
        "first_stage_model.x",
        "cond_stage_model.x",
        "model_ema.diffusion_modeltransformer_blocks0norm",
    )
    save_file({name: torch.zeros(4) for name in kept}, average)
    whole = write_single_file(folder, tmp / "whole.safetensors")
    cut = tmp / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-100])
    short = tmp / "short.safetensors"
    short.write_bytes(b"abc")
    page = tmp / "page.safetensors"
    page.write_text("<html>404 not found</html>")
    ckpt = tmp / "page.ckpt"
    ckpt.write_text("<html>404 not found</html>")
    text = tmp / "notes.txt"
    text.write_text("hello")
    empty = tmp / "empty"
    empty.mkdir()
    return {
        "a LoRA": (lora, "is a LoRA, not a base model; give the checkpoint"),
        "another model": (other, "is not a Stable Diffusion checkpoint"),
        "a UNet alone": (unet_only, "lacks a VAE and a text encoder"),
        "an average alone": (average, "holds only an average (EMA) of its UNet"),
        "unknown widths": (whole, "family that is not known here"),
        "a cut file": (cut, "cut off or damaged"),
        "three bytes": (short, "cut off or damaged"),
        "a web page": (page, "cut off or damaged"),
        "a web page as ckpt": (ckpt, ".ckpt"),
        "a text file": (text, "notes.txt is not a base model"),
        "an empty folder": (empty, "no model_index.json"),
        "nothing": (tmp / "none.safetensors", "there is no base model"),
        "a mistyped word": ("pockett", "did you mean 'pocket'"),
    }


@pytest.mark.parametrize("weights", [True, False])
def test_what_is_not_a_base_is_refused_in_one_sentence(folder: Path, tmp_path: Path, weights: bool) -> None:
    for case, (path, message) in bad_inputs(folder, tmp_path).items():
        with pytest.raises(BaseModelError) as caught:
            load_base(path, device="cpu", weights=weights)
        assert message in str(caught.value), case
        assert "\n" not in str(caught.value), case


def test_damaged_folders_name_the_part(folder: Path, tmp_path: Path) -> None:
    def damaged(name: str, change: str, content: bytes | None) -> str:
        copy = shutil.copytree(folder, tmp_path / name)
        (copy / change).unlink()
        if content is not None:
            (copy / change).write_bytes(content)
        with pytest.raises(BaseModelError) as caught:
            load_base(copy, device="cpu")
        return str(caught.value)

    weights = (folder / "unet/diffusion_pytorch_model.safetensors").read_bytes()
    assert "unet" in damaged("cut", "unet/diffusion_pytorch_model.safetensors", weights[: len(weights) // 2])
    assert "no weights" in damaged("gone", "vae/diffusion_pytorch_model.safetensors", None)
    assert "no weights" in damaged("mute", "text_encoder/model.safetensors", None)
    assert "model.safetensors" in damaged("odd", "text_encoder/model.safetensors", b"12345678910")
    assert "scheduler_config.json" in damaged("unscheduled", "scheduler/scheduler_config.json", b"{")
    index = json.loads((folder / "model_index.json").read_text())
    flux = {**index, "_class_name": "FluxPipeline", "unet": None}
    assert "FluxPipeline" in damaged("flux", "model_index.json", json.dumps(flux).encode())


def test_an_inpainting_model_is_refused(folder: Path, tmp_path: Path) -> None:
    names = ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")
    parts = [load_file(folder / f"{name}.safetensors") for name in names]
    parts[0]["conv_in.weight"] = torch.zeros(16, 9, 3, 3)
    save_file(to_compvis(*parts), tmp_path / "inpaint.safetensors")
    with pytest.raises(BaseModelError, match="9 input channels"):
        load_base(tmp_path / "inpaint.safetensors", device="cpu", config=folder)


def test_a_config_of_other_widths_is_told(folder: Path, tmp_path: Path) -> None:
    file = write_single_file(folder, tmp_path / "x.safetensors")
    with pytest.raises(BaseModelError, match=r"x\.safetensors"):
        load_base(file, device="cpu", config=single_file.CONFIGS / "sd1")


def test_devices_and_dtypes_are_checked(folder: Path) -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(LoratoolsError, match="did you mean 'cuda'"):
        pick_device("cudda")
    with pytest.raises(LoratoolsError, match="no device 'cuda:99'"):
        pick_device("cuda:99")
    with pytest.raises(LoratoolsError, match="did you mean 'fp16'"):
        load_base(folder, device="cpu", dtype="f16")
    assert load_base(folder, device="cpu", dtype="bf16").unet.dtype == torch.bfloat16


def test_each_of_several_processes_gets_its_own_device_and_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert pick_device("auto") == torch.device("cpu") and not torch.distributed.is_initialized()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda:1")


def test_a_gpu_has_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import accelerate

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(accelerate, "PartialState", lambda: SimpleNamespace(device=torch.device("cuda")))
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda:1")
    assert pick_device("cuda:0") == torch.device("cuda:0")


def test_a_hub_id_that_cannot_be_had_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    def offline(*args: object, **kwargs: object) -> str:
        raise OSError("no route to host\nsecond line")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", offline)
    with pytest.raises(BaseModelError, match=r"cannot get the base 'owner/model' from the Hugging Face hub") as caught:
        load_base("owner/model", device="cpu")
    assert "\n" not in str(caught.value)


def test_a_hub_id_loads_what_diffusers_downloads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", lambda name, **_: str(folder))
    assert load_base("owner/model", device="cpu").name == "owner/model"


def test_pocket_without_its_weights_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loratools.pocket.weights_folder", lambda: tmp_path / "weights")
    with pytest.raises(BaseModelError, match="pocket base's weights are not in this install"):
        load_base("pocket", device="cpu")


def test_pocket_is_the_folder_in_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loratools.pocket.weights_folder", lambda: folder)
    loaded = load_base("pocket", device="cpu")
    assert loaded.name == "pocket" and loaded.digest == base_digest(folder)
