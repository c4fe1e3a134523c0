"""Configs of sd-scripts, and of GUIs for it, as our settings: training options, and which pictures.

Options with the same meaning here are translated, options that ask for what is always done here are accepted, and
every other one is refused by name (options.py). What such a file leaves out has sd-scripts' default.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.errors import RecipeError, did_you_mean
from loratools.files import find_beside
from loratools.train.sd_scripts.dataset_toml import DATASET_KEYS, SUBSET_KEYS, read_dataset_toml, refuse
from loratools.train.sd_scripts.dataset_toml import DEFAULTS as DATASET_DEFAULTS
from loratools.train.sd_scripts.full_options import OF_FULL, RATE, as_number, full_settings, means_full
from loratools.train.sd_scripts.lycoris_args import MODULE, lycoris_settings
from loratools.train.sd_scripts.network_args import network_settings
from loratools.train.sd_scripts.options import (
    ACCEPTED,
    COMBINED,
    DEFAULTS,
    GUI_ALIASES,
    GUI_LYCORIS,
    GUI_ONLY,
    GUI_OPTIONS,
    METADATA,
    OPTIONS,
    OR_NONE,
    RESTRICTED,
)
from loratools.train.sd_scripts.trainer_file import TrainerFile, read_trainer_file, with_dataset
from loratools.validation import Mistake
from loratools.yamlio import Document, Place

# of our settings, those that say that a LoRA is meant; and the beginnings of sd-scripts' options that do
_NETWORK = frozenset({"preset", "dim", "network_type", "network_weights", "dim_from_weights"})
_NETWORK_OPTIONS = ("network_", "unet_lr", "text_encoder_lr", "lycoris_", "dim_from_weights")
_NO_NETWORK = (
    "it names no network, as configs of DreamBooth and of fine-tuning do, which train the whole model; to train that "
    'give --full as well, and to train a LoRA by it write network_module = "networks.lora", network_dim and a '
    "learning_rate for a LoRA (1e-4) into it"
)


@dataclass(frozen=True)
class SdScriptsConfig:
    """What a file of sd-scripts' or of a GUI's for it says, as our settings.

    Attributes:
        program: whose file it is, in words.
        of_options: the file holds training options; a dataset config says only which pictures.
        documents: the file, and the dataset config that it names or that was given beside it.
        notes: what a person should know and what stops nothing.
    """

    program: str
    settings: Mapping[str, Any]
    of_options: bool
    documents: tuple[Document, ...]
    notes: tuple[str, ...]


def read_sd_scripts(
    path: Path, *, over: Mapping[str, Any] | Collection[str] = (), dataset: str | Path | None = None
) -> SdScriptsConfig:
    """Read a file of training options or a dataset config.

    Args:
        over: our settings that are given elsewhere and come before the file's; with a ``preset`` among them what the
            file leaves out is the preset's, and else sd-scripts' own.
        dataset: the dataset config, where the options do not name it.
    Raises:
        RecipeError: for a file that cannot be read, and for every key that is unknown, misplaced or not supported.
    """
    file = read_trainer_file(path)
    if dataset is not None and file.options is None:
        raise RecipeError(f"{path} is a dataset config itself, and {dataset} would be another; give one of them")
    if dataset is not None:
        file = with_dataset(file, Path(dataset))
    if file.options is not None:
        return _read_options(file, path, over)
    settings = {**DATASET_DEFAULTS, **read_dataset_toml(file.documents[0])}
    return SdScriptsConfig(file.program, settings, False, file.documents, file.notes)


def _read_options(file: TrainerFile, path: Path, over: Mapping[str, Any] | Collection[str]) -> SdScriptsConfig:
    """``dataset_config`` is looked for beside the file, then in the current folder."""
    document, notes = file.documents[0], [*file.notes]
    options = _trainer_options(document.data, path, notes)
    translation = _Translation(document)
    full = means_full({**document.data, **options}, over) and not _names_network(options, _beside_full(over))
    translation.refuse_unsupported({name: value for name, value in options.items() if not (full and name in OF_FULL)})
    if not full and not _names_network(options, over):
        translation.wrong.append(Mistake((), _NO_NETWORK))
    given = {name: value for name, value in options.items() if name in OPTIONS and value not in ("", [])}
    settings = {OPTIONS[name]: translation.attempt(name, _value, name, value) for name, value in given.items()}
    settings = _with_tensorboard(_with_noise_offset(_with_samples(settings)), path, notes)
    stop = translation.attempt("stop_text_encoder_training", _text_encoder, options, path, [] if full else notes)
    settings |= (stop or {}) | _translated(options)
    settings |= translation.attempt("lr_scheduler_args", _rules, options.get("lr_scheduler_args")) or {}
    if full:
        settings |= translation.attempt("block_lr", full_settings, {**document.data, **options}, path, notes) or {}
    else:
        settings |= translation.attempt("network_args", translation.network, options, path, notes) or {}
    translation.finish()
    dataset = file.dataset or _dataset_config(options, path)
    defaults = "preset" not in over  # a preset has values of its own for what the file leaves out
    usual = {**DEFAULTS, **({} if "epochs" in settings else {"max_steps": 1600})} if defaults else {}
    if full:
        usual = {name: value for name, value in usual.items() if name not in ("dim", "alpha")}
        usual |= {"unet_lr": RATE, "te_lr": RATE} if defaults else {}
    if options.get("enable_bucket") or dataset:  # also under a preset, which knows nothing of their buckets
        usual |= {key: value for key, value in DATASET_DEFAULTS.items() if key != "buckets"}
    of_dataset = read_dataset_toml(dataset) if dataset else {}
    documents = (document, *([dataset] if dataset else []))
    return SdScriptsConfig(file.program, {**usual, **settings, **of_dataset}, True, documents, tuple(notes))


class _Translation:
    """Options on the way to our settings; all that is wrong with them is said at once, at the end."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.wrong: list[Mistake] = []

    def refuse_unsupported(self, options: Mapping[str, Any]) -> None:
        """Note every option that has no place here."""
        for name, value in options.items():
            self.wrong += _refusal(name, value, self._document)

    def attempt(self, name: str, translate: Callable[..., Any], *arguments: Any) -> Any:
        """What ``translate`` makes of the option ``name``; None where it raises RecipeError, or stumbles over a value
        of another kind, such as a list in the place of a number."""
        try:
            return translate(*arguments)
        except RecipeError as error:
            self.wrong.append(Mistake(self._place(name), str(error), name))
        except (TypeError, ValueError, OverflowError) as error:
            given = self._document.data.get(name) if isinstance(self._document.data, Mapping) else None
            what = f"'{name} = {given}'" if given is not None else f"what belongs to {name}"
            self.wrong.append(Mistake(self._place(name), f"{what} cannot be read ({error}); correct it", name))
        return None

    def network(self, options: Mapping[str, Any], path: Path, notes: list[str]) -> dict[str, Any]:
        """The settings of ``network_args`` and ``base_weights``."""
        wrong, of_network = list[str](), list[str]()
        if options.get("network_module") == MODULE:
            settings = lycoris_settings(options, wrong, of_network)
        else:
            settings = network_settings(options, wrong)
        self.wrong += [Mistake(self._place("network_args"), reason) for reason in wrong]
        notes += [f"{path}: {note}" for note in of_network]
        return settings

    def finish(self) -> None:
        """Raise RecipeError if anything was wrong."""
        refuse(self._document, self.wrong)

    def _place(self, name: str) -> Place:
        return (name,) if (name,) in self._document.keys else ()


