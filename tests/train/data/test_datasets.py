"""Several data sets in one run, images that are held out, and masks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loratools.adapter.files.file import read
from loratools.errors import DatasetError, RecipeError
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import make_config, read_config
from loratools.train.data.dataset import Dataset
from loratools.train.data.read import read_dataset
from loratools.train.trainer import dry_run, train
from tests.tiny import save_tiny_base

Pictures = Callable[..., Path]


def _config(**settings: Any) -> TrainConfig:
    return make_config({"base": "x", **settings}, "test")


def _two(pictures: Pictures, **second: Any) -> TrainConfig:
    large = {"images": [{"folder": str(pictures("large", 5)), "repeats": 3}], "resolution": 128, "batch_size": 2}
    small = {"images": [str(pictures("small", 4)), str(pictures("more", 2))], "keep_tokens": 2, **second}
    return _config(datasets=[large, small], resolution=64, batch_size=4)


def test_batches_never_mix_data_sets_and_every_image_is_seen_exactly_repeats_times(pictures: Pictures) -> None:
    data = read_dataset(_two(pictures), (512, 512))
    for epoch in (1, 2):
        batches = data.epoch(epoch, 7, 4)
        assert Counter(sample.item for batch in batches for sample in batch) == {
            index: 3 if index < 5 else 1 for index in range(11)
        }
        assert len(batches) == data.batches_per_epoch(4) == 8 + 2
        for batch in batches:
            parts = {data.folders[data.items[sample.item].folder].part for sample in batch}
            buckets = {data.items[sample.item].bucket for sample in batch}
            assert len(parts) == len(buckets) == 1
            assert (buckets, len(batch) <= 2) == ({(128, 128)}, True) if parts == {0} else buckets == {(64, 64)}
    assert data.epoch(1, 7, 4) == data.epoch(1, 7, 4) != data.epoch(2, 7, 4)
    assert [folder.rules.keep for folder in data.folders] == [0, 2, 2]  # handed down to the set's folders


def test_data_sets_alike_still_have_batches_of_their_own(pictures: Pictures) -> None:
    data = read_dataset(_two(pictures, resolution=128, batch_size=2), (64, 64))
    parts = [{data.folders[data.items[sample.item].folder].part for sample in batch} for batch in data.epoch(1, 1, 1)]
    assert all(len(part) == 1 for part in parts) and data.bucket_counts() == {(128, 128): 21}


def test_the_bases_own_resolution_stands_in_where_a_data_set_has_none(pictures: Pictures) -> None:
    config = _config(datasets=[{"images": str(pictures("a", 2)), "resolution": 128}, {"images": str(pictures("b", 3))}])
    data = read_dataset(config, (64, 64)).at(config, (192, 192))
    assert {item.bucket for item in data.items[:2]} == {(128, 128)} and data.items[4].bucket == (192, 192)


def test_regularisation_images_balance_their_own_data_set(pictures: Pictures) -> None:
    prior = {"folder": str(pictures("prior", 2)), "regularisation": True}
    config = _config(datasets=[{"images": str(pictures("a", 6))}, {"images": [str(pictures("b", 4)), prior]}])
    assert read_dataset(config, (64, 64)).uses() == [1] * 6 + [1] * 4 + [2, 2]
    alone = _config(datasets=[{"images": str(pictures("c", 2))}, {"images": [prior]}])
    with pytest.raises(DatasetError, match="nothing to learn"):
        read_dataset(alone, (64, 64))


TOML = """
[general]
shuffle_caption = true
resolution = 64
validation_split = 0.2
validation_seed = 3

[[datasets]]
batch_size = 4
  [[datasets.subsets]]
  image_dir = "a"
  alpha_mask = true

[[datasets]]
resolution = [128, 192]
enable_bucket = true
keep_tokens = 2
  [[datasets.subsets]]
  image_dir = "b"
  conditioning_data_dir = "masks"
  validation_split = 0.5
  [[datasets.subsets]]
  image_dir = "c"
  is_reg = true
