"""From a config to its data set: what is asked of each folder, and what lies there, in buckets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from loratools.dataset.caption_files import refuse_uncaptioned
from loratools.dataset.captions import CaptionRules
from loratools.dataset.folder import (
    CAPTION_EXTENSIONS,
    Folder,
    FolderOptions,
    Item,
    Size,
    folder_repeats,
    folders_read,
    images_in,
)
from loratools.dataset.scan import held_out_count, scan
from loratools.errors import DatasetError
from loratools.train.config.config import TrainConfig
from loratools.train.config.data import Subset
from loratools.train.data.buckets import bucket_of, bucket_sizes
from loratools.train.data.dataset import Dataset, TrainFolder, TrainItem, make_parts

_RULES = {  # CaptionRules' field -> the setting
    "shuffle": "shuffle_tags",
    "keep": "keep_tokens",
    "dropout": "caption_dropout",
    "tag_dropout": "tag_dropout",
    "prefix": "caption_prefix",
    "suffix": "caption_suffix",
    "separator": "caption_separator",
    "keep_separator": "keep_tokens_separator",
    "secondary_separator": "secondary_separator",
    "wildcards": "wildcards",
    "dropout_every": "caption_dropout_every",
    "warmup_min": "token_warmup_min",
    "warmup": "token_warmup",
}


def read_dataset(config: TrainConfig, resolution: Size) -> Dataset:
    """Find, open and check every image and caption; ``resolution`` (width, height) is used where config has none.

    Raises:
        DatasetError: naming the folder without images, the image that cannot be read, or up to ten images whose caption
            is missing or empty.
    """
    parts = make_parts(config, resolution)
    requests = [(number, subset) for number, part in enumerate(config.data_sets()) for subset in part.images]
    seed = config.seed if config.validation_seed is None else config.validation_seed
    scanned = scan([folder_options(config, subset) for _, subset in requests], seed)
    if not config.allow_uncaptioned:
        refuse_uncaptioned(scanned.uncaptioned)
    folders = [_train_folder(config, folder, *requests[folder.request]) for folder in scanned.folders]
    sizes = [bucket_sizes(part.rules) for part in parts]
    items: list[TrainItem] = []
    for item in scanned.items:
        part = folders[item.folder].part
        items.append(TrainItem(**vars(item), bucket=bucket_of(item.size, parts[part].rules, sizes[part])))
    notes = list(scanned.notes)
    for number in range(len(parts)):
        _check_regularisation([item for item in items if folders[item.folder].part == number], folders, notes)
    return Dataset(
        items=tuple(items),
        folders=tuple(folders),
        parts=parts,
        digest=_digest(items, folders, config),
        notes=tuple(notes),
        cache_dir=latent_folder(config),
        prior_loss_weight=config.prior_loss_weight,
        epochs=config.epochs,
    )


def folder_options(config: TrainConfig, subset: Subset) -> FolderOptions:
    """What is asked of one folder: its own settings, and the run's where it has none."""
    extension = own(config, subset, "caption_extension")
    return FolderOptions(
        path=subset.folder,
        repeats=subset.repeats,
        default_repeats=config.repeats,
        plain_name=subset.plain_name,
        rules=CaptionRules(**{field: own(config, subset, setting) for field, setting in _RULES.items()}),
        class_tokens=subset.class_tokens,
        extensions=(str(extension),) if extension else CAPTION_EXTENSIONS,
        encoding=own(config, subset, "caption_encoding"),
        metadata_file=subset.metadata_file,
        regularisation=subset.regularisation,
        alpha_mask=own(config, subset, "alpha_mask"),
        mask_folder=subset.mask_folder,
        split=_split(config, subset),
    )


def own(config: TrainConfig, subset: Subset, setting: str) -> Any:
    """The folder's value of a setting, or the run's where it has none."""
    value = getattr(subset, setting)
    return getattr(config, setting) if value is None else value


def latent_folder(config: TrainConfig) -> Path | None:
    """Where latents are kept from run to run: ``cache_dir``, or beside the epoch files; None without ``disk``."""
    return (config.cache_dir or config.out / "latents") if config.cache_latents == "disk" else None


def samples_per_epoch(config: TrainConfig, drawn: Mapping[Path, int] = MappingProxyType({})) -> int:
    """Images x repeats of a run with one data set, as :attr:`Dataset.samples_per_epoch` has them, by names alone.

    Args:
        drawn: how many pictures the folders will hold that need not be there yet.
    """
    others, regularised = 0, False
    for subset in config.images:
        regularised |= subset.regularisation
        if not subset.regularisation:
            counts = _counts(subset) if subset.folder not in drawn else {subset.folder: drawn[subset.folder]}
            others += sum(_shown(config, subset, path, count) for path, count in counts.items())
    return others * 2 if regularised else others


def _counts(subset: Subset) -> dict[Path, int]:
    """The folders of one entry, with the number of their pictures."""
    return {path: len(images_in(path)) for path in folders_read(subset.folder, plain_name=subset.plain_name)}


def _shown(config: TrainConfig, subset: Subset, path: Path, count: int) -> int:
    """Uses an epoch of ``count`` pictures in the folder at ``path``."""
    named = None if subset.plain_name else folder_repeats(path)
    repeats = subset.repeats or (named.repeats if named else config.repeats)
    return (count - held_out_count(count, _split(config, subset))) * repeats


def _split(config: TrainConfig, subset: Subset) -> float:
    """The share that is held out: all of a folder to judge by, none of one that is there to keep the class as it is."""
    return 1.0 if subset.held_out else 0.0 if subset.regularisation else float(own(config, subset, "validation_split"))


def _train_folder(config: TrainConfig, folder: Folder, part: int, subset: Subset) -> TrainFolder:
    return TrainFolder(
        **vars(folder),
        part=part,
        flip=own(config, subset, "flip"),
        random_crop=own(config, subset, "random_crop"),
        color_aug=own(config, subset, "color_aug"),
        interpolation=own(config, subset, "resize_interpolation"),
    )


def _check_regularisation(items: Sequence[Item], folders: Sequence[Folder], notes: list[str]) -> None:
    """Of one data set's items: something has to be learnt, and regularisation images should not be too many."""
    trained = [folders[item.folder] for item in items if not item.held_out]
    prior = sum(folder.regularisation for folder in trained)
    others = sum(folder.repeats for folder in trained if not folder.regularisation)
    if not others:
        what = "holds regularisation images" if prior else "is held out"
        raise DatasetError(f"every folder of a data set {what}, so there is nothing to learn; name one to train on")
    if prior > others:
        notes.append(f"{prior - others} of {prior} regularisation images are not used: an epoch has {others} others")


def _digest(items: Sequence[TrainItem], folders: Sequence[TrainFolder], config: TrainConfig) -> str:
    """sha256 over every image's bytes, mask, caption, repeats and rules; not over where the folder lies.

    Where a run has several data sets, their batch sizes and buckets count as well.
    """
    whole = hashlib.sha256()
    for part in config.datasets:
        whole.update(repr(part.model_dump(mode="json", exclude={"images"})).encode())
    for item in items:
        folder = folders[item.folder]
        mask = hashlib.sha256(item.mask.read_bytes()).hexdigest() if item.mask else None
        how = (folder.repeats, folder.regularisation, folder.rules, folder.flip, folder.random_crop, folder.color_aug)
        use = (*how, folder.interpolation, folder.part, folder.options.alpha_mask)
        whole.update(repr((item.digest, item.caption, *use, item.held_out, mask)).encode())
    return whole.hexdigest()
