"""The WebUI's generation parameters as a recipe: the LoRA tags are a merge, and the picture is a grid of one cell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from loratools.errors import BlockError, LoratoolsError
from loratools.recipe.importers.model import Imported, imported_recipe, preset_notes, term_name, unknown_presets

if TYPE_CHECKING:
    from loratools.blocks.webui_tag import LoraTag

_TAGS = re.compile(r"<(?:lora|lyco):[^<>]*>", re.IGNORECASE)
_PAIR = re.compile(r"\s*(?P<key>[A-Za-z][\w /-]*?):\s*(?P<value>\"(?:[^\"\\]|\\.)*\"|[^,]*)(?:,|\Z)")
_LAST = re.compile(r"^Steps: \d+", re.MULTILINE)
_NEGATIVE = "Negative prompt:"
_WINDOW = re.compile(r":(?:start|stop|step|dyn)=[^:<>]*", re.IGNORECASE)
_QUIET = (
    "Model",
    "Model hash",
    "Version",
    "Lora hashes",
    "Schedule type",
    "Size",
    "TI hashes",
    "VAE hash",
    "RNG",
    "Noise",
)


def from_infotext(text: str, base: str | None) -> Imported:
    """A recipe of generation parameters, or of a prompt alone.

    Raises:
        BlockError: for a LoRA tag that cannot be read.
    """
    prompt, negative, parameters = split(text)
    notes: list[str] = []
    tags = [_tag(tag, notes) for tag in _TAGS.findall(prompt)]
    notes += [
        f"{tag} stands in the negative prompt, where it changes nothing; it is left out"
        for tag in _TAGS.findall(negative)
    ]
    vectors = [vector for tag in _TAGS.findall(prompt) if (vector := _vector_name(tag)) is not None]
    unknown = unknown_presets(vectors, {})
    grid = {
        "rows": ["final"],
        "weights": 1,
        "prompts": [_plain(prompt) or "1girl"],
        **({"negative": _plain(negative)} if _plain(negative) else {}),
        **_sampling(parameters, notes),
    }
    if base is None and "Model" in parameters:
        notes.append(f"the picture was made with the model {parameters['Model']}; name that base's file at `base:`")
    steps: dict[str, dict[str, Any]] = {"final": {"merge": ", ".join(tags)}, "picture": {"grid": grid}}
    notes = [*preset_notes(unknown), *notes]
    return imported_recipe("generation parameters", steps, base, notes, unknown=unknown)


def split(text: str) -> tuple[str, str, dict[str, str]]:
    """The prompt, the negative prompt, and the ``Key: value`` pairs of the last line."""
    match = _LAST.search(text)
    head, tail = (text[: match.start()], text[match.start() :]) if match else (text, "")
    prompt, _, negative = head.partition(_NEGATIVE)
    pairs = {pair["key"]: _unquoted(pair["value"]) for pair in _PAIR.finditer(" ".join(tail.split("\n")))}
    return prompt.strip(), negative.strip(), pairs


def _unquoted(value: str) -> str:
    if value[:1] == '"':
        try:
            return str(json.loads(value))
        except ValueError:
            return value.strip('"')
    return value.strip()


def _plain(prompt: str) -> str:
    """The prompt without its tags, and without the commas that they leave."""
    parts = [" ".join(part.split()) for part in _TAGS.sub("", prompt).split(",")]
    return ", ".join(part for part in parts if part)


def _tag(text: str, notes: list[str]) -> str:
    """A tag as a term; what no file can hold is left out, with a note."""
    for lost in _WINDOW.findall(text):
        notes.append(f"'{lost[1:]}' of {text} is no property of a file and is left out")
    shown = _WINDOW.sub("", text)
    name = _vector_name(shown)
    without_vector = re.sub(r"(?i):(?:lbw|w)=[^:<>]*", "", shown) if name is not None else shown
    tag = _read(without_vector)
    vector = [name] if name is not None else [tag.vector.text()] if tag.vector is not None else []
    split = [] if tag.te == tag.unet else [f"te={tag.te:.10g}", f"unet={tag.unet:.10g}"]
    return ":".join([term_name(tag.name), "1" if split else f"{tag.unet:.10g}", *vector, *split])


def _read(text: str) -> LoraTag:
    from loratools.blocks.presets import load_presets
    from loratools.blocks.webui_tag import parse_tag

    return parse_tag(text, load_presets())


def _vector_name(tag: str) -> str | None:
    """The preset's name in ``lbw=NAME``, which stays a name in the recipe; numbers are none."""
    match = re.search(r"(?i):(?:lbw|w)=(?P<name>[^:<>,=()]+)(?=[:>])", tag)
    return match["name"].strip() if match and not re.fullmatch(r"[-\d.\s]+", match["name"]) else None


def _sampling(parameters: Mapping[str, str], notes: list[str]) -> dict[str, Any]:
    from loratools.base.infotext import Parameters
    from loratools.base.sampling.noise_kinds import OWN

    readers: dict[str, tuple[str, Callable[[str], Any]]] = {
        "Steps": ("steps", int),
        "CFG scale": ("cfg", float),
        "Seed": ("seeds", int),
        "Clip skip": ("clip_skip", int),
        "Size": ("size", _size),
        "Sampler": ("sampler", lambda text: _sampler(text, parameters)),
    }
    settings: dict[str, Any] = {}
    for key, value in parameters.items():
        if key in readers:
            name, read = readers[key]
            try:
                settings[name] = read(value)
            except (ValueError, LoratoolsError) as error:
                notes.append(f"'{key}: {value}' is left out: {error}")
        elif key not in _QUIET:
            notes.append(f"'{key}: {value}' has no place in a recipe and is left out")
    noise = Parameters("", "", parameters).noise
    return {**settings, **({"noise": noise} if "Seed" in parameters and noise != OWN else {})}


def _size(text: str) -> str:
    if not re.fullmatch(r"\d+x\d+", text):
        raise BlockError(f"'{text}' is no size such as 512x768")
    return text


def _sampler(text: str, parameters: Mapping[str, str]) -> str:
    """The sampler's full name; in our own pictures both settings are meant as they stand."""
    from loratools.base.sampling.samplers import find_sampler, from_webui

    schedule = parameters.get("Schedule type", "")
    if parameters.get("Version", "").startswith("loratools"):
        return find_sampler(f"{text} {schedule}").name
    return from_webui(text, schedule).name
