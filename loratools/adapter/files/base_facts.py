"""What LoRA files say of the base of their training, where bases of one family differ.

That is what it predicts, whether its noise ends at zero SNR, whether it is a distilled or other variant, and which half
it is of a model that is two files (Wan 2.2's for high and for low noise).
LoRAs of bases that differ so have the same modules and add up, but their sum fits none of the bases exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loratools.adapter.architectures.family import Family

DISAGREEMENT = "loratools_disagreement"  # header entry: fact -> value -> the files of a merge that state it
VARIANT = "loratools_variant"  # header entry: the variant of a merge's parts, whose bases have different names
NOISE = "loratools_noise"  # header entry: which half of a model in two files (Wan 2.2) a merge's parts are for
NOT_STATED = "not stated"

_PREDICTION, _ZERO_SNR, _VARIANT, _HALF = "prediction_type", "zero_terminal_snr", "variant", "noise"
_USUAL = {_PREDICTION: "epsilon", _ZERO_SNR: "False", _VARIANT: "full", _HALF: NOT_STATED}
_TITLES = {
    _PREDICTION: "prediction type",
    _ZERO_SNR: "zero terminal SNR",
    _VARIANT: "variant of the base",
    _HALF: "noise that the half of the model is for",
}
_ENTRY = {
    _PREDICTION: "modelspec.prediction_type",
    _ZERO_SNR: "ss_zero_terminal_snr",
    _VARIANT: VARIANT,
    _HALF: NOISE,
}
_VARIANT_WORDS = {
    *("turbo", "lightning", "schnell", "hyper", "lcm", "dmd", "distill", "distilled"),
    *("krea", "kontext", "edit", "layered", "fill", "inpaint", "inpainting"),
}
_BASE_ENTRIES = (VARIANT, "ss_sd_model_name", "ss_base_model_version", "modelspec.architecture")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_NOISE_NAME = re.compile(r"(?<![a-z])(?P<half>high|low)[-_ ]?noise", re.IGNORECASE)
_V_NAME = re.compile(r"v[-_ ]?pred", re.IGNORECASE)


@dataclass(frozen=True)
class StatedBase:
    """What one file states: fact -> its values, several where it is itself a merge of files that disagreed."""

    name: str
    values: Mapping[str, tuple[str, ...]]

    @staticmethod
    def of(name: str, metadata: Mapping[str, str]) -> StatedBase:
        """From the header of the file called ``name``."""
        facts = {
            _PREDICTION: stated_prediction(metadata),
            _ZERO_SNR: stated_zero_snr(metadata),
            _VARIANT: _variant(metadata),
            _HALF: _half(name, metadata),
        }
        values = {fact: (value,) for fact, value in facts.items() if value}
        return StatedBase(name, values | _recorded(metadata))


def disagreement(bases: Sequence[StatedBase]) -> dict[str, dict[str, list[str]]]:
    """fact -> value -> names of the files that state it, of the facts over which the files disagree.

    A file that does not state a fact disagrees only with a value that is not the usual one.
    """
    differing: dict[str, dict[str, list[str]]] = {}
    for fact, usual in _USUAL.items():
        by_value: dict[str, list[str]] = {}
        for base in bases:
            for value in base.values.get(fact, (NOT_STATED,)):
                by_value.setdefault(value, []).append(base.name)
        if fact == _HALF:
            by_value.pop(NOT_STATED, None)  # few files say so
        if len(by_value) > 1 and set(by_value) != {usual, NOT_STATED}:
            differing[fact] = dict(sorted(by_value.items()))
    return differing


def disagreement_message(differing: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """The sentence about a merge of files that disagree."""
    facts = [
        f"{_TITLES[fact]} is {' and '.join(f'{value} in {_listed(names)}' for value, names in by_value.items())}"
        for fact, by_value in differing.items()
    ]
    return (
        f"these LoRAs were trained on different kinds of base: {'; '.join(facts)}; their sum fits none of the bases "
        f"exactly, and the file's header says so under '{DISAGREEMENT}'"
    )


def agreed_entries(bases: Sequence[StatedBase], metadata: Mapping[str, str]) -> dict[str, str]:
    """Header entries for unusual values that all files state, but not in the words that ``metadata`` already has."""
    entries: dict[str, str] = {}
    for fact, usual in _USUAL.items():
        values = {base.values.get(fact, (NOT_STATED,)) for base in bases}
        if len(values) != 1 or len(both := next(iter(values))) != 1 or both[0] in (usual, NOT_STATED):
            continue
        if StatedBase.of("", metadata).values.get(fact) != both:
            entries[_ENTRY[fact]] = both[0]
    return entries


def architecture_of(family: Family, metadata: Mapping[str, str]) -> str:
    """``modelspec.architecture`` of a file of ``family`` whose header states ``metadata``; empty where the family's own
    would not be true: there is one word for Flux.1 dev, and none for schnell."""
    values = StatedBase.of("", metadata).values
    if family.name == "flux" and any("schnell" in value for value in values.get(_VARIANT, ())):
        return ""
    if family.name == "sd2" and values.get(_PREDICTION) == ("v",):
        return "stable-diffusion-v2-768-v/lora"
    return family.architecture


def _recorded(metadata: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """What an earlier merge recorded of its parts."""
    try:
        recorded = json.loads(metadata.get(DISAGREEMENT, "{}"))
    except (ValueError, RecursionError):
        return {}  # another program's text
    if not isinstance(recorded, dict):
        return {}
    return {fact: tuple(sorted(map(str, recorded[fact]))) for fact in _USUAL if isinstance(recorded.get(fact), dict)}


def stated_prediction(metadata: Mapping[str, str]) -> str:
    """What a header says that the base predicts, ``v`` or ``epsilon``; empty where it does not say."""
    stated = metadata.get("modelspec.prediction_type", "").lower()
    velocity = metadata.get("ss_v_parameterization", "").lower()
    if (
        stated in ("v", "v_prediction", "v-prediction", "velocity")
        or velocity == "true"
        or metadata.get("ss_base_model_version", "").endswith("_v")
        or "768-v" in metadata.get("modelspec.architecture", "")
    ):
        return "v"
    if stated in ("epsilon", "eps") or velocity == "false":
        return "epsilon"
    return "v" if _V_NAME.search(metadata.get("ss_sd_model_name", "")) else ""


def stated_zero_snr(metadata: Mapping[str, str]) -> str:
    """Whether a header says that the base's noise ends at zero SNR, ``True`` or ``False``; empty where it does not."""
    said = metadata.get("ss_zero_terminal_snr") or metadata.get("modelspec.zero_terminal_snr", "")
    return {"true": "True", "false": "False"}.get(said.lower(), "")


def _half(name: str, metadata: Mapping[str, str]) -> str:
    """``high`` or ``low``, where the file's name or its header speaks of high or low noise."""
    if NOISE in metadata:
        return metadata[NOISE]
    texts = (name, metadata.get("ss_output_name", ""), metadata.get("ss_sd_model_name", ""))
    found = {match["half"].lower() for text in texts for match in _NOISE_NAME.finditer(text)}
    return found.pop() if len(found) == 1 else ""


def _variant(metadata: Mapping[str, str]) -> str:
    words = {word.lower() for key in _BASE_ENTRIES for word in _WORD.findall(metadata.get(key, ""))}
    if "krea" in words and any("krea2" in metadata.get(key, "").lower().replace("-", "") for key in _BASE_ENTRIES):
        words.discard("krea")  # Krea 2 is a model of its own
    named = metadata.get("ss_sd_model_name", "") not in ("", "None")
    return " ".join(sorted(words & _VARIANT_WORDS)) or ("full" if named else "")


def _listed(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
