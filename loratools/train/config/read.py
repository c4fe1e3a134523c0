"""From a file, a preset and flags to a :class:`TrainConfig`; every mistake is named with its file, key and remedy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loratools.errors import RecipeError, did_you_mean
from loratools.train.config.config import TrainConfig
from loratools.train.config.data import OF_DATA_SETS, Subset
from loratools.train.config.paths import INPUTS, locate
from loratools.validation import and_more, first_of, mistakes
from loratools.yamlio import Document, Place, read_yaml

PRESETS = Path(__file__).with_name("presets.yaml")


def presets() -> dict[str, dict[str, Any]]:
    """The named settings that ship, each ``{"source": text, "settings": {...}}``."""
    return dict(read_yaml(PRESETS).data)


def read_config(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """The config at ``path`` (our YAML, or sd-scripts' TOML: a dataset config or options) under ``overrides``.

    Overrides that are None count as not given. With no path the overrides alone must name ``base`` and ``images``.
    What the file names is looked for beside it first, then in the current folder; what overrides name the other way
    round.

    Raises:
        RecipeError: for a file that cannot be read, an unknown key or preset, or a value out of range.
    """
    if path is None:
        return make_config(overrides or {}, "train")
    if Path(path).suffix.lower() == ".toml":
        notes: list[str] = []
        under = _read_toml(Path(path), overrides or {}, notes)
        return make_config(overrides or {}, str(path), under=under).noted(notes)
    document = read_yaml(path)
    if not isinstance(document.data, dict):
        raise RecipeError(f"{path} holds no settings; write `base:` and `images:` at least")
    return make_config(overrides or {}, str(path), under=document.data, document=document)


def _read_toml(path: Path, overrides: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    from loratools.train.sd_scripts.config_file import is_options, read_options
    from loratools.train.sd_scripts.dataset_toml import DEFAULTS, read_dataset_toml

    if is_options(path):  # a preset says what the file does not
        return read_options(path, notes, defaults=overrides.get("preset") is None)
    return {**DEFAULTS, **read_dataset_toml(path)}


def make_config(
    values: Mapping[str, Any],
    source: str,
    *,
    under: Mapping[str, Any] | None = None,
    document: Document | None = None,
) -> TrainConfig:
    """``values`` over ``under`` over the preset's settings, checked.

    Raises:
        RecipeError: naming ``source`` (and the line, where ``document`` knows it), the key and the nearest valid one.
    """
    over = {key: value for key, value in values.items() if value is not None}
    given = {**_without(under or {}, over), **over}
    merged = {**_preset(given.get("preset", "default"), source), **given}
    for key in ("base", "images"):
        if merged.get(key) in (None, "", [], ()) and not (key == "images" and merged.get("datasets")):
            reason = f"'{key}' is missing; give it in the config or as --{key}"
            raise RecipeError(f"{source}: {reason}", place=(), reason=reason)
    try:
        config = TrainConfig.model_validate(merged)
    except ValidationError as error:
        raise _refusal(error, merged, source, document, over) from error
    if document is None and not source.endswith(".toml"):
        return config
    beside = Path(source).parent
    of_file = locate(config, [beside], [name for name in INPUTS if name not in over])
    return locate(of_file, [Path(), beside], [name for name in INPUTS if name in over])


def _without(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``under`` without what ``over`` replaces: a length in steps, all data sets, or a setting that these share."""
    if over.get("epochs"):
        under = {key: value for key, value in under.items() if key != "max_steps"}
    if over.get("images"):
        return {key: value for key, value in under.items() if key != "datasets"}
    taken = {key for key in over if key in OF_DATA_SETS or (key in Subset.model_fields and key != "folder")}
    parts = under.get("datasets")
    if not taken or not isinstance(parts, list):
        return dict(under)
    left = [{key: part[key] for key in part if key not in taken} if isinstance(part, dict) else part for part in parts]
    return {**under, "datasets": left}


def _preset(name: object, source: str) -> dict[str, Any]:
    known = presets()
    if not isinstance(name, str) or name not in known:
        hint = did_you_mean(str(name), known)
        reason = f"there is no training preset '{name}'{hint}; there are {', '.join(known)}"
        raise RecipeError(f"{source}: {reason}", place=("preset",), reason=reason)
    return dict(known[name]["settings"])


def _refusal(
    error: ValidationError, values: Mapping[str, Any], source: str, document: Document | None, over: Collection[str]
) -> RecipeError:
    """The first mistake in ``values``, with its line where it stands in ``document`` and not in ``over``."""
    wrong = mistakes(error, values, TrainConfig, "loratools train --help")
    first = first_of(wrong, document)
    message = f"{first.message}{and_more(wrong)}"
    if document is not None and first.place in document.spans and first.place[:1] not in {(key,) for key in over}:
        return document.error(first.place, message, first.word)
    key = ".".join(str(part) for part in first.place)
    if source.endswith(".toml") and (theirs := _theirs(first.place)):
        key = f"{key} ({theirs})"
    where = f"{source}: {key}" if key else source
    return RecipeError(f"{where}: {message}", place=first.place, reason=message)


def _theirs(path: Place) -> str:
    """sd-scripts' name of the setting at ``path``, where it is another than ours."""
    from loratools.train.sd_scripts.dataset_toml import DATASET_KEYS, SUBSET_KEYS
    from loratools.train.sd_scripts.options import OPTIONS

    names = [part for part in path if isinstance(part, str)]
    known = {ours: theirs for table in (OPTIONS, SUBSET_KEYS, DATASET_KEYS) for theirs, ours in table.items()}
    theirs = known.get(names[-1], "") if names else ""
    return theirs if theirs not in names else ""
