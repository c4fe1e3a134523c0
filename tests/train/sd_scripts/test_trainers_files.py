"""Files of the trainers that people have: kohya_ss' JSON, LoRA Easy Training Scripts' and Akegarasu's TOML, Colab's
pair, and those that are recognised and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loratools.errors import RecipeError
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import read_config
from loratools.train.sd_scripts.config_file import read_sd_scripts
from loratools.train.sd_scripts.kohya_gui import LORA_TYPES
from loratools.train.sd_scripts.lycoris_args import MODULE as LYCORIS
from loratools.train.sd_scripts.options import GUI_ALIASES, GUI_LYCORIS
from loratools.train.sd_scripts.trainer_file import pair_files

# as kohya_ss' LoRA tab saves one, with fields of other families at their defaults and numbers as texts
GUI: dict[str, Any] = {
    "LoRA_type": "Standard", "LyCORIS_preset": "full", "adaptive_noise_scale": 0.005, "additional_parameters": "",
    "ae": "", "anima_timestep_sampling": "sigmoid", "bucket_reso_steps": 64, "cache_latents": True,
    "caption_extension": ".txt", "clip_skip": "2", "conv_alpha": 8, "conv_dim": 16, "dataset_config": "",
    "debiased_estimation_loss": False, "discrete_flow_shift": 3, "down_lr_weight": "", "enable_bucket": True,
    "epoch": 8, "factor": -1, "flux1_checkbox": False, "gpu_ids": "", "guidance_scale": 3.5, "keep_tokens": "1",
    "learning_rate": 0.0003, "logit_mean": 0, "lr_scheduler": "cosine", "lr_scheduler_args": "",
    "lr_scheduler_num_cycles": "", "lr_scheduler_power": "", "lr_warmup": 10, "lr_warmup_steps": 0,
    "max_bucket_reso": 2048, "max_resolution": "512,768", "max_timestep": 1000, "max_token_length": "75",
    "max_train_epochs": "", "max_train_steps": 0, "min_bucket_reso": 256, "min_snr_gamma": 0,
    "mixed_precision": "no", "model_list": "runwayml/stable-diffusion-v1-5", "module_dropout": 0.1,
    "multires_noise_discount": 0.3, "multires_noise_iterations": 6, "network_alpha": 8, "network_dim": 16,
    "network_dropout": 0.1, "noise_offset": 0.05, "noise_offset_random_strength": True,
    "noise_offset_type": "Original", "num_cpu_threads_per_process": 2, "optimizer": "AdamW",
    "optimizer_args": "weight_decay=0.1 betas=0.9,0.99", "output_dir": "out", "output_name": "ink",
    "pretrained_model_name_or_path": "b.safetensors", "rank_dropout": 0.2, "reg_data_dir": "", "sample_prompts": "",
    "save_every_n_epochs": 1, "save_every_n_steps": 0, "save_model_as": "safetensors", "save_precision": "fp16",
    "scale_weight_norms": 1, "sd3_checkbox": False, "sdxl": False, "sdxl_no_half_vae": True, "seed": "1234",
    "stop_text_encoder_training": 0, "text_encoder_lr": "5e-5", "train_batch_size": 4, "train_data_dir": "imgs",
    "train_on_input": True, "unet_lr": 0.0001, "unit": 1, "use_wandb": False, "v2": False,
    "weighting_scheme": "logit_normal", "xformers": "xformers",
}  # fmt: skip


def gui(tmp_path: Path, **fields: Any) -> tuple[TrainConfig, tuple[str, ...]]:
    path = tmp_path / "gui.json"
    path.write_text(json.dumps({**GUI, **fields}, indent=2), encoding="utf-8")
    return read_config(path)


def read(tmp_path: Path, text: str, name: str = "o.toml", **overrides: Any) -> TrainConfig:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_config(path, overrides)[0]


def test_kohya_ss_json_is_what_the_gui_asks_sd_scripts_for(tmp_path: Path) -> None:
    config, notes = gui(tmp_path)
    assert (config.base, config.name, str(config.out), config.dim, config.alpha) == (
        "b.safetensors", "ink", "out", 16, 8,
    )  # fmt: skip
    assert (config.resolution, config.bucket_max, config.batch_size, config.clip_skip) == ((512, 768), 2048, 4, 2)
    assert (config.epochs, config.max_steps, config.lr_warmup, config.seed) == (8, None, 0.1, 1234)
    assert config.learned_rates() == (1e-4, 5e-5) and config.keep_tokens == 1
    assert config.optimizer_args == {"weight_decay": 0.1, "betas": (0.9, 0.99)}
    assert (config.noise_offset, config.adaptive_noise_scale, config.multires_noise_iterations) == (0.05, 0.005, 0)
    assert (config.network_type, config.conv_dim, config.rank_dropout, config.module_dropout) == (
        "lora",
        None,
        0.2,
        0.1,
    )
    assert not notes


@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        ({"LoRA_type": "Kohya LoCon"}, {"conv_dim": 16, "conv_alpha": 8}),
        ({"LoRA_type": "LyCORIS/LoCon", "dora_wd": True, "module_dropout": 0}, {"conv_dim": 16, "dora": True}),
        ({"LoRA_type": "LyCORIS/LoKr", "factor": 8, **dict.fromkeys(["network_dropout", "rank_dropout"], 0)},
         {"network_type": "lokr", "lokr_factor": 8, "conv_dim": 16, "module_dropout": 0.1}),
        ({"LyCORIS_preset": "attn-mlp", "LoRA_type": "LyCORIS/LoHa", "network_dropout": 0, "rank_dropout": 0},
         {"network_type": "loha", "conv_dim": None}),
        ({"LoRA_type": ""}, {"network_type": "lora", "rank_dropout": 0.2}),
        ({"noise_offset_type": "Multires"}, {"noise_offset": 0, "multires_noise_iterations": 6}),
        ({"unet_lr": 0, "text_encoder_lr": 0}, {"learning_rate": 3e-4, "unet_lr": None, "te_lr": None}),
        ({"text_encoder_lr": 0}, {"unet_lr": 1e-4, "te_lr": 0}),
        ({"unet_lr": ""}, {"unet_lr": 0, "te_lr": 5e-5}),
        ({"max_train_steps": 900}, {"max_steps": 900}),
        ({"max_train_epochs": "3"}, {"epochs": 3}),
        ({"lr_warmup_steps": 50}, {"lr_warmup": 50}),
        ({"stop_text_encoder_training": 40}, {"stop_text_encoder_training": 0.4}),
        ({"stop_text_encoder_training": -1}, {"te_lr": 0}),
        ({"sample_prompts": "1girl --d 1\n# no\n1boy", "sample_every_n_epochs": 2}, {
            "sample_prompts": ("1girl --d 1", "1boy"), "sample_every_epochs": 2}),
        ({"additional_parameters": '--min_bucket_reso 320 --caption_prefix "a b" --flip_aug --optimizer_args eps=1e-7'},
         {"bucket_min": 320, "caption_prefix": "a b", "flip": True, "optimizer_args": {"eps": 1e-7}}),
        ({"optimizer": "Adafactor", "optimizer_args": "", "lr_scheduler": "adafactor"}, {"lr_scheduler": "constant"}),
        ({"loraplus_lr_ratio": 16}, {"loraplus_lr_ratio": 16}),
        ({"lora_network_weights": "start.safetensors"}, {"network_weights": Path("start.safetensors")}),
    ],
)  # fmt: skip
def test_fields_of_kohya_ss_that_depend_on_each_other(
    tmp_path: Path, fields: dict[str, Any], settings: dict[str, Any]
) -> None:
    config, _ = gui(tmp_path, **fields)
    assert {name: getattr(config, name) for name in settings} == settings


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"LoRA_type": "LyCORIS/iA3"}, "LyCORIS algorithm 'ia3' is not supported"),
        ({"LoRA_type": "Kohya DyLoRA"}, "network_module = networks.dylora' is not supported"),
        ({"LoRA_type": "LyCORIS/Lokr"}, r"line 2: LoRA_type: there is no LoRA_type 'LyCORIS/Lokr' here .*LyCORIS/LoKr"),
        ({"LoRA_type": "LyCORIS/LoKr", "use_tucker": True, "train_norm": True}, "use_tucker=True.*train_norm=True"),
        ({"use_wandb": True, "full_bf16": True}, "full_bf16 = True.*log_with = wandb"),
        ({"additional_parameters": '--a "b'}, "additional_parameters cannot be read .*close every quote"),
        ({"additional_parameters": "a --b"}, "begins with 'a', not with a --name"),
        ({"additional_parameters": "--flip_augs"}, "'flip_augs' is not supported .*'flip_aug'"),
        ({"LoRA_type": "Flux1", "flux1_checkbox": True}, r"is for Flux.1 \(LoRA_type = Flux1\); loratools trains SD 1"),
        ({"sd3_checkbox": True}, r"is for Stable Diffusion 3 \(sd3_checkbox\)"),
    ],
)
def test_what_kohya_ss_has_and_we_have_not(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        gui(tmp_path, **fields)
    assert "gui.json" in str(error.value) and "\n" not in str(error.value)


def test_a_mistake_in_json_is_shown_in_its_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as error:
        gui(tmp_path, lr_scheduler="cosin")
    assert '"cosin"' in error.value.excerpt and "gui.json:27:" in error.value.excerpt
    path = tmp_path / "tabs.json"
    path.write_text(json.dumps({**GUI, "full_bf16": True}, indent="\t"), encoding="utf-8")
    with pytest.raises(RecipeError, match="full_bf16") as error:
        read_config(path)
    assert "full_bf16" in error.value.excerpt
    with pytest.raises(RecipeError, match=r"o\.json: not JSON: "):
        read(tmp_path, '{"LoRA_type": ', "o.json")


def test_the_manual_names_the_types_that_are_read() -> None:
    manual_text = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    read_here = [
        name
        for name, (module, algorithm, _) in LORA_TYPES.items()
        if name != "LoCon" and module in ("networks.lora", LYCORIS) and algorithm in (None, "locon", "loha", "lokr")
    ]
    assert f"`LoRA_type` ({', '.join(read_here)})" in manual_text
    assert all(f"`{name}`" in manual_text for name in (*GUI_ALIASES, *list(GUI_LYCORIS)[:5]))


EASY = r"""
[[subsets]]
name = "one"
image_dir = 'C:\pics\ink'
num_repeats = 3
keep_tokens = 1
flip_aug = false
[[subsets]]
image_dir = "b"
is_reg = true
[noise_args]
[train_mode]
train_mode = "lora"
[general_args.args]
pretrained_model_name_or_path = "b.safetensors"
max_train_epochs = 2
sdxl = true
full_bf16 = false
[general_args.dataset_args]
resolution = 768
batch_size = 2
max_token_length = 225
[network_args.args]
network_dim = 8
network_alpha = 4.0
[network_args.args.network_args]
algo = "lokr"
conv_dim = 4
conv_alpha = 1.0
factor = 8
preset = ""
[optimizer_args.args]
optimizer_type = "AdamW"
learning_rate = 1e-4
unet_lr = 0.0
warmup_ratio = 0.05
[optimizer_args.args.optimizer_args]
weight_decay = "0.1"
betas = "0.9,0.99"
[saving_args.args]
output_name = "ink"
save_toml = true
tag_occurrence = true
[bucket_args.dataset_args]
enable_bucket = true
min_bucket_reso = 320
"""


def test_lora_easy_training_scripts_toml(tmp_path: Path) -> None:
    config = read(tmp_path, EASY)
    first, second = config.images
    assert (str(first.folder), first.repeats, first.keep_tokens, first.flip) == (r"C:\pics\ink", 3, 1, None)
    assert (str(second.folder), second.repeats, second.regularisation) == ("b", 1, True)
    assert (config.resolution, config.batch_size, config.bucket_min, config.buckets) == ((768, 768), 2, 320, True)
    assert (config.network_type, config.dim, config.alpha, config.lokr_factor) == ("lokr", 8, 4, 8)
    assert (config.conv_dim, config.conv_alpha, config.epochs, config.name) == (4, 1, 2, "ink")
    assert config.learned_rates() == (1e-4, 1e-4)  # a rate of 0 is left out there
    assert (config.lr_warmup, config.max_token_length) == (0.05, 225)
    assert config.optimizer_args == {"weight_decay": 0.1, "betas": (0.9, 0.99)}


@pytest.mark.parametrize(
    ("before", "after", "message", "line"),
    [
        ("num_repeats = 3", "num_repeat = 3", "unknown key 'num_repeat' in .*subset 1", 5),
        ("num_repeats = 3", "num_repeats = -3", r"repeats \(num_repeats\): it must be 1 or more", 5),
        ("full_bf16 = false", "full_bf16 = true", "'full_bf16 = True' is not supported", 18),
        ("factor = 8", "fctor = 8\nuse_cp = true", "'fctor'.*'use_cp=True'", 26),
        ("resolution = 768", "resolution = 770", "resolution: 770x770", 20),
        ("[network_args.args]", "[network_args.args]\nfa = true", "networks.lora_fa' is not supported", 0),
        ("[noise_args]", "[anima_args.args]\nqwen3 = 'q'", r"is for Anima \(qwen3\)", 0),
    ],
)
def test_a_mistake_of_lora_easy_training_scripts_has_its_line(
    tmp_path: Path, before: str, after: str, message: str, line: int
) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        read(tmp_path, EASY.replace(before, after))
    assert not line or f"o.toml:{line}:" in error.value.excerpt


HEAD = 'pretrained_model_name_or_path = "b"\ntrain_data_dir = "imgs"\nnetwork_module = "networks.lora"\n'


def test_akegarasus_own_names(tmp_path: Path) -> None:
    config = read(tmp_path, HEAD + 'lr = 3e-4\nbatch_size = 3\nmodel_train_type = "sd-lora"\n')
    assert config.learned_rates() == (3e-4, 3e-4) and config.batch_size == 3
    text = '[metadata]\nname = "m"\nversion = "1"\nauthor = "a"\ndescription = "d"\nmetadata_title = "T"\n[data]\n'
    path = tmp_path / "o.toml"
    path.write_text(text + HEAD.replace("networks.lora", "lycoris.kohya") + 'lycoris_algo = "lokr"\nlokr_factor = 8\n'
                    "conv_dim = 10000\nconv_alpha = 10000\ntrain_norm = false\n")  # fmt: skip
    config, notes = read_config(path)
    assert (config.network_type, config.lokr_factor, config.conv_dim) == ("lokr", 8, 10000)
    assert config.modelspec == {"title": "T"} and config.name == "imgs"
    assert "name, version, author, description of [metadata] describe the file and have no effect" in notes[0]


def test_a_json_dataset_config_is_read_as_the_toml_is(tmp_path: Path) -> None:
    data = {"general": {"caption_extension": ".txt", "keep_tokens": 2}, "datasets": [
        {"resolution": 512, "subsets": [{"image_dir": "a", "num_repeats": 3}]}]}  # fmt: skip
    for text in (json.dumps(data), json.dumps({"datasets": data["datasets"]}, indent="\t")):
        config = read(tmp_path, text, "d.json", base="b")
        assert (config.resolution, config.images[0].repeats, config.images[0].plain_name) == ((512, 512), 3, True)
    with pytest.raises(RecipeError, match=r"unknown key 'num_repeat' in .*subset 1") as error:
        read(tmp_path, json.dumps(data, indent=1).replace("num_repeats", "num_repeat"), "d.json", base="b")
    assert "d.json:12:" in error.value.excerpt


def test_our_own_settings_may_be_json(tmp_path: Path) -> None:
    text = json.dumps({"base": "b", "images": "imgs", "optimizer": "Lion", "lr_warmup": 3, "learning_rate": 1e-4})
    assert read(tmp_path, text, "c.json").optimizer == "Lion"
    several = {"base": "b", "datasets": [{"images": "a", "resolution": 64}, {"images": "c"}]}
    assert len(read(tmp_path, json.dumps(several), "c.json").datasets) == 2


def _pair(tmp_path: Path) -> tuple[str, str]:
    options, dataset = tmp_path / "training_config.toml", tmp_path / "dataset_config.toml"
    options.write_text('[a]\npretrained_model_name_or_path = "b"\n[n]\nnetwork_dim = 8\nunet_lr = 1e-4\n')
    dataset.write_text('[general]\nresolution = 128\n[[datasets]]\n[[datasets.subsets]]\nimage_dir = "pics"\n')
    return str(options), str(dataset)


def test_colabs_pair_of_files_is_one_run(tmp_path: Path) -> None:
    options, dataset = _pair(tmp_path)
    whole, own = tmp_path / "whole.toml", tmp_path / "own.yaml"
    whole.write_text(HEAD)
    own.write_text("base: b\nimages: imgs\n")
    assert pair_files([options, dataset]) == pair_files([dataset, options]) == [(options, dataset)]
    assert pair_files([str(own), options, dataset, str(whole)]) == [
        (str(own), None), (options, dataset), (str(whole), None)]  # fmt: skip
    assert pair_files([str(whole), dataset]) == [(str(whole), None), (dataset, None)]  # both are whole
    assert pair_files([options, str(own)]) == [(options, None), (str(own), None)]
    for config in (read_config(options, dataset=dataset)[0], read_config(options, {"dataset_config": dataset})[0]):
        assert (config.base, config.dim, config.resolution, config.name) == ("b", 8, (128, 128), "pics")


def test_the_folders_of_a_pair_lie_beside_either_file(tmp_path: Path) -> None:
    options, dataset = _pair(tmp_path)
    (tmp_path / "data/pics").mkdir(parents=True)
    moved = Path(dataset).rename(tmp_path / "data/dataset_config.toml")
    assert read_config(options, dataset=moved)[0].images[0].folder == tmp_path / "data/pics"


def test_what_is_wrong_with_a_pair(tmp_path: Path) -> None:
    options, dataset = _pair(tmp_path)
    with pytest.raises(RecipeError, match=r"names no pictures .*give its dataset config after it, or `images=`"):
        read_config(options)
    with pytest.raises(RecipeError, match=r"training_config.toml is no dataset config"):
        read_config(options, dataset=options)
    with pytest.raises(RecipeError, match=r"is a dataset config itself, and .* would be another"):
        read_config(dataset, {"base": "b"}, dataset=dataset)
    with pytest.raises(RecipeError, match=r"there is no dataset_config no\.toml \(looked for beside the file and in"):
        read(tmp_path, HEAD + 'dataset_config = "no.toml"\n')
    Path(dataset).write_text(Path(dataset).read_text().replace("image_dir", "image_dirs"))
    with pytest.raises(RecipeError, match="image_dirs") as error:
        read_config(options, dataset=dataset)
    assert "dataset_config.toml:5:" in error.value.excerpt


@pytest.mark.parametrize(
    "more",
    ["", "learning_rate = 1e-6\n", "network_module = ''\n"],
)
def test_a_config_without_a_network_trains_no_lora_in_silence(tmp_path: Path, more: str) -> None:
    text = 'pretrained_model_name_or_path = "b"\ntrain_data_dir = "imgs"\n' + more
    with pytest.raises(RecipeError, match="it names no network, as configs of DreamBooth and of fine-tuning do"):
        read(tmp_path, text)
    assert read(tmp_path, text, dim=8).dim == 8  # what the command line says of the network makes it one
    assert read(tmp_path, text, preset="style-004").dim == 32
    assert read(tmp_path, text, network_type="full").is_full


def test_every_refused_key_is_told_at_once_lycoris_included(tmp_path: Path) -> None:
    text = HEAD.replace("networks.lora", "lycoris.kohya") + (
        'full_bf16 = true\nfoo = 1\nnetwork_args = ["algo=lokr", "fctor=6", "use_tucker=True", "conv_dim=a", "x"]\n'
        'optimizer_args = ["a"]\nlr_scheduler_args = ["b=1"]\ntext_encoder_lr = [1, 2]\n'
    )
    with pytest.raises(RecipeError) as error:
        read(tmp_path, text)
    words = ("full_bf16", "'foo'", "'fctor'", "use_tucker", "'a' in conv_dim", "'x' in network_args",
             "'a' in optimizer_args", "lr_scheduler_args has b", "text_encoder_lr has 2")  # fmt: skip
    assert [word for word in words if word not in str(error.value)] == []
    assert str(error.value).count("o.toml") == 1
    with pytest.raises(RecipeError, match=r"rank_dropout of network_args is no number.*takes 25 for SD1"):
        read(tmp_path, HEAD + 'network_args = ["block_dims=1,2", "rank_dropout=x"]\n')


@pytest.mark.parametrize("rank", [5000, 10000, 100000])
def test_a_rank_that_no_matrix_has_asks_a_lokr_for_whole_matrices(tmp_path: Path, rank: int) -> None:
    lokr = HEAD.replace("networks.lora", "lycoris.kohya") + f'network_dim = {rank}\nnetwork_args = ["algo=lokr"]\n'
    config = read(tmp_path, lokr)
    assert (config.dim, config.conv_dim) == (rank, rank)
    for other in (lokr.replace("lokr", "loha"), HEAD + f"network_dim = {rank}\n"):
        with pytest.raises(RecipeError, match=rf"it must be 4096 or less \(it is {rank}\); only LoKr takes more"):
            read(tmp_path, other)


OTHERS = {
    "toolkit.yaml": ("job: extension\nconfig:\n  name: a\n  process:\n    - type: sd_trainer\n      model:\n"
                     "        name_or_path: black-forest-labs/FLUX.1-dev\n        is_flux: true\n",
                     "is a job of ai-toolkit for Flux.1, which is not read here"),
    "plain.yaml": ("job: extension\nconfig: {name: a, process: [{model: {name_or_path: animagine-xl}}]}\n",
                   "is a job of ai-toolkit, which"),
    "flux.toml": ('network_module = "networks.lora_flux"\nae = "a"\nclip_l = "c"\nt5xxl = "t"\n',
                  r"is for Flux.1 \(network_module = networks.lora_flux\)"),
    "sd3.toml": ('[x]\nclip_g = "a"\nt5xxl = "b"\nnetwork_dim = 4\n', "is for Stable Diffusion 3"),
    "lumina.toml": ('[a]\ngemma2 = "g"\nae = "a"\n', "is for Lumina"),
    "anima.toml": ('network_module = "networks.lora_anima"\n', "is for Anima"),
    "hunyuan.toml": ('dit = "d"\ntext_encoder1 = "a"\ntext_encoder2 = "b"\n', "is for HunyuanVideo"),
    "wan.toml": ('network_module = "networks.lora_wan"\ndit = "d"\n', "is for Wan"),
    "chroma.toml": ('[metadata]\ntrain_type = "flux-lora"\n[data]\nmodel_type = "chroma"\n', "is for (Flux|Chroma)"),
    "akiba.toml": ('model_train_type = "flux-lora"\n', r"is for Flux.1 \(model_train_type = flux-lora\)"),
    "embedding.toml": ('token_string = "a"\ninit_word = "b"\n', "trains an embedding"),
    "one.json": ('{"training_method": "LORA", "base_model_name": "b"}', "is a config of OneTrainer"),
    "tuner.json": ('{"--model_family": "flux", "--output_dir": "x"}', "is a config of SimpleTuner for Flux.1"),
    "backends.json": ('[{"id": "a", "instance_data_dir": "x"}]', "lists the data sets of SimpleTuner"),
    "pipe.toml": ('dataset = "d.toml"\n[model]\ntype = "hunyuan-video"\n', "is a config of diffusion-pipe for Hunyuan"),
    "musubi.toml": ('[[datasets]]\nimage_directory = "a"\n', "is a dataset config of musubi-tuner"),
    "accelerate.yaml": ("compute_environment: LOCAL_MACHINE\n", "holds accelerate's own settings"),
    "recipe.yaml": ("version: 1\nbase: b\nsteps: {a: {merge: 'x:1'}}\n", "is a recipe.*`loratools run` runs it"),
    "captions.json": ('{"a.png": {"caption": "x"}, "b.png": {"tags": "y"}}', "name it as `metadata_file`"),
    "workflow.json": ('{"nodes": [], "links": []}', "is a workflow of ComfyUI's"),
    "lycoris.toml": ('unet_target_module = ["a"]\n', "is a preset of LyCORIS"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_programs_and_families_are_named_in_one_sentence(tmp_path: Path, name: str) -> None:
    text, message = OTHERS[name]
    with pytest.raises(RecipeError, match=message) as error:
        read(tmp_path, text, name, base="b", images=["i"])
    assert str(error.value).startswith(str(tmp_path / name)) and "did you mean" not in str(error.value)
    assert len(str(error.value).removeprefix(str(tmp_path))) < 260


@pytest.mark.parametrize("name", ["train.sh", "train.bat", "train.ps1", "Trainer.ipynb"])
def test_a_script_is_no_config(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match="is a script, not a config; give the file that it passes as --config_file"):
        read(tmp_path, "accelerate launch train_network.py --config_file=c.toml", name)


def test_what_only_looks_like_another_familys_is_read(tmp_path: Path) -> None:
    text = HEAD + 'output_name = "flux style"\ntraining_comment = "anima"\nsample_sampler = "ddim"\n'
    assert read(tmp_path, text).name == "flux style"
    assert read_sd_scripts(tmp_path / "o.toml").program == "sd-scripts' TOML"
