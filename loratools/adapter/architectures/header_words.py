"""Which model a LoRA file's header names: the words that trainers write, for every model that they are known to write.

A file's header is the only thing that tells some models apart (Flux.1's and Chroma's blocks have the same names and
shapes). A family's words stand in its declaration; those of models without a table keep their files from being taken
for another model's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from loratools.adapter.architectures.family import Model
from loratools.adapter.architectures.known_families import FAMILIES

COMPONENTS = "loratools_components"  # the entry of a whole model that a full training wrote: what was trained of it
MODEL = "loratools_model"  # header entry: which model a file is for, where the names' own family would not say it
UNCERTAIN = "flux or another model of these names"


# Models that headers name and that have no table of module names here.
_WITHOUT_TABLE = (
    Model("flux3", "Flux.3", ("flux3",)),
    Model("hidream-o1", "HiDream-O1", ("hidreamo1",)),
    Model("kandinsky-5", "Kandinsky 5", ("kandinsky5",)),
    Model("ltx-video", "LTX-Video", ("ltx",)),
    Model("minimax-h3", "MiniMax H3", ("minimaxh3",)),
    Model("omnigen-2", "OmniGen2", ("omnigen2",)),
    Model("longcat-image", "LongCat-Image", ("longcat",)),
    Model("bria", "Bria", ("bria", "fibo")),
    Model("ovis-image", "Ovis-Image", ("ovis",)),
    Model("kolors", "Kolors", ("kolors",)),
)
# Of two words that fit, the longer one counts: 'flux2klein4b' before 'flux2'.
MODELS = (*(model for family in FAMILIES.values() for model in family.models), *_WITHOUT_TABLE)
_BY_WORD = sorted(((word, model) for model in MODELS for word in model.words), key=lambda item: -len(item[0]))
_BY_NAME = {model.name: model for model in MODELS}
_FAMILY_OF_SIZE = {size.name: family.name for family in FAMILIES.values() for size in family.sizes}

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
    """Whether two models' names may mean one model: the same, or a size of a family and the family without a size."""
    return one in (other, _FAMILY_OF_SIZE.get(other)) or other == _FAMILY_OF_SIZE.get(one)


def states_another(metadata: Mapping[str, str]) -> bool:
    """Whether a header names a model in words that are not known here."""
    texts = [metadata.get(entry, "") for entry in ENTRIES]
    return any(text not in ("", "None", UNCERTAIN) and model_in(text) is None for text in texts)


def _closeness(model: Model, others: list[Model]) -> int:
    """How much closer than the others a model is told: ``flux2-klein-4b`` is a ``flux2``; the first of equals wins."""
    return sum(model.name.startswith(other.name) for other in others)
