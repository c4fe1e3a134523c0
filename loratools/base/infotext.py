"""The text inside a PNG: the WebUI's ``parameters``, which it reads back, and our own JSON in a chunk beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.base.sampling.noise_kinds import NOISE_KINDS, OWN, RNG, kind_of
from loratools.base.sampling.samplers import split_name
from loratools.blocks import tokens
from loratools.files import replacing, utf8_text
from loratools.version import __version__

if TYPE_CHECKING:
    from PIL.Image import Image

KEY = "loratools"  # the PNG text chunk with our JSON; the WebUI's is ``parameters``
_PAIR = re.compile(r'\s*(\w[\w /-]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_LEAST_PAIRS = 3  # a last line with fewer is a line of the prompt
_NOISE = "Noise"  # a key of ours: the kind of noise, where it is not our own kind
_NEGATIVE = "Negative prompt:"


@dataclass(frozen=True)
class LoraUse:
    """One LoRA of a stack as a prompt names it: ``<lora:NAME:WEIGHT:lbw=VECTOR>``.

    ``digest`` is the sha256 of the file's tensors, without the header; ``vector`` is the resolved block vector as text,
    empty where there is none; ``te`` and ``unet`` multiply ``weight``.
    """

    name: str
    digest: str
    weight: float = 1.0
    vector: str = ""
    te: float = 1.0
    unet: float = 1.0

    def tag(self, strength: float = 1.0) -> str:
        """The prompt tag at ``strength`` times these weights; names lose ``:`` and ``,``, as in the WebUI."""
        text, unet = number(strength * self.weight * self.te), number(strength * self.weight * self.unet)
        weights = text if text == unet else f"te={text}:unet={unet}"
        vector = f":lbw={self.vector}" if self.vector else ""
        return f"<lora:{plain_name(self.name)}:{weights}{vector}>"


@dataclass(frozen=True)
class PictureInfo:
    """Everything that determines a picture; ``size`` is (height, width) in pixels, ``strength`` multiplies every LoRA.

    ``noise`` is a kind of :mod:`loratools.base.sampling.noise`; ``embeddings`` are the names that the prompts use,
    with the sha256 of their files.
    """

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
    noise: str = OWN
    embeddings: Sequence[tuple[str, str]] = ()
    extra: Mapping[str, str] = field(default_factory=dict)


def infotext(info: PictureInfo) -> str:
    """The WebUI's text of three parts: the prompt with its LoRA tags, the negative prompt, and ``Key: value`` pairs."""
    tags = [use.tag(info.strength) for use in info.loras] if info.strength else []
    separator = "" if not info.prompt or not tags else " " if info.prompt.endswith(",") else ", "
    lines = [info.prompt + separator + (", " if info.prompt else " ").join(tags)]
    if info.negative:
        lines.append(f"Negative prompt: {info.negative}")
    lines.append(", ".join(f"{key}: {quoted(value)}" for key, value in _pairs(info).items()))
    return "\n".join(lines)


def _pairs(info: PictureInfo) -> dict[str, str]:
    sampler, schedule = split_name(info.sampler)
    pairs = {"Steps": str(info.steps), "Sampler": sampler}
    if schedule:
        pairs["Schedule type"] = schedule
    pairs |= {
        "CFG scale": number(info.cfg),
        "Seed": str(info.seed),
        "Size": f"{info.size[1]}x{info.size[0]}",
        "Model hash": info.model_digest[:10],
        "Model": plain_name(info.model),
    }
    if info.clip_skip != 1:
        pairs["Clip skip"] = str(info.clip_skip)
    pairs["RNG"] = RNG[info.noise]
    if info.noise != OWN:
        pairs[_NOISE] = info.noise
    if info.loras and info.strength:
        hashes = {plain_name(use.name): use.digest[:12] for use in info.loras if use.digest}
        if hashes:
            pairs["Lora hashes"] = _listed(hashes)
    if info.embeddings:
        pairs["TI hashes"] = _listed({plain_name(name): digest[:12] for name, digest in info.embeddings})
    return {**pairs, **info.extra, "Version": f"loratools {__version__}"}


