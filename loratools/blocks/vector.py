"""Block vectors: weights by block NAME, read from presets, bare numbers, or names.

Forms: a preset ``GP1``; 12, 17, 20, 26 or 61 numbers ``1,0.6,...``; names ``OUT03=0.8,MID=0.5``; a preset with names on
top ``GP1,OUT03=0.8``. Strength x vector always multiply.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loratools.blocks.scheme import Scheme, full_scheme, scheme_of_length
from loratools.errors import BlockError, did_you_mean


@dataclass(frozen=True)
class BlockVector:
    """A weight for each listed block of ``scheme``; a block absent from ``weights`` is not listed, which is not 0."""

    scheme: Scheme
    weights: Mapping[str, float]

    def weight(self, block: str) -> float:
        """The weight of ``block``.

        Raises:
            BlockError: if the vector does not list it.
        """
        if block not in self.weights:
            raise BlockError(f"the vector does not list block {block}; it lists {' '.join(self.weights)}")
        return self.weights[block]

    def lists(self, block: str) -> bool:
        """Whether ``block`` has a weight here."""
        return block in self.weights

    def scaled(self, factor: float) -> BlockVector:
        """Every listed weight times ``factor``."""
        return BlockVector(self.scheme, {name: weight * factor for name, weight in self.weights.items()})

    def composed(self, other: BlockVector) -> BlockVector:
        """Block by block product, over the blocks that both list."""
        both = {name: weight * other.weights[name] for name, weight in self.weights.items() if name in other.weights}
        return BlockVector(self.scheme, both)

    def replaced(self, weights: Mapping[str, float]) -> BlockVector:
        """The same vector with some blocks set anew (names in any accepted spelling)."""
        whole = full_scheme(self.scheme.family)
        return BlockVector(self.scheme, {**self.weights, **{whole.block_name(k): v for k, v in weights.items()}})

    def converted(self, scheme: Scheme, missing: float | None = None) -> BlockVector:
        """The same weights by name in another scheme of the family.

        Raises:
            BlockError: if the families differ; if a block is not listed here and ``missing`` is None; or if a weight
                other than ``missing`` would be lost.
        """
        if scheme.family != self.scheme.family:
            raise BlockError(
                f"a vector of {self.scheme.title} cannot become one of {scheme.title}: their blocks differ"
            )
        absent = [name for name in scheme.names if name not in self.weights]
        if absent and missing is None:
            raise BlockError(
                f"{' '.join(absent)} of {scheme.title} have no weight here: 1 would leave those modules untouched, "
                "0 would remove them; say which with --missing"
            )
        lost = [name for name, value in self.weights.items() if name not in scheme.names and value not in (missing, 1)]
        if lost:
            raise BlockError(f"{scheme.title} has no place for the weights of {' '.join(lost)}")
        fill = missing if missing is not None else 1.0
        return BlockVector(scheme, {name: self.weights.get(name, fill) for name in scheme.names})

    def explain(self) -> str:
        """The vector as a table of two aligned columns: block and weight."""
        return "\n".join(f"{name:<6}{self.weights[name]:g}" for name in self.weights)

    def text(self) -> str:
        """The vector as a merge string would hold it: bare numbers if whole, else names."""
        if tuple(self.weights) == self.scheme.names:
            return ",".join(f"{value:g}" for value in self.weights.values())
        return ",".join(f"{name}={value:g}" for name, value in self.weights.items())


Presets = Mapping[str, Sequence[BlockVector]]  # name -> the vectors of that name, one a scheme


def vector_from(numbers: Sequence[float], family: str | None = None, what: str = "a block vector") -> BlockVector:
    """A vector of bare numbers; its length tells the scheme.

    Raises:
        BlockError: if no scheme (of ``family``) has that length, or a number is not finite.
    """
    scheme = scheme_of_length(len(numbers), family, what)
    if not all(math.isfinite(number) for number in numbers):
        raise BlockError(f"{what} holds a number that is not finite; block weights are numbers such as 0.6")
    return BlockVector(scheme, dict(zip(scheme.names, (float(number) for number in numbers), strict=True)))


def parse_vector(text: str, presets: Presets, family: str | None = None) -> BlockVector:
    """Read a block vector.

    Args:
        text: a preset's name (any case), numbers, names with weights, or a preset followed by names with weights.
        presets: named vectors, from :func:`loratools.blocks.presets.load_presets`.
        family: the model family it will be used on, which checks the length; None accepts every scheme.
    Raises:
        BlockError: for an unknown preset or block, a wrong length, or text that is no number; it says what is valid.
    """
    items = [item.strip() for item in text.split(",")]
    if items == [""]:
        raise BlockError("a block vector is empty; give a preset such as GP1, or its numbers")
    named = [item for item in items if "=" in item]
    plain = [item for item in items if "=" not in item]
    if len(plain) == 1 and not _is_number(plain[0]) and items[0] == plain[0]:
        base = find_preset(plain[0], presets, family)
        return base.replaced(_assignments(named)) if named else base
    if named and not plain:
        scheme = _scheme_of_names(named, family)
        return BlockVector(scheme, {scheme.block_name(k): v for k, v in _assignments(named).items()})
    if named:
        raise BlockError(f"'{_clip(text)}' mixes bare numbers and names; give one or the other")
    return vector_from([_number(item, presets) for item in plain], family, f"the block vector '{_clip(text)}'")


def find_preset(name: str, presets: Presets, family: str | None = None) -> BlockVector:
    """The preset called ``name`` (any case), in the variant that fits ``family``.

    Raises:
        BlockError: if there is none, or none for that family.
    """
    by_lower = {known.lower(): known for known in presets}
    if name.lower() not in by_lower:
        near = did_you_mean(name, presets)
        raise BlockError(f"unknown block preset '{name}'{near}; known presets: {', '.join(presets)}")
    variants = presets[by_lower[name.lower()]]
    for variant in variants:
        if family is None or family in variant.scheme.families:
            return variant
    made_for = ", ".join(variant.scheme.title for variant in variants)
    raise BlockError(f"preset '{name}' is for {made_for}, and this model is {family}; write a vector for {family}")


def _scheme_of_names(items: Iterable[str], family: str | None) -> Scheme:
    if family is not None:
        return full_scheme(family)
    names = [item.partition("=")[0] for item in items]
    fitting: list[Scheme] = []
    for candidate in ("sd1", "sdxl", "flux"):
        scheme = full_scheme(candidate)
        try:
            fitting = [*fitting, scheme] if all(scheme.block_name(name) for name in names) else fitting
        except BlockError:
            continue
    if not fitting:
        return full_scheme("sd1")  # whose error then names the block and its neighbours
    return fitting[0]


def _assignments(items: Iterable[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for item in items:
        name, _, value = (part.strip() for part in item.partition("="))
        if not _is_number(value):
            raise BlockError(f"'{item}' should be a block's name and a number, such as OUT03=0.8")
        if name in found:
            raise BlockError(f"block {name} is given twice in one vector; keep one of them")
        found[name] = float(value)
    return found


def _number(item: str, presets: Presets) -> float:
    if _is_number(item):
        return float(item)
    if item in ("R", "U", "X") or item.startswith("X"):
        raise BlockError(f"'{item}' (a random or variable weight of LoRA Block Weight) cannot be merged; give a number")
    raise BlockError(f"'{_clip(item)}' in a block vector is not a number{did_you_mean(item, presets)}; write 0.6, say")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _clip(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."
