from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from loratools.errors import RecipeError
from loratools.train.config.read import make_config, presets, read_config

MINIMAL = {"base": "b", "images": "imgs"}


def test_preset_then_file_then_flags(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("base: b\nimages: imgs\npreset: style-004\nepochs: 12\nlearning_rate: 1e-4\nmixed_precision: no\n")
    config = read_config(path, {"epochs": None, "dim": 8})[0]
    assert (config.epochs, config.dim, config.noise_offset, config.keep_tokens) == (12, 8, 0.1, 3)
    assert (config.learning_rate, config.mixed_precision, config.name) == (1e-4, "no", "imgs")
    assert config.learned_rates() == (1e-4, 1e-4)


def test_every_preset_is_valid_and_names_its_source() -> None:
    for name, preset in presets().items():
        assert preset.source and make_config({**MINIMAL, "preset": name}, "t").preset == name
    assert {"style-004", "default", "character-002", "character-003", "object", "pose", "scene", "pocket-style"} <= set(
        presets()
    )
    style = make_config({**MINIMAL, "preset": "style-004"}, "t")
    assert style.epochs >= 8 and style.learned_rates() == (1e-4, 1e-4) and style.optimizer == "AdamW"


def test_alpha_defaults_to_dim_and_rates_to_the_common_one() -> None:
    config = make_config({**MINIMAL, "preset": "character-003", "alpha": None, "unet_lr": "2e-4"}, "t")
    assert config.network_alpha == 1 and config.learned_rates() == (2e-4, 1e-3)
    assert make_config({**MINIMAL, "alpha": 3, "dim": 12}, "t").network_alpha == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epoch: 3", r"line 3: epoch: there is no such key \(did you mean 'epochs'\?\)"),
        ("epochs: many", r"line 3: epochs: it must be a whole number \(it is 'many'\)"),
        ("epochs: 0", r"epochs: it must be 1 or more \(it is 0\)"),
        ("resolution: 500", "multiples of 8"),
        ("resolution: [512, 516]", "512x516: both sides must be multiples of 8"),
        ("lr_scheduler: cosinus", r"lr_scheduler: it must be 'cosine', .* \(did you mean 'cosine'\?\)"),
        ("lr_warmup: abc", r"line 3: lr_warmup: abc: give steps \(100\), a fraction \(0\.1\) or a percentage"),
        ("resolution: [512, abc]", r"line 3: resolution\.1: it must be a whole number \(it is 'abc'\)"),
        ("resolution: abc", r"line 3: resolution: it must be a whole number \(it is 'abc'\)"),
        ("cache_latents: maybe", r"line 3: cache_latents: it must be true or false or 'disk' \(it is 'maybe'\)"),
        ("tensorboard: [1]", r"line 3: tensorboard: it must be true or false or a path \(it is \[1\]\)"),
        ("learning_rate: fast", r"learning_rate: it must be a number \(it is 'fast'\)"),
        ("validation_split: 1", r"validation_split: it must be below 1 \(it is 1\)"),
        ("datasets: [{batch_size: 2}]", r"line 3: datasets\.0: 'images' is missing"),
        ("optimizer_args: 3", r"optimizer_args: it must be keys and values \(it is 3\)"),
        ("lr_warmup: 200%", "percentage"),
        ("preset: style-04", r"no training preset 'style-04' \(did you mean 'style-004'\?\)"),
        ("mixed_precision: fp8", "mixed_precision"),
        ("name: a/b", "cannot be a file's name"),
        ("learning_rate: .nan", "learning_rate"),
        ("learning_rate: 0", "nothing to train"),
        ("bucket_steps: 20", "multiple of 8"),
        ("clip_skip: 0", "clip_skip"),
        ("epochs: 3\nepochs: 4", "already given"),
    ],
)
def test_a_mistake_names_file_line_key_and_remedy(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(f"base: b\nimages: imgs\n{line}\n")
    with pytest.raises(RecipeError, match=message) as caught:
        read_config(path)
    assert "my.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_key_of_a_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("base: b\nimages:\n  - folder: a\n    repeat: 3\n")
    with pytest.raises(RecipeError, match=r"line 4: images\.0\.repeat: .*'repeats'"):
        read_config(path)


@pytest.mark.parametrize("missing", ["base", "images"])
def test_base_and_images_are_required(missing: str) -> None:
    with pytest.raises(RecipeError, match=f"'{missing}' is missing"):
        make_config({key: value for key, value in MINIMAL.items() if key != missing}, "t")


def test_images_beside_the_config_are_found(tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    path = tmp_path / "c.yaml"
    path.write_text("base: b\nimages: pics\n")
    assert read_config(path)[0].images[0].folder == tmp_path / "pics"


WINDOWS = "[[datasets]]\nresolution = 128\n[[datasets.subsets]]\nimage_dir = "


@pytest.mark.skipif(os.name == "nt", reason="the paths are this system's there")
@pytest.mark.parametrize("folder", ["C:\\sets\\ink", "\\\\server\\share\\ink", "d:\\ink"])
def test_a_path_of_windows_names_a_folder_that_is_not_here(tmp_path: Path, folder: str) -> None:
    texts = {
        "c.toml": f"{WINDOWS}'{folder}'\n",
        "o.toml": f"train_data_dir = '{folder}'\nnetwork_dim = 4\n",
        "c.yaml": f"images: '{folder}'\n",
        "l.yaml": f"images:\n- {{folder: '{folder}', repeats: 2}}\n",
        "d.yaml": f"datasets:\n- images: '{folder}'\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        assert read_config(tmp_path / name, {"base": "b"})[0].name == "ink"
        with pytest.raises(RecipeError) as error:
            read_config(tmp_path / name, {"base": "b"}, must_exist=True)
        message = str(error.value)
        assert f"there is no folder {folder}" in message and "it is a path of Windows" in message, name
        assert f"(looked for in {Path.cwd()} and beside {tmp_path / name})" in message
        assert folder in error.value.excerpt, name


def test_a_folder_that_is_not_there_is_named_with_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pics").mkdir()
    Path("c.yaml").write_text("base: pocket\nimages: [pics, no]\n")
    with pytest.raises(
        RecipeError, match=rf"line 2: images.1.*there is no folder no \(looked for in {tmp_path} and beside c.yaml\)$"
    ):
        read_config("c.yaml", must_exist=True)
    with pytest.raises(RecipeError, match=rf"^`images=`: there is no folder x \(looked for in {tmp_path}\)$"):
        read_config(None, {"base": "pocket", "images": ["pics", "x"]}, must_exist=True)
    with pytest.raises(RecipeError, match=r"there is no folder /no/where$"):
        read_config("c.yaml", {"images": ["/no/where"]}, must_exist=True)
    assert len(read_config("c.yaml", {"images": ["pics"]}, must_exist=True)[0].images) == 1


@pytest.mark.parametrize("name", ["c.yaml", "c.toml"])
def test_everything_beside_the_config_is_found(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there / "loras", there / "pocket"):
        folder.mkdir(parents=True)
    for file in ("m.safetensors", "vae.pt", "loras/start.safetensors", "loras/style.safetensors"):
        (there / file).touch()
    yaml = (
        "base: m.safetensors\nimages: pics\nvae: vae.pt\nnetwork_weights: loras/start.safetensors\n"
        "base_adapters: ['loras/style:0.5:GP1,none:2', 'a:b:c:d']\n"
    )
    toml = (
        'pretrained_model_name_or_path = "m.safetensors"\ntrain_data_dir = "pics"\nvae = "vae.pt"\n'
        'network_weights = "loras/start.safetensors"\nbase_weights = "loras/style.safetensors"\n'
    )
    (there / name).write_text(yaml if name == "c.yaml" else toml)
    monkeypatch.chdir(here)
    config = read_config(there / name)[0]
    assert (Path(config.base), config.vae) == (there / "m.safetensors", there / "vae.pt")
    assert config.network_weights == there / "loras/start.safetensors"
    style = f"{there / 'loras/style.safetensors'}"
    assert config.base_adapters == ((f"{style}:0.5:GP1,none:2.0", "a:b:c:d") if name == "c.yaml" else (f"{style}:1.0",))
    for base in ("pocket", "owner/model"):
        assert read_config(there / name, {"base": base})[0].base == base
    (here / "m.safetensors").touch()
    assert Path(read_config(there / name)[0].base) == there / "m.safetensors"
    assert read_config(there / name, {"base": "m.safetensors"})[0].base == "m.safetensors"


TOML = """
[general]
shuffle_caption = true
keep_tokens = 2
caption_extension = ".txt"

[[datasets]]
resolution = [512, 768]
batch_size = 4
enable_bucket = true
min_bucket_reso = 256

  [[datasets.subsets]]
  image_dir = "10_a"
  num_repeats = 5
  class_tokens = "cat"

  [[datasets.subsets]]
  image_dir = "b"
  keep_tokens = 0
  flip_aug = true
"""


def test_sd_scripts_toml(tmp_path: Path) -> None:
    path = tmp_path / "d.toml"
    path.write_text(TOML)
    config = read_config(path, {"base": "b", "epochs": 3})[0]
    assert (config.resolution, config.batch_size, config.buckets, config.bucket_min) == ((512, 768), 4, True, 256)
    first, second = config.images
    assert (str(first.folder), first.repeats, first.class_tokens, first.keep_tokens) == ("10_a", 5, "cat", 2)
    assert (second.repeats, second.keep_tokens, second.flip, second.shuffle_tags) == (1, 0, True, True)
    assert first.plain_name and config.epochs == 3 and config.name == "10_a"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "num_repeats",
            "num_repeat",
            r"unknown key 'num_repeat' in \[\[datasets\]\] 1, subset 1 \(did you mean 'num_r",
        ),
        ("[general]", "[generals]", "unknown key 'generals'.*did you mean 'general'"),
        ("keep_tokens = 0", "network_multiplier = 0.5", "'network_multiplier' cannot stand in .*subset 2; move"),
        ("batch_size = 4", "network_multiplier = 0.5", "'network_multiplier'.*not supported: give a folder fewer"),
        ("keep_tokens = 0", "face_crop_aug_range = [1, 2]", "'face_crop_aug_range'.*not supported: crop"),
        ("keep_tokens = 0", "batch_size = 2", r"'batch_size' cannot stand in .*subset 2; move it to \[general\]"),
        ('image_dir = "b"', "", "subset 2 has no image_dir"),
        ('image_dir = "b"', "foo = 1", r"unknown key 'foo' in .*; \[\[datasets\]\] 1, subset 2 has no image_dir"),
        ("[[datasets.subsets]]", "[[datasets.subset]]", "unknown key 'subset'"),
        ("[general]", "[general", "not TOML"),
    ],
)
def test_toml_mistakes_are_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    path = tmp_path / "d.toml"
    path.write_text(TOML.replace(before, after))
    with pytest.raises(RecipeError, match=message) as caught:
        read_config(path, {"base": "b"})
    assert "d.toml" in str(caught.value)


