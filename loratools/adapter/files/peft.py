"""What Diffusers and PEFT say about alpha and rank: one JSON in the header, or a folder's ``adapter_config.json``."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loratools.errors import FileError, FormatError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_KEY = "lora_adapter_metadata"
_LONGEST_PATTERN = 200  # characters; a pattern names a module, and none is longer
_REPEATED_GROUP = re.compile(r"\)[*+{]")  # what makes a hostile pattern take for ever
_ADDITIVE = ("LORA", "LOHA", "LOKR")


def stated_settings(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """The JSON in a header's metadata; empty where there is none, since then the factors are already scaled.

    Raises:
        FormatError: if it is there and cannot be read: its alpha would be lost.
    """
    try:
        settings = json.loads(metadata.get(_KEY, "{}"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the header's {_KEY} is no JSON, so its alpha is unknown") from error
    if not isinstance(settings, dict):
        raise FormatError(f"the header's {_KEY} is no JSON object, so its alpha is unknown")
    return settings


def folder_settings(config: Path) -> Mapping[str, Any]:
    """A PEFT folder's settings, by the same names as in a header but without a component.

    Raises:
        FileError, FormatError: if they cannot be read, lack an alpha, or are of a kind that is no sum.
    """
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{config} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{config} is no JSON, so the LoRA's alpha is unknown; save the folder again") from error
    if not isinstance(settings, dict):
        raise FormatError(f"{config} is no JSON object, so the LoRA's alpha is unknown; save the folder again")
    kind = str(settings.get("peft_type", "LORA")).upper()
    if kind not in _ADDITIVE:
        raise FormatError(
            f"{config} is of the kind {kind}, which is no sum of weights and cannot be merged; "
            "bake it into a model, and extract a LoRA from that"
        )
    alpha = settings.get("lora_alpha", settings.get("alpha"))
    if alpha is None:
        raise FormatError(f"{config} gives no lora_alpha, so the LoRA's scale is unknown; save the folder again")
    return {**settings, "lora_alpha": alpha}


def stated_alpha(settings: Mapping[str, Any], name: str, path: str, rank: int) -> float | None:
    """The alpha of one module, such that ``alpha / rank`` is its scale, or None where nothing is said.

    A pattern matches a module whose path is it, or ends with it after a dot; it may be a regular expression, as in
    PEFT. An exact ending wins, the longest first. rsLoRA's scale is alpha / sqrt(r).

    Args:
        settings: from :func:`stated_settings` or :func:`folder_settings`.
        name: the component, such as ``unet``; empty for a folder's.
        path: the module's path below it, as the file spells it.
        rank: columns of ``up``.
    Raises:
        FormatError: if what is said is no number.
    """
    alpha = _stated(settings, name, path, pattern="alpha_pattern", usual="lora_alpha")
    if alpha is None:
        return None
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise FormatError(f"the settings give {name or path} an alpha of {alpha!r}, which is no number to scale by")
    return float(alpha) * (math.sqrt(rank) if settings.get(f"{_prefix(name)}use_rslora") else 1.0)


def stated_rank(settings: Mapping[str, Any], name: str, path: str, _rank: int) -> int | None:
    """The rank ``r`` by which PEFT divides one module's alpha even where no stored factor has that many columns, as in
    a LoKr of two whole matrices; None where nothing is said.

    Args:
        settings, name, path: as for :func:`stated_alpha`.
    Raises:
        FormatError: if what is said is no rank.
    """
    rank = _stated(settings, name, path, pattern="rank_pattern", usual="r")
    if rank is None:
        return None
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise FormatError(f"the settings give {name or path} a rank of {rank!r}, which is no number to divide by")
    return rank


def _stated(settings: Mapping[str, Any], name: str, path: str, *, pattern: str, usual: str) -> Any:
    """What the table ``pattern`` says of a module, else what ``usual`` says of all; None where neither does."""
    patterns = settings.get(f"{_prefix(name)}{pattern}") or {}
    if not isinstance(patterns, dict):
        raise FormatError(f"the settings give {name or 'it'} the {pattern} {patterns!r}, which is no table")
    key = _matching(patterns, path)
    return patterns[key] if key is not None else settings.get(f"{_prefix(name)}{usual}")


def _prefix(name: str) -> str:
    return f"{name}." if name else ""


def _matching(patterns: Mapping[str, Any], path: str) -> str | None:
    plain = [key for key in patterns if path == key or path.endswith(f".{key}")]
    if plain:
        return max(plain, key=len)
    return next((key for key in patterns if _fits(key, path)), None)


def _fits(pattern: str, path: str) -> bool:
    if len(pattern) > _LONGEST_PATTERN or _REPEATED_GROUP.search(pattern):
        raise FormatError(
            f"the settings hold an alpha pattern that is too intricate for a module's name: {pattern[:80]}"
        )
    try:
        return re.match(rf"(.*\.)?({pattern})$", path) is not None
    except re.error:
        return False
