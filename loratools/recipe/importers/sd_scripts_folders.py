"""Which pictures sd-scripts trained on, and how it showed them, from a file's ``ss_*`` metadata.

A run by a dataset config lists its data sets and their subsets in ``ss_datasets``; one by ``train_data_dir`` has the
same facts in entries of their own. Neither holds where the folders lay.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.errors import FormatError
from loratools.train.sd_scripts.dataset_toml import DATASET_KEYS, SUBSET_KEYS

_OF_FOLDER = ("num_repeats", "is_reg", "class_tokens", "metadata_file", "conditioning_data_dir")
_SHOWN = {theirs: ours for theirs, ours in SUBSET_KEYS.items() if theirs not in _OF_FOLDER}
_ALWAYS = ("shuffle_tags", "keep_tokens", "flip", "random_crop", "color_aug")  # said even where they are off
_DATA_SET = {**DATASET_KEYS, "batch_size_per_device": "batch_size"}
_PLAIN = ("shuffle_caption", "keep_tokens", "flip_aug", "random_crop", "color_aug", "resize_interpolation")


@dataclass(frozen=True)
class Trained:
    """``images`` as a recipe lists folders, ``settings`` of all of them, and ``notes`` on what is lost."""

    images: list[dict[str, Any]]
    settings: dict[str, Any]
    notes: tuple[str, ...]


def read_folders(metadata: Mapping[str, str], path: Path) -> Trained:
    """The folders and how they were shown.

    Raises:
        FormatError: if the metadata do not say which pictures.
    """
    sets = read_json(metadata.get("ss_datasets", ""))
    sets = [one for one in sets if isinstance(one, dict)] if isinstance(sets, list) else []
    subsets = [subset for one in sets for subset in _tables(one.get("subsets"))]
    each = [_shown(subset) for subset in subsets] or [_shown(_plain(metadata, _PLAIN))]
    common = {key: value for key, value in each[0].items() if all(one.get(key) == value for one in each)}
    notes = [*_other_sets(sets)]
    if subsets and all(isinstance(subset.get("image_dir"), str) and subset["image_dir"] for subset in subsets):
        images = [
            {**_folder_of(subset), **{key: value for key, value in one.items() if key not in common}}
            for subset, one in zip(subsets, each, strict=True)
        ]
    else:
        images = _named(metadata, path)
        if differing := sorted({key for one in each for key in one} - common.keys()):
            notes.append(f"its folders differ in {', '.join(differing)}, and the header does not say which is which")
    first = sets[0] if sets else _plain(metadata, ("batch_size_per_device", "total_batch_size", *DATASET_KEYS))
    return Trained(images, {**_of_set(first), **common}, tuple(notes))


def read_json(text: str) -> Any:
    """The JSON in an entry; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def plain_value(text: str) -> Any:
    """A value that sd-scripts wrote as Python's text."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _tables(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _plain(metadata: Mapping[str, str], keys: Sequence[str]) -> dict[str, Any]:
    """Entries of a run without a dataset config, such as ``ss_keep_tokens``."""
    return {key: plain_value(metadata[f"ss_{key}"]) for key in keys if f"ss_{key}" in metadata}


def _shown(subset: Mapping[str, Any]) -> dict[str, Any]:
    """How one folder's pictures and captions are shown; what is off is left out, but for the commonest."""
    settings = {ours: subset[theirs] for theirs, ours in _SHOWN.items() if subset.get(theirs) is not None}
    return {key: value for key, value in settings.items() if value or key in _ALWAYS}


def _of_set(data_set: Mapping[str, Any]) -> dict[str, Any]:
    """A data set's own settings: batch size, size of pictures, buckets."""
    settings = {ours: data_set[key] for key, ours in _DATA_SET.items() if data_set.get(key) is not None}
    if "batch_size" not in settings and "total_batch_size" in data_set:
        settings["batch_size"] = data_set["total_batch_size"]
    size = settings.pop("resolution", None)
    size = read_json(size.translate({40: "[", 41: "]"})) if isinstance(size, str) else size
    if isinstance(size, int | float) or (isinstance(size, list) and len(size) == 2):
        settings["resolution"] = size
    if settings.get("buckets") is False:  # and then their bounds mean nothing
        settings = {key: value for key, value in settings.items() if not key.startswith("bucket_")}
    return settings


def _other_sets(sets: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A note on each data set that was shown otherwise than the first, which the recipe follows."""
    first = _of_set(sets[0]) if sets else {}
    for number, one in enumerate(sets[1:], 2):
        own = {key: value for key, value in _of_set(one).items() if first.get(key) != value}
        if own:
            told = ", ".join(f"{key} {value}" for key, value in own.items())
            yield f"data set {number} had {told}, which a recipe has no place for: its folders are shown as the first's"


def _folder_of(subset: Mapping[str, Any]) -> dict[str, Any]:
    """A subset of a dataset config as a folder, whose name means nothing there."""
    more = {"class_tokens": subset["class_tokens"]} if subset.get("class_tokens") else {}
    prior = {"regularisation": True} if subset.get("is_reg") is True else {}
    return {"folder": subset["image_dir"], **_repeats(subset.get("num_repeats")), "plain_name": True, **more, **prior}


def _named(metadata: Mapping[str, str], path: Path) -> list[dict[str, Any]]:
    """The folders of ``ss_dataset_dirs``, and those of regularisation."""
    folders = read_json(metadata.get("ss_dataset_dirs", ""))
    if not isinstance(folders, dict) or not folders:
        raise FormatError(f"{path} does not say which pictures it was trained on (ss_dataset_dirs)")
    prior = read_json(metadata.get("ss_reg_dataset_dirs", ""))
    return [
        *(_folder(name, facts) for name, facts in folders.items()),
        *({**_folder(name, facts), "regularisation": True} for name, facts in (prior or {}).items()),
    ]


def _folder(name: str, facts: object) -> dict[str, Any]:
    return {"folder": name, **_repeats(facts.get("n_repeats") if isinstance(facts, dict) else None)}


def _repeats(count: object) -> dict[str, int]:
    return {"repeats": count} if isinstance(count, int) and not isinstance(count, bool) and count > 0 else {}
