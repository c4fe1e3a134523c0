"""The WebUI's generation parameters as a recipe: the LoRA tags are a merge, and the picture is a grid.

The grid has one cell, or the axes of the X/Y/Z plot that the text tells of. Where the plot changes the tags themselves,
they stay in the prompt and there is no merge.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from loratools.blocks.tokens import clip
from loratools.blocks.webui_tag import edit_tags, has_tag, take_tags
from loratools.errors import BlockError, FormatError, LoratoolsError
from loratools.recipe.importers.model import (
    Imported,
    imported_recipe,
    preset_notes,
    term_name,
    unknown_base,
    unknown_presets,
)
from loratools.recipe.importers.xyz_plot import Plot, is_plot_key, read_plot

if TYPE_CHECKING:
    from loratools.base.infotext import Parameters
    from loratools.blocks.webui_tag import LoraTag

_LAST = re.compile(r"^Steps: \d+", re.MULTILINE)
_LAST_INSIDE = re.compile(r"[ \t]+(?=Steps: \d+, \w[\w /]*: )")
_NEGATIVE_INSIDE = re.compile(r"[ \t]+(?=Negative prompt: )")
_JSON_VALUE = re.compile(r"(?:^|, )[A-Z][\w /-]*: (?=[\[{])")
_HYPERNETWORK = re.compile(r"<hypernet(?:work)?:[^<>]*>", re.IGNORECASE)
_WINDOW = re.compile(r":(?:start|stop|step|dyn)=[^:<>]*", re.IGNORECASE)
_QUIET = (
    "Model",
    "Model hash",
    "Version",
    "Lora hashes",
    "Schedule type",
    "Size",
    "TI hashes",
    "VAE",
    "VAE hash",
    "RNG",
    "Noise",
)  # read elsewhere, or of no effect
_VARIED = {"seed": "seeds", "clip skip": "clip_skip"}  # kinds of axes whose option is called otherwise
_EMBEDDINGS = "embeddings"  # the folder that a recipe names for them


def is_infotext(text: str) -> bool:
    """Whether ``text`` is generation parameters, or a prompt that names a LoRA."""
    return has_tag(text) or _LAST.search(_lines(text)) is not None


def from_infotext(text: str, base: str | None, source: str = "the text") -> Imported:
    """A recipe of generation parameters, or of a prompt alone.

    Args:
        base: the base model to name; the picture's own if None.
        source: what the text was read from, for messages.
    Raises:
        BlockError: for a LoRA tag that cannot be read.
        FormatError: without a LoRA tag and a plot's axes, since nothing would differ from the base.
    """
    read, others = _without_hypernetworks(split(text))
    plot = read_plot(read.pairs, lambda sampler, schedule: _sampler(sampler, schedule, read.pairs))
    if not has_tag(read.prompt) and not plot.axes:
        raise FormatError(f"{source} holds generation parameters without a LoRA tag such as <lora:NAME:1>")
    notes = [
        f"{tag} stands in the negative prompt, where it changes nothing; it is left out"
        for tag in take_tags(read.negative)[1]
    ]
    notes += [f"{tag} is a hypernetwork, which a recipe has no place for; it is left out" for tag in others]
    prompt, steps = _prompt_and_merge(read.prompt, plot, notes)
    grid: dict[str, Any] = {"rows": ["final"]} if steps else {}
    grid |= plot.axes
    grid |= {} if plot.axes else {"weights": 1}
    grid |= {"prompts": [prompt], **({"negative": _plain(read.negative)} if _plain(read.negative) else {})}
    grid |= _sampling(read, plot, notes)
    notes += plot.notes
    grid |= _embeddings(read, notes)
    steps["picture"] = {"grid": grid}
    unknown = unknown_presets(_vector_names(read.prompt, plot), {})
    notes = [*preset_notes(unknown), *notes, *_file_notes(read, base)]
    model = base or _model(read) or unknown_base(read.pairs.get("Model hash"))
    return imported_recipe("generation parameters", steps, model, notes, unknown=unknown)


def _without_hypernetworks(read: Parameters) -> tuple[Parameters, list[str]]:
    """The parameters without the tags of hypernetworks, which would be drawn as words, and these tags."""
    prompts = [_HYPERNETWORK.sub("", prompt) for prompt in (read.prompt, read.negative)]
    return replace(read, prompt=prompts[0], negative=prompts[1]), _HYPERNETWORK.findall(
        f"{read.prompt}\n{read.negative}"
    )


def split(text: str) -> Parameters:
    """The prompt, the negative prompt, and the ``Key: value`` pairs from the line on that begins with ``Steps:``.

    Lines that a chat or a form has joined are parted again, and lists in JSON, which Civitai writes among the pairs
    without quotes, are values of their own.
    """
    from loratools.base.infotext import Parameters, parameters, prompt_sides, read_pairs

    text = _lines(text)
    matches = list(_LAST.finditer(text))
    if not matches:
        read = parameters(text) if text else Parameters("", "", {})
        return Parameters(read.prompt.strip(), read.negative.strip(), read.pairs)
    head, tail = text[: matches[-1].start()], text[matches[-1].start() :]
    prompt, negative = prompt_sides(head.split("\n"))
    return Parameters(prompt.strip(), negative.strip(), read_pairs(_quoted_json(" ".join(tail.split("\n")))))


def _lines(text: str) -> str:
    """``text`` with the negative prompt and the settings at the start of a line."""
    text = _NEGATIVE_INSIDE.sub("\n", text.replace("\r\n", "\n").strip())
    return text if _LAST.search(text) else _LAST_INSIDE.sub("\n", text)


def _quoted_json(line: str) -> str:
    """``line`` with its bare JSON lists and objects as quoted values."""
    done, rest = "", line
    while match := _JSON_VALUE.search(rest):
        done, rest = done + rest[: match.end()], rest[match.end() :]
        try:
            _, end = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            continue
        done, rest = done + json.dumps(rest[:end], ensure_ascii=False), rest[end:]
    return done + rest


def _prompt_and_merge(prompt: str, plot: Plot, notes: list[str]) -> tuple[str, dict[str, dict[str, Any]]]:
    """The grid's prompt, and the merge of the tags in it, if there are some that no axis changes."""
    plain = _plain(prompt)
    changed = any(values[0] not in plain or any(map(has_tag, values)) for values in plot.replacements)
    if changed and has_tag(prompt):
        return edit_tags(prompt, lambda tag: _lasting(tag, notes)), {}
    terms = [_term(tag, notes) for tag in take_tags(prompt)[1]]
    return plain or "1girl", {"final": {"merge": ", ".join(terms)}} if terms else {}


