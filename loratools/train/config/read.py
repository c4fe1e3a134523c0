"""From a file, a preset and flags to a :class:`TrainConfig`; every mistake is named with its file, key and remedy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loratools.errors import RecipeError, did_you_mean
from loratools.train.config.config import TrainConfig
from loratools.train.config.data import OF_DATA_SETS, Subset
from loratools.train.config.paths import INPUTS, locate
from loratools.validation import Mistake, and_more, first_of, mistakes
from loratools.yamlio import Document, read_yaml

PRESETS = Path(__file__).with_name("presets.yaml")


def presets() -> dict[str, dict[str, Any]]:
    """The named settings that ship, each ``{"source": text, "settings": {...}}``."""
    return dict(read_yaml(PRESETS).data)


def read_config(
    path: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> tuple[TrainConfig, tuple[str, ...]]:
    """The config at ``path`` (our YAML, or sd-scripts' TOML: a dataset config or options) under ``overrides``, and a
    sentence for everything in it that a person should know and that stops nothing.

    Overrides that are None count as not given. With no path the overrides alone must name ``base`` and ``images``.
    What the file names is looked for beside it first, then in the current folder; what overrides name the other way
    round.

    Raises:
        RecipeError: for a file that cannot be read, an unknown key or preset, or a value out of range.
    """
    given = overrides or {}
    if path is None:
        return make_config(given, "train"), ()
    if Path(path).suffix.lower() == ".toml":
        from loratools.train.sd_scripts.config_file import read_sd_scripts

        defaults = given.get("preset") is None  # a preset has values of its own for what the file leaves out
        file = read_sd_scripts(Path(path), defaults=defaults)
        return make_config(given, str(path), under=file.settings, documents=file.documents), file.notes
    document = read_yaml(path)
    if not isinstance(document.data, dict):
        raise RecipeError(f"{path} holds no settings; write `base:` and `images:` at least")
    return make_config(given, str(path), under=document.data, documents=(document,)), ()


def make_config(
    values: Mapping[str, Any],
    source: str,
    *,
    under: Mapping[str, Any] | None = None,
    documents: Sequence[Document] = (),
) -> TrainConfig:
    """``values`` over ``under`` over the preset's settings, checked.

    Args:
        source: names what is read in messages; the file, where it is one.
        documents: the files that ``under`` is from, our YAML or sd-scripts' TOML; its paths are looked for beside the
            first of them.
    Raises:
        RecipeError: naming ``source`` (and the line, where a document has it), the key and the nearest valid one.
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
        raise _refusal(error, merged, source, documents, over) from error
    if not documents:
        return config
    beside = Path(documents[0].source).parent
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
    error: ValidationError,
    values: Mapping[str, Any],
    source: str,
    documents: Sequence[Document],
    over: Collection[str],
) -> RecipeError:
    """The first mistake in ``values``, with its line where it stands in one of ``documents`` and not in ``over``."""
    wrong = mistakes(error, values, TrainConfig, "loratools train --help")
    of_yaml = documents[0] if documents and not source.endswith(".toml") else None
    first = first_of(wrong, of_yaml)
    message, overridden = f"{first.message}{and_more(wrong)}", first.place[:1] in {(key,) for key in over}
    if of_yaml is not None and first.place in of_yaml.spans and not overridden:
        return of_yaml.error(first.place, message, first.word)
    key, excerpt = ".".join(str(part) for part in first.place), ""
    if of_yaml is None and documents and first.place and not overridden:
        theirs, excerpt = _of_sd_scripts(documents, first)
        key = f"{key} ({theirs})" if theirs and theirs not in first.place else key
    where = f"{source}: {key}" if key else source
    return RecipeError(f"{where}: {message}", excerpt, place=first.place, reason=message)


def _of_sd_scripts(documents: Sequence[Document], mistake: Mistake) -> tuple[str, str]:
    """The name that sd-scripts has for what is wrong, and its line with a caret; nothing where it is not in a file."""
    from loratools.train.sd_scripts.config_file import find_setting

    setting = find_setting(documents, mistake.place)
    if setting is None:
        return "", ""
    document, place = setting
    return str(place[-1]), document.excerpt(place, mistake.word, mistake.message)
