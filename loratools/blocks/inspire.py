"""ComfyUI Inspire-Pack's vectors: other orders than everybody's, asked for as ``inspire-20`` and so on.

Its LoRA Loader walks the sections base, in, mid, out, double, single and consumes one number a block that the file
HOLDS; a LoRA that lacks blocks shifts every later weight. The orders here are those of a complete file. LyCORIS orders
split the middle block in three, which is kept by elemental rules on its three parts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loratools.blocks.elements import ElementRule, parse_rule
from loratools.blocks.placeholders import Placeholders
from loratools.blocks.scheme import SCHEMES, full_scheme
from loratools.blocks.tokens import clip, is_number, split_items
from loratools.blocks.vector import BlockVector
from loratools.errors import BlockError, did_you_mean

_MIDDLE = ("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1")
_FORM = re.compile(r"(?P<order>inspire-\w*)\s*(?::(?P<after>.*)|\((?P<inside>.*)\))\Z", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Slot:
    """One number's place: its section, the blocks that it weighs, and the part of the middle block, if it is one."""

    section: str
    blocks: tuple[str, ...]
    part: str = ""


@dataclass(frozen=True)
class Order:
    """An order of Inspire's, of ``length`` numbers; where it has more slots, the last number goes on over the rest."""

    name: str
    family: str
    scheme: str  # whose blocks it has
    slots: tuple[Slot, ...]
    length: int

    @property
    def title(self) -> str:
        """For messages."""
        return f"{self.name} ({self.length} numbers)"


def _unet(first: str, ins: str, middle: bool, outs: str) -> tuple[Slot, ...]:
    middles = [Slot("mid", ("M00",), part) for part in _MIDDLE] if middle else [Slot("mid", ("M00",))]
    return (
        Slot("base", (first,)),
        *(Slot("in", (f"IN{int(n):02d}",)) for n in ins.split()),
        *middles,
        *(Slot("out", (f"OUT{int(n):02d}",)) for n in outs.split()),
    )


def _count(first: int, last: int) -> str:
    return " ".join(map(str, range(first, last + 1)))


_FLUX = (
    Slot("base", ("CLIP", "T5", "IN", "OUT")),
    *(Slot("double", (f"D{n:02d}",)) for n in range(19)),
    *(Slot("single", (f"S{n:02d}",)) for n in range(38)),
)

ORDERS: Mapping[str, Order] = {
    order.name: order
    for order in (
        Order("inspire-12", "sdxl", "sdxl-12", _unet("BASE", "4 5 7 8", False, _count(0, 5)), 12),
        Order("inspire-17", "sd1", "sd1-17", _unet("BASE", "1 2 4 5 7 8", False, _count(3, 11)), 17),
        Order("inspire-20", "flux", "", _FLUX, 20),
        Order("inspire-21", "sdxl", "sdxl-20", _unet("BASE", _count(1, 8), True, _count(0, 8)), 21),
        Order("inspire-27", "sd1", "sd1-26", _unet("BASE", _count(1, 11), True, _count(0, 11)), 27),
        Order("inspire-58", "flux", "flux-61", _FLUX, 58),
    )
}


def is_inspire(text: str) -> bool:
    """Whether ``text`` is in one of Inspire's forms: ``inspire-N:...``, ``inspire-N(...)``, ``%default=...``."""
    return text.lstrip().startswith("%") or bool(_FORM.match(text.strip()))


def find_order(name: str) -> Order:
    """The order called ``name``.

    Raises:
        BlockError: if there is none.
    """
    if name.lower() not in ORDERS:
        raise BlockError(f"there is no order '{name}'{did_you_mean(name, ORDERS)}; there are {', '.join(ORDERS)}")
    return ORDERS[name.lower()]


def parse_inspire(text: str, family: str | None = None) -> BlockVector:
    """Read a vector in one of Inspire's forms.

    ``A=`` ``B=`` ``seed=`` may follow the numbers, for its letters. A ``%`` form without an order is read in that of
    plain attention LoRAs of the family (SD1 if none is given, Flux if it speaks of doubles or singles).

    Raises:
        BlockError: for an unknown order, a wrong count, or an order of another family.
    """
    form = _FORM.match(text.strip())
    body = (form["after"] or form["inside"] or "").strip() if form else text.strip()
    order = find_order(form["order"]) if form else _default_order(body, family)
    if family is not None and family not in full_scheme(order.family).families:
        raise BlockError(f"{order.title} is for {order.family}, and this model is {family}")
    if body.startswith("%"):
        return _vector(order, _by_section(body[1:], order))
    return _vector(order, _numbers(body, order))


def inspire_numbers(vector: BlockVector, order: Order, *, drop: bool = False) -> list[float]:
    """``vector`` as numbers in ``order``.

    Args:
        drop: leave out weights that the order has no place for.
    Raises:
        BlockError: if the order is of another family, if a block is not listed, if blocks that share a number differ,
            or if a weight or an elemental rule would be lost.
    """
    if vector.scheme.family != order.family:
        raise BlockError(f"{order.title} is for {order.family}, and the vector is of {vector.scheme.title}")
    slots = order.slots[: order.length]
    numbers = [_slot_weight(vector, slot, order) for slot in slots]
    held = {block for slot in slots for block in slot.blocks}
    if order.length < len(order.slots):  # a short order's last number goes on over the blocks after it
        held |= {b for slot in order.slots[order.length :] for b in slot.blocks if vector.weights.get(b) == numbers[-1]}
    lost = [name for name, weight in vector.weights.items() if name not in held and weight != 1]
    lost += [rule.where for rule in vector.rules if not _is_middle(rule)]
    if lost and not drop:
        raise BlockError(f"{order.title} has no place for {' '.join(lost)}; `drop=True` leaves that out")
    return numbers


