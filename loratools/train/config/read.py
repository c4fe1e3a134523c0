"""From a file, a preset and flags to a :class:`TrainConfig`; every mistake is named with its file, key and remedy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Preset:
    """Named settings that ship, and the guide that their numbers are from."""

    source: str
    settings: Mapping[str, Any]


def presets() -> dict[str, Preset]:
    """Every preset by its name."""
    data = read_yaml(PRESETS).data
    return {name: Preset(str(preset["source"]), preset["settings"]) for name, preset in data.items()}


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
    origin = _Origin(source, documents, frozenset(over))
    given = {**_without(under or {}, over), **over}
    merged = {**_preset(given.get("preset", "default"), origin), **given}
    for key in ("base", "images"):
        if merged.get(key) in (None, "", [], ()) and not (key == "images" and merged.get("datasets")):
            raise origin.error((), f"'{key}' is missing; give it in the config or as --{key}")
    try:
        config = TrainConfig.model_validate(merged)
    except ValidationError as error:
        wrong = mistakes(error, merged, TrainConfig, "loratools train --help")
        first = first_of(wrong, origin.yaml)
        raise origin.error(first.place, f"{first.message}{and_more(wrong)}", first.word) from error
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


def _preset(name: object, origin: _Origin) -> dict[str, Any]:
    known = presets()
    if not isinstance(name, str) or name not in known:
        hint = did_you_mean(str(name), known)
        raise origin.error(("preset",), f"there is no training preset '{name}'{hint}; there are {', '.join(known)}")
    return dict(known[name].settings)


@dataclass(frozen=True)
class _Origin:
    """Where settings are from: a file and what it names, under those of the command line or of a caller."""

    source: str
    documents: Sequence[Document]
    over: Collection[str]

    @property
    def yaml(self) -> Document | None:
        """The file, where its keys are ours."""
        return self.documents[0] if self.documents and not self.source.endswith(".toml") else None

    def error(self, place: Place, message: str, word: str | None = None) -> RecipeError:
        """The error for a mistake at ``place``, with the line of the file that it stands in."""
        overridden = place[:1] in {(key,) for key in self.over}
        if self.yaml is not None and place and place in self.yaml.spans and not overridden:
            return self.yaml.error(place, message, word)
        key, excerpt = ".".join(str(part) for part in place), ""
        if self.yaml is None and self.documents and place and not overridden:
            theirs, excerpt = self._of_sd_scripts(place, message, word)
            key = f"{key} ({theirs})" if theirs and theirs not in place else key
        where = f"{self.source}: {key}" if key else self.source
        return RecipeError(f"{where}: {message}", excerpt, place=place, reason=message)

    def _of_sd_scripts(self, place: Place, message: str, word: str | None) -> tuple[str, str]:
        """sd-scripts' name of the setting, and its line with a caret; nothing where no file has it."""
        from loratools.train.sd_scripts.config_file import find_setting

        setting = find_setting(self.documents, place)
        if setting is None:
            return "", ""
        document, key = setting
        return str(key[-1]), document.excerpt(key, word, message)
