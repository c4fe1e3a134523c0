"""The validation loss: what it is made of, that it repeats, that measuring changes nothing, and where it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loratools.base.load import load_base
from loratools.errors import LoratoolsError, UnavailableError
from loratools.train import seeds
from loratools.train.callbacks.tensorboard import check_tensorboard
from loratools.train.callbacks.validation import BANDS, band_edges, chosen
from loratools.train.config.config import TrainConfig
from loratools.train.data.latents import LatentStore
from loratools.train.data.read import read_dataset
from loratools.train.network.network import Network
from loratools.train.output.epoch_report import best_epoch, report
from loratools.train.step import objective
from loratools.train.step.precision import Precision
from loratools.train.step.step import DenoisingStep
from loratools.train.step.text_states import CaptionEncoder
from loratools.train.trainer import EpochRecord, RunResult, StepRecord, dry_run, train

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


@pytest.fixture(autouse=True)
def _fixed_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


def lines(run: RunResult, kind: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    return [line for line in records if line["kind"] == kind]


def test_looking_changes_no_byte_and_a_kill_no_line(config: Config, pictures: Pictures, tmp_path: Path) -> None:
    """With drop-out, whose draws would move if validation drew anything; every step, and over a kill."""
    images = pictures(count=5)
    common = {"validation_split": 0.4, "network_dropout": 0.3, "epochs": 2, "batch_size": 1}
    looked = {"validate_every_steps": 2, "save_state_every_steps": 2}
    plain = train(config(images, out=str(tmp_path / "plain"), validate_every_epochs=0, **common), progress=False)
    ends: list[EpochRecord] = []
    seen = train(config(images, out=str(tmp_path / "seen"), **looked, **common), progress=False, on_epoch=ends.append)
    assert [path.read_bytes() for path in seen.epochs] == [path.read_bytes() for path in plain.epochs]
    assert not lines(plain, "validation")
    logged = lines(seen, "validation")
    assert [(line["epoch"], line["step"]) for line in logged] == [(0, 0), (1, 2), (1, 3), (2, 4), (2, 6)]
    assert len({line["loss"] for line in logged}) == 5
    assert [end.metrics for end in ends] == [{"validation": logged[2]["loss"]}, {"validation": logged[4]["loss"]}]

    def kill(record: StepRecord) -> None:
        if record.step == 5:
            raise KeyboardInterrupt

    cut = config(images, out=str(tmp_path / "cut"), **looked, **common)
    with pytest.raises(KeyboardInterrupt):
        train(cut, progress=False, on_step=kill)
    again = train(cut.model_copy(update={"resume": True}), progress=False)
    assert lines(again, "validation") == logged
    assert lines(again, "losses") == lines(seen, "losses")


def test_it_is_the_mean_loss_at_fixed_draws_of_the_images_held_out(config: Config, pictures: Pictures) -> None:
    settings = config(pictures(count=5), epochs=1, validation_split=0.4, min_snr_gamma=5, noise_offset=0.1)
    logged = lines(train(settings, progress=False), "validation")[0]
    assert logged["held_out"] and logged["step"] == 0 and len(logged["images"]) == 2
    base, device = load_base(settings.base, device="cpu", dtype="fp32"), torch.device("cpu")
    dataset = read_dataset(settings, (64, 64))
    store = LatentStore(base, dataset)
    store.fill()
    schedule = objective.noise_schedule(base.scheduler_config, settings)
    network = Network(base, settings.dim, settings.alpha, settings.seed, options=settings)
    step = DenoisingStep(base, network, schedule, settings, Precision("no", device))
    encoder, edges, measured = CaptionEncoder(base, settings, 1), band_edges(0, 1000), torch.zeros(2, BANDS)
    for row, batch in enumerate(dataset.plain_batches(dataset.held_out, 1)):
        moments = store.moments(batch)
        inputs = config_inputs(moments.mean, moments.deviation, encoder.tokenized([batch[0].caption]).tokens)
        for band in range(BANDS):
            generator = seeds.generator(settings.seed, "validation", dataset.items[batch[0].item].digest, band)
            drawn = objective.draw((1, 4, 8, 8), 1000, settings, generator)
            at = torch.randint(edges[band], edges[band + 1], (1,), generator=generator)
            assert edges[band] <= int(at) < edges[band + 1]
            with torch.no_grad():
                measured[row, band] = step.losses(inputs, objective.Draws(drawn.noise, drawn.posterior, at))
    assert logged["loss"] == pytest.approx(float(measured.mean()), rel=1e-5)
    assert [band["loss"] for band in logged["bands"]] == pytest.approx(measured.mean(0).tolist(), rel=1e-5)
    assert [(band["from"], band["to"]) for band in logged["bands"]][::4] == [(0, 199), (800, 999)]


def config_inputs(mean: torch.Tensor, deviation: torch.Tensor, tokens: tuple[torch.Tensor, ...]) -> Any:
    from loratools.train.step.batch import Inputs

    return Inputs(mean, deviation, tokens=tokens)


def test_without_images_held_out_it_is_measured_on_trained_ones_and_says_so(config: Config, pictures: Pictures) -> None:
    images = pictures(count=3)
    settings = config(images, epochs=4, batch_size=3, learning_rate=2e-2, validate_every_epochs=1, validation_images=2)
    assert any("no image is held out" in note and "2 images" in note for note in dry_run(settings).notes)
    run = train(settings, progress=False)
    logged = lines(run, "validation")
    assert [line["held_out"] for line in logged] == [False] * 5 and len(logged[0]["images"]) == 2
    assert logged[-1]["loss"] < logged[0]["loss"]  # learnt by heart
    summary = report(run.log.parent)
    assert not summary.held_out and summary.untrained == logged[0]["loss"]
    assert [own.validation for own in summary.epochs] == [line["loss"] for line in logged[1:]]
    assert "trained on" in summary.shortlist[0].why and summary.shortlist[0].number > 2
    assert "cannot show what is learnt by heart" in summary.text()
    assert not dry_run(config(images)).notes


def test_the_lowest_validation_loss_is_the_best_epoch(config: Config, pictures: Pictures) -> None:
    """A run whose log is changed so that its second epoch of three is the best, whatever its training loss."""
    run = train(config(pictures(count=4), epochs=3, batch_size=4, validation_split=0.25), progress=False)
    changed = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    for line in changed:
        if line["kind"] == "validation":
            line["loss"] = {0: 0.9, 1: 0.3, 2: 0.2, 3: 0.201}[line["step"]]
        if line["kind"] == "epoch":
            line["loss"] = 1.0 - line["epoch"] / 10
    run.log.write_text("\n".join(json.dumps(line) for line in changed), encoding="utf-8")
    summary = report(run.log.parent)
    assert summary.held_out and summary.untrained == 0.9 and best_epoch(run.log.parent) == 2
    assert [(pick.number, pick.why) for pick in summary.shortlist] == [
        (2, "lowest validation loss (0.2000)"),
        (3, "validation loss 0.2010, within 0.5% of the lowest"),
    ]
    assert "learnt by heart" not in summary.text()


def test_which_images_are_measured(config: Config, pictures: Pictures) -> None:
    images = pictures(count=5)
    held = read_dataset(config(images, validation_split=0.4), (64, 64))
    assert chosen(config(images, validation_split=0.4), held) == held.held_out
    assert len(chosen(config(images, validation_split=0.4, validation_images=1), held)) == 1
    trained = read_dataset(config(images), (64, 64))
    some = chosen(config(images, validation_images=3), trained)
    assert len(some) == 3 and some == chosen(config(images, validation_images=3), trained)
    assert len({chosen(config(images, validation_images=3, seed=seed), trained) for seed in range(1, 7)}) > 1


def test_losses_by_image_and_by_noise_are_those_of_the_steps(config: Config, pictures: Pictures) -> None:
    run = train(config(pictures(count=2), epochs=2, batch_size=1, repeats=2), progress=False)
    steps = lines(run, "step")
    for losses in lines(run, "losses"):
        own = [line["loss"] for line in steps if line["epoch"] == losses["epoch"]]
        assert sum(losses["images"].values()) / 2 == pytest.approx(sum(own) / 4)  # each image twice
        assert list(losses["images"]) == ["images/00.png", "images/01.png"]
        assert [(band["from"], band["to"]) for band in losses["bands"]][::9] == [(0, 99), (900, 999)]
        assert sum(losses["relative"].values()) / 2 == pytest.approx(1)  # uses are as many for either image
        seen = [band["loss"] for band in losses["bands"] if band["loss"] is not None]
        assert seen and min(own) <= min(seen) and max(seen) <= max(own)


class Recorder:
    """Stands for the SummaryWriter of a package that is no part of the tests."""

    made: list[tuple[str, Any]] = []  # noqa: RUF012

    def __init__(self, folder: str, purge_step: int | None = None) -> None:
        self.made.append(("folder", (Path(folder).name, purge_step)))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.made.append((name, (step, value)))

    def flush(self) -> None:
        self.made.append(("flush", None))

    def close(self) -> None:
        self.made.append(("close", None))


def test_tensorboard_gets_the_curves(config: Config, pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    stub = types.ModuleType("torch.utils.tensorboard")
    stub.SummaryWriter = Recorder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stub)
    monkeypatch.setattr(Recorder, "made", [])
    run = train(config(pictures(count=4), epochs=1, validation_split=0.5, tensorboard=True), progress=False)
    assert Recorder.made[0] == ("folder", ("t-tensorboard", 0)) and Recorder.made[-1][0] == "close"
    names = {name for name, _ in Recorder.made}
    assert {"loss/loss", "loss/average", "loss/epoch", "rate/unet", "rate/text_encoder", "validation/loss"} <= names
    assert [point for name, point in Recorder.made if name == "loss/loss"] == [(1, run.losses[0])]
    assert any(name.startswith("timesteps/") for name in names)


def test_a_missing_tensorboard_is_named_before_anything_is_read(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UnavailableError, match=r"pip install 'loratools\[log\]'"):
        train(config(tmp_path / "no images", tensorboard=True), progress=False)
    check_tensorboard(config(tmp_path))


def test_samples_without_prompts_are_refused(config: Config, tmp_path: Path) -> None:
    with pytest.raises(LoratoolsError, match="sample_every_steps is set but there are no prompts"):
        config(tmp_path, sample_every_steps=10)
