"""Samples: sd-scripts' prompt files, pictures that are the network's own, and a run that does not notice them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from loratools.adapter.files.file import read
from loratools.base.generate import PictureRequest, generate
from loratools.base.infotext import read_png, write_png
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.patching.patch import Patcher
from loratools.base.sampling import sample
from loratools.errors import GridError, LoratoolsError, PromptError, TrainingError
from loratools.train.callbacks.sample_prompts import Strength, read_sample_prompts
from loratools.train.callbacks.sample_sheet import draw_sheet
from loratools.train.callbacks.tensorboard import tensorboard_folder
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import read_config
from loratools.train.output.run_folder import RunFolder
from loratools.train.trainer import StepRecord, dry_run, train

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]
LINES = ("1girl, smile --n hat --w 64 --h 64 --d 7 --l 2.5 --s 2 --ss euler_a", "red hair --s 2")


@pytest.fixture(autouse=True)
def _fixed_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture(scope="module")
def base(tiny: Path) -> Base:
    return load_base(str(tiny), device="cpu", dtype="fp32")


def requests(settings: TrainConfig, base: Base, notes: list[str] | None = None) -> list[PictureRequest]:
    return [sample.request for sample in read_sample_prompts(settings, base, [] if notes is None else notes)]


def test_a_line_of_every_option_and_one_of_none(config: Config, tmp_path: Path, base: Base) -> None:
    file = tmp_path / "prompts.txt"
    text = (
        "# a comment\n\n1girl --N low quality, --hat --W 64 --h 128 --d 3 --l 4.5 --s 9 --ss k_euler_a\n(smile:1.2)\n"
    )
    file.write_text(text.replace("--hat ", ""), encoding="utf-8")
    defaults = base.defaults
    one, two = requests(config(tmp_path, sample_prompts=str(file), seed=5), base)
    assert one == PictureRequest("1girl", "low quality,", (128, 64), 3, 9, 4.5, "Euler a")
    assert two == PictureRequest("(smile:1.2)", "", (64, 64), 5, defaults.steps, defaults.cfg, defaults.sampler)
    (given,) = requests(config(tmp_path, sample_prompts=["x --s 3"], sample_sampler="DDIM"), base)
    assert (given.prompt, given.steps, given.sampler) == ("x", 3, "DDIM")


def test_toml_and_json(config: Config, tmp_path: Path, base: Base) -> None:
    (tmp_path / "p.toml").write_text(
        '[prompt]\nwidth = 64\nsample_steps = 4\n[[prompt.subset]]\nprompt = "a"\n'
        '[[prompt.subset]]\nprompt = "b"\nseed = 9\n'
    )
    (tmp_path / "p.json").write_text(
        '[{"prompt": "a", "sample_steps": 4}, {"prompt": "b", "seed": 9, "sample_steps": 4}]'
    )
    toml, jsons = (
        requests(config(tmp_path, sample_prompts=str(tmp_path / name)), base) for name in ("p.toml", "p.json")
    )
    assert toml == jsons and [(own.prompt, own.seed, own.steps) for own in toml] == [("a", 1, 4), ("b", 9, 4)]


@pytest.mark.parametrize(
    ("line", "message", "kind"),
    [
        ("1girl --q best", r"prompts.txt, line 2: there is no option '--q' here; there are --n", PromptError),
        ("1girl --w wide", "line 2: --w is 'wide'; it must be a number", PromptError),
        ("1girl --s 0", "line 2: --s is '0'; it must be 1 or more", PromptError),
        ("1girl --ss eulr", "line 2: there is no sampler 'eulr' .did you mean 'Euler'", GridError),
        ("# nothing", "prompts.txt holds no prompt", PromptError),
        (
            "1girl <lora:ink:0.5>",
            "line 2: <lora:ink:0.5> names another LoRA than 't', which is in training",
            PromptError,
        ),
        ("1girl <lora:t-000001:1>", "line 2: .* names another LoRA than 't'.*`loratools grid`", PromptError),
        ("1girl <lora:t:1:lbw=GP1>", "line 2: <lora:t:1:lbw=GP1> has a block vector", PromptError),
        ("1girl <lora:t:high>", "line 2: unknown block preset 'high'", PromptError),
        ("1girl <lora:t:1", "line 2: '<lora:t:1' is a LoRA's tag that no > closes", PromptError),
        ("1girl --n <lora:t:1>", "line 2: the negative prompt names a LoRA", PromptError),
        ("__colour__ hair", "line 2: '__colour__' is a wildcard", PromptError),
        ("{1girl|1boy}", r"line 2: '\{1girl\|1boy\}' is a random choice", PromptError),
        ("1girl --n embedding:bad", "line 2: 'embedding:bad' is ComfyUI's", PromptError),
    ],
)
def test_what_a_file_gets_wrong_is_named(
    line: str, message: str, kind: type[LoratoolsError], config: Config, tmp_path: Path, base: Base
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text(f"# first\n{line}\n", encoding="utf-8")
    with pytest.raises(kind, match=message):
        read_sample_prompts(config(tmp_path, sample_prompts=str(file)), base, [])


def test_what_sd_scripts_takes_stops_nothing(config: Config, tmp_path: Path, base: Base) -> None:
    line = "1girl --w 100 --h 30 --d -1 --ss dpmsolver --cn pose.png --G 3.5 --fs 3 --ctr 0.5 --rcfg 1"
    notes: list[str] = []
    (request,) = requests(config(tmp_path, sample_prompts=[line], seed=5), base, notes)
    assert (request.size, request.seed, request.sampler) == ((64, 96), 5, "DPM++ 2M")
    assert [note.split()[3] for note in notes] == ["--cn", "--G", "--fs", "--ctr", "--rcfg", "100x30"]
    assert notes[-1] == "sample_prompts, line 1: 100x30 is drawn at 96x64, since sides are multiples of 8"
    notes.clear()
    (tmp_path / "p.json").write_text('[{"prompt": "a", "seed": -1, "guidance_scale": 3.5}]')
    (request,) = requests(config(tmp_path, sample_prompts=str(tmp_path / "p.json")), base, notes)
    assert request.seed == 1 and len(notes) == 1 and "guidance_scale has no effect" in notes[0]


def test_the_notes_of_samples_are_the_dry_runs(config: Config, pictures: Pictures) -> None:
    report = dry_run(config(pictures(count=1), sample_prompts=["1girl --w 70"]))
    assert [note for note in report.notes if "70x64 is drawn at 64x64" in note]


def test_a_missing_file_stops_a_run_before_it_begins(config: Config, pictures: Pictures, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"cannot read sample_prompts .*none.txt: No such file"):
        train(config(pictures(), sample_prompts=str(tmp_path / "none.txt")), progress=False)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.safetensors"))


def test_prompts_are_looked_for_beside_the_config(pictures: Pictures, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("1girl")
    (tmp_path / "a.yaml").write_text(f"base: pocket\nimages: {pictures()}\nsample_prompts: prompts.txt\n")
    read = read_config(tmp_path / "a.yaml")[0]
    assert read.sample_prompts == tmp_path / "prompts.txt" and read.samples_every_epochs == 1
    assert "sample_prompts" not in read.settings()


def test_samples_are_the_networks_own_and_change_no_byte(
    config: Config, pictures: Pictures, tmp_path: Path, base: Base
) -> None:
    """With drop-out, so that a picture of the training network would differ, and a draw too many would show."""
    images = pictures(count=3)
    common = {"epochs": 2, "batch_size": 1, "network_dropout": 0.3, "learning_rate": 2e-2, "dtype": "fp32"}
    drawn = {"sample_prompts": list(LINES), "sample_every_epochs": 1, "sample_every_steps": 2, "sample_at_first": True}
    plain = train(config(images, out=str(tmp_path / "plain"), **common), progress=False)
    seen = train(config(images, out=str(tmp_path / "seen"), **common, **drawn), progress=False)
    assert [path.read_bytes() for path in seen.epochs] == [path.read_bytes() for path in plain.epochs]
    folder = tmp_path / "seen" / "t-samples"
    moments = ["e000000", "e000001", "e000002", "s00000002", "s00000004"]
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{moment}_0{number}.png" for moment in moments for number in (1, 2)),
        "sheet.png",
    ]
    request = PictureRequest("1girl, smile", "hat", (64, 64), 7, 2, 2.5, "Euler a")
    (bare,) = generate(base, [request])
    with Patcher(base).applied(read(seen.epochs[-1])):
        (patched,) = generate(base, [request])
    assert np.array_equal(np.asarray(Image.open(folder / "e000000_01.png")), bare)
    last = np.asarray(Image.open(folder / "e000002_01.png")).astype(int)
    assert np.abs(last - patched).max() <= 1 and not np.array_equal(last, bare)
    text, made = read_png(folder / "e000002_01.png")
    assert text.startswith("1girl, smile, <lora:t-000002:1>\nNegative prompt: hat\nSteps: 2, Sampler: Euler a, CFG")
    assert "Seed: 7, Size: 64x64" in text and "Training step: 6" in text
    assert read(seen.epochs[-1]).digest[:12] in text
    assert made == {"sample": {"run": "t", "epoch": 2, "step": 6, "number": 1}}
    assert "<lora" not in read_png(folder / "s00000002_01.png")[0]
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width == 8 + 5 * (256 + 8) and sheet.height > 2 * 256


def test_a_tag_of_the_lora_in_training_is_its_strength(config: Config, tmp_path: Path, base: Base) -> None:
    lines = ["a <lora:t:0.5>, b", "a", "a <lyco:t:te=0.5:unet=2>", "a <lora:t:0.5> <lora:t:0.25>", "<lora:t>"]
    read = read_sample_prompts(config(tmp_path, sample_prompts=lines), base, [])
    assert [sample.request.prompt for sample in read] == ["a , b", "a", "a", "a", ""]
    wanted = [(0.5, 0.5), (1, 1), (0.5, 2), (0.75, 0.75), (1, 1)]
    assert [sample.strength for sample in read] == [Strength(*each) for each in wanted]


@pytest.mark.parametrize("options", [{}, {"network_type": "loha"}, {"conv_dim": 2}])
def test_samples_at_a_strength_are_those_of_the_file(
    options: dict[str, object], config: Config, pictures: Pictures, tmp_path: Path, base: Base
) -> None:
    lines = ["1girl <lora:t:0.5> --s 2", "1girl <lora:t:0> --s 2", "1girl <lora:t:te=0:unet=1> --s 2", "1girl --s 2"]
    common = {"batch_size": 1, "learning_rate": 5e-2, "dtype": "fp32", "sample_prompts": lines}
    seen = train(config(pictures(count=2), out=str(tmp_path / "out"), epochs=1, **common, **options), progress=False)
    drawn = [np.asarray(Image.open(tmp_path / f"out/t-samples/e000001_{n:02d}.png")).astype(int) for n in (1, 2, 3, 4)]
    request = PictureRequest("1girl", "", (64, 64), 1, 2, base.defaults.cfg, base.defaults.sampler)
    deltas = dict(read(seen.epochs[-1]))
    halves = [(deltas, 0.5), ({}, 1.0), ({name: deltas[name] for name in deltas if name.startswith("unet")}, 1.0)]
    for picture, (part, weight) in zip(drawn, halves, strict=False):
        with Patcher(base).applied(part, weight):
            (wanted,) = generate(base, [request])
        assert np.abs(picture - wanted).max() <= 1
    assert len({picture.tobytes() for picture in drawn}) == 4
    texts = [read_png(tmp_path / f"out/t-samples/e000001_{n:02d}.png")[0].splitlines()[0] for n in (1, 2, 3, 4)]
    unet = "<lora:t-000001:te=0:unet=1>"
    assert texts == ["1girl, <lora:t-000001:0.5>", "1girl", f"1girl, {unet}", "1girl, <lora:t-000001:1>"]


@pytest.mark.parametrize("line", ["1girl <lora:ink:1>", "__colour__ hair", "1girl --n {a|b}"])
def test_prompts_that_would_be_drawn_as_words_stop_a_run_before_it_begins(
    line: str, config: Config, pictures: Pictures
) -> None:
    settings = config(pictures(), sample_prompts=[line], base="nowhere.safetensors")  # the base is not even looked for
    with pytest.raises(PromptError, match="sample_prompts, line 1: "):
        train(settings, progress=False)


def test_where_memory_is_short_tiles_are_tried_before_giving_up(
    config: Config, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, tiled = sample.decode_pixels, []

    def short(base: Base, latents: torch.Tensor) -> torch.Tensor:
        tiled.append((base.vae.use_tiling, base.vae.tile_latent_min_size))
        if len(tiled) != 2:
            raise torch.OutOfMemoryError
        return decode(base, latents)

    monkeypatch.setattr("loratools.base.generate.decode_pixels", short)
    settings = config(pictures(count=2), epochs=2, sample_prompts=["1girl --w 128 --s 1"])
    with pytest.raises(TrainingError, match="does not suffice to draw a sample of 128x64 beside the training; give"):
        train(settings, progress=False)
    (whole, normal), (tiles, half) = tiled[:2]
    assert (whole, tiles) == (False, True) and half == normal // 2
    folder = RunFolder(settings.out, "t")
    with Image.open(folder.sample(1, 1, 1, ended=True)) as image:
        assert image.size == (128, 64)
    assert len(folder.epochs()) == 2 and torch.load(folder.state, weights_only=True)["epoch"] == 2  # nothing is lost


def test_a_kill_while_drawing_is_made_up_for(config: Config, pictures: Pictures, tmp_path: Path) -> None:
    images = pictures(count=2)
    settings = config(images, epochs=2, batch_size=1, sample_prompts=[LINES[0]], save_state_every_steps=1)
    train(settings.model_copy(update={"out": tmp_path / "whole"}), progress=False)
    whole = RunFolder(tmp_path / "whole", "t")

    def kill(record: StepRecord) -> None:
        if record.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, progress=False, on_step=kill)
    folder = RunFolder(settings.out, "t")
    names = [path.name for path in folder.samples.iterdir()]
    assert sorted(names) == ["e000001_01.png", "sheet.png"]
    state = torch.load(folder.state, weights_only=True)
    assert (state["epoch"], state["into"]) == (1, 0)
    (folder.samples / "e000001_01.png").unlink()  # as if the kill had come before it
    (folder.samples / "mine.png").write_bytes(b"not a sample")
    train(settings.model_copy(update={"resume": True}), progress=False)
    for number in (1, 2):
        name = f"e00000{number}_01.png"
        assert (folder.samples / name).read_bytes() == (whole.samples / name).read_bytes()
    folder.clear()
    assert [path.name for path in folder.samples.iterdir()] == ["mine.png"]


def test_what_sd_scripts_says_of_samples_and_validation(
    pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())  # as if TensorBoard were installed
    (tmp_path / "prompts.txt").write_text("1girl")
    file = tmp_path / "options.toml"
    common = (
        f'pretrained_model_name_or_path = "pocket"\nnetwork_dim = 8\ntrain_data_dir = "{pictures("10_ink").parent}"\n'
    )
    asked = (
        'sample_every_n_epochs = 2\nvalidate_every_n_steps = 50\nvalidate_every_n_epochs = 0\nlogging_dir = "logs"\n'
    )
    file.write_text(f'{common}sample_prompts = "prompts.txt"\nsample_sampler = "euler_a"\n{asked}')
    read = read_config(file)[0]
    assert (read.sample_prompts, read.sample_sampler) == (tmp_path / "prompts.txt", "euler_a")
    assert (read.samples_every_epochs, read.validate_every_steps) == (2, 50)
    assert read.tensorboard == Path("logs") and tensorboard_folder(read) == Path("logs") / read.name
    file.write_text(f'{common}sample_prompts = "prompts.txt"\nsample_sampler = "euler_a"\nsample_every_n_steps = 0\n')
    assert read_config(file)[0].sample_prompts is None  # as there: nobody says when


def sample_file(folder: Path, number: int, prompt: str = "x") -> None:
    made = {"run": "t", "epoch": 1, "step": 3, "number": number}
    write_png(Image.new("RGB", (64, 64), "red"), folder / f"e000001_{number:02d}.png", prompt, {"sample": made})


def test_a_sheet_letters_prompts_in_other_alphabets(tmp_path: Path) -> None:
    """Pillow's built-in font has a box for each of these."""
    sheets = []
    for prompt in ("\u03b1\u03b2\u03b3", "\u03b4\u03b5\u03b6"):
        sample_file(tmp_path, 1)
        path = draw_sheet(tmp_path, [prompt])
        assert path is not None
        sheets.append(np.asarray(Image.open(path)))
    assert sheets[0].shape == sheets[1].shape and not np.array_equal(*sheets)


def test_samples_of_prompts_that_are_gone_are_not_on_the_sheet(tmp_path: Path) -> None:
    sample_file(tmp_path, 3)
    assert draw_sheet(tmp_path, ["a", "b"]) is None
    sample_file(tmp_path, 2)
    path = draw_sheet(tmp_path, ["a", "b"])
    assert path is not None and Image.open(path).size[0] == 8 + 256 + 8