"""


def test_several_tables_of_sd_scripts_toml(tmp_path: Path) -> None:
    path = tmp_path / "d.toml"
    path.write_text(TOML)
    (tmp_path / "masks").mkdir()
    config = read_config(path, {"base": "b"})[0]
    first, second = config.data_sets()
    assert (first.resolution, first.batch_size, first.buckets) == ((64, 64), 4, False)
    assert (second.resolution, second.batch_size, second.buckets) == ((128, 192), 1, True)
    assert [subset.keep_tokens for subset in config.subsets()] == [None, 2, 2]
    assert config.subsets()[0].alpha_mask and config.subsets()[1].mask_folder == tmp_path / "masks"
    assert [subset.validation_split for subset in config.subsets()] == [0.2, 0.5, 0.2] and config.validation_seed == 3
    assert config.subsets()[2].regularisation and config.name == "a"
    over = read_config(path, {"base": "b", "batch_size": 7, "images": ["z"]})[0]
    assert not over.datasets and over.batch_size == 7
    assert [part.batch_size for part in read_config(path, {"base": "b", "batch_size": 7})[0].data_sets()] == [7, 7]
    path.write_text(TOML.replace("keep_tokens = 2", "validation_seed = 4"))
    with pytest.raises(RecipeError, match="validation_seed differs"):
        read_config(path, {"base": "b"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("datasets: [{images: a, batchsize: 2}]", r"line 2: datasets\.0\.batchsize: .*did you mean 'batch_size'"),
        ("datasets: [{images: a, folder: b}]", r"datasets\.0\.folder: there is no such key"),
        ("datasets: [{images: [{folder: a, keep_token: 1}]}]", "did you mean 'keep_tokens'"),
        ("datasets: [{images: a}]\nimages: b", "give either `images` or `datasets`"),
        ("datasets: [{images: a, resolution: 100}]", "multiples of 8"),
        ("datasets: [{images: a, bucket_steps: 20}]", "bucket_steps 20 is no multiple of 8"),
        ("datasets: [{images: []}]", r"datasets\.0\.images: it must be a list of 1 or more"),
        ("datasets: [{images: [{folder: a, random_crop: true}]}]", "random_crop changes an image at every use"),
    ],
)
def test_mistakes_in_data_sets_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"base: b\n{text}\n")
    with pytest.raises(RecipeError, match=message):
        read_config(path)


def test_a_run_over_two_data_sets_says_so(tiny: Path, pictures: Pictures, tmp_path: Path) -> None:
    parts = [
        {"images": str(pictures("a", 3)), "resolution": 128, "batch_size": 2, "validation_split": 0.34},
        {"images": str(pictures("b", 4)), "resolution": 64},
    ]
    quick = {"epochs": 1, "batch_size": 3, "dim": 4, "device": "cpu", "out": str(tmp_path / "out"), "name": "t"}
    quick["modelspec"] = {"author": "me"}
    config = make_config({"base": str(tiny), "datasets": parts, **quick}, "test")
    report = dry_run(config)
    assert (report.images, report.held_out, report.steps) == (6, 1, 3)
    for line in (
        "batch 2 or 3 (3 batches an epoch) = 3 steps",
        "buckets of data set 1 (128x128, batches of 2): 128x128 (2)",
        "held out to judge by: 1 images",
    ):
        assert line in report.text()
    result = train(config, progress=False)
    meta = read(result.epochs[0]).metadata
    described = json.loads(meta["ss_datasets"])
    assert [part["resolution"] for part in described] == [[128, 128], [64, 64]]
    assert [part["batch_size_per_device"] for part in described] == [2, 3]
    assert meta["modelspec.author"] == "me" and meta["modelspec.title"] == "t"
    assert meta["ss_num_validation_images"] == "1" and meta["ss_num_train_images"] == "6"
    assert json.loads(meta["ss_tag_frequency"])["a"]["smile"] == 2
    again = train(make_config({**config.settings(), "out": str(tmp_path / "b"), "device": "cpu"}, "t"), progress=False)
    assert read(again.epochs[0]).digest == read(result.epochs[0]).digest


def test_a_length_in_steps_becomes_whole_epochs(tiny: Path, pictures: Pictures, tmp_path: Path) -> None:
    place = {"base": str(tiny), "images": str(pictures("a", 5)), "out": str(tmp_path / "out"), "device": "cpu"}
    report = dry_run(make_config({**place, "batch_size": 2, "max_steps": 7, "epochs": 50}, "test"))
    assert (report.steps_per_epoch, report.epochs, report.steps) == (3, 3, 9)
    result = train(make_config({**place, "batch_size": 5, "max_steps": 2, "dim": 4}, "test"), progress=False)
    assert (len(result.epochs), result.steps) == (2, 2)


def test_held_out_images_are_never_trained_and_always_the_same(pictures: Pictures) -> None:
    images = [
        {"folder": str(pictures("a", 10)), "validation_split": 0.3},
        str(pictures("b", 2)),
        {"folder": str(pictures("judge", 3)), "held_out": True},
    ]
    config = _config(images=images, caption_prefix="ink", shuffle_tags=True, flip=True, caption_dropout=0.5)
    data = read_dataset(config, (64, 64))
    assert len(data.held_out) == 6 and {12, 13, 14} < set(data.held_out)
    shown = {sample.item for epoch in (1, 2) for batch in data.epoch(epoch, 1, 4) for sample in batch}
    assert shown == set(range(15)) - set(data.held_out)
    assert data.samples_per_epoch == 9 and [folder.count for folder in data.folders] == [7, 2, 0]
    judged = [sample for batch in data.plain_batches(data.held_out, 4) for sample in batch]
    assert sorted(sample.item for sample in judged) == list(data.held_out)
    for sample in judged:
        assert sample.caption == f"ink {data.items[sample.item].caption}" and not sample.flipped
    assert read_dataset(config, (64, 64)).held_out == data.held_out
    other = read_dataset(config.model_copy(update={"validation_seed": 5}), (64, 64))
    assert other.held_out != data.held_out and other.digest != data.digest


def test_too_small_a_share_is_noted_and_one_image_is_always_left(pictures: Pictures) -> None:
    folder = str(pictures("a", 2))
    data = read_dataset(_config(images=folder, validation_split=0.1), (64, 64))
    assert not data.held_out and any("nothing is held out" in note for note in data.notes)
    assert len(read_dataset(_config(images=folder, validation_split=0.9), (64, 64)).held_out) == 1
    with pytest.raises(DatasetError, match="every folder of a data set is held out"):
        read_dataset(_config(images=[{"folder": folder, "held_out": True}]), (64, 64))


def _masked(folder: Path, name: str = "00.png") -> np.ndarray[Any, Any]:
    """Give an image a transparent left half; the alpha channel."""
    alpha = np.full((64, 64), 255, np.uint8)
    alpha[:, :32] = 0
    image = Image.open(folder / name).convert("RGB")
    image.putalpha(Image.fromarray(alpha))
    image.save(folder / name)
    return alpha


def _masks(data: Dataset, tiny: Path, flipped: bool = False) -> np.ndarray[Any, Any]:
    from loratools.base.load import load_base
    from loratools.train.data.dataset import Sample
    from loratools.train.data.latents import LatentStore

    store = LatentStore(load_base(str(tiny), device="cpu", dtype="fp32"), data)
    masks = store.masks([Sample(index, "", flipped) for index in range(len(data.items))])
    assert masks is not None
    return masks.numpy()


def test_an_alpha_channel_becomes_a_mask_at_latent_size(pictures: Pictures, tiny: Path) -> None:
    folder = pictures("a", 2)
    _masked(folder)
    data = read_dataset(_config(images=[{"folder": str(folder), "alpha_mask": True}], flip=True), (64, 64))
    for flipped in (False, True):
        masks = _masks(data, tiny, flipped)
        side = masks.shape[-1]
        half = np.repeat([[0.0, 1.0]], side // 2, axis=1)[0]
        assert masks.shape == (2, 1, side, side) and (masks[1] == 1).all()
        assert (masks[0, 0] == (half[::-1] if flipped else half)).all()
    assert read_dataset(_config(images=str(folder)), (64, 64)).masked is False
    plain = read_dataset(_config(images=str(pictures("b", 1)), alpha_mask=True), (64, 64))
    assert any("no image in" in note and "alpha" in note for note in plain.notes)


def test_a_mask_goes_through_the_same_resize_and_crop_as_its_image(pictures: Pictures) -> None:
    folder = pictures("a", 1, (200, 120))
    image = np.zeros((120, 200, 4), np.uint8)
    image[..., :3], image[..., 3] = 255, 0
    image[30:70, 50:90] = (0, 0, 0, 255)  # what is learnt is black, the rest white
    Image.fromarray(image).save(folder / "00.png")
    settings = {"buckets": False, "random_crop": True, "cache_latents": False, "resize_interpolation": "box"}
    data = read_dataset(_config(images=str(folder), alpha_mask=True, **settings), (64, 64))
    for batch in data.epoch(1, 1, 1) + data.epoch(2, 1, 1):
        mask = data.mask(batch[0])
        assert mask is not None
        shown = 255 - np.asarray(data.image(batch[0]).convert("L"), dtype=float)
        assert np.abs(shown - np.asarray(mask, dtype=float)).max() <= 3


def test_masks_in_a_folder_of_their_own(pictures: Pictures, tmp_path: Path, tiny: Path) -> None:
    folder, masks = pictures("a", 2), tmp_path / "masks"
    masks.mkdir()
    images = [{"folder": str(folder), "mask_folder": str(masks)}]
    with pytest.raises(DatasetError, match=r"00\.png has no mask in .*masks; put 00\.png there"):
        read_dataset(_config(images=images), (64, 64))
    for name, shade in (("00", 0), ("01", 51)):
        Image.new("L", (64, 64), shade).save(masks / f"{name}.jpg")
    data = read_dataset(_config(images=images), (64, 64))
    weights = _masks(data, tiny)
    assert (weights[0] == 0).all() and np.allclose(weights[1], 0.2, atol=0.01)
    Image.new("L", (64, 64), 255).save(masks / "00.jpg")
    assert read_dataset(_config(images=images), (64, 64)).digest != data.digest
    Image.new("L", (32, 64), 255).save(masks / "00.jpg")
    with pytest.raises(DatasetError, match=r"the mask .*00\.jpg is 32x64, its image .*00\.png 64x64"):
        _masks(read_dataset(_config(images=images), (64, 64)), tiny)


def test_the_mask_reaches_the_loss(pictures: Pictures, tiny: Path, tmp_path: Path) -> None:
    folder = pictures("a", 2)
    for name in ("00.png", "01.png"):
        _masked(folder, name)
    quick = {"epochs": 2, "dim": 4, "device": "cpu", "base": str(tiny), "learning_rate": 1e-3}
    losses = {}
    for mask in (False, True):
        place = {"out": str(tmp_path / str(mask)), "images": str(folder), "name": "t", "alpha_mask": mask}
        losses[mask] = train(make_config({**quick, **place}, "test"), progress=False).losses
    assert 0.2 * losses[False][0] < losses[True][0] < 0.8 * losses[False][0]  # half of each picture counts


def test_a_vae_of_its_own_encodes_the_images(pictures: Pictures, tiny: Path, tmp_path: Path) -> None:
    other = save_tiny_base(tmp_path / "other", seed=5)
    settings = {"epochs": 1, "dim": 4, "device": "cpu", "base": str(tiny), "images": str(pictures("a", 2)), "name": "t"}
    runs = [
        train(make_config({**settings, "out": str(tmp_path / str(vae)), "vae": vae}, "test"), progress=False)
        for vae in (None, str(other / "vae"), str(tiny))
    ]
    digests = [read(run.epochs[0]).digest for run in runs]
    assert digests[0] == digests[2] != digests[1]
    assert read(runs[1].epochs[0]).metadata["ss_vae_name"] == "vae"
