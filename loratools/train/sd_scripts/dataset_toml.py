"""sd-scripts' TOML dataset config (``[general]``, ``[[datasets]]``, ``[[datasets.subsets]]``) as our settings."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loratools.errors import RecipeError, did_you_mean

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


def read_dataset_toml(path: Path) -> dict[str, Any]:
    """The settings in an sd-scripts dataset config: ``images`` (one entry a subset) and the dataset's own.

    Several datasets become ``datasets``, each with its own batch size, resolution and buckets. Lookup order is
    sd-scripts': subset, dataset, general. Folder names are not read for repeats, as there. Captions are looked for as
    ``.txt`` and ``.caption`` where no ``caption_extension`` is given.

    Raises:
        RecipeError: naming the file, and the table of every key that is unknown, misplaced or not supported.
    """
    document = load_toml(path)
    if wrong := list(_mistakes(document, path)):
        raise RecipeError(f"{path}: {'; '.join(wrong)}")
    parts, seeds = [], {}
    for place, dataset, subsets in _datasets(document, path):
        merged = {**document.get("general", {}), **dataset}
        images = [_subset(merged, subset) for subset in _tables(subsets, path, place)]
        parts.append({ours: merged[key] for key, ours in DATASET_KEYS.items() if key in merged} | {"images": images})
        if "validation_seed" in merged:
            seeds[merged["validation_seed"]] = place
    if len(seeds) > 1:
        raise RecipeError(f"{path}: validation_seed differs between {' and '.join(seeds.values())}; one run has one")
    settings = {"datasets": parts} if len(parts) > 1 else parts[0]
    return {**settings, "validation_seed": next(iter(seeds))} if seeds else settings


def refused_table() -> str:
    """The keys of :data:`OFF` as a Markdown table, for docs/training.md."""
    rows = [f"| `{key}` | {remedy} |" for key, (_, remedy) in OFF.items()]
    return "\n".join(["| key | instead |", "|---|---|", *rows])


def _datasets(document: Mapping[str, Any], path: Path) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Where each data set stands, its own keys, and what it has for subsets."""
    for number, dataset in enumerate(_tables(document.get("datasets"), path, "[[datasets]]"), 1):
        place = f"[[datasets]] {number}"
        own = {key: value for key, value in dataset.items() if key != "subsets"}
        yield place, own, dataset.get("subsets")


def _subset(inherited: Mapping[str, Any], subset: Mapping[str, Any]) -> dict[str, Any]:
    merged = {"num_repeats": 1, "shuffle_caption": False, **inherited, **subset}
    chosen = {ours: merged[key] for key, ours in SUBSET_KEYS.items() if key in merged}
    folder = {"folder": subset["image_dir"]} if "image_dir" in subset else {}
    return {**folder, "plain_name": True, **chosen}


def _mistakes(document: Mapping[str, Any], path: Path) -> Iterator[str]:
    yield from _unknown(document, {"general", "datasets"}, "the top level")
    yield from _wrong(_table(document.get("general", {}), path, "[general]"), "[general]", ONLY_SUBSET)
    for place, dataset, subsets in _datasets(document, path):
        yield from (own := list(_wrong(dataset, place, ONLY_SUBSET)))
        if own and subsets is None:  # misspelled, and so told
            continue
        for index, subset in enumerate(_tables(subsets, path, f"{place}: [[datasets.subsets]]"), 1):
            yield from _wrong(subset, here := f"{place}, subset {index}", ONLY_DATASET)
            if not {"image_dir", "metadata_file"} & subset.keys():
                yield f"{here} has no image_dir; name its folder of images, or a metadata_file with their paths"


def _wrong(table: Mapping[str, Any], place: str, misplaced: set[str]) -> Iterator[str]:
    yield from _unknown(table, VALID, place)
    for key, value in table.items():
        if key in misplaced:
            where = "a [[datasets.subsets]] table" if key in ONLY_SUBSET else "[general] or [[datasets]]"
            yield f"'{key}' cannot stand in {place}; move it to {where}"
        elif key in OFF and value not in OFF[key][0]:
            yield f"'{key}' in {place} is not supported: {OFF[key][1]}"


def _unknown(table: Mapping[str, Any], valid: set[str], place: str) -> Iterator[str]:
    for key in table:
        if key not in valid:
            yield f"unknown key '{key}' in {place}{did_you_mean(key, sorted(valid))}"


def load_toml(path: Path) -> dict[str, Any]:
    """The file's tables.

    Raises:
        RecipeError: if it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise RecipeError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not UTF-8; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not TOML: {error}") from error


def _table(value: Any, path: Path, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RecipeError(f"{path}: {place} must be a table")
    return value


def _tables(value: Any, path: Path, place: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise RecipeError(f"{path}: there is no {place}; write at least one")
    return [_table(item, path, place) for item in value]
