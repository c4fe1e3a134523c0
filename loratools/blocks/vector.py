"""Block vectors: weights by block NAME, read from presets, bare numbers, names, groups, or an expression of vectors.

Forms, in :func:`parse_vector`: a preset ``GP1``; bare numbers of a listed length ``1,0.6,...``; names and groups
``IN=0.5,OUT04-OUT08=0.3,TE=0``; a preset with names on top ``GP1,OUT03=0.8``; ``mix(GP1,ALL,0.5)``; Inspire's orders
``inspire-20:1,0.5,...``; elemental rules ``IN05-OUT05/attn=0``. Strength x vector always multiply.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from loratools.blocks.elements import ElementRule, is_rule, parse_rule
from loratools.blocks.groups import expand, is_group
from loratools.blocks.placeholders import Letters
from loratools.blocks.scheme import Scheme, full_scheme, scheme_of_length
from loratools.blocks.text import clip, is_number, number, split_items
from loratools.errors import BlockError, did_you_mean


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
                "0 would remove them; say which with --missing"
            )
        lost = [name for name, value in self.weights.items() if name not in scheme.names and value not in (missing, 1)]
        if lost and not drop:
            raise BlockError(f"{scheme.title} has no place for the weights of {' '.join(lost)}; --drop leaves them out")
        fill = missing if missing is not None else 1.0
        return BlockVector(scheme, {name: self.weights.get(name, fill) for name in scheme.names}, self.rules)

    def explain(self) -> str:
        """The vector as a table of two aligned columns: block and weight."""
        return "\n".join(f"{name:<6}{self.weights[name]:g}" for name in self.weights)

    def text(self) -> str:
        """The vector as a merge string would hold it: bare numbers if whole, else names; then its rules."""
        if tuple(self.weights) == self.scheme.names:
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


# name -> the vectors of that name, one a scheme; or text that is read when the preset is used, for the family at hand
Presets = Mapping[str, Sequence[BlockVector] | str]


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
        text: a preset's name (any case), numbers or letters, names and groups with weights, an expression such as
            ``mix(GP1,ALL,0.5)``, or ``inspire-20:...``; each may be followed by changes (``OUT03=0.8``), elemental
            rules (``IN05-OUT05/attn=0``, ``lbwe=ATTNDEEPOFF``), and ``seed=1`` or ``x=0.7`` for letters.
        presets: named vectors, from :func:`loratools.blocks.presets.load_presets`.
        family: the model family it will be used on, which checks the length; None accepts every scheme.
    Raises:
        BlockError: for an unknown preset or block, a wrong length, or text that is no number; it says what is valid.
    """
    from loratools.blocks.inspire import is_inspire, parse_inspire

    if text.count("(") != text.count(")"):
        raise BlockError(f"a parenthesis in the block vector '{clip(text)}' has no partner")
    if is_inspire(text):
        return parse_inspire(text, family)
    items = split_items(text)
    if items == [""]:
        raise BlockError("a block vector is empty; give a preset such as GP1, or its numbers")
    letters, items = _letters(items)
    plain = [item for item in items if not _is_assignment(item)]
    named = [item for item in items if _is_assignment(item)]
    if not plain:
        return _of_names(named, presets, family)
    if len(plain) == 1 and not is_number(plain[0]) and items[0] == plain[0]:
        base = _expression(plain[0], presets, family) or find_preset(plain[0], presets, family, letters)
        if not all(math.isfinite(weight) for weight in base.weights.values()):
            raise BlockError(f"'{clip(text)}' comes to a number that is not finite; use smaller factors")
        return _changed(base, named, presets)
    if any(not is_rule(_name(item)) and _name(item) != "lbwe" for item in named):
        raise BlockError(f"'{clip(text)}' mixes bare numbers and names; give one or the other")
    _near_preset(plain, presets)
    numbers = [letters.resolve(item) for item in plain]
    return _changed(vector_from(numbers, family, f"the block vector '{clip(text)}'"), named, presets)


def find_preset(name: str, presets: Presets, family: str | None = None, letters: Letters | None = None) -> BlockVector:
    """The preset called ``name`` (any case), in the variant that fits ``family``.

    Args:
        letters: what random and variable letters in a preset of ``lbwpresets.txt`` are.
    Raises:
        BlockError: if there is none, or none for that family.
    """
    by_lower = {known.lower(): known for known in presets}
    if name.lower() not in by_lower:
        near = did_you_mean(name, presets)
        raise BlockError(f"unknown block preset '{name}'{near}; known presets: {', '.join(presets)}")
    variants = presets[by_lower[name.lower()]]
    if isinstance(variants, str):
        return _deferred(name, variants, presets, family, letters)
    for variant in variants:
        if family is None or family in variant.scheme.families:
            return variant
    made_for = ", ".join(variant.scheme.title for variant in variants)
    raise BlockError(f"preset '{name}' is for {made_for}, and this model is {family}; write a vector for {family}")


def _deferred(name: str, text: str, presets: Presets, family: str | None, letters: Letters | None) -> BlockVector:
    """A preset that is kept as text, since its letters wait for a seed and its rules for a family."""
    told = letters or Letters()
    extra = [f"seed={told.seed}"] if told.seed is not None else []
    extra += [f"x={told.x!r}"] if told.x is not None else []
    try:
        return parse_vector(",".join([text, *extra]), presets, family)
    except BlockError as error:
        raise BlockError(f"the preset '{name}': {error}") from error