def _listed(hashes: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in hashes.items())


@dataclass(frozen=True)
class Parameters:
    """What the WebUI reads in a picture's text: both prompts, and the last line's pairs as they are written."""

    prompt: str
    negative: str
    pairs: Mapping[str, str]

    def hashes(self, key: str) -> dict[str, str]:
        """The names and hashes of ``Lora hashes`` or ``TI hashes``; empty without them."""
        items = (item.rpartition(":") for item in self.pairs.get(key, "").split(","))
        return {name.strip(): value.strip() for name, _, value in items if name.strip()}

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) in pixels; None where the text does not give it."""
        match = re.fullmatch(r"(\d+)x(\d+)", self.pairs.get("Size", ""))
        return (int(match[2]), int(match[1])) if match else None

    @property
    def clip_skip(self) -> int:
        """1 where the text does not give it."""
        text = self.pairs.get("Clip skip", "1")
        return int(text) if text.isdecimal() else 1

    @property
    def noise(self) -> str:
        """The kind of noise: our own for our pictures; for the WebUI's that of ``RNG``, which is a GPU's by default."""
        if self.pairs.get(_NOISE) in NOISE_KINDS:
            return self.pairs[_NOISE]
        return OWN if self.pairs.get("Version", "").startswith("loratools") else kind_of(self.pairs.get("RNG"))


def parameters(text: str) -> Parameters:
    """Parse ``text`` by the WebUI's rules; no text is an error.

    The last line holds the pairs if it has three or more of them, and else is a line of the prompt; what follows
    ``Negative prompt:`` at the start of a line is the negative prompt.
    """
    *lines, last = text.strip().split("\n")
    pairs = read_pairs(last)
    if len(pairs) < _LEAST_PAIRS:
        lines, pairs = [*lines, last], {}
    return Parameters(*prompt_sides(lines), pairs)


def read_pairs(line: str) -> dict[str, str]:
    """The pairs in a line of ``Key: value``; values in double quotes are JSON strings."""
    return {key: _unquoted(value) for key, value in _PAIR.findall(line)}


def prompt_sides(lines: Iterable[str]) -> tuple[str, str]:
    """The prompt, and the negative prompt that follows ``Negative prompt:`` at the start of a line."""
    sides: tuple[list[str], list[str]] = [], []
    negative = False
    for line in map(str.strip, lines):
        if line.startswith(_NEGATIVE):
            negative, line = True, line.removeprefix(_NEGATIVE).strip()
        if line or sides[negative]:
            sides[negative].append(line)
    return "\n".join(sides[0]), "\n".join(sides[1])


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value


def quoted(value: str) -> str:
    """``value`` as a JSON string if the WebUI's reader would split it."""
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ',:\n"') else value


def plain_name(name: str) -> str:
    """A model's name without the characters that separate things in a prompt tag."""
    return name.translate({ord(mark): None for mark in ":,<>"}).strip()


def number(value: float) -> str:
    """``0.3`` for 0.1 + 0.2, ``1`` for 1.0: ten significant digits, no trailing zeros."""
    return tokens.number(value, 10)


def write_png(image: Image, path: Path, parameters: str, made: Mapping[str, Any] | None = None) -> None:
    """Save ``image`` with its ``parameters`` and, as compact JSON, what made it; whole or not at all."""
    from PIL.PngImagePlugin import PngInfo

    from loratools.imaging.png import FAST

    info = PngInfo()
    info.add_text("parameters", utf8_text(parameters))
    if made is not None:
        info.add_text(KEY, utf8_text(json.dumps(made, ensure_ascii=False, separators=(",", ":"))))
    with replacing(path) as part:
        image.save(part, format="PNG", pnginfo=info, **FAST)


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
