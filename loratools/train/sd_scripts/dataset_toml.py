"""sd-scripts' TOML dataset config (``[general]``, ``[[datasets]]``, ``[[datasets.subsets]]``) as our settings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loratools.errors import RecipeError, did_you_mean
from loratools.validation import Mistake
from loratools.yamlio import Document, Place

# sd-scripts' key -> ours
DATASET_KEYS = {
    "batch_size": "batch_size",
    "resolution": "resolution",
    "enable_bucket": "buckets",
    "min_bucket_reso": "bucket_min",
    "max_bucket_reso": "bucket_max",
    "bucket_reso_steps": "bucket_steps",
    "bucket_no_upscale": "bucket_no_upscale",
}
SUBSET_KEYS = {
    "num_repeats": "repeats",
    "shuffle_caption": "shuffle_tags",
    "keep_tokens": "keep_tokens",
    "caption_prefix": "caption_prefix",
    "caption_suffix": "caption_suffix",
    "flip_aug": "flip",
    "caption_dropout_rate": "caption_dropout",
    "caption_tag_dropout_rate": "tag_dropout",
    "caption_extension": "caption_extension",
    "class_tokens": "class_tokens",
    "metadata_file": "metadata_file",
    "is_reg": "regularisation",
    "caption_separator": "caption_separator",
    "keep_tokens_separator": "keep_tokens_separator",
    "secondary_separator": "secondary_separator",
    "enable_wildcard": "wildcards",
    "caption_dropout_every_n_epochs": "caption_dropout_every",
    "token_warmup_min": "token_warmup_min",
    "token_warmup_step": "token_warmup",
    "color_aug": "color_aug",
    "random_crop": "random_crop",
    "resize_interpolation": "resize_interpolation",
    "alpha_mask": "alpha_mask",
    "conditioning_data_dir": "mask_folder",
    "validation_split": "validation_split",
}
# known to sd-scripts, not to us: accepted at these values, which switch it off, else refused with what to use instead
OFF: dict[str, tuple[tuple[object, ...], str]] = {
    "face_crop_aug_range": ((), "crop the faces into a folder of their own and give it its own repeats"),
    "custom_attributes": (({},), "take it out; to keep what the class looks like, name a folder with is_reg"),
    "network_multiplier": ((1,), "give a folder fewer num_repeats to let it count less"),
    "cache_info": ((False,), "take it out; images are read anew for every run, so that no edit is missed"),
}
DEFAULTS = {"buckets": False, "bucket_min": 256, "bucket_max": 1024}  # sd-scripts' own, of keys that are left out
ONLY_DATASET = {*DATASET_KEYS, "network_multiplier", "validation_seed"}
ONLY_SUBSET = {"image_dir", "is_reg", "alpha_mask", "metadata_file", "conditioning_data_dir"}
VALID = {*DATASET_KEYS, *SUBSET_KEYS, *OFF, "image_dir", "validation_seed"}


def read_dataset_toml(document: Document) -> dict[str, Any]:
    """The settings in an sd-scripts dataset config: ``images`` (one entry a subset) and the dataset's own.

    Several datasets become ``datasets``, each with its own batch size, resolution and buckets. Lookup order is
    sd-scripts': subset, dataset, general. Folder names are not read for repeats, as there. Captions are looked for as
    ``.txt`` and ``.caption`` where no ``caption_extension`` is given.

    Raises:
        RecipeError: naming the file, and the table of every key that is unknown, misplaced or not supported.
    """
    refuse(document, list(_mistakes(document)))
    parts, seeds = [], {}
    for dataset in _datasets(document):
        merged = {**document.data.get("general", {}), **dataset.own}
        images = [_subset(merged, subset) for subset in _tables(dataset.subsets, document, dataset.name)]
        parts.append({ours: merged[key] for key, ours in DATASET_KEYS.items() if key in merged} | {"images": images})
        if "validation_seed" in merged:
            seeds[merged["validation_seed"]] = dataset.name
    if len(seeds) > 1:
        names = " and ".join(seeds.values())
        raise RecipeError(f"{document.source}: validation_seed differs between {names}; one run has one")
    settings = {"datasets": parts} if len(parts) > 1 else parts[0]
    return {**settings, "validation_seed": next(iter(seeds))} if seeds else settings


def refuse(document: Document, wrong: Sequence[Mistake]) -> None:
    """Raise RecipeError, if anything is wrong with a file of sd-scripts', with all of it and the line of the first."""
    if wrong:
        reason = "; ".join(mistake.message for mistake in wrong)
        excerpt = document.excerpt(wrong[0].place, wrong[0].word) if wrong[0].place else ""
        raise RecipeError(f"{document.source}: {reason}", excerpt, place=wrong[0].place, reason=reason)