def test_switched_off_toml_keys_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "d.toml"
    path.write_text(TOML.replace("keep_tokens = 0", "color_aug = false\ncaption_dropout_every_n_epochs = 0"))
    assert len(read_config(path, {"base": "b"})[0].images) == 2


@pytest.mark.parametrize("name", ["none.yaml", "none.toml"])
def test_a_config_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=f"cannot read .*{re.escape(name)}"):
        read_config(tmp_path / name)


def _twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config's folder; everything that a config may name lies there and in the current folder as well."""
    for folder in (tmp_path / "here", tmp_path / "there"):
        for name in ("pics", "prior", "masks"):
            (folder / name).mkdir(parents=True)
        for name in ("start.safetensors", "style.safetensors", "prompts.txt", "vae.pt", "tags.json", "m.safetensors"):
            (folder / name).touch()
        toml = '[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = "pics"\n'
        (folder / "d.toml").write_text(f'{toml}metadata_file = "tags.json"\nconditioning_data_dir = "masks"\n')
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "there"


def test_what_lies_beside_the_config_comes_before_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = _twice(tmp_path, monkeypatch)
    (there / "c.yaml").write_text(
        "base: m.safetensors\nvae: vae.pt\nnetwork_weights: start.safetensors\nbase_adapters: 'style:0.5'\n"
        "sample_prompts: prompts.txt\nimages:\n  - {folder: pics, mask_folder: masks, metadata_file: tags.json}\n"
        "  - {folder: prior, regularisation: true}\n"
    )
    config = read_config(there / "c.yaml")[0]
    own, prior = config.images
    named = (config.vae, config.network_weights, config.sample_prompts, own.folder, own.mask_folder, own.metadata_file)
    assert all(isinstance(path, Path) and path.parent == there for path in (*named, prior.folder, Path(config.base)))
    assert config.base_adapters == (f"{there / 'style.safetensors'}:0.5",)
    over = {"vae": Path("vae.pt"), "images": ["pics"], "network_weights": "start.safetensors"}
    given = read_config(there / "c.yaml", over)[0]
    assert (given.vae, given.network_weights) == (Path("vae.pt"), Path("start.safetensors"))
    assert given.images[0].folder == Path("pics") and Path(given.base).parent == there


