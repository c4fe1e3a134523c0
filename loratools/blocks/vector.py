"""Block vectors: a weight for each block by NAME, how they combine, and what bare numbers mean.

Strength x vector always multiply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from loratools.blocks.elements import ElementRule, is_rule, parse_rule
from loratools.blocks.scheme import NumberedScheme, Scheme, full_scheme, scheme_of_length
from loratools.blocks.tokens import number
from loratools.errors import BlockError


@dataclass(frozen=True)
class BlockVector:
    """A weight for each listed block of ``scheme``; a block absent from ``weights`` is not listed, which is not 0.

    ``rules`` replace the block's weight for the modules that they match; the last that matches wins.
    """

    scheme: Scheme
    weights: Mapping[str, float]
    rules: tuple[ElementRule, ...] = ()

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

    def at(self, block: str, module: str) -> float | None:
        """The weight of one module of ``block``: its last matching rule's, else the block's, else None."""
        for rule in reversed(self.rules):
            if rule.applies(block, module):
                return rule.weight
        return self.weights.get(block)

    def scaled(self, factor: float) -> BlockVector:
        """Every listed weight times ``factor``."""
        weights = {name: weight * factor for name, weight in self.weights.items()}
        return BlockVector(self.scheme, weights, tuple(rule.scaled(factor) for rule in self.rules))

    def composed(self, other: BlockVector) -> BlockVector:
        """Block by block product, over the blocks that both list: one vector after the other.

        Raises:
            BlockError: if they are of different families, or both hold elemental rules.
        """
        return self._with(other, lambda mine, theirs: mine * theirs)

    def mixed(self, other: BlockVector, share: float) -> BlockVector:
        """``(1 - share) * self + share * other``, block by block, over the blocks that both list.

        Raises:
            BlockError: as for :meth:`composed`.
        """
        return self._with(other, lambda mine, theirs: (1 - share) * mine + share * theirs)

    def replaced(self, weights: Mapping[str, float]) -> BlockVector:
        """The same vector with some blocks set anew (names in any accepted spelling)."""
        whole = full_scheme(self.scheme.family)
        return replace(self, weights={**self.weights, **{whole.block_name(k): v for k, v in weights.items()}})

    def moved(self, moves: Mapping[str, float]) -> BlockVector:
        """The same vector with some blocks moved by so much, and with each the rules that are about it alone; nothing
        goes below 0, and what is below stays.

        Raises:
            BlockError: if it does not list one of them.
        """
        weights = {**self.weights, **{block: _moved(self.weight(block), by) for block, by in moves.items()}}
        rules = tuple(
            replace(rule, weight=_moved(rule.weight, moves.get(rule.where.partition("/")[0], 0.0)))
            for rule in self.rules
        )
        return replace(self, weights=weights, rules=rules)

    def with_blocks(self, blocks: Sequence[str], weight: float) -> BlockVector:
        """The same vector with ``weight`` for every module of ``blocks``, those too for which a rule gave another."""
        ruled = any(rule.blocks & set(blocks) for rule in self.rules)
        # "_" is in every module's flat name
        rules = (ElementRule(f"{' '.join(blocks)}/_", frozenset(blocks), ("_",), weight),) if ruled else ()
        return replace(self, weights={**self.weights, **dict.fromkeys(blocks, weight)}, rules=(*self.rules, *rules))

    def converted(self, scheme: Scheme, missing: float | None = None, *, drop: bool = False) -> BlockVector:
        """The same weights by name in another scheme of the family.

        Args:
            missing: the weight of blocks that are not listed here.
            drop: leave out weights that the other scheme has no place for.
        Raises:
            BlockError: if the families differ; if a block is not listed here and ``missing`` is None; or if a weight
                other than 1 or ``missing`` would be lost and ``drop`` is False.
        """
        if scheme.family != self.scheme.family:
            raise BlockError(
                f"a vector of {self.scheme.title} cannot become one of {scheme.title}: their blocks differ"
            )
        absent = [name for name in scheme.names if name not in self.weights]
        if absent and missing is None:
            raise BlockError(
                f"{' '.join(absent)} of {scheme.title} have no weight here: 1 would leave those modules untouched, "
                "0 would remove them; say which with `missing=`"
            )
        lost = [name for name, value in self.weights.items() if name not in scheme.names and value not in (missing, 1)]
        if lost and not drop:
            raise BlockError(
                f"{scheme.title} has no place for the weights of {' '.join(lost)}; `drop=True` leaves them out"
            )
        fill = missing if missing is not None else 1.0
        return BlockVector(scheme, {name: self.weights.get(name, fill) for name in scheme.names}, self.rules)

    def by_name(self) -> dict[str, float]:
        """Its weights by block and by the left sides of its rules, as :func:`vector_of` reads them back."""
        rules: dict[str, float] = {}
        for rule in self.rules:
            rules.pop(rule.where, None)  # of two with one left side the last counts, at its place
            rules[rule.where] = rule.weight
        return {**self.weights, **rules}

    def explain(self) -> str:
        """The vector as a table of two aligned columns: block and weight."""
        return "\n".join(f"{name:<6}{self.weights[name]:g}" for name in self.weights)

    def text(self) -> str:
        """The vector as a merge string would hold it: bare numbers if whole, else names; then its rules."""
        if tuple(self.weights) == self.scheme.names and not isinstance(self.scheme, NumberedScheme):
            items = [number(value) for value in self.weights.values()]
        else:
            items = [f"{name}={number(value)}" for name, value in self.weights.items()]
        return ",".join([*items, *(rule.text() for rule in self.rules)])

    def _with(self, other: BlockVector, merge: Callable[[float, float], float]) -> BlockVector:
        if other.scheme.family != self.scheme.family:
            raise BlockError(f"a vector of {self.scheme.title} and one of {other.scheme.title} have other blocks")
        if self.rules or other.rules:
            raise BlockError("vectors with elemental rules cannot be multiplied or mixed; add the rules afterwards")
        both = {
            name: merge(weight, other.weights[name]) for name, weight in self.weights.items() if name in other.weights
        }
        return BlockVector(self.scheme, both)


def _moved(weight: float, by: float) -> float:
    return weight if by == 0 else round(max(min(weight, 0.0), weight + by), 10)


# name -> the vectors of that name, one a scheme; or text that is read when the preset is used, for the family at hand
Presets = Mapping[str, Sequence[BlockVector] | str]


def vector_of(scheme: Scheme, weights: Mapping[str, float]) -> BlockVector:
    """A vector of ``scheme`` from weights by block and by the left sides of rules, ``OUT05/attn1``, in their order.

    Raises:
        BlockError: for a rule of blocks that the family lacks.
    """
    whole = full_scheme(scheme.family)
    rules = tuple(parse_rule(where, weight, whole) for where, weight in weights.items() if is_rule(where))
    return BlockVector(scheme, {name: weight for name, weight in weights.items() if not is_rule(name)}, rules)


def named_vector(scheme: Scheme, weights: Mapping[str, float]) -> BlockVector:
    """As :func:`vector_of`, with blocks in any spelling that the family's full scheme reads.

    Raises:
        BlockError: for a block that the family lacks.
    """
    named = {name if is_rule(name) else scheme.block_name(name): float(weight) for name, weight in weights.items()}
    return vector_of(scheme, named)


def vector_from(numbers: Sequence[float], family: str | None = None, what: str = "a block vector") -> BlockVector:
    """A vector of bare numbers; its length tells the scheme.

    Raises:
        BlockError: if no scheme (of ``family``) has that length, or a number is not finite.
    """
    scheme = scheme_of_length(len(numbers), family, what)
    if not all(math.isfinite(number) for number in numbers):
        raise BlockError(f"{what} holds a number that is not finite; block weights are numbers such as 0.6")
    return BlockVector(scheme, dict(zip(scheme.names, (float(number) for number in numbers), strict=True)))
