"""What a LoRA file says about itself: how it was made, sd-scripts' ``ss_*`` facts, and who may overwrite it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from loratools.adapter.architectures.header_words import MODEL, model_in
from loratools.adapter.architectures.identify import Identity
from loratools.adapter.architectures.names import UNKNOWN
from loratools.adapter.files.base_facts import DISAGREEMENT, NOISE, VARIANT, StatedBase, agreed_entries, disagreement
from loratools.adapter.header import read_header
from loratools.errors import FileError, FormatError
from loratools.file_names import check_writable_name
from loratools.version import __version__

KEY = "loratools"  # the header entry that holds one JSON of provenance
ERROR = "loratools_error"  # the relative error of what is stored against what was asked for

# Facts about the base and how to prompt, which a merge keeps when its parts agree.
_KEPT_WHEN_EQUAL = (
    "ss_v2", "ss_base_model_version", "ss_sd_model_name", "ss_sd_model_hash", "ss_new_sd_model_hash", "ss_vae_name",
    "ss_vae_hash", "ss_new_vae_hash", "ss_clip_skip", "ss_resolution", "ss_max_token_length", "ss_zero_terminal_snr",
    "ss_v_parameterization",
    "modelspec.sai_model_spec", "modelspec.architecture", "modelspec.implementation", "modelspec.resolution",
    "modelspec.prediction_type", "modelspec.encoder_layer",
)  # fmt: skip

_MODEL_ENTRIES = ("ss_base_model_version", "modelspec.architecture")  # what says which model a file is for


@dataclass(frozen=True)
class Provenance:
    """How a file was made.

    Args:
        step: the resolved step, as JSON values.
        owner: who may overwrite the file without ``--force``: a recipe's step, or a run.
        inputs: one entry a source file, each with at least ``name`` and ``digest``.
        ancestors: digest -> that file's own provenance, for every file upstream that had one.
        recipe: the recipe that ``step`` is of, as :mod:`loratools.recipe.plan.lineage` reads it, if it is of one.
    """

    step: Mapping[str, Any]
    owner: str
    inputs: Sequence[Mapping[str, Any]] = ()
    ancestors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    version: str = __version__
    recipe: Mapping[str, Any] | None = None

    def to_json(self) -> str:
        """The header entry: compact JSON with sorted keys, so that the same request gives the same bytes."""
        content = {
            "version": self.version,
            "owner": self.owner,
            "step": self.step,
            "inputs": list(self.inputs),
            "ancestors": self.ancestors,
            **({} if self.recipe is None else {"recipe": self.recipe}),
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @staticmethod
    def from_metadata(metadata: Mapping[str, str]) -> Provenance | None:
        """The provenance in a header's metadata, or None where there is none or another program wrote the key."""
        try:
            content = json.loads(metadata[KEY])
            return Provenance(
                dict(content["step"]),
                str(content["owner"]),
                list(content["inputs"]),
                dict(content["ancestors"]),
                str(content["version"]),
            )
        except (KeyError, ValueError, TypeError, RecursionError):
            return None


def inherited(sources: Sequence[tuple[str, Mapping[str, str]]]) -> dict[str, Mapping[str, Any]]:
    """The ``ancestors`` of a file made from ``sources`` (digest, metadata): their own provenance and what it names."""
    ancestors: dict[str, Mapping[str, Any]] = {}
    for digest, metadata in sources:
        own = Provenance.from_metadata(metadata)
        if own is not None:
            ancestors.update(own.ancestors)
            error = {"error": metadata[ERROR]} if ERROR in metadata else {}
            ancestors[digest] = {"version": own.version, "step": own.step, "inputs": list(own.inputs), **error}
    return dict(sorted(ancestors.items()))


def guard_overwrite(path: str | os.PathLike[str], owner: str, force: bool) -> None:
    """Let a write go on if ``path`` is free, was written by the same ``owner``, or ``force`` is given.

    Raises:
        FileError: if ``path`` is a folder, an existing file of someone else, or no name that this system can hold.
    """
    target = Path(path)
    check_writable_name(target)
    if target.is_dir():
        raise FileError(f"{target} is a folder; give a file name ending in .safetensors")
    if force or not target.exists():
        return
    try:
        made = Provenance.from_metadata(read_header(target).metadata)
    except FormatError:
        made = None
    if made is None or made.owner != owner:
        who = f"was written by '{made.owner}'" if made else "was not written by this step"
        raise FileError(f"{target} exists and {who}; choose another name, or overwrite it with `force=True`")