def _plain(prompt: str) -> str:
    """The prompt without its tags, and without the commas that they leave."""
    parts = [" ".join(part.split()) for part in edit_tags(prompt, lambda _: "").split(",")]
    return ", ".join(part for part in parts if part)


def _lasting(tag: str, notes: list[str]) -> str:
    """The tag without what no file can hold, with a note on each."""
    notes += [f"'{lost[1:]}' of {tag} is no property of a file and is left out" for lost in _WINDOW.findall(tag)]
    return _WINDOW.sub("", tag)


def _term(text: str, notes: list[str]) -> str:
    """A tag as a term."""
    shown = _lasting(text, notes)
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


def _vector_names(prompt: str, plot: Plot) -> list[str]:
    """The names of vectors in tags, those too that the plot puts there; but none that it replaces."""
    tags = list(take_tags(prompt)[1])
    for first, *others in plot.replacements:
        tags += [tag.replace(first, other) for tag in tags if first in tag for other in others]
    replaced = {values[0] for values in plot.replacements if len(values) > 1}
    names = (_vector_name(tag) for tag in dict.fromkeys(tags))
    return [name for name in names if name is not None and name not in replaced]


def _vector_name(tag: str) -> str | None:
    """The preset's name in ``lbw=NAME``, which stays a name in the recipe; numbers are none."""
    match = re.search(r"(?i):(?:lbw|w)=(?P<name>[^:<>,=()]+)(?=[:>])", tag)
    return match["name"].strip() if match and not re.fullmatch(r"[-\d.\s]+", match["name"]) else None


