"""Going on in mid-epoch, after whatever stopped a run, as if nothing had; and what is kept beside the epoch files."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

from loratools import files
from loratools.adapter.files.file import read
from loratools.cli.training.train import command
from loratools.errors import DatasetError, FileError, TrainingError
from loratools.train import interrupt, setup
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import make_config
from loratools.train.interrupt import Interrupted
from loratools.train.network.network import Network
from loratools.train.output.run_folder import RunFolder
from loratools.train.output.state import check_nothing_unfinished, load_state
from loratools.train.stop_file import ask_to_stop
from loratools.train.trainer import OnStep, RunResult, StepRecord, dry_run, train

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


class Killed(Exception):
    """Stands for a kill: nothing of the run handles it."""


@pytest.fixture(autouse=True)
def _fixed_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures, the same for every test here."""
    folder = tmp_path_factory.mktemp("resume") / "images"
    folder.mkdir()
    rng = np.random.default_rng(7)
    for number in range(4):
        values = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_text(f"1girl, smile, tag{number}")
    return folder


@pytest.fixture(scope="module")
def whole(tiny: Path, images: Path) -> RunResult:
    """What :func:`eight_steps` leaves when nothing stops it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        return train(eight_steps(tiny, images, images.parent / "whole"), progress=False)


def eight_steps(tiny: Path, images: Path, out: Path, **settings: object) -> TrainConfig:
    """Two epochs of four steps, with an average, and files of steps 3 and 6."""
    given = {
        "epochs": 2,
        "batch_size": 1,
        "dim": 4,
        "alpha": 2,
        "learning_rate": 2e-3,
        "device": "cpu",
        "name": "t",
        "ema": 0.9,
        "save_every_steps": 3,
    }
    places = {"base": str(tiny), "images": str(images), "out": str(out)}
    return make_config({**given, **places, **settings}, "test")


def at_step(number: int, act: Callable[[], None]) -> OnStep:
    def on_step(record: StepRecord) -> None:
        if record.step == number:
            act()

    return on_step


def kill() -> None:
    raise Killed


def resumed(settings: TrainConfig) -> RunResult:
    return train(settings.model_copy(update={"resume": True}), progress=False)


def logged(result: RunResult, kind: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in result.log.read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def same(one: RunResult, two: RunResult) -> bool:
    """Whether both left the same bytes, losses and counts."""
    steps = [
        [line[key] for line in logged(result, "step") for key in ("step", "epoch", "loss", "average")]
        for result in (one, two)
    ]
    files_of = [
        [(path.name, path.read_bytes()) for path in sorted(result.log.parent.glob("*.safetensors"))]
        for result in (one, two)
    ]
    return files_of[0] == files_of[1] and steps[0] == steps[1] and one.losses == two.losses and one.steps == two.steps


def killed(settings: TrainConfig, *steps: int) -> RunResult:
    for number, step in enumerate(steps):
        with pytest.raises(Killed):
            train(settings.model_copy(update={"resume": number > 0}), progress=False, on_step=at_step(step, kill))
    return resumed(settings)


def test_a_run_killed_thrice_in_mid_epoch_leaves_what_a_whole_one_does(
    tiny: Path, images: Path, whole: RunResult, tmp_path: Path
) -> None:
    settings = eight_steps(tiny, images, tmp_path, save_state_every_steps=1)
    result = killed(settings, 3, 4, 7)
    assert same(result, whole) and whole.steps == 8
    assert [line["step"] for line in logged(result, "step")] == list(range(1, 9))
    assert [line["epoch"] for line in logged(result, "epoch")] == [1, 2]
    states = [load_state(run.state) for run in (result, whole)]
    assert [(state.epoch, state.step, state.into) for state in states if state] == [(2, 8, 0)] * 2
    again = resumed(settings)  # there is nothing left to do
    assert (again.epochs, again.losses, again.steps) == (result.epochs, result.losses, 8)


def test_draws_and_stages_go_on_where_they_were(tiny: Path, images: Path, tmp_path: Path) -> None:
    """Everything that is drawn, two micro-batches a step, and text encoders that stop in the third step."""
    drawn = {
        "flip": True,
        "network_dropout": 0.2,
        "caption_dropout": 0.3,
        "shuffle_tags": True,
        "noise_offset": 0.1,
        "gradient_accumulation": 2,
        "epochs": 3,
        "stop_text_encoder_training": 0.4,
        "ema": None,
    }
    one, two = (
        eight_steps(tiny, images, tmp_path / name, save_state_every_steps=1, **drawn) for name in ("whole", "killed")
    )
    assert same(killed(two, 2, 4, 6), train(one, progress=False))


def test_files_of_steps_and_only_the_newest_stay(config: Config, pictures: Pictures) -> None:
    settings = config(pictures(count=3), epochs=3, batch_size=1, save_every_steps=2, save_last_n=2)
    result = train(settings, progress=False)
    names = sorted(path.name for path in settings.out.glob("*.safetensors"))
    assert names == [
        "t-000002.safetensors",
        "t-000003.safetensors",
        "t-step00000006.safetensors",
        "t-step00000008.safetensors",
    ]
    assert result.epochs == [settings.out / name for name in names[:2]]
    made = {name: read(settings.out / name) for name in names}
    assert made[names[2]].digest == made[names[0]].digest  # step 6 ends epoch 2
    assert made[names[3]].digest not in {made[names[0]].digest, made[names[1]].digest}
    facts = made[names[3]].metadata
    assert (facts["ss_steps"], facts["ss_epoch"]) == ("8", "3")
    again = train(settings.model_copy(update={"save_every_steps": None, "epochs": 1}), progress=False)
    assert sorted(settings.out.glob("*.safetensors")) == again.epochs  # an earlier run's steps go with its epochs


def test_every_second_epoch_and_the_last_stay_also_after_a_kill(tiny: Path, images: Path, tmp_path: Path) -> None:
    short = {"epochs": 5, "batch_size": 2, "save_every_steps": None, "ema": None}
    every = train(eight_steps(tiny, images, tmp_path / "every", **short), progress=False)
    settings = eight_steps(tiny, images, tmp_path / "second", save_every_epochs=2, save_state_every_steps=3, **short)
    assert dry_run(settings).files == 3
    result = killed(settings, 4, 7)  # in the second epoch and in the fourth, of two steps each
    assert [path.name for path in result.epochs] == [
        "t-000002.safetensors",
        "t-000004.safetensors",
        "t-000005.safetensors",
    ]
    kept = [every.epochs[number - 1] for number in (2, 4, 5)]
    assert [path.read_bytes() for path in result.epochs] == [path.read_bytes() for path in kept]
    assert result.losses == every.losses
    newest = train(
        settings.model_copy(update={"save_last_n": 2, "force": True, "save_state_every_steps": None}), progress=False
    )
    assert [path.name for path in newest.epochs] == ["t-000004.safetensors", "t-000005.safetensors"]


def test_the_average_is_what_is_saved_and_training_does_not_see_it(config: Config, pictures: Pictures) -> None:
    images = pictures(count=4)
    common = {"epochs": 1, "dtype": "fp32", "batch_size": 1}
    plain = train(config(images, name="plain", save_every_steps=1, **common), progress=False)
    averaged = train(config(images, name="averaged", ema=0.5, **common), progress=False)
    states = [load_state(result.state) for result in (plain, averaged)]
    assert states[0] and states[1]
    assert all(torch.equal(states[0].network[name], factor) for name, factor in states[1].network.items())
    key = "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight"
    paths = [plain.log.parent / f"plain-step0000000{step}.safetensors" for step in (1, 2, 3, 4)]
    expected = torch.zeros_like(load_file(paths[0])[key])
    for step, path in enumerate(paths, 1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * load_file(path)[key]
    saved, last = load_file(averaged.epochs[0])[key], load_file(paths[-1])[key]
    torch.testing.assert_close(saved, expected, rtol=1e-5, atol=1e-8)
    assert float((saved - last).norm()) > 0.01 * float(last.norm())


def test_an_average_of_an_average_is_refused(
    config: Config, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "has_modes", lambda _: True)  # as of a schedule-free optimiser
    with pytest.raises(TrainingError, match="AdamW saves an average of its own; leave ema out"):
        train(config(pictures(count=1), ema=0.9), progress=False)


@pytest.mark.parametrize(("victim", "nth", "left"), [("t-state/state.pt", 3, 2), ("t-000001.safetensors", 1, 3)])
def test_a_full_disk_leaves_the_state_and_says_what_to_do(
    victim: str, nth: int, left: int, tiny: Path, images: Path, whole: RunResult, tmp_path: Path
) -> None:
    settings = eight_steps(tiny, images, tmp_path / "out", save_state_every_steps=1)
    original, count = files._sync, 0

    def full(path: Path) -> None:
        nonlocal count
        count += path.name.startswith(f".{Path(victim).name}")
        if count == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_sync", full)
        with pytest.raises(FileError, match=f"cannot write .*{victim}: No space left on device; free some space and"):
            train(settings, progress=False)
    state = load_state(settings.out / "t-state/state.pt")
    assert state is not None and (state.step, state.into, state.epoch) == (left, left, 0)
    assert not list(settings.out.rglob("*.part"))
    assert same(resumed(settings), whole)


def test_a_log_that_cannot_grow_is_an_error_that_names_it(
    config: Config, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(pictures(count=2), epochs=1, batch_size=1, save_state_every_steps=1)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill() -> None:
        monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(FileError, match=r"cannot write .*t.jsonl: No space left on device; .*resume=True"):
        train(settings, progress=False, on_step=at_step(1, fill))


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_done(
    config: Config, pictures: Pictures, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(FileError, match=r"cannot write in .*file/out: Not a directory; choose another place"):
        train(config(pictures(count=1), out=str(tmp_path / "file/out")), progress=False)


def test_an_image_that_vanishes_saves_the_state_and_comes_back(
    config: Config, pictures: Pictures, tmp_path: Path
) -> None:
    images = pictures(count=4)
    common = {"epochs": 1, "batch_size": 1, "cache_latents": False, "prefetch": 0}
    whole = train(config(images, out=str(tmp_path / "whole"), **common), progress=False)
    settings = config(images, **common)
    away = [(path, path.with_suffix(".away")) for path in images.glob("*.png")]

    def vanish() -> None:
        for path, elsewhere in away:
            path.rename(elsewhere)

    message = r"0\d.png.*; the state after step 2 is saved, so go on with `resume=True` when it is back"
    with pytest.raises(DatasetError, match=message):
        train(settings, progress=False, on_step=at_step(2, vanish))
    for path, elsewhere in away:
        elsewhere.rename(path)
    assert same(resumed(settings), whole)


def test_a_loss_that_is_no_number_keeps_the_state_before(
    config: Config, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(pictures(count=3), epochs=1, batch_size=1, save_state_every_steps=1)

    def poison() -> None:
        monkeypatch.setattr(Network, "finite", lambda _: False)

    with pytest.raises(
        TrainingError, match=r"a weight is not a number after step 2; lower the learning rate; .* whole"
    ):
        train(settings, progress=False, on_step=at_step(2, poison))
    state = load_state(settings.out / "t-state/state.pt")
    assert state is not None and state.step == 1


def test_ctrl_c_finishes_the_step_and_goes_on_exactly(
    tiny: Path, images: Path, whole: RunResult, tmp_path: Path
) -> None:
    settings, before = eight_steps(tiny, images, tmp_path / "out"), signal.getsignal(signal.SIGINT)
    for step, number in ((3, signal.SIGINT), (5, signal.SIGTERM)):  # stopped at an epoch's end, and in mid-epoch

        def press(number: int = number) -> None:
            os.kill(os.getpid(), number)

        go_on = settings.model_copy(update={"resume": step > 3})
        with pytest.raises(Interrupted, match=rf"stopped after step {step + 1} of 8, and the state is saved") as caught:
            train(go_on, progress=False, on_step=at_step(step, press))
        assert caught.value.signal == number and signal.getsignal(signal.SIGINT) is before
        state = load_state(settings.out / "t-state/state.pt")
        assert state is not None and state.step == step + 1
    assert same(resumed(settings), whole)


@pytest.mark.parametrize(("after", "asked_at", "stops_at"), [("step", 2, 3), ("epoch", 2, 4), ("epoch", 4, 4)])
def test_a_file_asks_a_run_to_stop_and_it_goes_on_exactly(
    tiny: Path,
    images: Path,
    whole: RunResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: str,
    asked_at: int,
    stops_at: int,
) -> None:
    monkeypatch.setattr(interrupt, "_LOOK", 0.0)
    settings = eight_steps(tiny, images, tmp_path / "out")
    file = RunFolder(settings.out, "t").stop
    ask_to_stop(file, "step")  # left of an earlier run
    with pytest.raises(Interrupted, match=rf"stopped after step {stops_at} of 8, and the state is saved"):
        train(settings, progress=False, on_step=at_step(asked_at, lambda: ask_to_stop(file, after)))
    assert not file.exists()
    assert same(resumed(settings), whole)


def test_a_run_that_was_cut_short_is_not_begun_anew_by_mistake(tiny: Path, images: Path, tmp_path: Path) -> None:
    settings = eight_steps(tiny, images, tmp_path / "out", save_state_every_steps=1)
    with pytest.raises(Killed):
        train(settings, progress=False, on_step=at_step(3, kill))
    given = ["--base", str(tiny), "--images", str(images), "-o", str(settings.out), "--name", "t", "--epochs", "2"]
    result = CliRunner().invoke(command, given)
    assert isinstance(result.exception, TrainingError)
    assert "cut short after step 2 (epoch 1); go on with --resume" in str(result.exception)
    check_nothing_unfinished(tmp_path / "nothing", settings.settings())
    finished = resumed(settings).state
    check_nothing_unfinished(finished, settings.settings())  # a run that is finished may be made again
    with pytest.raises(TrainingError, match=r"finished run of this name with other settings \(dim \(\d+ -> 8\)\)"):
        check_nothing_unfinished(finished, settings.model_copy(update={"dim": 8}).settings())
    elsewhere = settings.settings() | {
        "images": [{"folder": "other", "repeats": 3, "caption_dropout": None, "flip": False}]
    }
    with pytest.raises(TrainingError, match=r"images \(\S+images -> other repeats=3\)\); choose another"):
        check_nothing_unfinished(finished, elsewhere)


def test_a_plan_counts_the_files_that_stay_and_warns_of_a_small_disk(
    tiny: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = dry_run(eight_steps(tiny, images, tmp_path / "new/out"))  # 2 epochs, and steps 3 and 6
    assert report.files == 4 and not [text for text in report.warnings if "MiB left" in text]
    assert dry_run(eight_steps(tiny, images, tmp_path, save_every_steps=1, save_last_n=1)).files == 2
    room = report.files * report.file_bytes + 2 * 4 * 4 * report.parameters
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(room, 0, room))
    warned = dry_run(eight_steps(tiny, images, tmp_path / "new/out")).warnings
    assert [text for text in warned if "new/out has 2 MiB left, and the run takes up to" in text], warned
