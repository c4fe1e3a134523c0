"""Settings of a grid as flat words, for tests that name a few of them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from loratools.preview.request.options import EngineOptions
from loratools.preview.request.request import SamplingRequest

_SAMPLING = {field.name for field in fields(SamplingRequest)}


def flat(**words: Any) -> dict[str, Any]:
    """What ``render_grid`` takes: ``steps``, ``cfg`` and their kin as its sampling, ``batch_size`` as its options."""
    sampling = {key: words.pop(key) for key in _SAMPLING & words.keys()}
    batch = {"options": EngineOptions(words.pop("batch_size"))} if "batch_size" in words else {}
    return {**words, "sampling": SamplingRequest(**sampling), **batch}