def order_for(vector: BlockVector) -> Order:
    """The order that has the vector's blocks.

    Raises:
        BlockError: if none has.
    """
    for order in ORDERS.values():
        if order.scheme == vector.scheme.name:
            return order
    raise BlockError(f"Inspire has no order for {vector.scheme.title}; convert it first with `to=17` or 12, say")


def _slot_weight(vector: BlockVector, slot: Slot, order: Order) -> float:
    absent = [block for block in slot.blocks if not vector.lists(block)]
    if absent:
        raise BlockError(
            f"{order.title} needs a weight for {' '.join(absent)}, which the vector does not list; "
            "convert it first with `missing=1` or 0"
        )
    weights = {
        vector.weight(block) if not slot.part else float(vector.at(block, f"unet.{slot.part}") or 0.0)
        for block in slot.blocks
    }
    if len(weights) > 1:
        raise BlockError(f"{order.title} has one number for {' '.join(slot.blocks)}, whose weights differ here")
    return weights.pop()


def _is_middle(rule: ElementRule) -> bool:
    return rule.blocks == {"M00"} and rule.elements[0] in _MIDDLE


def _default_order(body: str, family: str | None) -> Order:
    name = family or ("flux" if re.search(r"double|single", body, re.IGNORECASE) else "sd1")
    plain = {"sd1": "inspire-17", "sd2": "inspire-17", "sdxl": "inspire-12", "flux": "inspire-58"}
    if name not in plain:
        raise BlockError(f"Inspire has no order for {name}")
    return ORDERS[plain[name]]


def _numbers(body: str, order: Order) -> list[float]:
    items = [item for item in split_items(body) if item]
    settings = {key.strip(): value for key, mark, value in (item.partition("=") for item in items) if mark}
    unknown = [key for key in settings if key not in ("A", "B", "seed")]
    if unknown or not all(is_number(value) for value in settings.values()):
        raise BlockError(f"'{clip(body)}' holds more than numbers, letters, A=, B= and seed=")
    placeholders = Placeholders(
        int(float(settings["seed"])) if "seed" in settings else None,
        inspire=True,
        a=float(settings.get("A", 4)),
        b=float(settings.get("B", 1)),
    )
    values = [placeholders.resolve(item) for item in items if "=" not in item]
    if len(values) != order.length:
        raise BlockError(f"{order.name} takes {order.length} numbers, and '{clip(body)}' has {len(values)}")
    return values


def _by_section(body: str, order: Order) -> list[float]:
    """``default=1,base=1,in1-3=0.5,out=0,mid1=0``: ordinals count from 1 over the blocks of the order."""
    values: list[float | None] = [None] * len(order.slots)
    default = 1.0
    for item in split_items(body):
        name, mark, value = (part.strip() for part in item.partition("="))
        match = re.fullmatch(r"([a-z]+)(\d+)?(?:-(\d+))?", name.lower())
        if not mark or not is_number(value) or match is None:
            raise BlockError(f"'{item}' should look like in1-3=0.5, out=0 or default=1")
        if match[1] == "default":
            default = float(value)
            continue
        for position in _positions(order, match[1], match[2], match[3], item):
            values[position] = float(value)
    return [default if value is None else value for value in values]


def _positions(order: Order, section: str, first: str | None, last: str | None, item: str) -> Sequence[int]:
    positions = [position for position, slot in enumerate(order.slots) if slot.section == section]
    if not positions:
        here = dict.fromkeys(slot.section for slot in order.slots)
        raise BlockError(
            f"'{item}': {order.name} has no section '{section}'{did_you_mean(section, here)}; it has {' '.join(here)}"
        )
    begin = int(first) if first else 1
    end = int(last) if last else begin if first else len(positions)
    if not 1 <= begin <= end <= len(positions):
        raise BlockError(f"'{item}': {section} counts from 1 to {len(positions)} in {order.name}")
    return positions[begin - 1 : end]


def _vector(order: Order, numbers: Sequence[float]) -> BlockVector:
    """Numbers by slot as a vector by name; a short vector's last number goes on, as Inspire's own does."""
    whole = full_scheme(order.family)
    scheme = next((one for one in SCHEMES if one.name == order.scheme), whole)
    filled = [*numbers, *[numbers[-1]] * (len(order.slots) - len(numbers))]
    weights: dict[str, float] = {}
    rules: list[ElementRule] = []
    for slot, value in zip(order.slots, filled, strict=True):
        if slot.part in ("", _MIDDLE[1]):
            weights.update(dict.fromkeys(slot.blocks, value))
        else:
            rules.append(parse_rule(f"M00/{slot.part}", value, whole))
    kept = tuple(rule for rule in rules if rule.weight != weights["M00"])
    ordered = {name: weights[name] for name in whole.names if name in weights}
    return BlockVector(scheme, ordered, kept)