def find_setting(documents: Sequence[Document], place: Place) -> tuple[Document, Place] | None:
    """Where the setting at ``place`` of our config stands in files of sd-scripts', under its name there."""
    name = next((part for part in reversed(place) if isinstance(part, str)), "")
    names = {
        name,
        *(theirs for table in (OPTIONS, SUBSET_KEYS, DATASET_KEYS) for theirs in table if table[theirs] == name),
        *(("image_dir", "train_data_dir") if name == "folder" else ()),
    }
    dataset = place[1] if place[:1] == ("datasets",) and len(place) > 1 else 0
    subset = next((after for part, after in itertools.pairwise(place) if part == "images"), None)
    levels = [("datasets", dataset, "subsets", subset), ("datasets", dataset), ("general",)]
    for document in documents:
        keys = [key for key in document.keys if key[-1:] and key[-1] in names]
        for level in levels:
            if key := next((key for key in keys if key[:-1] == level), None):
                return document, key
        if key := next((key for key in keys if len(key) <= 2), None):  # an option, in a section or in none
            return document, key
    return None


def _trainer_options(options: Mapping[str, Any], path: Path, notes: list[str]) -> dict[str, Any]:
    """The options by sd-scripts' names, without those that only a GUI has; one note lists them."""
    own = {*GUI_ALIASES, *GUI_LYCORIS, *GUI_ONLY}
    theirs = {name: value for name, value in options.items() if name not in own}
    for name, same in GUI_ALIASES.items():
        if name in options:
            theirs.setdefault(same, options[name])
    if arguments := [f"{name}={options[key]}" for key, name in GUI_LYCORIS.items() if key in options]:
        theirs["network_args"] = [*_listed(options.get("network_args")), *arguments]
    counts = {"model_train_type"} if means_full(options, ()) else set()  # it says that a whole model is trained
    if of_gui := sorted((GUI_ONLY - counts) & options.keys()):
        notes.append(f"{path}: {', '.join(of_gui)} of a GUI's own have no effect, as in sd-scripts")
    return theirs


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value] if value else []


