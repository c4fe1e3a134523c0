"""Which model a LoRA file's header names: the words that trainers write, for every model that they are known to write.

A file's header is the only thing that tells some models apart (Flux.1 and Chroma have the same names and shapes). Most
of these models have no table of module names here; the words keep their files from being taken for another model's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

MODEL = "loratools_model"  # header entry: which model a file is for, where the names' own family would not say it
UNCERTAIN = "flux or another model of these names"


@dataclass(frozen=True)
class Model:
    """A model that headers name.

    Args:
        name: a key of ``FAMILIES`` where the model has a table of its own; else a name for comparing.
        title: what messages call it.
        words: how its entries begin, in lower case without separators.
    """

    name: str
    title: str
    words: tuple[str, ...]


# Of two words that fit, the longer one counts: 'flux2klein4b' before 'flux2'.
MODELS = (
    Model("sd1", "Stable Diffusion 1", ("sdv1", "sd1", "stablediffusionv1")),
    Model("sd2", "Stable Diffusion 2", ("sdv2", "sd2", "stablediffusionv2")),
    Model("sdxl", "Stable Diffusion XL", ("sdxl", "stablediffusionxl")),
    Model("sd3", "Stable Diffusion 3", ("sd3", "stablediffusion3", "stablediffusionv3")),
    Model("flux", "Flux.1", ("flux1", "fluxdev", "fluxschnell", "fluxkontext", "fluxkrea", "fluxfill")),
    Model("flux2", "Flux.2", ("flux2",)),
    Model("flux2-dev", "Flux.2 dev", ("flux2dev",)),
    Model("flux2-klein-4b", "Flux.2 klein 4B", ("flux2klein4b", "flux2kleinbase4b")),
    Model("flux2-klein-9b", "Flux.2 klein 9B", ("flux2klein9b", "flux2kleinbase9b")),
    Model("flux3", "Flux.3", ("flux3",)),
    Model("chroma", "Chroma", ("chroma",)),
    Model("qwen-image", "Qwen-Image", ("qwenimage",)),
    Model("z-image", "Z-Image", ("zimage",)),
    Model("lumina-2", "Lumina 2", ("lumina2", "netalumina", "netayume")),
    Model("anima", "Anima", ("anima",)),
    Model("hunyuan-image", "HunyuanImage", ("hunyuanimage",)),
    Model("hunyuan-video", "HunyuanVideo", ("hunyuanvideo", "framepack")),
    Model("hunyuan-video-1.5", "HunyuanVideo 1.5", ("hunyuanvideo15",)),
    Model("wan", "Wan", ("wan",)),
    Model("hidream-i1", "HiDream-I1", ("hidream",)),
    Model("hidream-o1", "HiDream-O1", ("hidreamo1",)),
    Model("krea-2", "Krea 2", ("krea2",)),
    Model("ideogram-4", "Ideogram 4", ("ideogram4",)),
    Model("kandinsky-5", "Kandinsky 5", ("kandinsky5",)),
    Model("ltx", "LTX", ("ltx",)),
    Model("minimax-h3", "MiniMax H3", ("minimaxh3",)),
    Model("omnigen-2", "OmniGen2", ("omnigen2",)),
    Model("longcat-image", "LongCat-Image", ("longcat",)),
    Model("bria", "Bria", ("bria", "fibo")),
    Model("ovis-image", "Ovis-Image", ("ovis",)),
    Model("auraflow", "AuraFlow", ("auraflow", "ponyv7")),
    Model("cosmos-predict2", "Cosmos-Predict2", ("cosmos",)),
    Model("pixart", "PixArt", ("pixart",)),
    Model("sana", "Sana", ("sana",)),
    Model("kolors", "Kolors", ("kolors",)),
    Model("ernie-image", "ERNIE-Image", ("ernie",)),
)
_BY_WORD = sorted(((word, model) for model in MODELS for word in model.words), key=lambda item: -len(item[0]))
_BY_NAME = {model.name: model for model in MODELS}

# The first that names a model counts, but for Flux.1, whose words are also what trainers write by default.
ENTRIES = (MODEL, "ss_base_model_version", "modelspec.architecture")


def model_named(name: str) -> Model:
    """The model of that ``name``."""
    return _BY_NAME[name]


def model_in(text: str) -> Model | None:
    """The model that one header entry names, such as ``Flux.2-klein-4b/lora``; None where it names none of these."""
    plain = re.sub(r"[^a-z0-9]", "", text.lower().removesuffix("/lora"))
    if plain == "flux":
        return _BY_NAME["flux"]
    return next((model for word, model in _BY_WORD if plain.startswith(word)), None)


def stated_model(metadata: Mapping[str, str]) -> Model | None:
    """The model that a header names, or None where it names none, or one that is not known here."""
    named = [model for entry in ENTRIES if (model := model_in(metadata.get(entry, ""))) is not None]
    others = [model for model in named if model.name != "flux"]
    return max(others, key=lambda model: _closeness(model, others), default=named[0] if named else None)


def may_be_same(one: str, other: str) -> bool:
    """Whether two models' names may mean one model: the same, or one of Flux.2's sizes and Flux.2 without a size."""
    return one == other or ("flux2" in (one, other) and one.startswith("flux2") and other.startswith("flux2"))


def states_another(metadata: Mapping[str, str]) -> bool:
    """Whether a header names a model in words that are not known here."""
    texts = [metadata.get(entry, "") for entry in ENTRIES]
    return any(text not in ("", "None", UNCERTAIN) and model_in(text) is None for text in texts)


def _closeness(model: Model, others: list[Model]) -> int:
    """How much closer than the others a model is told: ``flux2-klein-4b`` is a ``flux2``; the first of equals wins."""
    return sum(model.name.startswith(other.name) for other in others)