def _sampling(read: Parameters, plot: Plot, notes: list[str]) -> dict[str, Any]:
    """The options that say how pictures are sampled, but for those that an axis varies; notes on all else."""
    from loratools.base.sampling.noise_kinds import OWN

    pairs = read.pairs
    readers: dict[str, tuple[str, Callable[[str], Any]]] = {
        "Steps": ("steps", int),
        "CFG scale": ("cfg", float),
        "Seed": ("seeds", int),
        "Clip skip": ("clip_skip", int),
        "Size": ("size", _size),
        "Sampler": ("sampler", lambda text: _sampler(text, None, pairs)),
    }
    varied = {_VARIED.get(kind, kind) for kind in plot.kinds}
    settings: dict[str, Any] = {}
    for key, value in pairs.items():
        if key in readers:
            name, option = readers[key]
            try:
                settings |= {} if name in varied else {name: option(value)}
            except (ValueError, LoratoolsError) as error:
                notes.append(f"'{key}: {clip(value)}' is left out: {error}")
        elif key not in _QUIET and not is_plot_key(key, value):
            notes.append(f"'{key}: {clip(value)}' has no place in a recipe and is left out")
    return {**settings, **({"noise": read.noise} if "Seed" in pairs and read.noise != OWN else {})}


def _embeddings(read: Parameters, notes: list[str]) -> dict[str, str]:
    """The folder of the embeddings that the prompts name; without it they would be drawn as words."""
    names = ", ".join(read.hashes("TI hashes"))
    if not names:
        return {}
    notes.append(f"the prompts name embeddings: put {names} into the folder `{_EMBEDDINGS}` beside the recipe")
    return {"embeddings": _EMBEDDINGS}


def _file_notes(read: Parameters, base: str | None) -> Iterable[str]:
    """Which files the picture was made with, as far as a person has to find them."""
    pairs, digest = read.pairs, read.pairs.get("Model hash")
    if base is None and (model := _model(read)) is not None:
        hashed = f" (hash {digest})" if digest else ""
        yield f"the picture was made with the model {model}{hashed}; name that base's file at `base:`"
    elif base is None:
        described = f"a model of the hash {digest}" if digest else "a model that it does not name"
        yield f"the picture was made with {described}; name that base's file at `base:`"
    if pairs.get("VAE") not in (None, "None", "Automatic"):
        yield f"the picture was decoded with the VAE {pairs['VAE']}; name its file at `vae:`"
    if hashes := read.hashes("Lora hashes"):
        listed = ", ".join(f"{name} {value}" for name, value in hashes.items())
        yield f"LoRAs are found by their names; the picture's had the hashes {listed}"


def _model(read: Parameters) -> str | None:
    """The model's name, which stands at ``base:`` until a person puts its file there."""
    name = read.pairs.get("Model", "").strip()
    return name or None


def _size(text: str) -> str:
    if not re.fullmatch(r"\d+x\d+", text):
        raise BlockError(f"'{text}' is no size such as 512x768")
    return text


def _sampler(text: str, schedule: str | None, parameters: Mapping[str, str]) -> str:
    """The sampler's full name; in our own pictures both settings are meant as they stand.

    Args:
        text: the sampler; empty for the picture's own.
        schedule: the schedule type; None for the picture's own.
    """
    from loratools.base.sampling.samplers import find_sampler, from_webui

    text = text or parameters.get("Sampler", "")
    schedule = parameters.get("Schedule type", "") if schedule is None else schedule
    if parameters.get("Version", "").startswith("loratools"):
        return find_sampler(f"{text} {schedule}").name
    return from_webui(text, schedule).name
