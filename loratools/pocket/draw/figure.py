"""What is drawn: one tag for every attribute, a style, and the grade of every fault."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from loratools.errors import PocketError, did_you_mean
from loratools.pocket.draw.palette import CLOTHES, EYES, HAIR, SKIN
from loratools.pocket.draw.stylebook import STYLES

SUBJECT = "1girl"
FAULTS: tuple[str, ...] = ("hands", "limbs", "face", "clothes", "chaos")
GRADES = (0, 1, 2, 3)

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "framing": ("face_focus", "cowboy_shot", "full_body"),
    "hair_color": tuple(HAIR),
    "hair_style": ("short_hair", "long_hair", "twintails", "ponytail", "spiky_hair"),
    "eye_color": tuple(EYES),
    "skin": tuple(SKIN),
    "clothes_color": tuple(CLOTHES),
    "clothes": ("t-shirt", "dress", "hoodie", "sailor_collar"),
    "pose": ("arms_at_sides", "waving", "arms_up", "peace_sign", "spread_arms"),
    "expression": ("smile", "open_mouth", "frown", "surprised", "wink"),
    "accessory": ("no_accessory", "glasses", "hat", "hair_bow", "scarf", "cat_ears"),
    "background": ("simple_background", "grass", "starry_sky", "sunset", "indoors"),
}
UNTAGGED = frozenset({"no_accessory"})
RAISED = frozenset({"waving", "arms_up", "peace_sign"})
_HIDDEN_FAULTS: Mapping[str, frozenset[str]] = MappingProxyType({"face_focus": frozenset({"limbs", "clothes"})})


def unknown(kind: str, word: object, known: Iterable[str]) -> PocketError:
    """The error for a word that is not in a list: it names the nearest, and the whole list."""
    valid = list(known)
    return PocketError(f"unknown {kind} {word!r}{did_you_mean(str(word), valid)}; valid: {', '.join(valid)}.")


@dataclass(frozen=True)
class Figure:
    """One cartoon figure: a tag an attribute, a style's name and fault grades (missing = 0).

    Raises:
        PocketError: for a tag, style, fault or grade that does not exist.
    """

    framing: str
    hair_color: str
    hair_style: str
    eye_color: str
    skin: str
    clothes_color: str
    clothes: str
    pose: str
    expression: str
    accessory: str
    background: str
    style: str = "house"
    faults: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, values in ATTRIBUTES.items():
            if self.value(name) not in values:
                raise unknown(name, self.value(name), values)
        if self.style not in STYLES:
            raise unknown("style", self.style, STYLES)
        for fault, grade in self.faults.items():
            if fault not in FAULTS:
                raise unknown("fault", fault, FAULTS)
            if grade not in GRADES:
                raise PocketError(f"fault {fault!r} has grade {grade!r}; grades are 0 (none), 1, 2 and 3 (bad).")

    def value(self, attribute: str) -> str:
        """This figure's tag for an attribute."""
        if attribute not in ATTRIBUTES:
            raise unknown("attribute", attribute, ATTRIBUTES)
        return str(getattr(self, attribute))

    def grade(self, fault: str) -> int:
        """A fault's grade, 0..3."""
        return self.faults.get(fault, 0)

    def visible(self) -> frozenset[str]:
        """The attributes that this framing, pose and style really show."""
        hidden = set(STYLES[self.style].hides)
        if self.framing == "face_focus" and self.pose not in RAISED:
            hidden.add("pose")
        return frozenset(ATTRIBUTES) - hidden

    def visible_faults(self) -> tuple[str, ...]:
        """The faults that this framing and pose can show, in FAULTS' order."""
        hidden = set(_HIDDEN_FAULTS.get(self.framing, ()))
        if self.framing == "face_focus" and self.pose not in RAISED:
            hidden.add("hands")
        return tuple(fault for fault in FAULTS if fault not in hidden)

    def tags(self) -> tuple[str, ...]:
        """The caption: the style's tag where it has one, the subject, then what is visible in ATTRIBUTES' order."""
        style = STYLES[self.style].tag
        shown = self.visible()
        values = (self.value(name) for name in ATTRIBUTES if name in shown)
        return (*((style,) if style else ()), SUBJECT, *(value for value in values if value not in UNTAGGED))


def asked_tags(prompt: str) -> dict[str, str]:
    """The attributes that a prompt asks for, such as ``{"framing": "full_body"}``; other words count for nothing."""
    words = {word.strip().replace(" ", "_") for word in prompt.split(",")}
    return {name: tag for name, tags in ATTRIBUTES.items() for tag in tags if tag in words}


def random_figure(
    rng: random.Random, *, style: str = "house", faults: Mapping[str, int] | None = None, **fixed: str
) -> Figure:
    """A figure with every attribute drawn evenly from its tags, but for those that ``fixed`` names.

    Raises:
        PocketError: for an unknown attribute, tag, style, fault or grade.
    """
    for name in fixed:
        if name not in ATTRIBUTES:
            raise unknown("attribute", name, ATTRIBUTES)
    # every attribute takes its draw, fixed or not, so that fixing one leaves the others as they were
    drawn = {name: rng.choice(values) for name, values in ATTRIBUTES.items()}
    return Figure(**{**drawn, **fixed}, style=style, faults=dict(faults or {}))
