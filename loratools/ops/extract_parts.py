"""What a tuned model may differ in, by what a LoRA file can hold: layers, convolutions, norms, biases, the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from loratools.adapter.architectures.names import lora_targets, module_tree, other_tree
from loratools.errors import ShapeError

_MAX_TEXT_LAYERS = 64  # above any text encoder's
_NO_WEIGHTS = ("position_ids", "logit_scale")  # what some writers keep of a text encoder beside its weights


@dataclass(frozen=True)
class Take:
    """What is taken beside the layers that every LoRA changes: ``conv`` all other layers of the network (convolutions
    of any size, and those of the time step), ``norms`` normalisations, ``biases`` the biases of layers."""

    conv: bool = False
    norms: bool = False
    biases: bool = False

    def facts(self) -> dict[str, bool]:
        """As the header states it: ``conv`` always, the others where they are asked for."""
        return {"conv": self.conv, **{key: True for key in ("norms", "biases") if getattr(self, key)}}


LAYERS = Take()  # nothing beside the layers


@dataclass(frozen=True)
class Part:
    """Parameters of one kind: ``names`` as a LoRA file calls them, in their order.

    Attributes:
        title: in messages, for one and for several.
        option: the flag that takes them; empty where no LoRA file can hold them.
    """

    title: tuple[str, str]
    option: str
    names: list[str] = field(default_factory=list)

    def counted(self, count: int) -> str:
        """``3 norms``."""
        return f"{count} {self.title[count != 1]}"


@dataclass(frozen=True)
class Parts:
    """The parameters that two models share, each in one part, and ``unpaired``: those that only one of them has, or
    that have another shape in the other."""

    layers: Part
    conv: Part
    norms: Part
    biases: Part
    rest: Part
    unpaired: tuple[str, ...]

    def taken(self, take: Take) -> list[str]:
        """The names that ``take`` takes, sorted."""
        parts = [self.layers, *(part for part, asked in self._optional(take) if asked)]
        return sorted(name for part in parts for name in part.names)

    def left(self, take: Take) -> list[Part]:
        """The parts that it does not take."""
        return [part for part, asked in self._optional(take) if not asked] + [self.rest]

    def _optional(self, take: Take) -> list[tuple[Part, bool]]:
        return [(self.conv, take.conv), (self.norms, take.norms), (self.biases, take.biases)]


def parameter_of(name: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The parameter of a model that a name in a LoRA file changes."""
    return name if name in shapes else f"{name}.weight"


def parts_of_models(
    family: str,
    base: Mapping[str, tuple[int, ...]],
    tuned: Mapping[str, tuple[int, ...]],
    models: tuple[object, object],
) -> Parts:
    """Sort the parameters of two models, given by their shapes.

    Args:
        models: what messages call the two.
    Raises:
        ShapeError: if a layer that every LoRA changes is of another shape in the other model.
    """
    weights = [key.removesuffix(".weight") for key in base if key.endswith(".weight") and key in tuned]
    layers, parts = set(lora_targets(family, weights)), _empty()
    own = {module.name for module in (*module_tree(family, _MAX_TEXT_LAYERS), *other_tree(family, _MAX_TEXT_LAYERS))}
    embeddings = {module.name for module in other_tree(family, _MAX_TEXT_LAYERS) if module.kind == "embedding"}
    unpaired = [key for key in {*base} ^ {*tuned} if not key.endswith(_NO_WEIGHTS)]
    for key in base:
        if key not in tuned:
            continue
        module, _, kind = key.rpartition(".")
        one, other = base[key], tuned[key]
        if math.prod(one) != math.prod(other) or one[:1] != other[:1]:
            if module in layers and kind == "weight":
                raise ShapeError(
                    f"module {module} is {one} in {models[0]} and {other} in {models[1]}; "
                    "they are not one model before and after tuning"
                )
            unpaired.append(key)
        elif module not in own or module in embeddings or kind not in ("weight", "bias"):
            parts["rest"].names.append(key)
        elif len(base.get(f"{module}.weight", ())) == 1:
            parts["norms"].names.append(key)
        elif kind == "bias":
            parts["biases"].names.append(key)
        else:
            parts["layers" if module in layers else "conv"].names.append(module)
    return Parts(**parts, unpaired=tuple(sorted(unpaired)))


def parts_of_adapter(family: str, shapes: Mapping[str, tuple[int, ...]]) -> Parts:
    """Sort the modules of an adapter of full differences: all its layers count as taken, but no embedding, of which no
    program reads a LoRA."""
    others = other_tree(family, _MAX_TEXT_LAYERS)
    norms, embeddings = (
        {module.name for module in others if module.kind == "norm"},
        {module.name for module in others if module.kind == "embedding"},
    )
    parts = _empty()
    for name, shape in shapes.items():
        if name in embeddings:
            parts["rest"].names.append(name)
            continue
        module, _, kind = name.rpartition(".")
        norm = kind == "weight" or module in norms or f"{module}.weight" in shapes
        parts["layers" if len(shape) > 1 else "norms" if norm else "biases"].names.append(name)
    return Parts(**parts, unpaired=())


def _empty() -> dict[str, Part]:
    return {
        "layers": Part(("layer", "layers"), ""),
        "conv": Part(("convolution or other layer", "convolutions and other layers"), "--conv"),
        "norms": Part(("norm parameter", "norm parameters"), "--norms"),
        "biases": Part(("bias", "biases"), "--biases"),
        "rest": Part(("embedding or other parameter", "embeddings and other parameters"), ""),
    }


def listed(names: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
