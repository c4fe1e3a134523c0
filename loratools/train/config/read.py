"""From a file, a preset and flags to a :class:`TrainConfig`; every mistake is named with its file, key and remedy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from loratools.base.base_path import base_path, is_hub_id, missing_base
from loratools.errors import BaseModelError, RecipeError, did_you_mean
from loratools.files import find_beside, windows_path
from loratools.train.config.config import TrainConfig
from loratools.train.config.data import OF_DATA_SETS, Subset
from loratools.train.config.paths import INPUTS, locate, subsets_by_place
from loratools.validation import and_more, first_of, mistakes
from loratools.yamlio import Document, Place, read_yaml

if TYPE_CHECKING:
    from loratools.train.sd_scripts.config_file import SdScriptsConfig

DEFAULT, FULL = "default", "full"  # the presets of a LoRA and of a full training where none is named
PRESETS = Path(__file__).with_name("presets.yaml")
_SCRIPTS = (".sh", ".bat", ".cmd", ".ps1", ".py", ".ipynb")
_GIVE = "give it in the config or as `{}=`"
_MISSING = {  # of another trainer's file
    "base": f"'base' is missing (pretrained_model_name_or_path); {_GIVE.format('base')}",
    "images": "it names no pictures (train_data_dir); give its dataset config after it, or `images=`",
}


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
    path: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    dataset: str | Path | None = None,
    must_exist: bool = False,
) -> tuple[TrainConfig, tuple[str, ...]]:
    """The config at ``path`` (our YAML, or a file of sd-scripts' or of a GUI's for it) under ``overrides``, and a
    sentence for everything in it that a person should know and that stops nothing.

    Overrides that are None count as not given. With no path the overrides alone must name ``base`` and ``images``.
    What the file names is looked for beside it first, then in the current folder; what overrides name the other way
    round.

    Args:
        dataset: sd-scripts' dataset config, for a file of options that does not name it; ``dataset_config`` among the
            overrides is one too.
        must_exist: refuse folders of images, and a base, that are not there.
    Raises:
        RecipeError: for a file that cannot be read, an unknown key or preset, or a value out of range.
    """
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    notes: tuple[str, ...] = ()
    if path is None:
        config, origin = make_config(given, "train"), _Origin("train", (), frozenset(given))
    elif (theirs := _of_trainer(Path(path), given, dataset)) is not None:
        given = {key: value for key, value in given.items() if key != "dataset_config"}
        origin = _Origin(str(path), theirs.documents, frozenset(given), of_trainer=True)
        config, notes = _made(given, theirs.settings, origin), theirs.notes
    else:
        document = _own_document(Path(path))
        origin = _Origin(str(path), (document,), frozenset(given))
        config = _made(given, document.data, origin)
    if must_exist:
        _check_folders(config, origin)
        _check_base(config.base, origin)
    return config, notes


def _of_trainer(path: Path, given: Mapping[str, Any], dataset: str | Path | None) -> SdScriptsConfig | None:
    """The file at ``path`` where it is another trainer's; None where it is our own."""
    suffix = path.suffix.lower()
    if suffix not in (".toml", ".json"):
        return None
    from loratools.train.sd_scripts.config_file import read_sd_scripts
    from loratools.train.sd_scripts.json_file import read_json
    from loratools.train.sd_scripts.trainer_file import is_trainer_json

    if suffix == ".json" and not is_trainer_json(read_json(path).data):
        return None
    if dataset is None and isinstance(named := given.get("dataset_config"), str):
        dataset = find_beside(named, [Path(), path.parent]) or named
    return read_sd_scripts(path, over=given, dataset=dataset)


def _own_document(path: Path) -> Document:
    from loratools.train.sd_scripts.other_trainers import refuse_other_trainers

    if path.suffix.lower() in _SCRIPTS:
        raise RecipeError(
            f"{path} is a script, not a config; give the file that it passes as --config_file or --dataset_config, or "
            "write its options into a TOML file"
        )
    document = read_yaml(path)
    refuse_other_trainers(document)
    if not isinstance(document.data, dict):
        raise RecipeError(f"{path} holds no settings; write `base:` and `images:` at least")
    return document


def make_config(values: Mapping[str, Any], source: str, *, under: Mapping[str, Any] | None = None) -> TrainConfig:
    """``values`` over ``under`` over the preset's settings, checked.

    Args:
        source: names what is read in messages.
    Raises:
        RecipeError: naming ``source``, the key and the nearest valid one.
    """
    over = {key: value for key, value in values.items() if value is not None}
    return _made(over, under or {}, _Origin(source, (), frozenset(over)))


def _made(over: Mapping[str, Any], under: Mapping[str, Any], origin: _Origin) -> TrainConfig:
    """``over``, of which nothing is None, over ``under`` over the preset's settings, checked; its paths are looked for
    beside the files that ``under`` is from."""
    given = {**_without(under, over), **over}
    given = _of_full_training(given, origin)
    merged = {**_beside(_preset(given.get("preset", DEFAULT), origin), given), **given}
    for key in ("base", "images"):
        if merged.get(key) in (None, "", [], ()) and not (key == "images" and merged.get("datasets")):
            raise origin.error((), _MISSING[key] if origin.of_trainer else f"'{key}' is missing; {_GIVE.format(key)}")
    try:
        config = TrainConfig.model_validate(merged)
    except ValidationError as error:
        wrong = mistakes(error, merged, TrainConfig, "loratools train --help")
        first = first_of(wrong, origin.yaml)
        raise origin.error(first.place, f"{first.message}{and_more(wrong)}", first.word) from error
    if not origin.documents:
        return config
    of_file = locate(config, origin.folders, [name for name in INPUTS if name not in over])
    return locate(of_file, [Path(), *origin.folders], [name for name in INPUTS if name in over])