def _names_network(options: Mapping[str, Any], over: Collection[str]) -> bool:
    """Whether a LoRA is meant: DreamBooth's and fine-tuning's options are the same but for the network's."""
    return bool(_NETWORK & set(over)) or any(
        name.startswith(_NETWORK_OPTIONS) for name, value in options.items() if value not in ("", None)
    )


def _beside_full(over: Mapping[str, Any] | Collection[str]) -> set[str]:
    """Our settings that are given elsewhere and say that a LoRA is meant: a preset may be either's."""
    asked = isinstance(over, Mapping) and over.get("network_type") == "full"
    return set() if asked else set(over) - {"preset"}


def _refusal(name: str, value: object, document: Document) -> Iterator[Mistake]:
    """What is wrong with an option, and what to use instead."""
    place = (name,) if (name,) in document.keys else ()
    if name in OPTIONS or name in COMBINED or name in ACCEPTED or name in GUI_OPTIONS:
        return
    off = value in (False, "", [], {})
    if name not in RESTRICTED:
        hint = did_you_mean(name, [*OPTIONS, *COMBINED, *ACCEPTED, *RESTRICTED])
        if off and not hint:
            return  # switched off: nothing is lost
        yield Mistake(place, f"the option '{name}' is not supported{hint or ': remove it to train without'}", name)
        return
    values, remedy = RESTRICTED[name]
    if not off and value not in values:
        yield Mistake(place, f"'{name} = {value}' is not supported: {remedy}", name)


def _value(name: str, value: Any) -> Any:
    if name == "optimizer_args":
        return dict(_pair(text) for text in value)
    if name == "save_precision":
        return {"float": "fp32"}.get(value, value)
    if name == "text_encoder_lr" and isinstance(value, list):
        if len(set(value)) != 1:
            raise RecipeError(
                f"text_encoder_lr has {len(value)} values; here both text encoders have one, so give one, such as "
                f"text_encoder_lr = {value[0]}"
            )
        return value[0]
    if name == "max_token_length":
        return int(value) or 75
    return None if name in OR_NONE and value == 0 else value


def _pair(text: object) -> tuple[str, Any]:
    name, equals, value = str(text).partition("=")
    if not equals:
        raise RecipeError(f"'{text}' in optimizer_args is no NAME=VALUE")
    try:
        return name.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return name.strip(), value.strip()


def _rules(arguments: object) -> dict[str, Any]:
    """piecewise_constant's rules: the only argument that a schedule here takes beyond its options."""
    if not arguments:
        return {}
    pairs = dict(_pair(text) for text in (arguments if isinstance(arguments, list) else [arguments]))
    if set(pairs) != {"step_rules"}:
        raise RecipeError(f"lr_scheduler_args has {', '.join(sorted(pairs))}; only step_rules is supported")
    return {"lr_rules": str(pairs["step_rules"])}