@dataclass(frozen=True)
class _Dataset:
    """One ``[[datasets]]`` table: its name in messages, where it stands, its own keys, and what it has for subsets."""

    name: str
    place: Place
    own: Mapping[str, Any]
    subsets: Any


def _datasets(document: Document) -> Iterator[_Dataset]:
    for number, dataset in enumerate(_tables(document.data.get("datasets"), document, "[[datasets]]")):
        own = {key: value for key, value in dataset.items() if key != "subsets"}
        yield _Dataset(f"[[datasets]] {number + 1}", ("datasets", number), own, dataset.get("subsets"))


def _subset(inherited: Mapping[str, Any], subset: Mapping[str, Any]) -> dict[str, Any]:
    merged = {"num_repeats": 1, "shuffle_caption": False, **inherited, **subset}
    chosen = {ours: merged[key] for key, ours in SUBSET_KEYS.items() if key in merged}
    folder = {"folder": subset["image_dir"]} if "image_dir" in subset else {}
    return {**folder, "plain_name": True, **chosen}


def _mistakes(document: Document) -> Iterator[Mistake]:
    yield from _unknown(document.data, {"general", "datasets"}, "the top level", ())
    general = _table(document.data.get("general", {}), document, "[general]")
    yield from _wrong(general, "[general]", ("general",), ONLY_SUBSET)
    for dataset in _datasets(document):
        yield from (own := list(_wrong(dataset.own, dataset.name, dataset.place, ONLY_SUBSET)))
        if own and dataset.subsets is None:  # its name is misspelled, which is among the mistakes
            continue
        for index, subset in enumerate(_tables(dataset.subsets, document, f"{dataset.name}: [[datasets.subsets]]")):
            name, place = f"{dataset.name}, subset {index + 1}", (*dataset.place, "subsets", index)
            yield from _wrong(subset, name, place, ONLY_DATASET)
            if not {"image_dir", "metadata_file"} & subset.keys():
                remedy = "name its folder of images, or a metadata_file with their paths"
                yield Mistake(place, f"{name} has no image_dir; {remedy}")


def _wrong(table: Mapping[str, Any], name: str, place: Place, misplaced: Collection[str]) -> Iterator[Mistake]:
    yield from _unknown(table, VALID, name, place)
    for key, value in table.items():
        if key in misplaced:
            where = "a [[datasets.subsets]] table" if key in ONLY_SUBSET else "[general] or [[datasets]]"
            yield Mistake((*place, key), f"'{key}' cannot stand in {name}; move it to {where}", key)
        elif key in OFF and value not in OFF[key][0]:
            yield Mistake((*place, key), f"'{key}' in {name} is not supported: {OFF[key][1]}", key)


def _unknown(table: Mapping[str, Any], valid: Collection[str], name: str, place: Place) -> Iterator[Mistake]:
    for key in table:
        if key not in valid:
            yield Mistake((*place, key), f"unknown key '{key}' in {name}{did_you_mean(key, sorted(valid))}", key)


def _table(value: Any, document: Document, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RecipeError(f"{document.source}: {name} must be a table")
    return value


def _tables(value: Any, document: Document, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise RecipeError(f"{document.source}: there is no {name}; write at least one")
    return [_table(item, document, name) for item in value]