def _of_full_training(given: Mapping[str, Any], origin: _Origin) -> dict[str, Any]:
    """``given`` with the preset of a full training where it asks for one and for no preset.

    Raises:
        RecipeError: for a LoRA's preset, whose rates no base bears, or a LoRA's rank.
    """
    known, name = presets(), given.get("preset", DEFAULT)
    preset = known.get(name) if isinstance(name, str) else None
    of_preset = preset is not None and preset.settings.get("network_type") == "full"
    if given.get("network_type") not in (None, "full") and of_preset:
        message = (
            f"the preset {name} is for a full training, and network_type says {given['network_type']}; leave one out"
        )
        raise origin.error(("preset",), message)
    if given.get("network_type") != "full" and not of_preset:
        return dict(given)
    for key in ("dim", "alpha"):
        if given.get(key) is not None:
            message = (
                f"'{key}' is a LoRA's, and all weights are trained here; leave it out, or write save: lora:32 for files"
            )
            raise origin.error((key,), message)
    if of_preset or preset is None:
        return _with_own_rate(given, preset.settings if preset is not None else {})
    if name != DEFAULT:
        full = ", ".join(each for each, one in known.items() if one.settings.get("network_type") == "full")
        message = f"the preset {name} has a LoRA's numbers, at which a full training ruins its base; there are {full}"
        raise origin.error(("preset",), message)
    return _with_own_rate({**given, "preset": FULL}, known[FULL].settings)


def _with_own_rate(given: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with what a ``learning_rate`` of its own says of a preset's rates: it is the UNet's, and the text
    encoder's is the same share of it as the preset's."""
    rates = {}
    if given.get("learning_rate") is not None and preset.get("unet_lr"):
        try:
            rate = float(given["learning_rate"])
        except (TypeError, ValueError):  # told by the check of all settings
            return dict(given)
        rates = {name: rate * preset[name] / preset["unet_lr"] for name in ("unet_lr", "te_lr") if name in preset}
    return {**rates, **given}


def _check_folders(config: TrainConfig, origin: _Origin) -> None:
    """Raise RecipeError for the first folder of images that is nowhere, with the places where it was looked for."""
    for place, subset in subsets_by_place(config):
        if subset.folder.exists():
            continue
        is_windows = windows_path(subset.folder) is not None
        where = f" (looked for in {Path.cwd()}{origin.beside()})" if not subset.folder.is_absolute() else ""
        remedy = "; it is a path of Windows, so write where the folder lies on this machine" if is_windows else ""
        message = f"there is no folder {subset.folder}{where}{remedy}"
        if place[0] in origin.over:
            raise RecipeError(f"`{place[0]}=`: {message}", place=place, reason=message)
        raise origin.error(origin.nearest((*place, "folder")), message, str(subset.folder))


def _check_base(name: str, origin: _Origin) -> None:
    """Raise RecipeError for a base that is nowhere on this machine and no hub model's name.

    Raises:
        BaseModelError: for one of the command line, whose message names no file.
    """
    if base_path(name).expanduser().exists() or is_hub_id(name):
        return
    message = missing_base(name, origin.beside())
    raise BaseModelError(message) if "base" in origin.over else origin.error(("base",), message, name)


def _beside(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A preset's settings without those that belong to another setting of its own, which ``given`` replaces: arguments
    of another optimiser, and what fp32 weights are computed in."""
    dropped = set()
    if str(given.get("optimizer", preset.get("optimizer"))).lower() != str(preset.get("optimizer")).lower():
        dropped.add("optimizer_args")
    if given.get("weights") == "bf16" and preset.get("weights") != "bf16":
        dropped.add("mixed_precision")
    return {name: value for name, value in preset.items() if name not in dropped}


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
    """Where settings are from: a file and what it names, under those of the command line or of a caller.

    Attributes:
        documents: the files; ours, or another trainer's.
        over: the settings that come before those of the files.
        of_trainer: the files are another trainer's.
    """

    source: str
    documents: Sequence[Document]
    over: Collection[str]
    of_trainer: bool = False

    @property
    def yaml(self) -> Document | None:
        """The file, where its keys are ours."""
        return self.documents[0] if self.documents and not self.of_trainer else None

    @property
    def folders(self) -> list[Path]:
        """Those of the files, in which what they name is looked for first."""
        return list(dict.fromkeys(Path(document.source).parent for document in self.documents))

    def beside(self) -> str:
        """The files beside which something was looked for too, in words."""
        return "".join(f" and beside {document.source}" for document in self.documents)

    def nearest(self, place: Place) -> Place:
        """As much of a place as the file has, where its keys are ours: a list of one folder may be written as text."""
        spans = self.yaml.spans if self.yaml is not None else {place: None}
        return next((place[:size] for size in range(len(place), 0, -1) if place[:size] in spans), place)

    def error(self, place: Place, message: str, word: str | None = None) -> RecipeError:
        """The error for a mistake at ``place``, with the line of the file that it stands in."""
        overridden = place[:1] in {(key,) for key in self.over}
        if self.yaml is not None and place and place in self.yaml.spans and not overridden:
            return self.yaml.error(place, message, word)
        key, excerpt = ".".join(str(part) for part in place), ""
        if self.of_trainer and place and not overridden:
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
