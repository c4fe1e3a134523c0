"""The text inside a picture: the WebUI's ``parameters``, which it reads back, and our own JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools import __version__
from loratools.files import replacing

if TYPE_CHECKING:
    from PIL.Image import Image

KEY = "loratools"  # the PNG text chunk with our JSON; the WebUI's is ``parameters``


@dataclass(frozen=True)
class LoraUse:
    """One LoRA of a stack as a prompt names it: ``<lora:NAME:WEIGHT:lbw=VECTOR>``.

    ``digest`` is the file's true sha256 after its header; ``vector`` is the resolved block vector as text, empty
    where there is none; ``te`` and ``unet`` multiply ``weight``.
    """

    name: str
    digest: str
    weight: float = 1.0
    vector: str = ""
    te: float = 1.0
    unet: float = 1.0

    def tag(self, strength: float = 1.0) -> str:
        """The prompt tag at ``strength`` times this use; names lose ``:`` and ``,``, as in the WebUI."""
        text, unet = number(strength * self.weight * self.te), number(strength * self.weight * self.unet)
        weights = text if text == unet else f"te={text}:unet={unet}"
        vector = f":lbw={self.vector}" if self.vector else ""
        return f"<lora:{plain_name(self.name)}:{weights}{vector}>"


@dataclass(frozen=True)
class Facts:
    """All that made a picture; ``size`` is (height, width) in pixels, ``strength`` multiplies every LoRA."""

    prompt: str
    negative: str
    steps: int
    sampler: str
    cfg: float
    seed: int
    size: tuple[int, int]
    model: str
    model_digest: str
    clip_skip: int = 1
    loras: Sequence[LoraUse] = ()
    strength: float = 1.0
    extra: Mapping[str, str] = field(default_factory=dict)


def infotext(facts: Facts) -> str:
    """The WebUI's three-part text: the prompt with its LoRA tags, the negative prompt, and ``Key: value`` pairs."""
    tags = [use.tag(facts.strength) for use in facts.loras] if facts.strength else []
    lines = [", ".join([facts.prompt, *tags]) if facts.prompt else " ".join(tags)]
    if facts.negative:
        lines.append(f"Negative prompt: {facts.negative}")
    lines.append(", ".join(f"{key}: {quoted(value)}" for key, value in _pairs(facts).items()))
    return "\n".join(lines)


def _pairs(facts: Facts) -> dict[str, str]:
    karras = facts.sampler.endswith(" Karras")
    pairs = {"Steps": str(facts.steps), "Sampler": facts.sampler.removesuffix(" Karras")}
    if karras:
        pairs["Schedule type"] = "Karras"
    pairs |= {
        "CFG scale": number(facts.cfg),
        "Seed": str(facts.seed),
        "Size": f"{facts.size[1]}x{facts.size[0]}",
        "Model hash": facts.model_digest[:10],
        "Model": plain_name(facts.model),
    }
    if facts.clip_skip != 1:
        pairs["Clip skip"] = str(facts.clip_skip)
    if facts.loras and facts.strength:
        hashes = {plain_name(use.name): use.digest[:12] for use in facts.loras if use.digest}
        if hashes:
            pairs["Lora hashes"] = ", ".join(f"{name}: {value}" for name, value in hashes.items())
    return {**pairs, **facts.extra, "Version": f"loratools {__version__}"}


def quoted(value: str) -> str:
    """``value`` as a JSON string if the WebUI's reader would split it."""
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ',:\n"') else value


def plain_name(name: str) -> str:
    """A model's name without the characters that separate things in a prompt tag."""
    return name.translate({ord(mark): None for mark in ":,<>"}).strip()


def number(value: float) -> str:
    """``0.3`` for 0.1 + 0.2, ``1`` for 1.0: ten significant digits, no trailing zeros."""
    return f"{value + 0.0:.10g}"


def write_png(image: Image, path: Path, parameters: str, made: Mapping[str, Any] | None = None) -> None:
    """Save ``image`` with its ``parameters`` and, as compact JSON, what made it; whole or not at all."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", parameters)
    if made is not None:
        info.add_text(KEY, json.dumps(made, ensure_ascii=False, separators=(",", ":")))
    with replacing(path) as part:
        image.save(part, format="PNG", pnginfo=info)


def read_png(path: Path) -> tuple[str, dict[str, Any]]:
    """The ``parameters`` text and our JSON of a picture; empty ones where there are none or the file is damaged."""
    from PIL import Image as images

    try:
        with images.open(path) as image:
            text = dict(getattr(image, "text", {}))
        made = json.loads(text.get(KEY, "{}"))
    except (OSError, ValueError, SyntaxError):
        return "", {}
    return str(text.get("parameters", "")), made if isinstance(made, dict) else {}
