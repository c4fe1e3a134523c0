"""A module's path without what differs between writers: the namespace, wrappers and the separators.

``lora_unet_layers_0_attention_to_q``, ``diffusion_model.layers.0.attention.to_q`` and ``transformer.base_model.model.
layers.0.attention.to_q`` are one module. Files for models that no table knows are compared by this, and block names of
such models are taken from it. Strings alone: nothing of a model is known here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

NETWORK = ""  # the component of the modules that belong to no text encoder

_WRAPPER = re.compile(r"(?:module|_orig_mod|base_model\.model)\.")
_NETWORK = re.compile(r"(?:model\.diffusion_model|diffusion_model|transformer|unet|net|model)\.")
_FLAT_NETWORK = re.compile(r"(?:lora_unet|lora_transformer|lycoris_unet|lycoris(?!_text_))_(?P<more>_*)")
_FLAT_TEXT = re.compile(r"(?:lora_te(?P<number>\d*)|lycoris(?=_text_))_(?:model_)?")
_TEXT = re.compile(
    r"(?:text_encoder(?:_(?P<number>\d+))?"
    r"|text_encoders\.(?P<bundle>[^.]+)(?:\.transformer)?"
    r"|(?P<name>clip_l|clip_g|clip_h|t5xxl)(?:\.transformer)?"
    r"|conditioner\.embedders\.(?P<embedder>\d+)\.(?:transformer|model)"
    r"|cond_stage_model\.(?:transformer|model))\."
)
_LANGUAGE_MODEL = re.compile(r"model\.")  # transformers' language models keep their layers below this
_BUNDLES = {"clip_g": "2", "t5xxl": "3"}
_WORDS_AROUND_NUMBER = re.compile(r"(?P<container>[^\W\d]\w*?)_(?P<number>\d{1,4})(?=_|$)")


@dataclass(frozen=True)
class ModulePath:
    """A module's name in its parts, which together are the name.

    Attributes:
        component: ``NETWORK``, or ``text_encoder``, ``text_encoder_2`` and so on.
        namespace: all that stands before the path, as it is spelled, with its separator.
        word: the part of ``namespace`` that names the component, without wrappers and doublings; it may be empty.
        path: the path below it, as it is spelled.
        flat: whether ``path`` has underscores where the network has dots.
    """

    component: str
    namespace: str
    word: str
    path: str
    flat: bool

    @property
    def normal(self) -> str:
        """What is the same however the module is spelled: the component, and the path with underscores."""
        return f"{self.component}:{self.path.replace('.', '_')}"

    @property
    def unwrapped(self) -> str:
        """The name without wrappers, and with its component named once."""
        return f"{self.word}{self.path}"


@lru_cache(maxsize=1 << 16)
def split_path(name: str) -> ModulePath:
    """A module's (or parameter's) name in its parts."""
    if match := _FLAT_TEXT.match(name):
        path = name[match.end() :]
        return ModulePath(_text_component(match["number"] or ""), match[0], match[0], path, flat=True)
    if match := _FLAT_NETWORK.match(name):
        word = match[0].removesuffix(match["more"])
        return ModulePath(NETWORK, match[0], word, name[match.end() :], flat=True)
    component, word, rest = NETWORK, "", name
    while (length := _namespace_length(component, word, rest)) or (not word and _TEXT.match(rest)):
        if not length:
            component, length = _text_start(rest)
        if not _WRAPPER.match(rest):
            word = word or rest[:length]
        rest = rest[length:]
    if not word and rest.startswith("text_model."):
        component = _text_component("")
    return ModulePath(component, name[: len(name) - len(rest)], word, rest, flat=False)


def _namespace_length(component: str, word: str, rest: str) -> int:
    """How many characters at the start of ``rest`` are a wrapper, or say once more which component it is."""
    if match := _WRAPPER.match(rest):
        return match.end()
    if component == NETWORK:
        return match.end() if (match := _NETWORK.match(rest)) else 0
    if rest.startswith(word):
        return len(word)
    return match.end() if (match := _LANGUAGE_MODEL.match(rest)) else 0


def _text_start(rest: str) -> tuple[str, int]:
    """The text encoder that the start of ``rest`` names, and how many characters name it."""
    match = _TEXT.match(rest)
    if match is None:
        return NETWORK, 0
    number = match["number"] or ""
    if match["embedder"] is not None:
        number = str(int(match["embedder"]) + 1)
    return _text_component(number or _BUNDLES.get(match["bundle"] or match["name"] or "", "")), match.end()


def normal_path(name: str) -> str:
    """What two spellings of one module share."""
    return split_path(name).normal


def is_text(name: str) -> bool:
    """Whether a module belongs to a text encoder, by its name in any spelling."""
    return split_path(name).component != NETWORK


def numbered_container(name: str) -> tuple[str, int] | None:
    """The first number of a module's path, and the words before it: ``("layers", 3)``; None where nothing is numbered.

    They are lower-case with underscores, so that every spelling of a module gives the same.
    """
    numbered = numbered_path(name)
    return numbered[:2] if numbered else None


def numbered_path(name: str) -> tuple[str, int, str] | None:
    """As :func:`numbered_container`, with what follows the number, in its own case and with underscores."""
    path = split_path(name).path.replace(".", "_")
    match = _WORDS_AROUND_NUMBER.match(path)
    return (match["container"].lower(), int(match["number"]), path[match.end() :].strip("_")) if match else None


def _text_component(number: str) -> str:
    return "text_encoder" if number in ("", "1") else f"text_encoder_{number}"