def test_what_lies_beside_sd_scripts_files_comes_first_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = _twice(tmp_path, monkeypatch)
    (there / "o.toml").write_text('pretrained_model_name_or_path = "b"\nnetwork_dim = 8\ndataset_config = "d.toml"\n')
    (there / "d.toml").write_text((there / "d.toml").read_text().replace("resolution = 64", "resolution = 128"))
    config = read_config(there / "o.toml")[0]
    (folder,) = config.images
    assert config.resolution == (128, 128)
    assert {path and path.parent for path in (folder.folder, folder.mask_folder, folder.metadata_file)} == {there}


@pytest.mark.parametrize(("images", "name"), [(".", "10_ink"), ("./", "10_ink"), ("..", "set"), ("sub/", "sub")])
def test_a_run_is_called_as_the_folder_however_that_is_spelled(
    images: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set/10_ink").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "set/10_ink")
    assert make_config({"base": "x", "images": images}, "test").name == name


def test_a_setting_that_came_later_leaves_older_keys_as_they_were() -> None:
    plain = read_config(overrides={"base": "b", "out": "o", "images": ["x"]})[0].settings()
    assert "caption_encoding" not in json.dumps(plain)
    images = [{"folder": "x", "caption_encoding": "gbk"}, "y"]
    named = read_config(overrides={"base": "b", "out": "o", "images": images, "caption_encoding": "cp1251"})[
        0
    ].settings()
    assert named["caption_encoding"] == "cp1251"
    assert [one.get("caption_encoding") for one in named["images"]] == ["gbk", None]