def _letters(items: Sequence[str]) -> tuple[Letters, list[str]]:
    """``seed=`` and ``x=`` taken out of the items."""
    told: dict[str, str] = {}
    rest = []
    for item in items:
        key, separator, value = (part.strip() for part in item.partition("="))
        if separator and key.lower() in ("seed", "x"):
            told[key.lower()] = value
        else:
            rest.append(item)
    if "seed" in told and not told["seed"].isdigit():
        raise BlockError(f"the seed of a block vector is '{told['seed']}'; it should be a whole number, such as seed=1")
    if "x" in told and not is_number(told["x"]):
        raise BlockError(f"x is '{told['x']}' in a block vector; it should be a number, such as x=0.7")
    seed = int(told["seed"]) if "seed" in told else None
    return Letters(seed, float(told["x"]) if "x" in told else None), rest


_FUNCTION = re.compile(r"(?P<name>\w+)\s*\((?P<inside>.*)\)\Z", re.DOTALL)
FUNCTIONS = ("mix", "scale", "product")


def _expression(text: str, presets: Presets, family: str | None) -> BlockVector | None:
    """``mix(A, B, share)``, ``scale(A, factor)`` or ``product(A, B, ...)``; None if it is no function.

    Arguments are parted by commas, or by ``;`` where an argument holds commas of its own.
    """
    found = _FUNCTION.match(text)
    if found is None:
        return None
    name, inside = found["name"].lower(), found["inside"]
    parts = split_items(inside, ";") if ";" in inside else split_items(inside)
    if name in ("mix", "scale"):
        wanted = 3 if name == "mix" else 2
        if len(parts) != wanted or not is_number(parts[-1]):
            usage = "mix(GP1, ALL, 0.5)" if name == "mix" else "scale(GP1, 0.8)"
            raise BlockError(f"'{clip(text)}' should look like {usage}; part vectors that hold commas by ';'")
        vectors = [parse_vector(part, presets, family) for part in parts[:-1]]
        factor = float(parts[-1])
        return vectors[0].mixed(vectors[1], factor) if name == "mix" else vectors[0].scaled(factor)
    if name == "product":
        first, *rest = (parse_vector(part, presets, family) for part in parts)
        for other in rest:
            first = first.composed(other)
        return first
    raise BlockError(f"there is no '{name}(...)' of vectors{did_you_mean(name, FUNCTIONS)}; use mix, scale or product")


def _of_names(named: Sequence[str], presets: Presets, family: str | None) -> BlockVector:
    scheme = _scheme_of_names(named, family)
    blocks = [item for item in named if not is_rule(_name(item)) and _name(item) != "lbwe"]
    start = BlockVector(scheme, {} if blocks else dict.fromkeys(scheme.names, 1.0))
    return _changed(start, named, presets, whole=True)


def _changed(base: BlockVector, named: Sequence[str], presets: Presets, *, whole: bool = False) -> BlockVector:
    """``base`` with the assignments ``named`` over it, in their order.

    Args:
        whole: groups reach every block of the family, not only those that ``base`` lists.
    """
    scheme = full_scheme(base.scheme.family)
    within = None if whole else tuple(base.weights)
    weights, rules, seen = dict(base.weights), list(base.rules), set[str]()
    for item in named:
        name, value = _assignment(item)
        if name == "lbwe":
            rules += _named_rules(value, presets, base.scheme.family)
            continue
        weight = _weight(item, value)
        if is_rule(name):
            rules.append(parse_rule(name, weight, scheme))
            continue
        blocks = expand(name, scheme, within)
        if not is_group(name, scheme):
            if blocks[0] in seen:
                raise BlockError(f"block {name} is given twice in one vector; keep one of them")
            seen.add(blocks[0])
        weights.update(dict.fromkeys(blocks, weight))
    return BlockVector(base.scheme, weights, tuple(rules))


def _named_rules(name: str, presets: Presets, family: str) -> tuple[ElementRule, ...]:
    rules = find_preset(name, presets, family).rules
    if not rules:
        raise BlockError(f"lbwe={name} should name an elemental preset, such as ATTNDEEPOFF; '{name}' is a vector")
    return rules


def _scheme_of_names(items: Iterable[str], family: str | None) -> Scheme:
    if family is not None:
        return full_scheme(family)
    words = [_name(item) for item in items]
    for candidate in ("sd1", "sdxl", "flux"):
        scheme = full_scheme(candidate)
        try:
            for word in words:
                if is_rule(word):
                    parse_rule(word, 1.0, scheme)
                elif word != "lbwe":
                    expand(word, scheme)
        except BlockError:
            continue
        return scheme
    return full_scheme("sd1")  # whose error then names the block and its neighbours


def _is_assignment(item: str) -> bool:
    """Whether ``item`` is ``name=value``; an ``=`` inside parentheses belongs to the function's arguments."""
    return "=" in item.partition("(")[0]


def _name(item: str) -> str:
    return item.partition("=")[0].strip()


def _assignment(item: str) -> tuple[str, str]:
    name, _, value = (part.strip() for part in item.partition("="))
    return name, value


def _weight(item: str, value: str) -> float:
    if not is_number(value):
        raise BlockError(f"'{item}' should be a block's name and a number, such as OUT03=0.8")
    return float(value)


def _near_preset(plain: Sequence[str], presets: Presets) -> None:
    """A preset's name among bare numbers is told as what it is."""
    for item in plain:
        if item.lower() in {known.lower() for known in presets}:
            raise BlockError(f"'{clip(item)}' among bare numbers is not a number; a preset stands alone or comes first")
