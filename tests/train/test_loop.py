from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from loratools.adapter.files.file import read
from loratools.adapter.files.metadata import Provenance
from loratools.errors import (
    BaseModelError,
    DatasetError,
    FileError,
    LaunchError,
    LoratoolsError,
    TrainingError,
    UnavailableError,
)
from loratools.train.config.config import TrainConfig
from loratools.train.network.network import Network
from loratools.train.output.state import load_state
from loratools.train.step import objective
from loratools.train.trainer import EpochRecord, dry_run, train
from tests.loras import trained

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


@pytest.fixture(autouse=True)
def _fixed_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


def test_loss_falls_and_every_epoch_has_its_file(config: Config, pictures: Pictures) -> None:
    settings = config(pictures(count=2), epochs=8, repeats=2, learning_rate=1e-2, lr_scheduler="constant")
    result = train(settings, progress=False)
    assert [path.name for path in result.epochs] == [f"t-{number:06d}.safetensors" for number in range(1, 9)]
    assert sum(result.losses[-3:]) < 0.97 * sum(result.losses[:3])
    last = read(result.epochs[-1])
    moved = [name for name, delta in last.items() if delta.norm() > 0]
    assert len(moved) == len(last) == 192 + 12
    lines = [json.loads(line) for line in result.log.read_text().splitlines()]
    assert [line["kind"] for line in lines].count("step") == result.steps == 16
    steps = [line for line in lines if line["kind"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, 17))
    assert all(line["lr_unet"] == line["lr_te"] == 1e-2 and line["seconds"] > 0 for line in steps)
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [line["loss"] for line in epochs] == result.losses and epochs[-1]["digest"] == last.digest


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    config: Config, pictures: Pictures, tmp_path: Path
) -> None:
    images = pictures(count=3)
    common = {"flip": True, "noise_offset": 0.1, "caption_dropout": 0.2, "min_snr_gamma": 5, "clip_skip": 2}
    runs = [
        train(config(images, out=str(tmp_path / place), seed=seed, **common), progress=False)
        for place, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    one, two, other = ([path.read_bytes() for path in run.epochs] for run in runs)
    assert one == two and one[0] != other[0]


def test_resume_refuses_other_settings_and_other_images(config: Config, pictures: Pictures) -> None:
    images = pictures(count=2)
    settings = config(images, epochs=1)
    train(settings, progress=False)
    go_on = settings.model_copy(update={"resume": True})
    with pytest.raises(TrainingError, match=r"cannot resume: seed \(1 -> 2\) changed"):
        train(go_on.model_copy(update={"seed": 2}), progress=False)
    (images / "00.txt").write_text("another")
    with pytest.raises(TrainingError, match="the images or captions changed"):
        train(go_on, progress=False)


def test_keys_metadata_and_provenance(config: Config, pictures: Pictures) -> None:
    from safetensors import safe_open

    expected = (Path(__file__).parent / "network/sd15_modules.txt").read_text().split()
    result = train(config(pictures("3_ink", 2), epochs=1, alpha=1.5, noise_offset=0.1, comment="hello"), progress=False)
    with safe_open(result.epochs[0], "pt") as file:
        stems = sorted({key.split(".")[0] for key in file.keys()})  # noqa: SIM118
        alphas = {float(file.get_tensor(key)) for key in file.keys() if key.endswith(".alpha")}  # noqa: SIM118
        facts = file.metadata()
    text = [name for name in expected if name.startswith("lora_te") and name.split("_")[6] in ("0", "1")]
    assert stems == sorted([*text, *(name for name in expected if name.startswith("lora_unet"))])
    assert alphas == {1.5}
    wanted = {
        "ss_output_name": "t", "ss_network_dim": "4", "ss_network_alpha": "1.5", "ss_epoch": "1", "ss_steps": "3",
        "ss_num_train_images": "6", "ss_max_train_steps": "3", "ss_num_batches_per_epoch": "3", "ss_seed": "1",
        "ss_optimizer": "torch.optim.adamw.AdamW", "ss_noise_offset": "0.1", "ss_min_snr_gamma": "None",
        "ss_mixed_precision": "no", "ss_base_model_version": "sd_v1", "ss_training_comment": "hello",
        "ss_dataset_dirs": '{"3_ink": {"n_repeats": 3, "img_count": 2}}', "ss_training_started_at": "1700000000.0",
        "modelspec.architecture": "stable-diffusion-v1/lora", "modelspec.date": "2023-11-14T22:13:20",
        "modelspec.resolution": "64x64", "sshs_model_hash": read(result.epochs[0]).digest,
    }  # fmt: skip
    assert {key: facts.get(key) for key in wanted} == wanted
    assert json.loads(facts["ss_tag_frequency"])["3_ink"] == {
        "1girl": 2,
        "red hair": 2,
        "smile": 2,
        "blue eyes": 2,
        "tag0": 1,
        "tag1": 1,
    }
    made = Provenance.from_metadata(facts)
    assert made is not None and made.owner == "train:t" and made.step["train"]["dim"] == 4
    assert {entry["kind"] for entry in made.inputs} == {"base", "images"}


SD_SCRIPTS_KEYS = """
session_id training_started_at training_finished_at output_name learning_rate text_encoder_lr unet_lr
num_train_images num_validation_images num_reg_images num_batches_per_epoch num_epochs epoch steps
max_train_steps gradient_checkpointing gradient_accumulation_steps lr_warmup_steps lr_scheduler optimizer
max_grad_norm network_module network_dim network_alpha network_dropout mixed_precision full_fp16 fp8_base
fp8_base_unet v2 base_model_version clip_skip max_token_length cache_latents seed lowram noise_offset
noise_offset_random_strength adaptive_noise_scale multires_noise_iterations multires_noise_discount
zero_terminal_snr ip_noise_gamma ip_noise_gamma_random_strength min_snr_gamma debiased_estimation loss_type
huber_schedule huber_scale huber_c scale_weight_norms prior_loss_weight caption_dropout_rate
caption_dropout_every_n_epochs caption_tag_dropout_rate face_crop_aug_range training_comment
sd_scripts_commit_hash validation_seed validation_split max_validation_steps validate_every_n_epochs
validate_every_n_steps resize_interpolation sd_model_name sd_model_hash new_sd_model_hash datasets tag_frequency
dataset_dirs
"""
MODELSPEC = """
sai_model_spec architecture implementation implementation_version title resolution date prediction_type
encoder_layer
"""


WRITTEN = {
    *(f"ss_{key}" for key in SD_SCRIPTS_KEYS.split()),
    *(f"modelspec.{key}" for key in MODELSPEC.split()),
    "sshs_model_hash",
    "sshs_legacy_hash",
}


def test_every_key_of_sd_scripts_is_written(config: Config, pictures: Pictures) -> None:
    facts = read(train(config(pictures(count=1), epochs=1), progress=False).epochs[0]).metadata
    assert set(facts) == WRITTEN | {"loratools"}


def test_the_keys_of_sd_scripts_are_those_of_a_file_that_it_trained() -> None:
    assert set(read(trained("style-r8a4")).metadata) == WRITTEN


def test_the_file_holds_what_was_trained(config: Config, pictures: Pictures) -> None:
    settings = config(pictures(count=2), epochs=1, dtype="fp32")
    result = train(settings, progress=False)
    state = load_state(result.state)
    assert state is not None
    for name, delta in read(result.epochs[0]).items():
        factors = state.network
        dense = 0.5 * factors[f"{name}.up"].double() @ factors[f"{name}.down"].double()
        torch.testing.assert_close(delta.dense().reshape(dense.shape), dense, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize(("settings", "count"), [({"te_lr": 0}, 192), ({"unet_lr": 0}, 12)])
def test_one_part_alone_can_be_trained(
    settings: dict[str, float], count: int, config: Config, pictures: Pictures
) -> None:
    result = train(config(pictures(count=2), epochs=1, **settings), progress=False)
    adapter = read(result.epochs[0])
    # at 64 pixels the deepest level is one pixel, and self-attention over it has no gradient in q and k
    silent = {f"unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_{side}" for side in "qk"}
    still = {name for name, delta in adapter.items() if delta.norm() == 0}
    assert len(adapter) == count and still <= silent


def test_accumulation_equals_one_large_batch(
    config: Config, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two micro-batches of 2 weigh like one of 4: compared with the same draws, cut in two."""
    original, micro = objective.draw, itertools.count()

    def by_row(shape: Sequence[int], steps: int, given: TrainConfig, generator: torch.Generator) -> objective.Draws:
        drawn = original((4, *shape[1:]), steps, given, torch.Generator().manual_seed(7))
        first = 2 * (next(micro) % 2) if shape[0] == 2 else 0
        return drawn.rows(first, first + shape[0])

    monkeypatch.setattr(objective, "draw", by_row)
    images = pictures(count=4)
    common = {"epochs": 1, "dtype": "fp32", "shuffle_tags": False, "max_grad_norm": 0, "optimizer": "SGD"}
    one = read(train(config(images, name="one", batch_size=4, **common), progress=False).epochs[0])
    two = read(
        train(config(images, name="two", batch_size=2, gradient_accumulation=2, **common), progress=False).epochs[0]
    )
    for name in one:
        torch.testing.assert_close(one[name].dense(), two[name].dense(), rtol=2e-3, atol=1e-9)


def test_latents_without_a_cache_are_the_same(config: Config, pictures: Pictures) -> None:
    images = pictures(count=2)
    files = []
    for cache in (True, False):
        settings = config(images, name=f"n{cache}", epochs=1, batch_size=1, cache_latents=cache)
        files.append(train(settings, progress=False).epochs[0])
    one, two = (read(path) for path in files)
    for name in one:
        torch.testing.assert_close(one[name].dense(), two[name].dense(), rtol=1e-2, atol=5e-6)


def test_nan_stops_at_once_and_keeps_the_epochs_before(
    config: Config, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(pictures(count=2), epochs=3)

    def poison(record: EpochRecord) -> None:
        monkeypatch.setattr(Network, "finite", lambda _: True)
        drawn = objective.Draws(
            torch.full((2, 4, 8, 8), torch.nan), torch.zeros(2, 4, 8, 8), torch.zeros(2, dtype=torch.int64)
        )
        monkeypatch.setattr(objective, "draw", lambda *_: drawn)

    with pytest.raises(TrainingError, match=r"the loss is nan at step 2.*lower the learning rate"):
        train(settings, progress=False, on_epoch=poison)
    assert [path.name for path in settings.out.glob("*.safetensors")] == ["t-000001.safetensors"]
    assert not list(settings.out.rglob("*.part"))


def test_a_learning_rate_that_explodes_is_an_error_not_a_file(config: Config, pictures: Pictures) -> None:
    settings = config(
        pictures(count=2), epochs=6, learning_rate=1e30, lr_scheduler="constant", optimizer="SGD", max_grad_norm=0
    )
    with pytest.raises(LoratoolsError, match=r"diverged|not finite"):
        train(settings, progress=False)
    for path in settings.out.glob("*.safetensors"):
        assert all(delta.dense().isfinite().all() for delta in read(path).values())


def test_a_dry_run_counts_without_writing(config: Config, pictures: Pictures) -> None:
    root = pictures("root/3_a", 5).parent
    pictures("root/2_b", 4, (128, 64))
    settings = config(root, epochs=10, batch_size=4, gradient_accumulation=2, bucket_min=32, bucket_steps=32)
    report = dry_run(settings)
    assert (report.images, report.samples_per_epoch, report.batches_per_epoch) == (9, 23, 6)
    assert (report.steps_per_epoch, report.steps, report.samples, report.modules) == (3, 30, 230, 204)
    sums = "23 samples x 10 epochs / batch 4 x 2 batches a step (6 batches an epoch) = 30 steps"
    assert sums in report.text()
    assert not settings.out.exists()
    small = settings.model_copy(update={"epochs": 1})
    size = train(small, progress=False).epochs[0].stat().st_size
    assert abs(report.file_bytes - size) < 0.2 * size


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"base": "no/such/folder"}, BaseModelError, "no/such/folder"),
        ({"images": "nowhere"}, DatasetError, "no folder nowhere"),
        ({"clip_skip": 5}, TrainingError, "clip_skip 5 is above the 2 layers"),
        ({"optimizer": "AdamW8bits"}, TrainingError, "no optimizer 'AdamW8bits'"),
        ({"mixed_precision": "fp16"}, UnavailableError, "needs a GPU"),
        ({"device": "cuda:99"}, UnavailableError, "cuda:99"),
    ],
)
def test_bad_input_writes_nothing(
    settings: dict[str, object],
    error: type[Exception],
    message: str,
    config: Config,
    pictures: Pictures,
    tmp_path: Path,
) -> None:
    images = pictures(count=1)
    with pytest.raises(error, match=message) as caught:
        train(config(**{"images": images, **settings}), progress=False)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_files_of_someone_else_are_not_overwritten(config: Config, pictures: Pictures) -> None:
    settings = config(pictures(count=1), epochs=1)
    settings.out.mkdir()
    foreign = settings.out / "t-000001.safetensors"
    foreign.write_bytes(b"someone's")
    with pytest.raises(FileError, match="force=True"):
        train(settings, progress=False)
    assert foreign.read_bytes() == b"someone's" and [path.name for path in settings.out.glob("[!.]*")] == [foreign.name]
    assert read(train(settings.model_copy(update={"force": True}), progress=False).epochs[0]).ranks


def test_a_shorter_second_run_leaves_no_old_epochs(config: Config, pictures: Pictures) -> None:
    settings = config(pictures(count=1), epochs=3)
    train(settings, progress=False)
    result = train(settings.model_copy(update={"epochs": 1}), progress=False)
    assert sorted(settings.out.glob("*.safetensors")) == result.epochs and len(result.epochs) == 1


def test_bf16_trains_on_the_cpu(config: Config, pictures: Pictures) -> None:
    result = train(config(pictures(count=1), epochs=1, mixed_precision="bf16"), progress=False)
    adapter = read(result.epochs[0])
    assert adapter.metadata["ss_mixed_precision"] == "bf16"
    # attention over the one pixel of the deepest level has no gradient in q and k, which bf16 rounds to none at all
    assert sum(delta.norm() > 0 for delta in adapter.values()) > 0.85 * len(adapter)


def test_several_processes_are_refused(config: Config, pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LaunchError, match="several processes"):
        train(config(pictures(count=1)), progress=False)
