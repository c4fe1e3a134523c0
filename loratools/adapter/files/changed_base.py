"""Files whose product is no difference of the base they are named after: PiSSA, OLoRA and their kind.

Such a training starts from factors taken out of the base's own weights and goes on with the rest of them as its base:
``W = R + s B0 A0``. What it taught is ``s (B A - B0 A0)``, and the file has only ``B A``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from loratools.errors import FormatError

# how PEFT's init_lora_weights begins -> what people call it
_CHANGING = {
    "pissa": "PiSSA",
    "olora": "OLoRA",
    "corda": "CorDA",
    "lora_ga": "LoRA-GA",
    "loraga": "LoRA-GA",
    "milora": "MiLoRA",
    "urae": "URAE",
    "loftq": "LoftQ",
}
# settings that say it, whoever wrote them: PEFT, SimpleTuner, sd-scripts' network_args
_KEYS = ("init_lora_weights", "lora_initialisation_style", "initialize", "init_weights")
_HEADER_JSON = ("ss_network_args", "lora_adapter_metadata", "ss_config", "training_config")


def check_settings(settings: Mapping[str, Any], where: str) -> None:
    """Refuse settings, PEFT's or those in a header's ``lora_adapter_metadata``, that say so at any component.

    Args:
        where: how the message begins: the file.
    Raises:
        FormatError: naming the setting and the way out.
    """
    for key, value in settings.items():
        kind = _kind(key.rpartition(".")[2], value)
        if kind is not None:
            raise FormatError(_message(where, f"{key} is {value!r}", kind))


def check_metadata(metadata: Mapping[str, str], where: str) -> None:
    """As :func:`check_settings`, for a header's free text: single entries, and the JSON that trainers put there."""
    check_settings({key: text for key, text in metadata.items() if key not in _HEADER_JSON}, where)
    for entry in _HEADER_JSON:
        try:
            content = json.loads(metadata.get(entry, "{}"))
        except (ValueError, RecursionError):
            continue  # another program's free text
        for key, value in _flat(content):
            kind = _kind(key.rpartition(".")[2], value)
            if kind is not None:
                raise FormatError(_message(where, f"{entry} has {key} = {value!r}", kind))


def _flat(content: object) -> Iterator[tuple[str, object]]:
    """The entries of a JSON object, and those of objects in it one level below."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield str(key), value
            if isinstance(value, dict):
                yield from ((f"{key}.{inner}", one) for inner, one in value.items())


def _kind(key: str, value: object) -> str | None:
    text = str(value).strip().lower()
    if key in _KEYS:
        return next((title for start, title in _CHANGING.items() if text.startswith(start)), None)
    if key in _CHANGING and text not in ("", "false", "0", "no", "none", "null"):  # network_args: pissa=True
        return _CHANGING[key]
    return None


def _message(where: str, setting: str, kind: str) -> str:
    if kind == "LoftQ":
        return (
            f"{where} was trained with {kind} ({setting}), which starts from what quantising the base lost; the file's "
            "product is no difference of the base itself, so it is refused; merge it into its own quantised base"
        )
    return (
        f"{where} was trained with {kind} ({setting}): it began as a part of the base's own weights, so the file's "
        "product is not what training changed, and it is refused; convert it in PEFT with "
        "save_pretrained(..., path_initial_model_for_weight_conversion=...), or bake it into its own base and extract "
        "a LoRA from that"
    )
