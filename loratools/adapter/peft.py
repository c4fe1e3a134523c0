"""What Diffusers and PEFT say about alpha: one JSON in the header, ``lora_adapter_metadata``, by component."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from loratools.errors import FormatError

_KEY = "lora_adapter_metadata"


def told_settings(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """The JSON in a header's metadata; empty where there is none, since then the factors are already scaled.

    Raises:
        FormatError: if it is there and cannot be read: its alpha would be lost.
    """
    try:
        found = json.loads(metadata.get(_KEY, "{}"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the header's {_KEY} is no JSON, so its alpha is unknown") from error
    if not isinstance(found, dict):
        raise FormatError(f"the header's {_KEY} is no JSON object, so its alpha is unknown")
    return found


def told_alpha(settings: Mapping[str, Any], name: str, path: str, rank: int) -> float | None:
    """The alpha of one module, such that ``alpha / rank`` is its scale, or None where nothing is said.

    A pattern's key matches a module whose path ends with it; the longest key wins. rsLoRA's scale is alpha / sqrt(r).

    Args:
        settings: from :func:`told_settings`.
        name: the component, such as ``unet``.
        path: the module's path below it, as the file spells it.
        rank: columns of ``up``.
    Raises:
        FormatError: if what is said is no number.
    """
    patterns = settings.get(f"{name}.alpha_pattern") or {}
    matching = [key for key in patterns if path == key or path.endswith(f".{key}")]
    alpha = patterns[max(matching, key=len)] if matching else settings.get(f"{name}.lora_alpha")
    if alpha is None:
        return None
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha) or alpha == 0:
        raise FormatError(f"the header gives {name} an alpha of {alpha!r}, which is no number to scale by")
    return float(alpha) * (math.sqrt(rank) if settings.get(f"{name}.use_rslora") else 1.0)
