"""Block vectors in other tools' spelling: LoRA Block Weight's preset lines and prompts, Inspire, diffusers."""

from __future__ import annotations

from typing import Any

from loratools.blocks.inspire import ORDERS, Order, inspire_numbers, order_for
from loratools.blocks.scheme import SCHEMES, Scheme
from loratools.blocks.tokens import number
from loratools.blocks.vector import BlockVector
from loratools.errors import BlockError

# diffusers' set_adapters takes a list a level, for the levels with attention: block -> (down|up, level)
_LEVELS = {
    "sd1-17": {
        "down": {"block_0": "IN01 IN02", "block_1": "IN04 IN05", "block_2": "IN07 IN08"},
        "up": {"block_1": "OUT03 OUT04 OUT05", "block_2": "OUT06 OUT07 OUT08", "block_3": "OUT09 OUT10 OUT11"},
    },
    "sdxl-12": {
        "down": {"block_1": "IN04 IN05", "block_2": "IN07 IN08"},
        "up": {"block_0": "OUT00 OUT01 OUT02", "block_1": "OUT03 OUT04 OUT05"},
    },
}


def numbers_of(vector: BlockVector) -> list[float]:
    """The bare numbers of a vector that lists every block of its scheme.

    Raises:
        BlockError: if it does not, or holds elemental rules, which bare numbers cannot say.
    """
    if vector.rules:
        rules = " ".join(rule.text() for rule in vector.rules)
        raise BlockError(f"bare numbers cannot hold the elemental rules {rules}; LoRA Block Weight takes them as lbwe=")
    absent = [name for name in vector.scheme.names if not vector.lists(name)]
    extra = [name for name in vector.weights if name not in vector.scheme.names]
    if absent or extra:
        raise BlockError(
            f"the vector is not one of {vector.scheme.title}: it lists {' '.join(vector.weights)}; "
            "convert it with `to=` and `missing=`"
        )
    return [vector.weight(name) for name in vector.scheme.names]


def joined(numbers: list[float]) -> str:
    """Numbers parted by commas."""
    return ",".join(number(value) for value in numbers)


def as_lbw(vector: BlockVector, name: str) -> str:
    """A line of ``lbwpresets.txt``, ``NAME:w,w,...``.

    Raises:
        BlockError: for a name that such a file cannot hold, or see :func:`numbers_of`.
    """
    if not name or set(name) & set("#:,<>\n") or name in ("XYZ", "ZYX"):
        raise BlockError(f"'{name}' cannot name a preset of LoRA Block Weight; use letters, digits and '_'")
    return f"{name}:{joined(numbers_of(vector))}"


def as_prompt(vector: BlockVector, name: str, te: float = 1.0, unet: float | None = None) -> str:
    """A prompt's tag, ``<lora:NAME:1:lbw=w,w,...>``.

    Args:
        te, unet: the strength of the text encoder, and of the network where it has another.

    Raises:
        BlockError: for a name that a prompt cannot hold, or see :func:`numbers_of`.
    """
    if not name or set(name) & set(":<>\n"):
        raise BlockError(f"'{name}' cannot stand in a prompt's tag; rename the LoRA, without ':' '<' and '>'")
    weights = number(te) if unet is None or unet == te else f"{number(te)}:{number(unet)}"
    return f"<lora:{name}:{weights}:lbw={joined(numbers_of(vector))}>"


def as_inspire(vector: BlockVector, order: Order | None = None, *, drop: bool = False) -> str:
    """Bare numbers in Inspire's order for the vector's scheme, or in ``order``.

    Raises:
        BlockError: see :func:`loratools.blocks.inspire.inspire_numbers`.
    """
    return joined(inspire_numbers(vector, order or order_for(vector), drop=drop))


def as_diffusers(vector: BlockVector, te: float = 1.0, unet: float = 1.0) -> dict[str, Any]:
    """What ``pipeline.set_adapters("name", adapter_weights=...)`` takes: each weight times its part's strength.

    Only blocks with attention have a place there, so the vector should be one of 17 (SD1) or 12 (SDXL).

    Raises:
        BlockError: if it is not.
    """
    levels = _LEVELS.get(vector.scheme.name)
    if levels is None:
        raise BlockError(
            f"diffusers' set_adapters has no place for {vector.scheme.title}; convert it first with "
            "`to=17` (SD1) or `to=12` (SDXL)"
        )
    numbers_of(vector)
    text = {"text_encoder": vector.weight("BASE") * te}
    text |= {"text_encoder_2": vector.weight("BASE") * te} if vector.scheme.family == "sdxl" else {}
    sides = {
        side: {level: [vector.weight(name) * unet for name in names.split()] for level, names in blocks.items()}
        for side, blocks in levels.items()
    }
    return {**text, "unet": {"down": sides["down"], "mid": vector.weight("M00") * unet, "up": sides["up"]}}


def scheme_named(text: str, family: str | None = None) -> Scheme:
    """The scheme that ``--to`` means: a length such as ``26``, or a name such as ``sd1-26``.

    Args:
        family: whose scheme it should be, where several have that length.
    Raises:
        BlockError: if there is none.
    """
    schemes = [one for one in SCHEMES if text.lower() == one.name or text == str(len(one))]
    if not schemes:
        known = ", ".join(f"{len(one)} ({one.title.partition(' (')[0]})" for one in SCHEMES)
        raise BlockError(f"there is no scheme '{text}' to convert to; there are {known}, and {', '.join(ORDERS)}")
    return next((one for one in schemes if family in one.families), schemes[0])
