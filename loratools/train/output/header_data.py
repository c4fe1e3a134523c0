"""What an epoch file's header says of the images it was trained on, in sd-scripts' words (without their ``ss_``)."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from loratools.dataset.captions import tag_frequency
from loratools.train.config.config import TrainConfig
from loratools.train.data.dataset import Dataset


def described(config: TrainConfig, dataset: Dataset) -> dict[str, object]:
    """The run's images: how many, where from, their tags, their buckets and how they are changed; no full paths."""
    frequency, folders = tags_by_folder(dataset), _folders(dataset)
    prior = _prior(dataset)
    return {
        "num_train_images": dataset.samples_per_epoch - prior,
        "num_validation_images": len(dataset.held_out),
        "num_reg_images": prior,
        "datasets": [_data_set(config, dataset, part) for part in range(len(dataset.parts))],
        "tag_frequency": frequency,
        "dataset_dirs": folders,
        "caption_dropout_rate": config.caption_dropout,
        "caption_dropout_every_n_epochs": config.caption_dropout_every,
        "caption_tag_dropout_rate": config.tag_dropout,
        "face_crop_aug_range": None,
        "resize_interpolation": config.resize_interpolation,
        "prior_loss_weight": config.prior_loss_weight,
        "validation_split": config.validation_split,
        "validation_seed": config.validation_seed,
    }


def tags_by_folder(dataset: Dataset, part: int | None = None) -> dict[str, dict[str, int]]:
    """How many captions of each folder (by its name; of one part, or all) hold each tag, what is held out excepted."""
    tags: dict[str, Counter[str]] = defaultdict(Counter)
    for index, folder in enumerate(dataset.folders):
        if part in (None, folder.part):
            captions = (item.caption for item in dataset.items if item.folder == index and not item.held_out)
            tags[folder.path.resolve().name].update(tag_frequency(captions, folder.rules))
    return {name: dict(counts) for name, counts in tags.items()}


def _folders(dataset: Dataset) -> dict[str, dict[str, int]]:
    folders: dict[str, dict[str, int]] = {}
    for folder in dataset.folders:
        name = folder.path.resolve().name
        before = folders.get(name, {}).get("img_count", 0)
        folders[name] = {"n_repeats": folder.repeats, "img_count": folder.count + before}
    return folders


def _prior(dataset: Dataset, part: int | None = None) -> int:
    folders = ((dataset.folders[item.folder], uses) for item, uses in zip(dataset.items, dataset.uses(), strict=True))
    return sum(uses for folder, uses in folders if folder.regularisation and part in (None, folder.part))


def _data_set(config: TrainConfig, dataset: Dataset, part: int) -> dict[str, object]:
    rules, counts, prior = dataset.parts[part].rules, dataset.bucket_counts(part), _prior(dataset, part)
    buckets = {
        str(number): {"resolution": list(size), "count": count} for number, (size, count) in enumerate(counts.items())
    }
    own = [index for index, folder in enumerate(dataset.folders) if folder.part == part]
    return {
        "is_dreambooth": True,
        "batch_size_per_device": dataset.parts[part].batch_size or config.batch_size,
        "num_train_images": sum(counts.values()) - prior,
        "num_reg_images": prior,
        "resolution": list(rules.resolution),
        "enable_bucket": rules.enabled,
        "bucket_no_upscale": rules.no_upscale,
        "min_bucket_reso": rules.smallest if rules.enabled else None,
        "max_bucket_reso": rules.largest if rules.enabled else None,
        "tag_frequency": tags_by_folder(dataset, part),
        "bucket_info": {"buckets": buckets, "mean_img_ar_error": _ratio_error(dataset, part)},
        "subsets": [_subset(dataset, index) for index in own],
    }


def _subset(dataset: Dataset, index: int) -> dict[str, Any]:
    folder = dataset.folders[index]
    rules = folder.rules
    return {
        "img_count": folder.count,
        "num_repeats": folder.repeats,
        "color_aug": folder.color_aug,
        "flip_aug": folder.flip,
        "random_crop": folder.random_crop,
        "alpha_mask": folder.options.alpha_mask,
        "shuffle_caption": rules.shuffle,
        "keep_tokens": rules.keep,
        "keep_tokens_separator": rules.keep_separator,
        "secondary_separator": rules.secondary_separator or None,
        "enable_wildcard": rules.wildcards,
        "caption_prefix": rules.prefix or None,
        "caption_suffix": rules.suffix or None,
        "resize_interpolation": folder.interpolation,
        "image_dir": folder.path.resolve().name,
        "class_tokens": folder.class_tokens,
        "is_reg": folder.regularisation,
    }


def _ratio_error(dataset: Dataset, part: int) -> float:
    """The mean of how far an image's ratio of sides is from its bucket's."""
    own = [item for item in dataset.items if dataset.folders[item.folder].part == part]
    errors = [abs(item.size[0] / item.size[1] - item.bucket[0] / item.bucket[1]) for item in own]
    return sum(errors) / len(errors)
