"""What other tools leave, as recipes: each text is read by the recipe's own reader, and what is lost is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from loratools.cli import cli
from loratools.errors import FileError, FormatError, LoratoolsError, RecipeError
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.recipe.importers.detect import Imported, import_recipe
from loratools.recipe.plan.context import RunContext
from loratools.recipe.run.runner import make_planner, run_steps
from loratools.recipe.schema.recipe import Step, parse_recipe
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import read_config
from loratools.yamlio import load_yaml
from tests.recipe.conftest import save_lora

INFOTEXT = """\
masterpiece, <lora:style:0.8:lbw=OUTALL>, 1girl <lora:my char:0.7:0.5:lbw=1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1:stop=20>
Negative prompt: bad, worse
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 12345, Size: 512x768, Model hash: abc, \
Model: anything, Clip skip: 2, Hires upscale: 2, Lora hashes: "style: abc, char: def", Version: v1.9"""
OPTIONS = """\
[model]
pretrained_model_name_or_path = "base.safetensors"
[data]
train_data_dir = "images"
resolution = "512,768"
[training]
output_dir = "out"
output_name = "my style"
max_train_epochs = 8
network_dim = 16
network_alpha = 8
unet_lr = 1e-4
text_encoder_lr = 5e-5
optimizer_type = "AdamW8bit"
cache_latents = true
"""
METADATA = {
    "ss_output_name": "ink", "ss_sd_model_name": "any.safetensors", "ss_network_module": "networks.lora",
    "ss_network_dim": "16", "ss_network_alpha": "8.0", "ss_unet_lr": "0.0001", "ss_text_encoder_lr": "5e-05",
    "ss_num_epochs": "8", "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1)",
    "ss_lr_scheduler": "cosine_with_restarts", "ss_lr_warmup_steps": "50", "ss_seed": "42", "ss_clip_skip": "2",
    "ss_noise_offset": "None", "ss_min_snr_gamma": "5.0", "ss_multires_noise_iterations": "6",
    "ss_dataset_dirs": json.dumps({"10_ink": {"n_repeats": 10, "img_count": 24}}),
    "ss_datasets": json.dumps([{
        "batch_size_per_device": 2, "resolution": [512, 512], "enable_bucket": True,
        "subsets": [{"shuffle_caption": True, "keep_tokens": 1, "flip_aug": False}],
    }]),
}  # fmt: skip


def steps(imported: Imported) -> dict[str, Step]:
    return dict(parse_recipe(imported.text)[0].steps)


def terms(imported: Imported, name: str = "final") -> list[tuple[str, float, str | None, float, float]]:
    merge = steps(imported)[name].merge
    assert merge is not None
    return [(s.ref, s.weight, s.vector_text, s.te, s.unet) for s in parse_merge_string(merge.terms)]


def bare(path: Path, metadata: dict[str, str]) -> Path:
    """A LoRA file of another program."""
    save_file({"lora_unet_mid.lora_up.weight": torch.zeros(2, 1)}, path, metadata)
    return path


@pytest.mark.parametrize(
    ("settings", "noise"),
    [("", "webui-gpu"), ("RNG: NV, ", "webui-gpu"), ("RNG: CPU, ", "webui-cpu"), ("Version: loratools 1, ", "own")],
)
def test_the_noise_of_a_picture_is_kept(settings: str, noise: str) -> None:
    """A seed without its noise is another picture; the WebUI draws on the card unless it says otherwise."""
    text = f"<lora:style:0.8>\nSteps: 20, Sampler: Euler, {settings}Seed: 1, Size: 64x64"
    imported = import_recipe(text, is_text=True)
    grid = steps(imported)["picture"].grid
    assert grid is not None and grid.noise == noise
    assert "RNG" not in " ".join(imported.notes)


@pytest.mark.parametrize(
    ("settings", "sampler"),
    [
        ("Sampler: DPM++ 2M SDE Heun Karras", "DPM++ 2M SDE Heun Karras"),
        ("Sampler: DPM++ 2M", "DPM++ 2M"),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "DPM++ 2M Karras"),
        ("Sampler: Euler, Schedule type: Align Your Steps", "Euler Align Your Steps"),
        ("Sampler: DDIM, Schedule type: Karras", "DDIM"),
        ("Sampler: UniPC, Schedule type: Karras", "UniPC"),
        ("Sampler: UniPC, Schedule type: Karras, Version: loratools 1", "UniPC Karras"),
        ("Sampler: Euler, Schedule type: Turbo", None),
        ("Sampler: DPM adaptive, Schedule type: Automatic", None),
    ],
)
def test_sampler_and_schedule_type_are_one_name(settings: str, sampler: str | None) -> None:
    imported = import_recipe(f"<lora:style:0.8>\nSteps: 20, {settings}, Seed: 1, Size: 64x64", is_text=True)
    grid = steps(imported)["picture"].grid
    assert grid is not None and grid.sampler == sampler
    assert ("is left out" in " ".join(imported.notes)) is (sampler is None)


def test_supermergers_string_with_its_named_vectors() -> None:
    vector = ",".join(["1"] * 16 + ["0.5"])
    imported = import_recipe(f"Test0:1:MINE,AnythingV5RE_BASE:-1:OTHER\nMINE:{vector}\nUNUSED:{vector}", base="b")
    assert terms(imported) == [("Test0", 1, "MINE", 1, 1), ("AnythingV5RE_BASE", -1, "OTHER", 1, 1)]
    recipe, _ = parse_recipe(imported.text)
    assert recipe.base == "b" and recipe.blocks["OTHER"] == "ALL"
    assert recipe.blocks["MINE"] == [1] * 16 + [0.5]
    assert "'OTHER' is not known here" in imported.notes[0] and "squared" in imported.notes[1]
    assert imported.notes[0][:30] in imported.text  # the recipe tells it too


def test_what_is_imported_runs(here: Path, tiny_base: Path) -> None:
    save_lora(here / "a.safetensors", 1)
    save_lora(here / "b.safetensors", 2)
    Path("r.yaml").write_text(import_recipe("a:1:GP1,b:-1:GP2", base=str(tiny_base)).text, encoding="utf-8")
    ran = run_steps(make_planner("r.yaml", Path("work")).plan(), Path("work"), RunContext(device="cpu"))
    again = import_recipe(str(ran[0].planned.out))
    assert [term[:2] for term in terms(again)] == [("a", 1), ("b", -1)]
    assert terms(again)[0][2] == "GP1"  # the recipe in the header, as it was written


def test_supermergers_metadata(here: Path) -> None:
    parts = [("style", "0.5", [0.5] * 25 + [0.25]), ("base", "-1", [-1.0] * 26)]
    metadata = {
        f"sshs_cp{n}": json.dumps(
            {"ss_output_name": name, "sshs_ratio": ratio, "sshs_blocks": ",".join(map(str, blocks))}
        )
        for n, (name, ratio, blocks) in enumerate(parts)
    }
    imported = import_recipe(str(bare(here / "m.safetensors", metadata)))
    assert terms(imported, "m") == [("style", 0.5, ",".join(["1"] * 25 + ["0.5"]), 1, 1), ("base", -1, None, 1, 1)]
    with pytest.raises(FormatError, match="sshs_cp0 is not what SuperMerger writes"):
        import_recipe(str(bare(here / "x.safetensors", {"sshs_cp0": "{}"})))


def test_an_infotext_is_a_merge_and_a_picture() -> None:
    imported = import_recipe(INFOTEXT)
    vector = "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1"
    assert terms(imported) == [("style", 0.8, "OUTALL", 1, 1), ("my char", 1, vector, 0.7, 0.5)]
    grid = steps(imported)["picture"].grid
    assert grid is not None
    assert (grid.prompts, grid.negative) == (("masterpiece, 1girl",), "bad, worse")
    assert (grid.steps, grid.cfg, grid.seeds, grid.size, grid.clip_skip) == (20, 6.5, "12345", "512x768", 2)
    assert grid.sampler == "DPM++ 2M Karras"
    said = " ".join(imported.notes)
    assert "'stop=20'" in said and "'Hires upscale: 2'" in said and "the model anything" in said
    assert "Lora hashes" not in said


def test_a_picture_holds_its_infotext(here: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", INFOTEXT)
    Image.new("RGB", (8, 8)).save("a.png", pnginfo=info)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + INFOTEXT.encode("utf-16-be")
    Image.new("RGB", (8, 8)).save("b.jpg", exif=exif)
    assert import_recipe("a.png") == import_recipe("b.jpg") == import_recipe(INFOTEXT)
    Image.new("RGB", (8, 8)).save("c.png")
    with pytest.raises(FormatError, match="no generation parameters"):
        import_recipe("c.png")


def test_sd_scripts_options(here: Path) -> None:
    Path("config.toml").write_text(OPTIONS, encoding="utf-8")
    imported = import_recipe("config.toml")
    recipe, _ = parse_recipe(imported.text)
    assert recipe.base == "base.safetensors"
    train = steps(imported)["my_style"].train
    assert train is not None
    assert {key: train[key] for key in ("images", "epochs", "dim", "alpha", "unet_lr", "te_lr", "optimizer")} == {
        "images": "images",
        "epochs": 8,
        "dim": 16,
        "alpha": 8,
        "unet_lr": 1e-4,
        "te_lr": 5e-5,
        "optimizer": "AdamW8bit",
    }
    assert train["lr_scheduler"] == "constant"  # sd-scripts' own default
    Path("config.toml").write_text(OPTIONS + "ip_noise_gama = 0.1\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"config\.toml: the option 'ip_noise_gama' is not supported"):
        import_recipe("config.toml")


def test_configs_of_other_trainers_are_imported_as_they_are_trained(here: Path) -> None:
    gui = {"LoRA_type": "Kohya LoCon", "additional_parameters": "", "pretrained_model_name_or_path": "b.ckpt",
           "train_data_dir": "pics", "output_name": "ink", "max_resolution": "128,128", "epoch": 2, "network_dim": 8,
           "conv_dim": 4, "optimizer": "AdamW", "unet_lr": "1e-4", "text_encoder_lr": 0}  # fmt: skip
    Path("gui.json").write_text(json.dumps(gui), encoding="utf-8")
    imported = import_recipe("gui.json")
    trained = load_yaml(imported.text).data["steps"]["ink"]["train"]
    assert imported.what == "kohya_ss' JSON" and load_yaml(imported.text).data["base"] == "b.ckpt"
    assert (trained["dim"], trained["conv_dim"], trained["epochs"], trained["te_lr"]) == (8, 4, 2, 0)
    easy = "[[subsets]]\nimage_dir = 'pics'\n[network_args.args]\nnetwork_dim = 6\n[saving_args.args]\n"
    Path("easy.toml").write_text(f"{easy}output_name = 'e'\n", encoding="utf-8")
    imported = import_recipe("easy.toml")
    assert load_yaml(imported.text).data["steps"]["e"]["train"]["dim"] == 6
    assert any("names no base" in note for note in imported.notes)
    assert any("max_train_steps = 1600 has no place in a recipe" in note for note in imported.notes)
    Path("options.toml").write_text("network_dim = 5\nmax_train_epochs = 2\n", encoding="utf-8")
    Path("set.json").write_text('{"datasets": [{"subsets": [{"image_dir": "pics", "num_repeats": 3}]}]}')
    imported = import_recipe("options.toml", base="b", dataset="set.json")
    trained = load_yaml(imported.text).data["steps"]["options"]["train"]
    assert (trained["dim"], trained["images"][0]["repeats"]) == (5, 3)
    with pytest.raises(RecipeError, match="names no pictures"):
        import_recipe("options.toml")


def test_configs_that_cannot_be_read_are_refused_as_training_refuses_them(here: Path) -> None:
    texts = {
        "toolkit.yaml": ("job: extension\nconfig: {name: a, process: []}\n", "is a job of ai-toolkit"),
        "flux.toml": ('network_module = "networks.lora_flux"\n', r"is for Flux\.1"),
        "full.toml": ('train_data_dir = "x"\nlearning_rate = 1e-6\n', "it names no network"),
        "flux.json": ('{"LoRA_type": "Flux1"}', r"is for Flux\.1"),
    }
    for name, (text, message) in texts.items():
        Path(name).write_text(text, encoding="utf-8")
        with pytest.raises(RecipeError, match=message):
            import_recipe(name)
        with pytest.raises(RecipeError, match=message):
            read_config(name)


def test_sd_scripts_metadata(here: Path) -> None:
    imported = import_recipe(str(bare(here / "ink.safetensors", METADATA)))
    recipe, _ = parse_recipe(imported.text)
    assert recipe.base == "any.safetensors"
    train: dict[str, Any] = steps(imported)["ink"].train or {}
    assert train["images"] == [{"folder": "10_ink", "repeats": 10}]
    asked = {
        "dim": 16, "alpha": 8, "unet_lr": 1e-4, "te_lr": 5e-5, "epochs": 8, "optimizer": "AdamW8bit", "lr_warmup": 50,
        "lr_scheduler": "cosine_with_restarts", "seed": 42, "clip_skip": 2, "min_snr_gamma": 5, "batch_size": 2,
        "resolution": [512, 512], "buckets": True, "shuffle_tags": True, "keep_tokens": 1, "flip": False,
    }  # fmt: skip
    assert {key: train.get(key) for key in asked} == asked
    assert "noise_offset" not in train
    said = " ".join(imported.notes)
    assert "10_ink, not where they lay" in said
    assert train["multires_noise_iterations"] == 6 and train["optimizer_args"] == {"weight_decay": 0.1}


def test_what_sd_scripts_did_that_is_a_setting_here_is_taken_over(here: Path) -> None:
    more = {
        "ss_network_args": json.dumps({"conv_alpha": "4", "conv_dim": "8", "rank_dropout": "0.1", "odd": "1"}),
        "ss_optimizer": "torch.optim.adamw.AdamW(weight_decay=0.1,betas=(0.9, 0.99))",
        "ss_network_dropout": "0.2",
        "ss_scale_weight_norms": "1.0",
        "ss_ip_noise_gamma": "0.1",
        "ss_zero_terminal_snr": "True",
        "ss_debiased_estimation": "False",
        "ss_loss_type": "huber",
        "ss_huber_c": "0.2",
        "ss_vae_name": "vae.pt",
        "ss_multires_noise_iterations": "None",
        "ss_reg_dataset_dirs": json.dumps({"1_girl": {"n_repeats": 1, "img_count": 5}}),
    }
    imported = import_recipe(str(bare(here / "ink.safetensors", METADATA | more)))
    train: dict[str, Any] = steps(imported)["ink"].train or {}
    asked = {
        "conv_dim": 8,
        "conv_alpha": 4,
        "rank_dropout": 0.1,
        "network_dropout": 0.2,
        "scale_weight_norms": 1,
        "optimizer_args": {"weight_decay": 0.1, "betas": [0.9, 0.99]},
        "ip_noise_gamma": 0.1,
        "huber_c": 0.2,
        "zero_terminal_snr": True,
        "loss_type": "huber",
        "vae": "vae.pt",
    }
    assert {key: train.get(key) for key in asked} == asked
    assert "debiased_estimation_loss" not in train and "multires_noise_iterations" not in train
    assert train["images"][1] == {"folder": "1_girl", "repeats": 1, "regularisation": True}
    said = " ".join(imported.notes)
    assert "odd = 1 has no place in a recipe" in said and "conv_dim" not in said and "its VAE vae.pt" in said


SUBSETS = [
    {
        "num_repeats": 10,
        "image_dir": "ink",
        "class_tokens": "ink",
        "shuffle_caption": True,
        "caption_prefix": "me, ",
    },
    {"num_repeats": 1, "image_dir": "1_girl", "class_tokens": "girl", "is_reg": True, "flip_aug": True},
]


def imported_training(here: Path, **more: str) -> tuple[dict[str, Any], str]:
    """The settings that METADATA with ``more`` become, and the notes."""
    imported = import_recipe(str(bare(here / "ink.safetensors", METADATA | more)))
    return load_yaml(imported.text).data["steps"]["ink"]["train"], " ".join(imported.notes)


def test_each_folder_of_a_dataset_config_is_trained_as_it_was(here: Path) -> None:
    """Of regularisation too, which only ``ss_datasets`` names; what differs stands at the folder."""
    first = {"batch_size_per_device": 2, "resolution": [512, 512], "enable_bucket": True, "subsets": SUBSETS}
    other = {"batch_size_per_device": 1, "resolution": [768, 768], "subsets": [{"num_repeats": 2, "image_dir": "big"}]}
    train, said = imported_training(here, ss_datasets=json.dumps([first, other]))
    ink, girl, big = train["images"]
    assert ink == {
        "folder": "ink",
        "repeats": 10,
        "plain_name": True,
        "class_tokens": "ink",
        "shuffle_tags": True,
        "caption_prefix": "me, ",
    }
    assert girl["regularisation"] is True and girl["flip"] is True and big["folder"] == "big"
    assert (train["resolution"], train["batch_size"]) == ([512, 512], 2)
    assert "data set 2 had batch_size 1, resolution [768, 768], which a recipe has no place for" in said
    read_config_of(train)


def read_config_of(train: dict[str, Any]) -> None:
    """Check that training takes the settings."""
    TrainConfig.model_validate({"base": "x", "out": "x", "name": "x", **train})


def test_a_run_without_a_dataset_config_keeps_its_buckets_and_rates(here: Path) -> None:
    train, said = imported_training(
        here,
        ss_datasets="None",
        ss_text_encoder_lr="[5e-05, 1e-05]",
        ss_enable_bucket="False",
        ss_batch_size_per_device="4",
        ss_resolution="(512, 768)",
        ss_max_token_length="225",
        ss_caption_dropout_every_n_epochs="2",
        ss_base_model_version="sd_v2_v",
        ss_network_alpha="0",
        ss_face_crop_aug_range="(1.0, 2.0)",
    )
    asked = {
        "te_lr": 5e-5,
        "buckets": False,
        "batch_size": 4,
        "resolution": [512, 768],
        "max_token_length": 225,
        "caption_dropout_every": 2,
        "prediction": "v_prediction",
        "alpha": 16,
    }
    assert {key: train.get(key) for key in asked} == asked
    assert "the first is taken for all" in said and "ss_face_crop_aug_range = (1.0, 2.0) has no place" in said
    read_config_of(train)


@pytest.mark.parametrize(
    ("module", "arguments", "asked", "note"),
    [
        ("lycoris.kohya", {"algo": "loha", "preset": "attn-mlp"}, {"network_type": "loha"}, ""),
        (
            "lycoris.kohya",
            {"algo": "lokr", "factor": "8", "conv_dim": "4", "conv_alpha": "1", "use_tucker": "True"},
            {"network_type": "lokr", "lokr_factor": 8, "conv_dim": 4},
            "'use_tucker=True' in network_args is not",
        ),
        ("lycoris.kohya", {"algo": "ia3"}, {}, "this recipe trains a plain LoRA"),
        ("networks.lora", {"down_lr_weight": "0,1,1,1,1,1,1,1,1,1,1,1"}, {"block_lr": {"IN00": 0}}, ""),
    ],
)
def test_the_network_is_the_one_that_was_trained(
    here: Path, module: str, arguments: dict[str, str], asked: dict[str, Any], note: str
) -> None:
    train, said = imported_training(here, ss_network_module=module, ss_network_args=json.dumps(arguments))
    for key, value in asked.items():
        assert train[key].items() >= value.items() if isinstance(value, dict) else train[key] == value
    assert note in said and ("network_type" in train) == ("network_type" in asked)
    read_config_of(train)


def test_what_cannot_be_trained_here_is_no_recipe(here: Path) -> None:
    with pytest.raises(RecipeError, match=r"is for Flux\.1"):
        imported_training(here, ss_network_module="networks.lora_flux")
    sets = [{"resolution": size, "subsets": [{"image_dir": "pics", "num_repeats": 1}]} for size in (512, 768)]
    Path("sets.json").write_text(json.dumps({"datasets": sets}), encoding="utf-8")
    with pytest.raises(RecipeError, match="it has 2 data sets, and a recipe's training has one"):
        import_recipe("sets.json")


def test_files_of_our_own_are_what_made_them(here: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        save_lora(here / f"{name}.safetensors", seed)
    Path("r.yaml").write_text(
        'base: pocket\nblocks: {V: ALL}\nsteps:\n  m: {merge: "a:1:V, b:-0.5"}\n  s: {resize: {lora: m, rank: 2}}\n',
        encoding="utf-8",
    )
    run_steps(make_planner("r.yaml", Path("work")).plan(), Path("work"), RunContext(device="cpu"))
    whole = import_recipe("work/s.safetensors")
    assert list(steps(whole)) == ["m", "s"] and "V: ALL" in whole.text
    call = CliRunner().invoke
    assert call(cli, ["resize", "a.safetensors", "--rank", "1", "-o", "slim.safetensors"]).exit_code == 0
    assert call(cli, ["convert", "slim.safetensors", "-o", "d.safetensors", "--to", "diffusers"]).exit_code == 0
    assert call(cli, ["subtract", "a:1", "b:0.5:GP2", "--mode", "project", "-o", "x.safetensors"]).exit_code == 0
    resized = steps(import_recipe("slim.safetensors"))["slim"].resize
    assert resized is not None and (resized.lora, resized.rank) == ("a.safetensors", "1")
    converted = steps(import_recipe("d.safetensors"))["d"].convert
    assert converted is not None and (converted.lora, converted.to) == ("slim.safetensors", "diffusers")
    taken = steps(import_recipe("x.safetensors"))["x"].subtract
    assert taken is not None and taken.style == "a:1" and taken.mode == "project"
    assert taken.base_style.startswith("b:0.5:BASE=0.3,IN01=0.1")


@pytest.mark.parametrize(
    "words",
    [
        ["merge", "a:1,b:0.7", "--method", "dare", "--density", "0.6", "--seed", "3"],
        ["merge", "a:1,b:0.7", "--method", "breadcrumbs", "--gamma", "0.2", "--density", "0.5"],
        ["merge", "a:1,b:0.3333333333333333", "--match-norm"],
        ["merge", "a:1:IN01=0.5,b:1", "--missing", "0"],
        ["merge", f"a:0.25:{','.join(['0.5'] * 17)},b:1:GP1", "--compat", "supermerger"],
        ["subtract", "a:1", "b:0.5", "--mode", "project", "--blocks", "GP2"],
        ["subtract", "a:1", "b:0.5:GP1", "--mode", "matched", "--blocks", "GP2"],
        ["subtract", "a:1", "b:0.5:GP1", "--blocks", "GP2"],
        ["subtract", "a:1", "b:1", "--mode", "soft", "--blocks", "BASE=0.5", "--missing", "1"],
    ],
)
def test_every_setting_of_a_command_is_in_what_is_imported(here: Path, words: list[str]) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        save_lora(here / f"{name}.safetensors", seed)
    call = CliRunner().invoke
    done = call(cli, [*words, "-o", "x.safetensors"])
    assert done.exit_code == 0, done.output
    again = call(cli, ["reproduce", "x.safetensors", "--device", "cpu", "--json"])
    assert again.exit_code == 0 and json.loads(again.stdout)["equal"] is True, again.output
    assert not any("not taken over" in note for note in import_recipe("x.safetensors").notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("hello world", "'hello world' is neither a file nor a merge string"),
        ("nothing.toml", "does not exist"),
        ("a:1:GP1,b:x", "'x'"),
        ("1girl\nSteps: 20, Sampler: Euler", "without a LoRA tag"),
        ("<lora:a:1:foo=1>", "'foo=' in"),
        ("MINE:1,1,1,1,1,1,1,1,1,1,1,1", "named vectors alone"),
    ],
)
def test_what_cannot_be_imported(here: Path, text: str, words: str) -> None:
    with pytest.raises(LoratoolsError) as error:
        import_recipe(text)
    assert words in str(error.value)


def test_a_file_without_a_word(here: Path) -> None:
    with pytest.raises(FormatError, match="says nothing of how it was made"):
        import_recipe(str(bare(here / "a.safetensors", {})))
    Path("a.png").write_bytes(b"no picture")
    with pytest.raises(FileError, match="cannot be read as a picture"):
        import_recipe("a.png")