def _translated(options: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if options.get("cache_latents_to_disk"):
        settings["cache_latents"] = "disk"
    elif "cache_latents" in options:
        settings["cache_latents"] = options["cache_latents"]
    if options.get("v_parameterization"):
        settings["prediction"] = "v_prediction"
    optimizer = str(options.get("optimizer_type", "")).lower()
    if optimizer == "adafactor" and str(options.get("lr_scheduler", "")).startswith("adafactor"):
        settings["lr_scheduler"] = "constant"  # of no effect: Adafactor chooses its rates itself
    if options.get("network_train_unet_only"):
        settings["te_lr"] = 0
    if options.get("network_train_text_encoder_only"):
        settings["unet_lr"] = 0
    for name, optimizer in (("use_8bit_adam", "AdamW8bit"), ("use_lion_optimizer", "Lion")):
        if options.get(name):
            settings["optimizer"] = optimizer
    described = {name: str(options[key]) for name in METADATA if options.get(key := f"metadata_{name}")}
    if described:
        settings["modelspec"] = described
    if options.get("max_train_steps") and not options.get("max_train_epochs"):
        settings["max_steps"] = options["max_train_steps"]
    return settings | _image_folders(options)


def _with_samples(settings: dict[str, Any]) -> dict[str, Any]:
    """Without prompts or an interval sd-scripts draws no samples, whatever else is set of them."""
    asked = any(settings.get(name) for name in ("sample_every_epochs", "sample_every_steps", "sample_at_first"))
    if asked and settings.get("sample_prompts"):
        return settings
    return {name: value for name, value in settings.items() if not name.startswith("sample_")}


def _with_noise_offset(settings: dict[str, Any]) -> dict[str, Any]:
    """Without what changes a noise offset that is 0, which sd-scripts ignores."""
    unused = () if settings.get("noise_offset") else ("noise_offset_random_strength", "adaptive_noise_scale")
    return {name: value for name, value in settings.items() if name not in unused}


def _with_tensorboard(settings: dict[str, Any], path: Path, notes: list[str]) -> dict[str, Any]:
    """Without TensorBoard where that is not installed: GUIs write a logging_dir into every file."""
    if "tensorboard" not in settings or importlib.util.find_spec("tensorboard") is not None:
        return settings
    notes.append(
        f"{path}: logging_dir needs a package that is not installed, so no curves are kept; pip install "
        "'loratools[log]' for them (every loss is in NAME.jsonl anyway)"
    )
    return {name: value for name, value in settings.items() if name != "tensorboard"}


def _text_encoder(options: Mapping[str, Any], path: Path, notes: list[str]) -> dict[str, Any]:
    """After how many steps it stays as it is: -1 for none at all, 0 for never."""
    steps = options.get("stop_text_encoder_training") or 0
    if not steps:
        return {}
    if isinstance(steps, str):  # a share of the run, as kohya_ss has it
        steps = steps if steps.endswith("%") else as_number("stop_text_encoder_training", steps)
    notes.append(f"{path}: stop_text_encoder_training counts here; sd-scripts trains a LoRA's text encoder to the end")
    untrained = not isinstance(steps, str) and steps < 0
    return {"te_lr": 0} if untrained else {"stop_text_encoder_training": steps}


def _image_folders(options: Mapping[str, Any]) -> dict[str, Any]:
    """``train_data_dir`` with what else is said of its folders, and ``reg_data_dir``."""
    more = {"mask_folder": options.get("conditioning_data_dir"), "metadata_file": options.get("in_json")}
    more = {key: value for key, value in more.items() if value}
    prior = options.get("reg_data_dir")
    if not options.get("train_data_dir") or not (more or prior):
        return {}
    images = [{"folder": options["train_data_dir"], **more}]
    return {"images": [*images, *([{"folder": prior, "regularisation": True}] if prior else [])]}


def _dataset_config(options: Mapping[str, Any], path: Path) -> Document | None:
    if not options.get("dataset_config"):
        return None
    if not isinstance(options["dataset_config"], str):
        raise RecipeError(f"{path}: dataset_config = {options['dataset_config']} is no file's name")
    named = Path(options["dataset_config"])
    if (place := find_beside(named, [path.parent])) is None:
        where = f"looked for beside the file and in {Path.cwd()}"
        raise RecipeError(f"{path}: there is no dataset_config {named} ({where})")
    other = read_trainer_file(place)
    if other.dataset is None:
        raise RecipeError(f"{path}: dataset_config = {named} is no dataset config; it has no [[datasets]]")
    return other.dataset