class Described(Protocol):
    """A LoRA file that was read: an adapter."""

    @property
    def path(self) -> Path: ...

    @property
    def family(self) -> str: ...

    @property
    def identity(self) -> Identity: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...


def merged_header(adapters: Sequence[Described]) -> dict[str, str]:
    """What a file made of ``adapters``, which are of one family, may truthfully say.

    To :func:`merged_metadata` come which model it is for, where the family's own name would not be true of it, and what
    the files state of their bases: each fact where they agree, and the disagreement under one key where they do not.
    """
    texts = merged_metadata([adapter.metadata for adapter in adapters])
    identities = [adapter.identity for adapter in adapters]
    if len({identity.model for identity in identities}) == 1:
        texts = _agreed_by_some(adapters) | texts
    if {identity.model for identity in identities} != {"flux"}:
        texts = {key: text for key, text in texts.items() if not _says_flux(key, text)}
    doubtful = next((identity for identity in identities if not identity.own_table), None)
    if doubtful is not None and adapters[0].family != UNKNOWN.name:
        texts[MODEL] = (next((i for i in identities if i.uncertain), doubtful)).title
    return texts | _base_entries(adapters, texts)


def _says_flux(key: str, text: str) -> bool:
    model = model_in(text) if key in _MODEL_ENTRIES else None
    return model is not None and model.name == "flux"


def _agreed_by_some(adapters: Sequence[Described]) -> dict[str, str]:
    """What files of one known model call it, where those that name it do so alike."""
    if not adapters[0].identity.model or adapters[0].identity.own_table:
        return {}
    stated = {key: {a.metadata[key] for a in adapters if key in a.metadata} for key in _MODEL_ENTRIES}
    return {key: values.pop() for key, values in stated.items() if len(values) == 1}


def _base_entries(adapters: Sequence[Described], texts: Mapping[str, str]) -> dict[str, str]:
    if len(adapters) == 1:
        return {key: text for key, text in adapters[0].metadata.items() if key in (DISAGREEMENT, VARIANT, NOISE)}
    bases = [StatedBase.of(adapter.path.name, adapter.metadata) for adapter in adapters]
    differing = disagreement(bases)
    entries = agreed_entries(bases, texts)
    return entries | ({DISAGREEMENT: json.dumps(differing, ensure_ascii=False)} if differing else {})


def merged_metadata(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What a merge of files with these metadata may truthfully say.

    A single part keeps all it says about its training. Several parts keep what they agree on about the base and the
    prompt (clip skip, resolution, prediction type), and the union of their trigger and tag lists.
    """
    if len(parts) == 1:
        return {k: v for k, v in parts[0].items() if k.startswith(("ss_", "modelspec.")) and k != "ss_network_args"}
    merged = {key: parts[0][key] for key in _KEPT_WHEN_EQUAL if _agreed(key, parts)}
    for key in ("ss_tag_frequency", "ss_dataset_dirs"):
        union = _union(key, parts)
        if union:
            merged[key] = json.dumps(union, ensure_ascii=False)
    phrases = [part["modelspec.trigger_phrase"] for part in parts if part.get("modelspec.trigger_phrase")]
    if phrases:
        merged["modelspec.trigger_phrase"] = ", ".join(dict.fromkeys(phrases))
    names = [part["ss_output_name"] for part in parts if part.get("ss_output_name")]
    if names:
        merged["modelspec.merged_from"] = ", ".join(dict.fromkeys(names))
    dates = [part["modelspec.date"] for part in parts if part.get("modelspec.date")]
    if dates:
        merged["modelspec.date"] = max(dates)  # the newest part's: a clock would make the same request differ
    return merged


def _agreed(key: str, parts: Sequence[Mapping[str, str]]) -> bool:
    values = {part.get(key) for part in parts}
    return len(values) == 1 and None not in values


def _union(key: str, parts: Sequence[Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """folder -> {tag: count} of all parts; a folder that stands in several keeps each tag's largest count."""
    union: dict[str, dict[str, Any]] = {}
    for part in parts:
        for folder, values in _folders(part.get(key, "{}")).items():
            mine = union.setdefault(folder, {})
            for tag, count in values.items():
                mine[tag] = max(mine[tag], count) if _numbers(mine.get(tag), count) else mine.get(tag, count)
    return union


def _numbers(*values: object) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _folders(text: str) -> dict[str, dict[str, Any]]:
    try:
        folders = json.loads(text)
    except (ValueError, RecursionError):
        return {}  # another program's free text; nothing to unite
    if not isinstance(folders, dict):
        return {}
    return {str(folder): values for folder, values in folders.items() if isinstance(values, dict)}
